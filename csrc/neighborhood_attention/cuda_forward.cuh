// Forward in half precision on tensor cores: a warp a patch of 4 x 4 queries, all its keys from shared memory.
//
// With kernel size 7 the scores of all keys stay in registers and the softmax is the plain one. With others, keys come
// in chunks of 64 and the sums are rescaled when the maximum grows.
#pragma once

#include "cuda_patch.cuh"
#include "cuda_products.cuh"

namespace segzoo {

constexpr int kForwardWarps = 8;

// Sums of the softmax of the lane's two rows so far, in powers of 2.
template <int head_dim>
struct Softmax {
  float maximum[2] = {-INFINITY, -INFINITY};
  float total[2] = {0.0f, 0.0f};  // of the lane's own columns only
  float sums[head_dim / 8][4] = {};
};

// Adds 8 * tiles keys. Their scores, with bias and window, are powers of 2 when multiplied by `scale`.
template <typename Half, int head_dim, int tiles>
__device__ __forceinline__ void add_keys(Softmax<head_dim>& softmax, float (&scores)[tiles / 2][2][4],
                                         const unsigned char* values, const int* offsets, float scale, bool first) {
  float maximum[2] = {-INFINITY, -INFINITY};
#pragma unroll
  for (int i = 0; i < 4 * tiles; ++i) maximum[i % 4 / 2] = fmaxf(maximum[i % 4 / 2], scores[i / 8][i / 4 % 2][i % 4]);
  float shift[2];
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    maximum[row] = fmaxf(softmax.maximum[row], scale * quad_max(maximum[row]));
    // nothing inside the window so far: any finite shift gives zeros
    shift[row] = maximum[row] == -INFINITY ? 0.0f : maximum[row];
    if (!first) {
      const float factor = exp2_fast(softmax.maximum[row] - shift[row]);
      softmax.total[row] *= factor;
#pragma unroll
      for (int i = 0; i < head_dim / 4; ++i) softmax.sums[i / 2][2 * row + i % 2] *= factor;
    }
    softmax.maximum[row] = maximum[row];
  }
#pragma unroll
  for (int pair = 0; pair < tiles / 2; ++pair) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float& score = scores[pair][i / 4][i % 4];
      score = exp2_fast(fmaf(score, scale, -shift[i % 4 / 2]));
      softmax.total[i % 4 / 2] += score;
    }
    unsigned weights[4];
    as_operand<Half>(weights, scores[pair][0], scores[pair][1]);
    add_weighted_tokens<Half, head_dim>(softmax.sums, weights, values + offsets[16 * pair]);
  }
}

// Scores of 8 * tiles keys.
template <typename Half, int head_dim, int tiles, bool in_units>
__device__ __forceinline__ void score_keys(float (&scores)[tiles / 2][2][4], const PatchOperand<head_dim>& queries,
                                           const unsigned char* keys, const int* offsets, const float4* table,
                                           float scale) {
#pragma unroll
  for (int pair = 0; pair < tiles / 2; ++pair) {
    score_tokens<Half, head_dim, in_units>(scores[pair], queries, keys + offsets[16 * pair], table + 64 * pair, scale);
  }
}

template <typename Half, int head_dim>
__device__ __forceinline__ void write_result(const CudaProblem& problem, const TokenNumbers& numbers,
                                             const Patch& patch, Softmax<head_dim>& softmax, int channels) {
  float factor[2];
  char* places[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float total = quad_sum(softmax.total[i]);
    const long number = number_of(numbers, patch, i);
    factor[i] = __fdividef(1.0f, total);
    places[i] = half_token(problem.output, number, channels);
    if (threadIdx.x % 4 == 0 && patch.there[i]) {
      static_cast<float*>(problem.logsumexp)[number] = kLn2 * (softmax.maximum[i] + log2_fast(total));
    }
  }
  write_patch<Half, head_dim>(softmax.sums, places[0], places[1], patch.there[0], patch.there[1], factor[0], factor[1],
                              channels);
}

