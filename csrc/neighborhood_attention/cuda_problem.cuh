// What the host hands to the CUDA kernels, and how a block finds its piece of work.
//
// With a dilation of d the map falls into d * d classes, which do not see each other; each is a dense map of its own,
// whose positions ("ranks") lie d apart in memory. Nothing is moved: only indices change. A class is cut into
// patches of 4 x 4 positions, the 16 rows of a tensor core's operand, and a block works on a tile of patches.
#pragma once

#include "../shared/cuda_target.cuh"
#include "window.h"

namespace segzoo {

constexpr int kPatch = 4;
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

// A strided [batch, height, width, heads, head_dim] tensor; strides in elements.
struct DeviceTokens {
  const void* data;
  long batch, row, column, head, channel;
};

struct Geometry {
  int batch, height, width, heads, head_dim, kernel, dilation;
};

struct CudaProblem {
  Geometry shape;
  double scale;
  DeviceTokens query, key, value, grad_output;
  const void* bias;  // [heads, 2 * kernel - 1, 2 * kernel - 1] in the type of sums, or null

  void* output;    // contiguous, as are all that follow
  void* logsumexp;  // [batch, height, width, heads], natural logarithm
  void* row_sum;    // the same shape: sum over channels of output * grad_output, written by the first backward kernel
  void* grad_query;
  void* grad_key;
  void* grad_value;
  void* bias_parts;  // [heads, parts of a head, table cells], summed by a last kernel; or null
  float4* table;     // bias and window as additions to the scores of a patch (cuda_table.cuh)
  int tiles;         // tiles of 8 keys of a patch, an even number; those beyond its keys are masked
  int parts;         // bias parts of a head

  int tile_rows, tile_columns;    // patches of a tile
  int tiles_down, tiles_across;   // tiles of the largest class
  int halo_rows, halo_columns;    // room for the other side's tokens in shared memory
  int list_size;                  // room for the queries of a patch of keys
  int splits;                     // blocks that share the images of one tile (backward)
};

// One class: a dense map of rows x columns ranks.
struct ClassMap {
  int row_residue, column_residue, rows, columns;
};

__device__ inline ClassMap class_map(const Geometry& shape, int number) {
  const int row = number / shape.dilation, column = number % shape.dilation;
  return {row, column, static_cast<int>(class_length(shape.height, row, shape.dilation)),
          static_cast<int>(class_length(shape.width, column, shape.dilation))};
}

struct Work {
  int head, batch;  // batch: the first image; or the split
  int first_row, first_column;  // rank of the tile's first position
  ClassMap map;
};

// Heads come first: those of one token lie side by side in memory, and so are read at about one time.
__device__ inline Work find_work(const CudaProblem& problem, long number) {
  const Geometry& shape = problem.shape;
  Work work;
  work.head = static_cast<int>(number % shape.heads);
  number /= shape.heads;
  work.first_column = static_cast<int>(number % problem.tiles_across) * problem.tile_columns * kPatch;
  number /= problem.tiles_across;
  work.first_row = static_cast<int>(number % problem.tiles_down) * problem.tile_rows * kPatch;
  number /= problem.tiles_down;
  const int classes = shape.dilation * shape.dilation;
  work.map = class_map(shape, static_cast<int>(number % classes));
  work.batch = static_cast<int>(number / classes);
  return work;
}

// Offset in elements of a token of the class, in an image and a head.
__device__ inline long token_offset(const DeviceTokens& tokens, const Geometry& shape, const ClassMap& map, int batch,
                                    int row, int column, int head) {
  return batch * tokens.batch + (static_cast<long>(row) * shape.dilation + map.row_residue) * tokens.row +
         (static_cast<long>(column) * shape.dilation + map.column_residue) * tokens.column + head * tokens.head;
}

// Index of the token in a contiguous [batch, height, width, heads] tensor.
__device__ inline long token_index(const Geometry& shape, const ClassMap& map, int batch, int row, int column,
                                   int head) {
  const long position = (static_cast<long>(batch) * shape.height + row * shape.dilation + map.row_residue) * shape.width +
                        column * shape.dilation + map.column_residue;
  return position * shape.heads + head;
}

__device__ inline int start_of_window(int rank, int count, int kernel) {
  const int centred = rank - kernel / 2, last = count - kernel;
  return max(0, min(centred, last));
}

}  // namespace segzoo
