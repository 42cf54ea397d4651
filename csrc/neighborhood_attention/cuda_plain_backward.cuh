// Backward without tensor cores: queries (with bias and row sums) first, then keys and values, gathered.
#pragma once

#include "cuda_plain.cuh"

namespace segzoo {

// Gradient of a run of four queries of one head; adds to `cells`, the run's own table in shared memory.
template <typename P>
__device__ inline void differentiate_query_run(const CudaProblem& problem, const RunWork& work, typename P::Sum* cells) {
  using Sum = typename P::Sum;
  const int kernel = problem.shape.kernel;
  Sum queries[kRun][kChannels], gradients[kRun][kChannels], sums[kRun][kChannels] = {}, products[kRun];
  read_run<P>(queries, problem.query, problem, work);
  read_run<P>(gradients, problem.grad_output, problem, work);
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    Sum output[kChannels];
    read_channels<P>(output, problem.output, run_index(problem, work, work.columns[i]) * problem.shape.head_dim, 1,
                     problem.shape.head_dim);
    products[i] = dot(output, gradients[i]);
  }
  const Sum row_sum = sum_of_own<P>(products);
  const int query_column = own_column(work), own_start = start_of_window(query_column, work.map.columns, kernel);
  const bool there = work.there[0] && work.first + own_position() < work.map.columns;
  const long own_index = run_index(problem, work, query_column);
  if (there && writes_own<P>()) static_cast<Sum*>(problem.row_sum)[own_index] = row_sum;
  const Sum logsumexp = static_cast<const Sum*>(problem.logsumexp)[own_index];
  const int first_row = start_of_window(work.row, work.map.rows, kernel);
  const int first_column = start_of_window(work.first, work.map.columns, kernel);
  for (int row = first_row; row < first_row + kernel; ++row) {
    for (int step = 0; step < kernel + kRun - 1; ++step) {
      const int column = min(first_column + step, work.map.columns - 1);
      Sum key[kChannels], value[kChannels];
      read_token<P>(key, problem.key, problem, work, row, column);
      read_token<P>(value, problem.value, problem, work, row, column);
      const bool inside = there && first_column + step >= own_start && first_column + step < own_start + kernel;
      const int cell = bias_cell(kernel, work.row, query_column, row, column);
      const Sum product = own_dot<P>(queries, key), grad_weight = own_dot<P>(gradients, value);
      const Sum score = Sum(problem.scale) * product + (inside ? bias_at<Sum>(problem, work.head, cell) : Sum(0));
      const Sum gradient = inside ? exponential(score - logsumexp) * (grad_weight - row_sum) : Sum(0);
      if (cells != nullptr) {
        // four queries and one key: four different cells. The next key's are other lanes' turn.
        if (inside && writes_own<P>()) cells[cell] += gradient;
        __syncwarp();
      }
      Sum factors[kRun];
      spread(factors, gradient);
      add_scaled(sums, factors, key);
    }
  }
  const Sum scale = Sum(problem.scale);
  write_run<P>(sums, problem.grad_query, problem, work, {scale, scale, scale, scale});
}

// Block: `parts` of a head share its runs. Each group of lanes has a table of its own; they are added in order.
template <typename P>
__global__ void __launch_bounds__(kPlainThreads, 2) plain_backward_query_kernel(const CudaProblem problem) {
  using Sum = typename P::Sum;
  SEGZOO_DYNAMIC_SHARED(memory);
  Sum* tables = problem.bias_parts ? reinterpret_cast<Sum*>(memory) : nullptr;
  const int width = 2 * problem.shape.kernel - 1, cells = width * width, group = threadIdx.x / P::lanes;
  const int head = blockIdx.x % problem.shape.heads, part = blockIdx.x / problem.shape.heads;
  for (int i = threadIdx.x; tables && i < P::runs * cells; i += kPlainThreads) tables[i] = Sum(0);
  __syncthreads();
  const long runs = runs_of_head(problem);
  for (long first = static_cast<long>(part) * P::runs; first < runs; first += static_cast<long>(problem.parts) * P::runs) {
    const RunWork work = find_run(problem, head, first + group, runs);
    differentiate_query_run<P>(problem, work, tables ? tables + group * cells : nullptr);
  }
  __syncthreads();
  for (int cell = threadIdx.x; tables && cell < cells; cell += kPlainThreads) {
    Sum sum = 0;
    for (int i = 0; i < P::runs; ++i) sum += tables[i * cells + cell];
    static_cast<Sum*>(problem.bias_parts)[(static_cast<long>(head) * problem.parts + part) * cells + cell] = sum;
  }
}