// `kernel_size` 7: all of its 104 scores at once, and the head dimension is not padded; 0: any other case.
template <typename Half, int head_dim, int kernel_size>
__device__ __forceinline__ void attend(const CudaProblem& problem, const Work& work, const Plane& plane,
                                       const TokenNumbers& numbers, const Patch& patch, const unsigned char* keys,
                                       const unsigned char* values, const int* offsets) {
  const int kernel = kernel_size ? kernel_size : problem.shape.kernel;
  const int channels = kernel_size ? head_dim : problem.shape.head_dim;
  PatchOperand<head_dim> queries;
  read_patch<head_dim>(queries, place_of(plane, patch, 0), place_of(plane, patch, 1), channels);
  const float scale = problem.scale_log2;
  const float4* table = table_of(problem, work, patch.first_row, patch.first_column, kernel) + threadIdx.x % 32;
  Softmax<head_dim> softmax;
  if constexpr (kernel_size > 0) {
    constexpr int kTiles = key_tiles(kernel_size, 2);
    float scores[kTiles / 2][2][4];
    score_keys<Half, head_dim, kTiles, true>(scores, queries, keys, offsets, table, scale);
    add_keys<Half, head_dim, kTiles>(softmax, scores, values, offsets, scale, true);
  } else {
#pragma unroll 1
    for (int tile = 0; tile < problem.tiles; tile += kChunkTiles) {
      float scores[kChunkTiles / 2][2][4];
      score_keys<Half, head_dim, kChunkTiles, false>(scores, queries, keys, offsets + 8 * tile, table + 32 * tile, scale);
      add_keys<Half, head_dim, kChunkTiles>(softmax, scores, values, offsets + 8 * tile, 1.0f, tile == 0);
    }
  }
  write_result<Half, head_dim>(problem, numbers, patch, softmax, channels);
}

template <typename Half, int head_dim, int kernel_size>
__global__ void __launch_bounds__(32 * kForwardWarps, head_dim <= 32 ? 2 : 1) forward_kernel(const CudaProblem problem) {
  SEGZOO_DYNAMIC_SHARED(memory);
  const Work work = find_work(problem, blockIdx.x);
  if (work.first_row >= work.map.rows || work.first_column >= work.map.columns) return;
  const int kernel = kernel_size ? kernel_size : problem.shape.kernel;
  const int halo_bytes = problem.halo_rows * problem.halo_columns * kTokenBytes<head_dim>;
  unsigned char *keys = memory, *values = memory + halo_bytes;
  int* offsets = reinterpret_cast<int*>(values + halo_bytes);
  const Halo halo = keys_of_tile(problem, work, kernel);
  copy_halo<head_dim>(keys, plane_of(problem.key, 2, problem, work, work.batch), problem, halo);
  copy_halo<head_dim>(values, plane_of(problem.value, 2, problem, work, work.batch), problem, halo);
  commit_copies();
  list_keys(offsets, problem, kTokenBytes<head_dim>, kernel);
  const Plane plane = plane_of(problem.query, 2, problem, work, work.batch);
  const TokenNumbers numbers = token_numbers(problem, work, work.batch);
  wait_for_copies<0>();
  __syncthreads();
  const int lane = threadIdx.x % 32, upper = lane / 16 * 16;
  for (int number = threadIdx.x / 32; number < problem.tile_rows * problem.tile_columns; number += blockDim.x / 32) {
    const Patch patch = find_patch(problem, work, number);
    if (!in_map(patch, work)) continue;
    const int first = first_key(problem, work, patch, halo, kTokenBytes<head_dim>, kernel) + upper;
    attend<Half, head_dim, kernel_size>(problem, work, plane, numbers, patch, keys + first, values + first,
                                        offsets + lane % 16);
  }
}

}  // namespace segzoo
