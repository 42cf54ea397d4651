// Bias and window of a whole patch as one table: what is added to the 16 x keys scores of its queries, minus infinity
// outside a query's window. In the order of a tensor core's sums, so that a lane reads its part as float4s.
//
// A patch looks at the (kernel + 3) ** 2 keys from the window's start of its first query on. The table depends on
// the head and on how near the patch is to the borders, on each axis: all patches further inside are alike.
#pragma once

#include "cuda_problem.cuh"

namespace segzoo {

// Kinds of patches on one axis: the first `kinds_before` and the last `kinds_after` have windows that a border shifts.
SEGZOO_INLINE int kinds_before(int kernel) { return (kernel / 2 + kPatch - 1) / kPatch; }
SEGZOO_INLINE int kinds_after(int kernel) { return (kernel / 2 + 2 * kPatch - 2) / kPatch; }
SEGZOO_INLINE int kinds(int kernel) { return kinds_before(kernel) + 1 + kinds_after(kernel); }
SEGZOO_INLINE int patches_of(int count) { return (count + kPatch - 1) / kPatch; }

// Classes of one axis have at most two lengths. Kinds of both, the longer first.
SEGZOO_INLINE int axis_kinds(int length, int dilation, int kernel) {
  return length % dilation == 0 ? kinds(kernel) : 2 * kinds(kernel);
}

// The kind of a patch of a class of `count` ranks; `longest` if it is of the longer classes.
SEGZOO_INLINE int kind_of(int patch, int count, bool longest, int kernel) {
  const int all = kinds(kernel), patches = patches_of(count), from_end = patches - 1 - patch;
  const int offset = longest ? 0 : all;
  if (patches <= all || patch < kinds_before(kernel)) return offset + patch;
  return offset + (from_end < kinds_after(kernel) ? all - 1 - from_end : kinds_before(kernel));
}

// A patch of the kind, or -1 where no patch is of it.
SEGZOO_INLINE int patch_of_kind(int kind, int count, int kernel) {
  const int all = kinds(kernel), patches = patches_of(count);
  if (patches <= all) return kind < patches ? kind : -1;
  return kind <= kinds_before(kernel) ? kind : patches - all + kind;
}

// The forward kernel takes the keys in chunks of this many tiles where it does not hold all scores at once.
constexpr int kChunkTiles = 8;

// Tiles of 8 keys that a patch looks at, rounded up to a multiple.
SEGZOO_INLINE constexpr int key_tiles(int kernel, int multiple) {
  const int side = kernel + kPatch - 1;
  return (side * side + 8 * multiple - 1) / (8 * multiple) * multiple;
}

SEGZOO_INLINE long table_size(const CudaProblem& problem) {
  return static_cast<long>(problem.bias ? problem.shape.heads : 1) * problem.row_kinds * problem.column_kinds *
         problem.tiles * 32;
}

// Where the table of a patch starts; a lane adds its number, a tile of keys 32. `kernel` may be a constant.
__device__ __forceinline__ const float4* table_of(const CudaProblem& problem, const Work& work, int first_row,
                                                  int first_column, int kernel) {
  const ClassMap& map = work.map;
  const int row = kind_of(first_row / kPatch, map.rows, map.rows == problem.longest_rows, kernel);
  const int column = kind_of(first_column / kPatch, map.columns, map.columns == problem.longest_columns, kernel);
  const int head = problem.bias ? work.head : 0;
  const int variant = (head * problem.row_kinds + row) * problem.column_kinds + column;
  return problem.table + static_cast<long>(variant) * (problem.tiles * 32);
}

}  // namespace segzoo
