// Tokens in shared memory: a rectangle of a class, one padded row of bytes a token.
//
// 16 bytes of padding spread the rows of 8 tokens over all banks, so that ldmatrix reads them without conflicts.
#pragma once

#include "../shared/cuda_memory.cuh"
#include "cuda_problem.cuh"

namespace segzoo {

// Bytes of a token in shared memory.
template <int head_dim>
constexpr int kTokenBytes = 2 * head_dim + 16;

// Ranks [first_row, end_row) x [first_column, end_column) of a class.
struct Halo {
  int first_row, end_row, first_column, end_column;
};

// The keys of the queries of a tile.
__device__ inline Halo keys_of_tile(const CudaProblem& problem, const Work& work, int kernel) {
  const int last_row = min(work.first_row + problem.tile_rows * kPatch, work.map.rows) - 1;
  const int last_column = min(work.first_column + problem.tile_columns * kPatch, work.map.columns) - 1;
  return {start_of_window(work.first_row, work.map.rows, kernel),
          start_of_window(last_row, work.map.rows, kernel) + kernel,
          start_of_window(work.first_column, work.map.columns, kernel),
          start_of_window(last_column, work.map.columns, kernel) + kernel};
}

// Starts the copies of one tensor's tokens to shared memory, a row a warp at a time. Room that no token fills is set
// to zero: masked keys are multiplied by 0, which must not meet a NaN.
template <int head_dim>
__device__ __forceinline__ void copy_halo(unsigned char* target, const Plane& plane, const CudaProblem& problem,
                                          const Halo& halo) {
  constexpr int kPieces = head_dim / 8, kTokensAtOnce = 32 / kPieces;
  const int lane = threadIdx.x % 32, piece = lane % kPieces, first = lane / kPieces;
  const bool in_token = piece * 8 < problem.shape.head_dim;
  for (int row = threadIdx.x / 32; row < problem.halo_rows; row += blockDim.x / 32) {
    const bool in_row = in_token && halo.first_row + row < halo.end_row;
    // where nothing is wanted the address must still be one of the tensor's
    const char* source = place_in(plane, in_row ? halo.first_row + row : halo.first_row, halo.first_column + first);
    source += in_token ? 16 * piece : 0;
    unsigned char* place = target + (row * problem.halo_columns + first) * kTokenBytes<head_dim> + 16 * piece;
    for (int column = first; column < problem.halo_columns; column += kTokensAtOnce) {
      const bool wanted = in_row && halo.first_column + column < halo.end_column;
      copy_16_bytes(place, wanted ? source : plane.base, wanted);
      source += static_cast<long>(kTokensAtOnce) * plane.column_step;
      place += kTokensAtOnce * kTokenBytes<head_dim>;
    }
  }
}

}  // namespace segzoo
