// Backward in half precision, second kernel: the gradients of keys and values, gathered from the queries that attend to
// them. A warp a patch of 4 x 4 keys; the queries around it in shared memory, with their log-sum-exp and row sum.
//
// Near a border a key has up to kernel + kernel / 2 queries an axis (window.h), so how many a patch has is not known
// when this is compiled. They come 16 at a time.
#pragma once

#include "cuda_patch.cuh"
#include "cuda_products.cuh"

namespace segzoo {

constexpr int kBackwardKeyWarps = 8;

// A query that may attend to keys of the patch.
struct Inquirer {
  int token;          // number in shared memory
  unsigned attended;  // bit m: key m of the patch is in its window; upper half: bias cell of key 0, signed
};

// Queries of the keys [first, first + keys) of one axis that lie in the class.
struct Range {
  int first, end;
};
SEGZOO_INLINE Range inquirers(int first, int keys, int count, int kernel) {
  const int last = first + keys < count ? first + keys - 1 : count - 1;
  return {static_cast<int>(inverse_begin(first, kernel)), static_cast<int>(inverse_end(last, count, kernel))};
}

// Bits of the patch's four rows (or columns) of keys that a query's window holds.
__device__ __forceinline__ unsigned attended_bits(int query, int first_key, int count, int kernel) {
  const int start = start_of_window(query, count, kernel) - first_key;
  unsigned bits = 0;
#pragma unroll
  for (int i = 0; i < kPatch; ++i) bits |= static_cast<unsigned>(i >= start && i < start + kernel) << i;
  return bits;
}

// Lists the patch's queries, and fills up to a multiple of 16 with entries that attend to nothing.
__device__ inline int list_inquirers(Inquirer* list, const CudaProblem& problem, const Work& work, const Patch& patch,
                                     const Halo& halo, int kernel) {
  const int width = 2 * kernel - 1;
  const Range rows = inquirers(patch.first_row, kPatch, work.map.rows, kernel);
  const Range columns = inquirers(patch.first_column, kPatch, work.map.columns, kernel);
  const int across = columns.end - columns.first, count = (rows.end - rows.first) * across;
  for (int number = threadIdx.x % 32; number < (count + 15) / 16 * 16; number += 32) {
    Inquirer entry{0, 0u};
    if (number < count) {
      const int row = rows.first + number / across, column = columns.first + number % across;
      const unsigned row_bits = attended_bits(row, patch.first_row, work.map.rows, kernel);
      const unsigned column_bits = attended_bits(column, patch.first_column, work.map.columns, kernel);
      const int cell = (patch.first_row - row + kernel - 1) * width + patch.first_column - column + kernel - 1;
      unsigned bits = 0;
#pragma unroll
      for (int i = 0; i < kPatch; ++i) bits |= (row_bits >> i & 1u) * column_bits << (kPatch * i);
      entry.token = (row - halo.first_row) * problem.halo_columns + column - halo.first_column;
      entry.attended = bits | static_cast<unsigned>(cell) << 16;
    }
    list[number] = entry;
  }
  return count;
}

struct QuerySums {
  float logsumexp, row_sum;  // the first times log2(e)
};

// Log-sum-exp and row sum of the queries in shared memory.
__device__ __forceinline__ void copy_sums(QuerySums* target, const CudaProblem& problem, const Work& work,
                                          const Halo& halo) {
  const TokenNumbers numbers = token_numbers(problem, work, work.batch);
  for (int row = threadIdx.x / 32; row < problem.halo_rows; row += blockDim.x / 32) {
    for (int column = threadIdx.x % 32; column < problem.halo_columns; column += 32) {
      const int from_row = halo.first_row + row, from_column = halo.first_column + column;
      QuerySums sums{INFINITY, 0.0f};
      if (from_row < halo.end_row && from_column < halo.end_column) {
        const long number = number_in(numbers, from_row, from_column);
        sums = {kLog2E * static_cast<const float*>(problem.logsumexp)[number],
                static_cast<const float*>(problem.row_sum)[number]};
      }
      target[row * problem.halo_columns + column] = sums;
    }
  }
}

// What lies in shared memory, and the patch's list.
struct QuerySide {
  const unsigned char *queries, *gradients;
  const QuerySums* sums;
  const float* bias;  // of the head, times log2(e)
  const Inquirer* list;
};

// Weights and score gradients of the patch's keys (rows) and 16 queries (columns).
template <typename Half, int head_dim>
__device__ __forceinline__ void inquire(float (&weights)[2][4], float (&gradients)[2][4],
                                        const PatchOperand<head_dim>& keys, const PatchOperand<head_dim>& values,
                                        const QuerySide& side, const Inquirer* list, int offset, float scale, int width) {
  const int lane = threadIdx.x % 32, group = lane / 4, quad = lane % 4;
  const int cell = group / kPatch * width + group % kPatch;  // of row group; row group + 8 is 2 * width further
  multiply_by_tokens<Half, head_dim, false>(weights, keys, side.queries + offset);
  multiply_by_tokens<Half, head_dim, false>(gradients, values, side.gradients + offset);
#pragma unroll
  for (int column = 0; column < 4; ++column) {
    const Inquirer entry = list[8 * (column / 2) + 2 * quad + column % 2];
    const QuerySums sums = side.sums[entry.token];
    const int first_cell = (static_cast<int>(entry.attended) >> 16) + cell;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float& weight = weights[column / 2][2 * row + column % 2];
      float& gradient = gradients[column / 2][2 * row + column % 2];
      const bool attended = entry.attended >> (group + 8 * row) & 1u;
      const float bias = attended ? side.bias[first_cell + 2 * row * width] : -INFINITY;
      weight = exp2_fast(fmaf(weight, scale, bias - sums.logsumexp));
      gradient = weight * (gradient - sums.row_sum);
    }
  }
}

