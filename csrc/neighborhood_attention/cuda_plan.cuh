// Cuts a problem into tiles of patches, by what fits into shared memory. On the host; the same for every GPU but for
// the size of its shared memory, so that results do not depend on the number of multiprocessors.
#pragma once

#include <algorithm>

#include "cuda_backward_key.cuh"
#include "../shared/cuda_launch.cuh"
#include "cuda_runs.cuh"
#include "cuda_table.cuh"

namespace segzoo {

constexpr long kEnoughBlocks = 256;
constexpr int kSmallestUsefulTile = 4;  // patches; smaller ones only where shared memory is short
constexpr long kMostBlocks = 0x7fffffff;
constexpr int kForwardTiles[][2] = {{4, 4}, {2, 4}, {2, 2}, {1, 2}, {1, 1}};
constexpr int kBackwardTiles[][2] = {{2, 4}, {2, 2}, {1, 2}, {1, 1}};

// Bytes of a token of a padded head dimension in shared memory.
constexpr long token_bytes(int head_dim) { return 2L * head_dim + 16; }

// Has kernels of its own: kernel size 7, a head dimension that is not padded, and a scale that one may divide by.
inline bool is_usual(const CudaProblem& problem) {
  constexpr double kLeastScale = 1e-4;
  return problem.shape.kernel == 7 && problem.shape.head_dim == padded_head_dim(problem.shape.head_dim) &&
         problem.scale >= kLeastScale;
}

// The fields that follow from shape and scale.
inline void set_classes(CudaProblem& problem) {
  const Geometry& shape = problem.shape;
  problem.longest_rows = static_cast<int>(class_length(shape.height, 0, shape.dilation));
  problem.longest_columns = static_cast<int>(class_length(shape.width, 0, shape.dilation));
  problem.row_kinds = axis_kinds(shape.height, shape.dilation, shape.kernel);
  problem.column_kinds = axis_kinds(shape.width, shape.dilation, shape.kernel);
  problem.scale_log2 = static_cast<float>(problem.scale) * kLog2E;
  problem.table_factor = is_usual(problem) ? static_cast<float>(1.0 / problem.scale) : kLog2E;
}

inline long blocks_of(const CudaProblem& problem, long images) {
  return static_cast<long>(problem.shape.heads) * problem.tiles_across * problem.tiles_down * problem.shape.dilation *
         problem.shape.dilation * images;
}

inline void set_tile(CudaProblem& problem, const int (&tile)[2]) {
  const int rows = patches_of(problem.longest_rows), columns = patches_of(problem.longest_columns);
  problem.tile_rows = std::min(tile[0], rows);
  problem.tile_shift = tile[1] == 4 ? 2 : tile[1] - 1;
  while (problem.tile_shift > 0 && 1 << (problem.tile_shift - 1) >= columns) --problem.tile_shift;
  problem.tile_columns = 1 << problem.tile_shift;
  problem.tiles_down = (rows + problem.tile_rows - 1) / problem.tile_rows;
  problem.tiles_across = (columns + problem.tile_columns - 1) / problem.tile_columns;
}

inline void set_key_halo(CudaProblem& problem) {
  problem.halo_rows = problem.tile_rows * kPatch + problem.shape.kernel - 1;
  problem.halo_columns = problem.tile_columns * kPatch + problem.shape.kernel - 1;
}

// The most queries on an axis that runs of `keys` keys have, in classes of either length.
inline int widest_inquirers(int longest, int kernel, int keys) {
  int widest = 0;
  for (int count = std::max(kernel, longest - 1); count <= longest; ++count) {
    for (int first = 0; first < count; first += keys) {
      const Range range = inquirers(first, keys, count, kernel);
      widest = std::max(widest, range.end - range.first);
    }
  }
  return widest;
}

inline void set_query_halo(CudaProblem& problem) {
  const auto widest = [&](int longest, int keys) { return widest_inquirers(longest, problem.shape.kernel, keys); };
  problem.halo_rows = widest(problem.longest_rows, problem.tile_rows * kPatch);
  problem.halo_columns = widest(problem.longest_columns, problem.tile_columns * kPatch);
  problem.list_size = (widest(problem.longest_rows, kPatch) * widest(problem.longest_columns, kPatch) + 15) / 16 * 16;
}

inline long halo_tokens(const CudaProblem& problem) {
  return static_cast<long>(problem.halo_rows) * problem.halo_columns;
}

inline long forward_bytes(CudaProblem& problem, int head_dim) {
  set_key_halo(problem);
  return 2 * halo_tokens(problem) * token_bytes(head_dim) + 8L * problem.tiles * sizeof(int);
}

inline long backward_query_bytes(CudaProblem& problem, int head_dim) {
  const long sums = problem.bias ? 512L * problem.tiles * problem.tile_rows * problem.tile_columns : 0;
  return forward_bytes(problem, head_dim) + sums;
}

inline long backward_key_bytes(CudaProblem& problem, int head_dim) {
  set_query_halo(problem);
  const long width = 2 * problem.shape.kernel - 1;
  return halo_tokens(problem) * (2 * token_bytes(head_dim) + static_cast<long>(sizeof(QuerySums))) +
         static_cast<long>(sizeof(Inquirer)) * problem.list_size * problem.tile_rows * problem.tile_columns +
         width * width * static_cast<long>(sizeof(float));
}

// Takes the first tile of which two blocks fit a multiprocessor and that gives enough blocks; else the largest that
// fits at all. Returns its bytes, or 0 where none fits.
template <size_t count>
long choose_tile(CudaProblem& problem, const int (&tiles)[count][2], long images, long limit, int head_dim,
                 long (*bytes)(CudaProblem&, int)) {
  const int(*chosen)[2] = nullptr;
  for (const long most : {limit / 2, limit}) {
    for (const int(&tile)[2] : tiles) {
      set_tile(problem, tile);
      if (bytes(problem, head_dim) > most) continue;
      if (chosen != nullptr && tile[0] * tile[1] < kSmallestUsefulTile) break;
      chosen = &tile;
      if (blocks_of(problem, images) >= kEnoughBlocks) break;
    }
    if (chosen != nullptr) break;
  }
  if (chosen == nullptr) return 0;
  set_tile(problem, *chosen);
  return bytes(problem, head_dim);
}

// Images are shared by several blocks where tiles alone are too few.
inline void set_splits(CudaProblem& problem) {
  const long batch = problem.shape.batch, tiles = blocks_of(problem, 1);
  constexpr long kBlocksOfBiasGradient = 1024;
  const long wanted = problem.bias ? (kBlocksOfBiasGradient + tiles - 1) / std::max(1L, tiles) : batch;
  problem.splits = static_cast<int>(std::clamp(wanted, 1L, batch));
  problem.parts = static_cast<int>(tiles / problem.shape.heads * problem.splits);
}

// Tile and splits of the first backward kernel, which decide the number of bias parts. Returns its bytes.
inline long plan_backward_query(CudaProblem& problem, long shared_bytes, int head_dim) {
  const long bytes =
      choose_tile(problem, kBackwardTiles, problem.shape.batch, shared_bytes, head_dim, backward_query_bytes);
  if (bytes) set_splits(problem);
  return bytes;
}

// Workspaces and number of tiles; `error` where the problem does not fit the GPU's shared memory.
inline MatrixSpace matrix_forward_space(CudaProblem problem, long shared_bytes) {
  const int head_dim = padded_head_dim(problem.shape.head_dim);
  problem.tiles = key_tiles(problem.shape.kernel, is_usual(problem) ? 2 : kChunkTiles);
  const bool fits = choose_tile(problem, kForwardTiles, problem.shape.batch, shared_bytes, head_dim, forward_bytes) > 0;
  return {problem.tiles, table_size(problem), 0, fits ? nullptr : kTooMuchShared};
}

inline MatrixSpace matrix_backward_space(CudaProblem problem, long shared_bytes) {
  const int head_dim = padded_head_dim(problem.shape.head_dim);
  problem.tiles = key_tiles(problem.shape.kernel, 2);
  CudaProblem of_keys = problem;
  const bool fits = plan_backward_query(problem, shared_bytes, head_dim) > 0 &&
                    choose_tile(of_keys, kBackwardTiles, problem.shape.batch, shared_bytes, head_dim,
                                backward_key_bytes) > 0;
  return {problem.tiles, table_size(problem), problem.parts, fits ? nullptr : kTooMuchShared};
}

}  // namespace segzoo
