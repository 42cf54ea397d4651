// Labels into memory and pixels into the confusion matrix. Integers, so that no order of threads changes anything.
#pragma once

#include "../shared/cuda_target.cuh"
#include "cuda_problem.cuh"

namespace segzoo {

// Adds one to the cell of each lane that has one (-1: none). Neighbouring pixels mostly fall into the same cell, so
// the lanes of a warp that share one add their number together. All lanes of the warp must come here.
__device__ __forceinline__ void count_cells(unsigned long long* counts, int64_t cell) {
  constexpr unsigned kAll = 0xffffffffu;
  const unsigned lane = threadIdx.x % 32;
  unsigned left = __ballot_sync(kAll, cell >= 0);
  while (left) {
    const int leader = __ffs(static_cast<int>(left)) - 1;
    const int64_t common = __shfl_sync(kAll, cell, leader);
    const unsigned same = __ballot_sync(kAll, cell == common);
    if (static_cast<int>(lane) == leader) {
      atomicAdd(counts + common, static_cast<unsigned long long>(__popc(same)));
    }
    left &= ~same;
  }
}

// Classes of K and more, and what is no class at all, share the last row and column.
__device__ __forceinline__ int64_t cell_of(const CudaTail& problem, int64_t place, int label) {
  const int64_t target = problem.target_wide ? static_cast<const long long*>(problem.target)[place]
                                             : static_cast<const unsigned char*>(problem.target)[place];
  if (target == problem.ignore) return -1;
  const int64_t last = problem.counted, across = label < last ? label : last;
  return (target >= 0 && target < last ? target : last) * (last + 1) + across;
}

// The label of a pixel; `inside` is false for threads that have none.
__device__ __forceinline__ void finish_pixel(const CudaTail& problem, int row, int column, bool inside, int label) {
  const int64_t place = static_cast<int64_t>(row) * problem.width + column;
  if (inside && problem.wide) static_cast<int*>(problem.labels)[place] = label;
  else if (inside) static_cast<unsigned char*>(problem.labels)[place] = static_cast<unsigned char>(label);
  if (problem.target) count_cells(problem.counts, inside ? cell_of(problem, place, label) : -1);
}

}  // namespace segzoo
