// The kernel that fills the table of cuda_table.cuh, before each forward and each backward.
#pragma once

#include "cuda_table.cuh"

namespace segzoo {

// One axis of a table's entry: is the key in the query's window, and the index of the bias.
struct AxisEntry {
  bool query, inside;
  int bias;
};

__device__ inline AxisEntry axis_entry(int kind, int longest, int kernel, int query, int key) {
  const int all = kinds(kernel);
  const int count = longest - (kind >= all ? 1 : 0);
  const int first = kPatch * patch_of_kind(kind % all, count, kernel);
  if (first < 0 || first + query >= count) return {false, false, 0};
  const int rank = first + query, start = start_of_window(rank, count, kernel);
  const int key_rank = start_of_window(first, count, kernel) + key;
  return {true, key_rank >= start && key_rank < start + kernel, key_rank - rank + kernel - 1};
}

// One score: rows m of the operand are the queries of the patch, columns n its keys.
__device__ inline float table_entry(const CudaProblem& problem, long variant, int m, int n) {
  const Geometry& shape = problem.shape;
  const int columns = problem.column_kinds, rows = problem.row_kinds;
  const int side = shape.kernel + kPatch - 1, width = 2 * shape.kernel - 1;
  const AxisEntry row = axis_entry(static_cast<int>(variant / columns % rows), problem.longest_rows, shape.kernel,
                                   m / kPatch, n / side);
  const AxisEntry column = axis_entry(static_cast<int>(variant % columns), problem.longest_columns, shape.kernel,
                                      m % kPatch, n % side);
  if (!row.query || !column.query) return 0.0f;  // not stored; finite, so that nothing becomes NaN
  if (n >= side * side || !row.inside || !column.inside) return -INFINITY;
  if (!problem.bias) return 0.0f;
  const long head = variant / columns / rows;
  return problem.table_factor * static_cast<const float*>(problem.bias)[(head * width + row.bias) * width + column.bias];
}

__global__ static void make_table(const CudaProblem problem, long size) {
  const long number = static_cast<long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (number >= size) return;
  const int lane = number % 32, tiles = problem.tiles, tile = number / 32 % tiles;
  const long variant = number / 32 / tiles;
  const int m = lane / 4, n = 8 * tile + 2 * (lane % 4);
  problem.table[number] = make_float4(table_entry(problem, variant, m, n), table_entry(problem, variant, m, n + 1),
                                      table_entry(problem, variant, m + 8, n), table_entry(problem, variant, m + 8, n + 1));
}

}  // namespace segzoo
