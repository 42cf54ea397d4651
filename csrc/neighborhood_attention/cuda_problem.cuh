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
  float scale_log2;    // times log2(e)
  float table_factor;  // from the bias to the table: log2(e), or in units of scale_log2
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
  int row_kinds, column_kinds;  // of patches, see there
  int tiles;         // tiles of 8 keys of a patch, an even number; those beyond its keys are masked
  int parts;         // bias parts of a head

  int longest_rows, longest_columns;  // of the classes; others have one less
  int tile_rows, tile_columns;    // patches of a tile; columns are a power of 2
  int tile_shift;                 // its exponent
  int tiles_down, tiles_across;   // tiles of the largest class
  int halo_rows, halo_columns;    // room for the other side's tokens in shared memory
  int list_size;                  // room for the queries of a patch of keys
  int splits;                     // blocks that share the images of one tile (backward)
};

// One class: a dense map of rows x columns ranks.
struct ClassMap {
  int row_residue, column_residue, rows, columns;
};

// Without a division by the dilation: these are slow on a GPU.
__device__ __forceinline__ int class_count(int longest, int length, int residue, int dilation) {
  return longest - ((longest - 1) * dilation + residue >= length ? 1 : 0);
}

__device__ __forceinline__ ClassMap class_map(const CudaProblem& problem, int row, int column) {
  const Geometry& shape = problem.shape;
  return {row, column, class_count(problem.longest_rows, shape.height, row, shape.dilation),
          class_count(problem.longest_columns, shape.width, column, shape.dilation)};
}

struct Work {
  int head, batch;  // batch: the first image; or the split
  int first_row, first_column;  // rank of the tile's first position
  ClassMap map;
};

// Takes a digit off a number.
__device__ __forceinline__ int take(unsigned& number, unsigned base) {
  const unsigned digit = number % base;
  number /= base;
  return static_cast<int>(digit);
}

// Heads come first: those of one token lie side by side in memory, and so are read at about one time.
__device__ inline Work find_work(const CudaProblem& problem, unsigned number) {
  const Geometry& shape = problem.shape;
  Work work;
  work.head = take(number, shape.heads);
  work.first_column = take(number, problem.tiles_across) * problem.tile_columns * kPatch;
  work.first_row = take(number, problem.tiles_down) * problem.tile_rows * kPatch;
  const int column = take(number, shape.dilation), row = take(number, shape.dilation);
  work.map = class_map(problem, row, column);
  work.batch = static_cast<int>(number);
  return work;
}

// One image, head and class of a tensor: bytes from rank to rank. The host has checked that steps fit.
struct Plane {
  char* base;
  int row_step, column_step;
};

__device__ __forceinline__ char* place_in(const Plane& plane, int row, int column) {
  return plane.base + static_cast<long>(row) * plane.row_step + static_cast<long>(column) * plane.column_step;
}

__device__ __forceinline__ Plane plane_of(const DeviceTokens& tokens, int element_bytes, const CudaProblem& problem,
                                          const Work& work, int batch) {
  const long offset = batch * tokens.batch + work.map.row_residue * tokens.row +
                      work.map.column_residue * tokens.column + work.head * tokens.head;
  const int step = element_bytes * problem.shape.dilation;
  return {static_cast<char*>(const_cast<void*>(tokens.data)) + element_bytes * offset,
          static_cast<int>(tokens.row) * step, static_cast<int>(tokens.column) * step};
}

// Numbers of the tokens of one image, head and class in contiguous [batch, height, width, heads, ...] tensors.
struct TokenNumbers {
  long first;
  int row_step, column_step;
};

__device__ __forceinline__ TokenNumbers token_numbers(const CudaProblem& problem, const Work& work, int batch) {
  const Geometry& shape = problem.shape;
  const int row_tokens = shape.width * shape.heads;
  const long row = static_cast<long>(batch) * shape.height + work.map.row_residue;
  return {row * row_tokens + work.map.column_residue * shape.heads + work.head, row_tokens * shape.dilation,
          shape.heads * shape.dilation};
}

__device__ __forceinline__ long number_in(const TokenNumbers& numbers, int row, int column) {
  return numbers.first + static_cast<long>(row) * numbers.row_step + static_cast<long>(column) * numbers.column_step;
}

// Address of a token of halves; and of a number a token.
__device__ __forceinline__ char* half_token(void* data, long number, int channels) {
  return static_cast<char*>(data) + number * (2 * channels);
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
