// Backward in half precision, first kernel: the gradients of queries and bias, and the row sums for the second.
//
// A warp keeps one patch and goes through images, so that the gradient of the bias can be summed score by score: for a
// patch every score belongs to one cell of the table. The warps' sums meet once, at the end, in a fixed order.
#pragma once

#include "cuda_patch.cuh"
#include "cuda_products.cuh"

namespace segzoo {

// The lane's two rows of everything that does not change from key to key.
template <int head_dim>
struct BackwardRows {
  PatchOperand<head_dim> queries, gradients;
  float logsumexp[2];  // times log2(e); infinite for positions outside the map
  float row_sum[2];
};

template <typename Half>
__device__ __forceinline__ float pair_product(unsigned first, unsigned second) {
  const float2 a = unpack<Half>(first), b = unpack<Half>(second);
  return a.x * b.x + a.y * b.y;
}

// Where a patch of queries reads and writes, in one image, head and class.
struct QueryPlaces {
  Plane query, grad_output;
  TokenNumbers numbers;
};

template <typename Half, int head_dim>
__device__ __forceinline__ void read_rows(BackwardRows<head_dim>& rows, const CudaProblem& problem,
                                          const QueryPlaces& places, const Patch& patch, int channels) {
  read_patch<head_dim>(rows.queries, place_of(places.query, patch, 0), place_of(places.query, patch, 1), channels);
  read_patch<head_dim>(rows.gradients, place_of(places.grad_output, patch, 0), place_of(places.grad_output, patch, 1),
                       channels);
  PatchOperand<head_dim> outputs;
  const long numbers[2] = {number_of(places.numbers, patch, 0), number_of(places.numbers, patch, 1)};
  read_patch<head_dim>(outputs, half_token(problem.output, numbers[0], channels),
                       half_token(problem.output, numbers[1], channels), channels);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float sum = 0.0f;
#pragma unroll
    for (int step = 0; step < head_dim / 16; ++step) {
      sum += pair_product<Half>(rows.gradients.parts[step][i], outputs.parts[step][i]) +
             pair_product<Half>(rows.gradients.parts[step][i + 2], outputs.parts[step][i + 2]);
    }
    rows.row_sum[i] = quad_sum(sum);
    if (threadIdx.x % 4 == 0 && patch.there[i]) static_cast<float*>(problem.row_sum)[numbers[i]] = rows.row_sum[i];
    const float logsumexp = static_cast<const float*>(problem.logsumexp)[numbers[i]];
    rows.logsumexp[i] = patch.there[i] ? kLog2E * logsumexp : INFINITY;
  }
}

// Gradients of the scores of 16 keys.
template <typename Half, int head_dim, bool in_units>
__device__ __forceinline__ void score_gradients(float (&gradients)[2][4], const BackwardRows<head_dim>& rows,
                                                const unsigned char* key, const unsigned char* value,
                                                const float4* table, float scale) {
  float scores[2][4];
  score_tokens<Half, head_dim, in_units>(scores, rows.queries, key, table, scale);
  multiply_by_tokens<Half, head_dim, false>(gradients, rows.gradients, value);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = i % 4 / 2;
    float& gradient = gradients[i / 4][i % 4];
    const float weight = exp2_fast(fmaf(scores[i / 4][i % 4], in_units ? scale : 1.0f, -rows.logsumexp[row]));
    gradient = weight * (gradient - rows.row_sum[row]);
  }
}

// One image's part of the patch. `bias_sums`: the lane's float4 of the first tile of keys, or null.
template <typename Half, int head_dim, bool in_units>
__device__ __forceinline__ void differentiate_queries(const CudaProblem& problem, const QueryPlaces& places,
                                                      const Patch& patch, const unsigned char* keys,
                                                      const unsigned char* values, const int* offsets,
                                                      const float4* table, float4* bias_sums, int channels) {
  BackwardRows<head_dim> rows;
  read_rows<Half, head_dim>(rows, problem, places, patch, channels);
  float sums[head_dim / 8][4] = {};
#pragma unroll 1
  for (int pair = 0; pair < problem.tiles / 2; ++pair) {
    float gradients[2][4];
    const int offset = offsets[16 * pair];
    score_gradients<Half, head_dim, in_units>(gradients, rows, keys + offset, values + offset, table + 64 * pair,
                                              problem.scale_log2);
    if (bias_sums) {
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        float4& sum = bias_sums[32 * (2 * pair + tile)];
        const float(&own)[4] = gradients[tile];
        sum = make_float4(sum.x + own[0], sum.y + own[1], sum.z + own[2], sum.w + own[3]);
      }
    }
    unsigned weights[4];
    as_operand<Half>(weights, gradients[0], gradients[1]);
    add_weighted_tokens<Half, head_dim>(sums, weights, keys + offset);
  }
  const float factor = static_cast<float>(problem.scale);
  write_patch<Half, head_dim>(sums, half_token(problem.grad_query, number_of(places.numbers, patch, 0), channels),
                              half_token(problem.grad_query, number_of(places.numbers, patch, 1), channels),
                              patch.there[0], patch.there[1], factor, factor, channels);
}