// Where a patch of keys reads and writes, in one image, head and class.
struct KeyPlaces {
  Plane key, value;
  TokenNumbers numbers;
};

template <typename Half, int head_dim>
__device__ __forceinline__ void differentiate_keys(const CudaProblem& problem, const KeyPlaces& places,
                                                   const Patch& patch, const QuerySide& side, int count, int kernel,
                                                   int channels) {
  PatchOperand<head_dim> keys, values;
  const int lane = threadIdx.x % 32;
  read_patch<head_dim>(keys, place_of(places.key, patch, 0), place_of(places.key, patch, 1), channels);
  read_patch<head_dim>(values, place_of(places.value, patch, 0), place_of(places.value, patch, 1), channels);
  float key_sums[head_dim / 8][4] = {}, value_sums[head_dim / 8][4] = {};
#pragma unroll 1
  for (int first = 0; first < count; first += 16) {
    const Inquirer* list = side.list + first;
    const int offset = list[lane % 16].token * kTokenBytes<head_dim> + lane / 16 * 16;
    float weights[2][4], gradients[2][4];
    inquire<Half, head_dim>(weights, gradients, keys, values, side, list, offset, problem.scale_log2, 2 * kernel - 1);
    unsigned operand[4];
    as_operand<Half>(operand, weights[0], weights[1]);
    add_weighted_tokens<Half, head_dim>(value_sums, operand, side.gradients + offset);
    as_operand<Half>(operand, gradients[0], gradients[1]);
    add_weighted_tokens<Half, head_dim>(key_sums, operand, side.queries + offset);
  }
  const float factor = static_cast<float>(problem.scale);
  const long low = number_of(places.numbers, patch, 0), high = number_of(places.numbers, patch, 1);
  write_patch<Half, head_dim>(key_sums, half_token(problem.grad_key, low, channels),
                              half_token(problem.grad_key, high, channels), patch.there[0], patch.there[1], factor,
                              factor, channels);
  write_patch<Half, head_dim>(value_sums, half_token(problem.grad_value, low, channels),
                              half_token(problem.grad_value, high, channels), patch.there[0], patch.there[1], 1.0f,
                              1.0f, channels);
}

__device__ inline void copy_bias(float* target, const CudaProblem& problem, int head) {
  const int width = 2 * problem.shape.kernel - 1, cells = width * width;
  const float* bias = static_cast<const float*>(problem.bias);
  for (int cell = threadIdx.x; cell < cells; cell += blockDim.x) {
    target[cell] = bias ? kLog2E * bias[static_cast<long>(head) * cells + cell] : 0.0f;
  }
}

__device__ inline Halo inquirers_of_tile(const CudaProblem& problem, const Work& work, int kernel) {
  const Range rows = inquirers(work.first_row, problem.tile_rows * kPatch, work.map.rows, kernel);
  const Range columns = inquirers(work.first_column, problem.tile_columns * kPatch, work.map.columns, kernel);
  return {rows.first, rows.end, columns.first, columns.end};
}

// `kernel_size` 7: the head dimension is not padded; 0: any case.
template <typename Half, int head_dim, int kernel_size>
__global__ void __launch_bounds__(32 * kBackwardKeyWarps, head_dim <= 32 ? 2 : 1)
    backward_key_kernel(const CudaProblem problem) {
  SEGZOO_DYNAMIC_SHARED(memory);
  const Work work = find_work(problem, blockIdx.x);
  if (work.first_row >= work.map.rows || work.first_column >= work.map.columns) return;
  const int kernel = kernel_size ? kernel_size : problem.shape.kernel;
  const int channels = kernel_size ? head_dim : problem.shape.head_dim;
  const int tokens = problem.halo_rows * problem.halo_columns, halo_bytes = tokens * kTokenBytes<head_dim>;
  unsigned char *queries = memory, *gradients = memory + halo_bytes;
  QuerySums* sums = reinterpret_cast<QuerySums*>(gradients + halo_bytes);
  Inquirer* lists = reinterpret_cast<Inquirer*>(sums + tokens);
  Inquirer* list = lists + threadIdx.x / 32 * problem.list_size;
  float* bias = reinterpret_cast<float*>(lists + blockDim.x / 32 * problem.list_size);
  const Halo halo = inquirers_of_tile(problem, work, kernel);
  copy_halo<head_dim>(queries, plane_of(problem.query, 2, problem, work, work.batch), problem, halo);
  copy_halo<head_dim>(gradients, plane_of(problem.grad_output, 2, problem, work, work.batch), problem, halo);
  commit_copies();
  copy_sums(sums, problem, work, halo);
  copy_bias(bias, problem, work.head);
  const KeyPlaces places{plane_of(problem.key, 2, problem, work, work.batch),
                         plane_of(problem.value, 2, problem, work, work.batch),
                         token_numbers(problem, work, work.batch)};
  wait_for_copies<0>();
  __syncthreads();
  for (int number = threadIdx.x / 32; number < problem.tile_rows * problem.tile_columns; number += blockDim.x / 32) {
    const Patch patch = find_patch(problem, work, number);
    if (!in_map(patch, work)) continue;
    const int count = list_inquirers(list, problem, work, patch, halo, kernel);
    __syncwarp();
    differentiate_keys<Half, head_dim>(problem, places, patch, {queries, gradients, sums, bias, list}, count, kernel,
                                       channels);
    __syncwarp();
  }
}

}  // namespace segzoo
