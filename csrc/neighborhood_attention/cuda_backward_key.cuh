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

SEGZOO_INLINE int first_inquirer(int rank, int kernel) { return static_cast<int>(inverse_begin(rank, kernel)); }
SEGZOO_INLINE int end_of_inquirers(int rank, int count, int kernel) {
  return static_cast<int>(inverse_end(rank, count, kernel));
}

// Queries of the keys [first, first + keys) of one axis that lie in the class.
struct Range {
  int first, end;
};
SEGZOO_INLINE Range inquirers(int first, int keys, int count, int kernel) {
  const int last = first + keys < count ? first + keys - 1 : count - 1;
  return {first_inquirer(first, kernel), end_of_inquirers(last, count, kernel)};
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
                                     const Halo& halo) {
  const int kernel = problem.shape.kernel, width = 2 * kernel - 1;
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
__device__ inline void copy_sums(QuerySums* target, const CudaProblem& problem, const Work& work, const Halo& halo) {
  const int columns = problem.halo_columns, count = problem.halo_rows * columns;
  for (int number = threadIdx.x; number < count; number += blockDim.x) {
    const int row = halo.first_row + number / columns, column = halo.first_column + number % columns;
    QuerySums sums{INFINITY, 0.0f};
    if (row < halo.end_row && column < halo.end_column) {
      const long index = token_index(problem.shape, work.map, work.batch, row, column, work.head);
      sums = {kLog2E * static_cast<const float*>(problem.logsumexp)[index],
              static_cast<const float*>(problem.row_sum)[index]};
    }
    target[number] = sums;
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
  multiply_by_tokens<Half, head_dim>(weights, keys, side.queries + offset);
  multiply_by_tokens<Half, head_dim>(gradients, values, side.gradients + offset);
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

template <typename Half, int head_dim>
__device__ __forceinline__ void differentiate_keys(const CudaProblem& problem, const Work& work, const Patch& patch,
                                                   const QuerySide& side, int count) {
  PatchOperand<head_dim> keys, values;
  const int channels = problem.shape.head_dim, lane = threadIdx.x % 32;
  read_patch<head_dim>(keys, half_address(problem.key, problem, work, patch, work.batch, 0),
                       half_address(problem.key, problem, work, patch, work.batch, 1), channels);
  read_patch<head_dim>(values, half_address(problem.value, problem, work, patch, work.batch, 0),
                       half_address(problem.value, problem, work, patch, work.batch, 1), channels);
  const float factor = static_cast<float>(problem.scale);
  float key_sums[head_dim / 8][4] = {}, value_sums[head_dim / 8][4] = {};
  for (int first = 0; first < count; first += 16) {
    const Inquirer* list = side.list + first;
    const int offset = list[lane % 16].token * kTokenBytes<head_dim> + lane / 16 * 16;
    float weights[2][4], gradients[2][4];
    inquire<Half, head_dim>(weights, gradients, keys, values, side, list, offset, factor * kLog2E,
                            2 * problem.shape.kernel - 1);
    unsigned operand[4];
    as_operand<Half>(operand, weights[0], weights[1]);
    add_weighted_tokens<Half, head_dim>(value_sums, operand, side.gradients + offset);
    as_operand<Half>(operand, gradients[0], gradients[1]);
    add_weighted_tokens<Half, head_dim>(key_sums, operand, side.queries + offset);
  }
  long index[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) index[i] = 2 * patch_index(problem, work, patch, work.batch, i) * channels;
  char* target = static_cast<char*>(problem.grad_key);
  write_patch<Half, head_dim>(key_sums, target + index[0], target + index[1], patch.there[0], patch.there[1], factor,
                              factor, channels);
  target = static_cast<char*>(problem.grad_value);
  write_patch<Half, head_dim>(value_sums, target + index[0], target + index[1], patch.there[0], patch.there[1], 1.0f,
                              1.0f, channels);
}

__device__ inline void copy_bias(float* target, const CudaProblem& problem, int head) {
  const int width = 2 * problem.shape.kernel - 1, cells = width * width;
  const float* bias = static_cast<const float*>(problem.bias);
  for (int cell = threadIdx.x; cell < cells; cell += blockDim.x) {
    target[cell] = bias ? kLog2E * bias[static_cast<long>(head) * cells + cell] : 0.0f;
  }
}

__device__ inline Halo inquirers_of_tile(const CudaProblem& problem, const Work& work) {
  const int kernel = problem.shape.kernel;
  const Range rows = inquirers(work.first_row, problem.tile_rows * kPatch, work.map.rows, kernel);
  const Range columns = inquirers(work.first_column, problem.tile_columns * kPatch, work.map.columns, kernel);
  return {rows.first, rows.end, columns.first, columns.end};
}

template <typename Half, int head_dim>
__global__ void __launch_bounds__(32 * kBackwardKeyWarps, head_dim <= 32 ? 2 : 1)
    backward_key_kernel(const CudaProblem problem) {
  SEGZOO_DYNAMIC_SHARED(memory);
  const Work work = find_work(problem, blockIdx.x);
  if (work.first_row >= work.map.rows || work.first_column >= work.map.columns) return;
  const int tokens = problem.halo_rows * problem.halo_columns, halo_bytes = tokens * kTokenBytes<head_dim>;
  unsigned char *queries = memory, *gradients = memory + halo_bytes;
  QuerySums* sums = reinterpret_cast<QuerySums*>(gradients + halo_bytes);
  Inquirer* list = reinterpret_cast<Inquirer*>(sums + tokens) + threadIdx.x / 32 * problem.list_size;
  float* bias = reinterpret_cast<float*>(reinterpret_cast<Inquirer*>(sums + tokens) + blockDim.x / 32 * problem.list_size);
  const Halo halo = inquirers_of_tile(problem, work);
  copy_halo<head_dim>(queries, problem.query, problem, work, work.batch, halo);
  copy_halo<head_dim>(gradients, problem.grad_output, problem, work, work.batch, halo);
  commit_copies();
  copy_sums(sums, problem, work, halo);
  copy_bias(bias, problem, work.head);
  wait_for_copies<0>();
  __syncthreads();
  for (int number = threadIdx.x / 32; number < problem.tile_rows * problem.tile_columns; number += blockDim.x / 32) {
    const Patch patch = find_patch(problem, work, number);
    if (!in_map(patch, work)) continue;
    const int count = list_inquirers(list, problem, work, patch, halo);
    __syncwarp();
    differentiate_keys<Half, head_dim>(problem, work, patch, {queries, gradients, sums, bias, list}, count);
    __syncwarp();
  }
}

}  // namespace segzoo