// Sum of one cell of the bias table over the block's patches; `sums` holds [patches][tiles][32] float4s.
__device__ inline float cell_sum(const CudaProblem& problem, const Work& work, const float* sums, int cell) {
  const int kernel = problem.shape.kernel, width = 2 * kernel - 1, side = kernel + kPatch - 1;
  const int row_step = cell / width - (kernel - 1), column_step = cell % width - (kernel - 1);
  float total = 0.0f;
  for (int number = 0; number < problem.tile_rows * problem.tile_columns; ++number) {
    const int first_row = work.first_row + (number >> problem.tile_shift) * kPatch;
    const int first_column = work.first_column + (number & (problem.tile_columns - 1)) * kPatch;
    if (first_row >= work.map.rows || first_column >= work.map.columns) continue;
    const int to_keys_row = first_row - start_of_window(first_row, work.map.rows, kernel);
    const int to_keys_column = first_column - start_of_window(first_column, work.map.columns, kernel);
    for (int m = 0; m < kPatch * kPatch; ++m) {
      const int row = to_keys_row + m / kPatch + row_step, column = to_keys_column + m % kPatch + column_step;
      if (row < 0 || row >= side || column < 0 || column >= side) continue;
      const int key = row * side + column;  // masked scores have gradient 0
      const int lane = m % 8 * 4 + key % 8 / 2;
      total += sums[((number * problem.tiles + key / 8) * 32 + lane) * 4 + m / 8 * 2 + key % 2];
    }
  }
  return total;
}

__device__ inline void write_bias_part(const CudaProblem& problem, const Work& work, const float* sums, long part) {
  const int width = 2 * problem.shape.kernel - 1, cells = width * width;
  float* target = static_cast<float*>(problem.bias_parts) + (work.head * static_cast<long>(problem.parts) + part) * cells;
  for (int cell = threadIdx.x; cell < cells; cell += blockDim.x) {
    target[cell] = sums ? cell_sum(problem, work, sums, cell) : 0.0f;
  }
}

// A block has as many warps as its tile patches. `kernel_size` 7: the head dimension is not padded; 0: any case.
template <typename Half, int head_dim, int kernel_size>
__global__ void __launch_bounds__(256, head_dim <= 32 ? 2 : 1) backward_query_kernel(const CudaProblem problem) {
  SEGZOO_DYNAMIC_SHARED(memory);
  const Work work = find_work(problem, blockIdx.x);
  const int part = blockIdx.x / problem.shape.heads;
  if (work.first_row >= work.map.rows || work.first_column >= work.map.columns) {
    if (problem.bias_parts) write_bias_part(problem, work, nullptr, part);
    return;
  }
  const int kernel = kernel_size ? kernel_size : problem.shape.kernel;
  const int channels = kernel_size ? head_dim : problem.shape.head_dim;
  const int halo_bytes = problem.halo_rows * problem.halo_columns * kTokenBytes<head_dim>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, upper = lane / 16 * 16;
  unsigned char *keys = memory, *values = memory + halo_bytes;
  float4* sums = reinterpret_cast<float4*>(values + halo_bytes);
  int* offsets = reinterpret_cast<int*>(sums + (problem.bias_parts ? blockDim.x * problem.tiles : 0));
  float4* own_sums = problem.bias_parts ? sums + warp * problem.tiles * 32 + lane : nullptr;
  for (int tile = 0; own_sums && tile < problem.tiles; ++tile) own_sums[32 * tile] = make_float4(0, 0, 0, 0);
  list_keys(offsets, problem, kTokenBytes<head_dim>, kernel);
  const Halo halo = keys_of_tile(problem, work, kernel);
  const Patch patch = find_patch(problem, work, warp);
  for (int batch = work.batch; batch < problem.shape.batch; batch += problem.splits) {
    copy_halo<head_dim>(keys, plane_of(problem.key, 2, problem, work, batch), problem, halo);
    copy_halo<head_dim>(values, plane_of(problem.value, 2, problem, work, batch), problem, halo);
    commit_copies();
    wait_for_copies<0>();
    __syncthreads();
    if (in_map(patch, work)) {
      const int first = first_key(problem, work, patch, halo, kTokenBytes<head_dim>, kernel) + upper;
      const float4* table = table_of(problem, work, patch.first_row, patch.first_column, kernel) + lane;
      const QueryPlaces places{plane_of(problem.query, 2, problem, work, batch),
                               plane_of(problem.grad_output, 2, problem, work, batch),
                               token_numbers(problem, work, batch)};
      differentiate_queries<Half, head_dim, (kernel_size > 0)>(problem, places, patch, keys + first, values + first,
                                                               offsets + lane % 16, table, own_sums, channels);
    }
    __syncthreads();
  }
  if (problem.bias_parts) write_bias_part(problem, work, reinterpret_cast<const float*>(sums), part);
}

}  // namespace segzoo
