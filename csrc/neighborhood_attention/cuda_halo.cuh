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
__device__ inline Halo keys_of_tile(const CudaProblem& problem, const Work& work) {
  const int kernel = problem.shape.kernel;
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
__device__ inline void copy_halo(unsigned char* target, const DeviceTokens& tokens, const CudaProblem& problem,
                                 const Work& work, int batch, const Halo& halo) {
  constexpr int kPieces = head_dim / 8, kTokensAtOnce = kPieces >= 32 ? 1 : 32 / kPieces;
  const int lane = threadIdx.x % 32, piece = lane % kPieces, first = lane / kPieces;
  const bool in_token = piece * 8 < problem.shape.head_dim;
  const long step = tokens.column * problem.shape.dilation;
  for (int row = threadIdx.x / 32; row < problem.halo_rows; row += blockDim.x / 32) {
    const bool in_map = halo.first_row + row < halo.end_row;
    const int read_row = in_map ? halo.first_row + row : halo.first_row;
    const char* source = static_cast<const char*>(tokens.data) +
                         2 * (token_offset(tokens, problem.shape, work.map, batch, read_row, halo.first_column, work.head) +
                              (in_token ? piece * 8 : 0));
    unsigned char* place = target + static_cast<long>(row) * problem.halo_columns * kTokenBytes<head_dim> + piece * 16;
    for (int column = first; column < problem.halo_columns; column += kTokensAtOnce) {
      const bool wanted = in_map && in_token && halo.first_column + column < halo.end_column;
      copy_16_bytes(place + column * kTokenBytes<head_dim>, wanted ? source + 2 * column * step : source, wanted);
    }
  }
}

}  // namespace segzoo
