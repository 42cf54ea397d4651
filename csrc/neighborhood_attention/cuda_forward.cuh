// Forward in half precision on tensor cores: a warp a patch of 4 x 4 queries, all its keys from shared memory.
//
// With `whole_tiles` the scores of all keys stay in registers and the softmax is the plain one. Without (0), keys
// come in chunks of 64 and the sums are rescaled when the maximum grows.
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

// Adds 8 * tiles keys: their scores are in `scores`, times log2(e), with bias and window.
template <typename Half, int head_dim, int tiles>
__device__ __forceinline__ void add_keys(Softmax<head_dim>& softmax, float (&scores)[tiles][4],
                                         const unsigned char* values, const int* offsets, bool first) {
  float maximum[2] = {softmax.maximum[0], softmax.maximum[1]};
#pragma unroll
  for (int tile = 0; tile < tiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) maximum[i / 2] = fmaxf(maximum[i / 2], scores[tile][i]);
  }
  float shift[2];
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    maximum[row] = quad_max(maximum[row]);
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
      float& score = scores[2 * pair + i / 4][i % 4];
      score = exp2_fast(score - shift[i % 4 / 2]);
      softmax.total[i % 4 / 2] += score;
    }
    unsigned weights[4];
    as_operand<Half>(weights, scores[2 * pair], scores[2 * pair + 1]);
    add_weighted_tokens<Half, head_dim>(softmax.sums, weights, values + offsets[16 * pair]);
  }
}

// Scores of 8 * tiles keys.
template <typename Half, int head_dim, int tiles>
__device__ __forceinline__ void score_keys(float (&scores)[tiles][4], const PatchOperand<head_dim>& queries,
                                           const unsigned char* keys, const int* offsets, const float4* table,
                                           float scale) {
#pragma unroll
  for (int pair = 0; pair < tiles / 2; ++pair) {
    float two[2][4];
    multiply_by_tokens<Half, head_dim>(two, queries, keys + offsets[16 * pair]);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float4 addend = __ldg(table + 32 * (2 * pair + i));
      float(&own)[4] = scores[2 * pair + i];
      own[0] = fmaf(two[i][0], scale, addend.x);
      own[1] = fmaf(two[i][1], scale, addend.y);
      own[2] = fmaf(two[i][2], scale, addend.z);
      own[3] = fmaf(two[i][3], scale, addend.w);
    }
  }
}

template <typename Half, int head_dim>
__device__ __forceinline__ void write_result(const CudaProblem& problem, const Work& work, const Patch& patch,
                                             Softmax<head_dim>& softmax) {
  char* places[2];
  float factor[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const long index = patch_index(problem, work, patch, work.batch, i);
    const float total = quad_sum(softmax.total[i]);
    places[i] = static_cast<char*>(problem.output) + 2 * index * problem.shape.head_dim;
    factor[i] = 1.0f / total;
    if (threadIdx.x % 4 == 0 && patch.there[i]) {
      static_cast<float*>(problem.logsumexp)[index] = kLn2 * (softmax.maximum[i] + log2f(total));
    }
  }
  write_patch<Half, head_dim>(softmax.sums, places[0], places[1], patch.there[0], patch.there[1], factor[0], factor[1],
                              problem.shape.head_dim);
}

template <typename Half, int head_dim, int whole_tiles>
__device__ __forceinline__ void attend(const CudaProblem& problem, const Work& work, const Patch& patch,
                                       const unsigned char* keys, const unsigned char* values, const int* offsets) {
  PatchOperand<head_dim> queries;
  read_patch<head_dim>(queries, half_address(problem.query, problem, work, patch, work.batch, 0),
                       half_address(problem.query, problem, work, patch, work.batch, 1), problem.shape.head_dim);
  const float scale = static_cast<float>(problem.scale) * kLog2E;
  const float4* table = table_of(problem, work, patch.first_row / kPatch, patch.first_column / kPatch) + threadIdx.x % 32;
  Softmax<head_dim> softmax;
  if constexpr (whole_tiles > 0) {
    float scores[whole_tiles][4];
    score_keys<Half, head_dim, whole_tiles>(scores, queries, keys, offsets, table, scale);
    add_keys<Half, head_dim, whole_tiles>(softmax, scores, values, offsets, true);
  } else {
    for (int tile = 0; tile < problem.tiles; tile += kChunkTiles) {
      float scores[kChunkTiles][4];
      score_keys<Half, head_dim, kChunkTiles>(scores, queries, keys, offsets + 8 * tile, table + 32 * tile, scale);
      add_keys<Half, head_dim, kChunkTiles>(softmax, scores, values, offsets + 8 * tile, tile == 0);
    }
  }
  write_result<Half, head_dim>(problem, work, patch, softmax);
}

template <typename Half, int head_dim, int whole_tiles>
__global__ void __launch_bounds__(32 * kForwardWarps, head_dim <= 32 ? 2 : 1) forward_kernel(const CudaProblem problem) {
  SEGZOO_DYNAMIC_SHARED(memory);
  const Work work = find_work(problem, blockIdx.x);
  if (work.first_row >= work.map.rows || work.first_column >= work.map.columns) return;
  const int halo_bytes = problem.halo_rows * problem.halo_columns * kTokenBytes<head_dim>;
  unsigned char *keys = memory, *values = memory + halo_bytes;
  int* offsets = reinterpret_cast<int*>(values + halo_bytes);
  const Halo halo = keys_of_tile(problem, work);
  copy_halo<head_dim>(keys, problem.key, problem, work, work.batch, halo);
  copy_halo<head_dim>(values, problem.value, problem, work, work.batch, halo);
  commit_copies();
  list_keys(offsets, problem, kTokenBytes<head_dim>);
  wait_for_copies<0>();
  __syncthreads();
  const int lane = threadIdx.x % 32, upper = lane / 16 * 16;
  for (int number = threadIdx.x / 32; number < problem.tile_rows * problem.tile_columns; number += blockDim.x / 32) {
    const Patch patch = find_patch(problem, work, number);
    if (!in_map(patch, work)) continue;
    const int first = first_key(problem, work, patch, halo, kTokenBytes<head_dim>) + upper;
    attend<Half, head_dim, whole_tiles>(problem, work, patch, keys + first, values + first, offsets + lane % 16);
  }
}

}  // namespace segzoo
