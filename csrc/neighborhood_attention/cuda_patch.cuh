// A warp's patch of queries: where it lies, its keys in shared memory, the rows of its lanes.
#pragma once

#include "cuda_halo.cuh"
#include "cuda_table.cuh"

namespace segzoo {

struct Patch {
  int first_row, first_column;  // rank of the first position
  int row[2], column[2];        // ranks of the lane's two positions, moved into the map
  bool there[2];                // they were in the map
};

__device__ __forceinline__ Patch find_patch(const CudaProblem& problem, const Work& work, int number) {
  const int group = threadIdx.x % 32 / 4;
  Patch patch;
  patch.first_row = work.first_row + number / problem.tile_columns * kPatch;
  patch.first_column = work.first_column + number % problem.tile_columns * kPatch;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = patch.first_row + group / kPatch + 2 * i, column = patch.first_column + group % kPatch;
    patch.there[i] = row < work.map.rows && column < work.map.columns;
    patch.row[i] = min(row, work.map.rows - 1);
    patch.column[i] = min(column, work.map.columns - 1);
  }
  return patch;
}

__device__ __forceinline__ bool in_map(const Patch& patch, const Work& work) {
  return patch.first_row < work.map.rows && patch.first_column < work.map.columns;
}

// Address of the lane's token `i` (0 or 1) in a tensor of halves.
__device__ __forceinline__ const char* half_address(const DeviceTokens& tokens, const CudaProblem& problem,
                                                    const Work& work, const Patch& patch, int batch, int i) {
  return static_cast<const char*>(tokens.data) +
         2 * token_offset(tokens, problem.shape, work.map, batch, patch.row[i], patch.column[i], work.head);
}

__device__ __forceinline__ long patch_index(const CudaProblem& problem, const Work& work, const Patch& patch, int batch,
                                            int i) {
  return token_index(problem.shape, work.map, batch, patch.row[i], patch.column[i], work.head);
}

// The patch's keys, relative to the first: bytes from there in shared memory, for every key of all tiles.
__device__ inline void list_keys(int* offsets, const CudaProblem& problem, int token_bytes) {
  const int side = problem.shape.kernel + kPatch - 1;
  for (int key = threadIdx.x; key < 8 * problem.tiles; key += blockDim.x) {
    const int row = key / side, column = key % side;
    // keys that fill up the last tile are never inside a window; any token will do
    offsets[key] = key < side * side ? (row * problem.halo_columns + column) * token_bytes : 0;
  }
}

// Bytes from the start of the halo to the first key of a patch.
__device__ __forceinline__ int first_key(const CudaProblem& problem, const Work& work, const Patch& patch,
                                         const Halo& halo, int token_bytes) {
  const int kernel = problem.shape.kernel;
  const int row = start_of_window(patch.first_row, work.map.rows, kernel) - halo.first_row;
  const int column = start_of_window(patch.first_column, work.map.columns, kernel) - halo.first_column;
  return (row * problem.halo_columns + column) * token_bytes;
}

}  // namespace segzoo
