// Forward without tensor cores: one pass over the keys with a running maximum.
#pragma once

#include "cuda_plain.cuh"

namespace segzoo {

// Sums are rescaled only when the maximum has grown by more than this: their weights stay below e ** 8.
constexpr float kAllowedGrowth = 8.0f;

template <typename P>
struct RunSoftmax {
  using Sum = typename P::Sum;
  Sum maximum = -INFINITY, total = 0;  // of the lane's own query
  Sum sums[kRun][kChannels] = {};
};

template <typename P>
__device__ __forceinline__ void add_key(RunSoftmax<P>& softmax, const typename P::Sum (&value)[kChannels],
                                        typename P::Sum score, bool inside) {
  using Sum = typename P::Sum;
  Sum factors[kRun];
  const bool grows = inside && score > softmax.maximum + Sum(kAllowedGrowth);
  if (__any_sync(0xffffffffu, grows)) {
    const Sum factor = grows ? exponential(softmax.maximum - score) : Sum(1);
    if (grows) softmax.maximum = score;
    softmax.total *= factor;
    spread(factors, factor);
#pragma unroll
    for (int i = 0; i < kRun; ++i) {
#pragma unroll
      for (int c = 0; c < kChannels; ++c) softmax.sums[i][c] *= factors[i];
    }
  }
  const Sum weight = inside ? exponential(score - softmax.maximum) : Sum(0);
  softmax.total += weight;
  spread(factors, weight);
  add_scaled(softmax.sums, factors, value);
}

template <typename P>
__global__ void __launch_bounds__(kPlainThreads, 2) plain_forward_kernel(const CudaProblem problem) {
  using Sum = typename P::Sum;
  const int heads = problem.shape.heads, kernel = problem.shape.kernel;
  const long runs = runs_of_head(problem), number = blockIdx.x / heads * static_cast<long>(P::runs);
  const RunWork work = find_run(problem, blockIdx.x % heads, number + threadIdx.x / P::lanes, runs);
  Sum queries[kRun][kChannels];
  read_run<P>(queries, problem.query, problem, work);
  const int first_row = start_of_window(work.row, work.map.rows, kernel);
  const int first_column = start_of_window(work.first, work.map.columns, kernel);
  const int query_column = own_column(work), own_start = start_of_window(query_column, work.map.columns, kernel);
  RunSoftmax<P> softmax;
  for (int row = first_row; row < first_row + kernel; ++row) {
    for (int step = 0; step < kernel + kRun - 1; ++step) {
      const int column = min(first_column + step, work.map.columns - 1);
      Sum key[kChannels], value[kChannels];
      read_token<P>(key, problem.key, problem, work, row, column);
      read_token<P>(value, problem.value, problem, work, row, column);
      const bool inside = first_column + step >= own_start && first_column + step < own_start + kernel;
      const Sum product = own_dot<P>(queries, key);
      const int cell = bias_cell(kernel, work.row, query_column, row, column);
      const Sum bias = inside ? bias_at<Sum>(problem, work.head, cell) : Sum(0);
      add_key<P>(softmax, value, Sum(problem.scale) * product + bias, inside);
    }
  }
  Sum totals[kRun];
  spread(totals, Sum(1) / softmax.total);
  write_run<P>(softmax.sums, problem.output, problem, work, totals);
#pragma unroll
  for (int i = 0; i < kRun; ++i) {
    if (work.there[i] && own_position() == i && writes_own<P>()) {
      static_cast<Sum*>(problem.logsumexp)[run_index(problem, work, work.columns[i])] =
          softmax.maximum + log(softmax.total);
    }
  }
}

}  // namespace segzoo
