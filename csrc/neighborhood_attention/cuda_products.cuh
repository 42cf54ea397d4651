// The products of a patch with tokens in shared memory, on tensor cores.
//
// A patch is the 16 rows of an operand: row m is position (m / 4, m % 4). Lane 4 * group + quad holds rows group and
// group + 8. Tokens come 16 at a time; every lane gives the address of token lane % 16, eight channels further on for
// the upper 16 lanes, which serves both ways of reading.
#pragma once

#include "../shared/cuda_matrix.cuh"
#include "cuda_problem.cuh"

namespace segzoo {

// The patch as operand A: head_dim / 16 steps of 16 channels.
template <int head_dim>
struct PatchOperand {
  unsigned parts[head_dim / 16][4];
};

// Reads the rows `low` (group) and `high` (group + 8) of a patch; channels from `channels` on are zero.
template <int head_dim>
__device__ __forceinline__ void read_patch(PatchOperand<head_dim>& patch, const char* low, const char* high,
                                           int channels) {
  const int quad = lane_again() % 4;
#pragma unroll
  for (int step = 0; step < head_dim / 16; ++step) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int channel = 16 * step + 8 * half + 2 * quad;
      const bool there = channel < channels;
      patch.parts[step][2 * half] = there ? __ldg(reinterpret_cast<const unsigned*>(low + 2 * channel)) : 0u;
      patch.parts[step][2 * half + 1] = there ? __ldg(reinterpret_cast<const unsigned*>(high + 2 * channel)) : 0u;
    }
  }
}

// scores[2][4] of 16 tokens: patch times tokens transposed, summed over channels; added to what was there, or anew.
template <typename Half, int head_dim, bool add>
__device__ __forceinline__ void multiply_by_tokens(float (&scores)[2][4], const PatchOperand<head_dim>& patch,
                                                   const unsigned char* token) {
#pragma unroll
  for (int step = 0; step < head_dim / 16; ++step) {
    unsigned parts[4];
    load_matrices(parts, token + 32 * step);
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
      if (add || step > 0) multiply_add<Half>(scores[tile], patch.parts[step], parts[tile], parts[tile + 2]);
      else multiply<Half>(scores[tile], patch.parts[step], parts[tile], parts[tile + 2]);
    }
  }
}

// The same with what cuda_table.cuh adds to the scores. `in_units`: the table is in units of the scale, as the sums are,
// which saves an instruction a score; else the scores are scaled here.
template <typename Half, int head_dim, bool in_units>
__device__ __forceinline__ void score_tokens(float (&scores)[2][4], const PatchOperand<head_dim>& patch,
                                             const unsigned char* token, const float4* table, float scale) {
  if constexpr (!in_units) multiply_by_tokens<Half, head_dim, false>(scores, patch, token);
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    const float4 entry = __ldg(table + 32 * tile);
    const float addends[4] = {entry.x, entry.y, entry.z, entry.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[tile][i] = in_units ? addends[i] : fmaf(scores[tile][i], scale, addends[i]);
  }
  if constexpr (in_units) multiply_by_tokens<Half, head_dim, true>(scores, patch, token);
}

// sums[head_dim / 8][4] += weights of 16 tokens times the tokens.
template <typename Half, int head_dim>
__device__ __forceinline__ void add_weighted_tokens(float (&sums)[head_dim / 8][4], const unsigned (&weights)[4],
                                                    const unsigned char* token) {
#pragma unroll
  for (int step = 0; step < head_dim / 16; ++step) {
    unsigned parts[4];
    load_transposed(parts, token + 32 * step);
    multiply_add<Half>(sums[2 * step], weights, parts[0], parts[1]);
    multiply_add<Half>(sums[2 * step + 1], weights, parts[2], parts[3]);
  }
}

// Two tiles of sums (8 columns each) as an operand of 16 columns.
template <typename Half>
__device__ __forceinline__ void as_operand(unsigned (&operand)[4], const float (&first)[4], const float (&second)[4]) {
  operand[0] = pack<Half>(first[0], first[1]);
  operand[1] = pack<Half>(first[2], first[3]);
  operand[2] = pack<Half>(second[0], second[1]);
  operand[3] = pack<Half>(second[2], second[3]);
}

// Writes rows `low` and `high` of sums, each times its factor, as halves.
template <typename Half, int head_dim>
__device__ __forceinline__ void write_patch(const float (&sums)[head_dim / 8][4], char* low, char* high, bool low_there,
                                            bool high_there, float low_factor, float high_factor, int channels) {
  const int quad = lane_again() % 4;
#pragma unroll
  for (int tile = 0; tile < head_dim / 8; ++tile) {
    const int channel = 8 * tile + 2 * quad;
    if (channel >= channels) continue;
    const unsigned first = pack<Half>(low_factor * sums[tile][0], low_factor * sums[tile][1]);
    const unsigned second = pack<Half>(high_factor * sums[tile][2], high_factor * sums[tile][3]);
    if (low_there) *reinterpret_cast<unsigned*>(low + 2 * channel) = first;
    if (high_there) *reinterpret_cast<unsigned*>(high + 2 * channel) = second;
  }
}

// Of the four lanes that share a row.
__device__ __forceinline__ float quad_sum(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

__device__ __forceinline__ float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}

}  // namespace segzoo