// Over the runs of a warp.
template <typename P>
__device__ __forceinline__ int warp_max(int value) {
#pragma unroll
  for (int step = P::lanes; step < 32; step *= 2) value = max(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}

// A run of four keys; all queries that attend to any of them.
template <typename P>
__global__ void __launch_bounds__(kPlainThreads, 2) plain_backward_key_kernel(const CudaProblem problem) {
  using Sum = typename P::Sum;
  const int heads = problem.shape.heads, kernel = problem.shape.kernel;
  const long runs = runs_of_head(problem), number = blockIdx.x / heads * static_cast<long>(P::runs);
  const RunWork work = find_run(problem, blockIdx.x % heads, number + threadIdx.x / P::lanes, runs);
  Sum keys[kRun][kChannels], values[kRun][kChannels];
  Sum key_sums[kRun][kChannels] = {}, value_sums[kRun][kChannels] = {};
  read_run<P>(keys, problem.key, problem, work);
  read_run<P>(values, problem.value, problem, work);
  const int own = own_column(work), last = min(work.first + kRun, work.map.columns) - 1;
  const int first_row = static_cast<int>(inverse_begin(work.row, kernel));
  const int first_column = static_cast<int>(inverse_begin(work.first, kernel));
  // groups of a warp shuffle together, so all take as many steps as the longest
  const int rows = warp_max<P>(static_cast<int>(inverse_end(work.row, work.map.rows, kernel)) - first_row);
  const int columns = warp_max<P>(static_cast<int>(inverse_end(last, work.map.columns, kernel)) - first_column);
  for (int i = 0; i < rows; ++i) {
    const int row = min(first_row + i, work.map.rows - 1), row_start = start_of_window(row, work.map.rows, kernel);
    const bool row_inside = first_row + i == row && work.row >= row_start && work.row < row_start + kernel;
    for (int j = 0; j < columns; ++j) {
      const int column = min(first_column + j, work.map.columns - 1);
      const int column_start = start_of_window(column, work.map.columns, kernel);
      const bool inside = row_inside && first_column + j == column && own >= column_start && own < column_start + kernel;
      const long index = token_index(problem.shape, work.map, work.batch, row, column, work.head);
      Sum query[kChannels], gradient[kChannels], weights[kRun], score_gradients[kRun];
      read_token<P>(query, problem.query, problem, work, row, column);
      read_token<P>(gradient, problem.grad_output, problem, work, row, column);
      const Sum product = own_dot<P>(keys, query), grad_weight = own_dot<P>(values, gradient);
      const int cell = bias_cell(kernel, row, column, work.row, own);
      const Sum score = Sum(problem.scale) * product + (inside ? bias_at<Sum>(problem, work.head, cell) : Sum(0));
      const Sum weight = inside ? exponential(score - static_cast<const Sum*>(problem.logsumexp)[index]) : Sum(0);
      const Sum score_gradient =
          inside ? weight * (grad_weight - static_cast<const Sum*>(problem.row_sum)[index]) : Sum(0);
      spread(weights, weight);
      spread(score_gradients, score_gradient);
      add_scaled(value_sums, weights, gradient);
      add_scaled(key_sums, score_gradients, query);
    }
  }
  const Sum scale = Sum(problem.scale), one = 1;
  write_run<P>(key_sums, problem.grad_key, problem, work, {scale, scale, scale, scale});
  write_run<P>(value_sums, problem.grad_value, problem, work, {one, one, one, one});
}

}  // namespace segzoo
