// A warp's patch of queries: where it lies, its keys in shared memory, the rows of its lanes.
#pragma once

#include "cuda_halo.cuh"
#include "cuda_products.cuh"
#include "cuda_table.cuh"

namespace segzoo {

struct Patch {
  int first_row, first_column;  // rank of the first position
  int row[2], column;           // ranks of the lane's two positions (group and group + 8), moved into the map
  bool there[2];                // they were in the map
};

__device__ __forceinline__ Patch find_patch(const CudaProblem& problem, const Work& work, int number) {
  const int group = lane_again() / 4;
  Patch patch;
  patch.first_row = work.first_row + (number >> problem.tile_shift) * kPatch;
  patch.first_column = work.first_column + (number & (problem.tile_columns - 1)) * kPatch;
  const int column = patch.first_column + group % kPatch;
  patch.column = min(column, work.map.columns - 1);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = patch.first_row + group / kPatch + 2 * i;
    patch.there[i] = row < work.map.rows && column < work.map.columns;
    patch.row[i] = min(row, work.map.rows - 1);
  }
  return patch;
}

__device__ __forceinline__ bool in_map(const Patch& patch, const Work& work) {
  return patch.first_row < work.map.rows && patch.first_column < work.map.columns;
}

// Address of the lane's position `i` (0 or 1).
__device__ __forceinline__ char* place_of(const Plane& plane, const Patch& patch, int i) {
  return place_in(plane, patch.row[i], patch.column);
}

__device__ __forceinline__ long number_of(const TokenNumbers& numbers, const Patch& patch, int i) {
  return number_in(numbers, patch.row[i], patch.column);
}

// The patch's keys, relative to the first: bytes from there in shared memory, for every key of all tiles.
__device__ __forceinline__ void list_keys(int* offsets, const CudaProblem& problem, int token_bytes, int kernel) {
  const int side = kernel + kPatch - 1;
  for (int key = threadIdx.x; key < 8 * problem.tiles; key += blockDim.x) {
    const int row = key / side, column = key % side;
    // keys that fill up the last tile are never inside a window; any token will do
    offsets[key] = key < side * side ? (row * problem.halo_columns + column) * token_bytes : 0;
  }
}

// Bytes from the start of the halo to the first key of a patch.
__device__ __forceinline__ int first_key(const CudaProblem& problem, const Work& work, const Patch& patch,
                                         const Halo& halo, int token_bytes, int kernel) {
  const int row = start_of_window(patch.first_row, work.map.rows, kernel) - halo.first_row;
  const int column = start_of_window(patch.first_column, work.map.columns, kernel) - halo.first_column;
  return (row * problem.halo_columns + column) * token_bytes;
}

}  // namespace segzoo
