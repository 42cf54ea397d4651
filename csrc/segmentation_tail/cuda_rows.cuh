// The logit rows that a group of neighbouring pixel rows reads, each named once, with its weight in every pixel row.
//
// Pixel rows are several times as many as logit rows, so a group shares most of them: resampling a logit row along the
// columns once for all of the group's rows saves that many loads. Worked out by the block itself, in shared memory,
// because the taps lie on the device and fetching them would wait for it.
#pragma once

#include "../shared/cuda_target.cuh"
#include "cuda_problem.cuh"

namespace segzoo {

// Of one view, in shared memory. An entry is a tap of one of the group's pixel rows.
template <int kRows>
struct RowGroup {
  int* count;
  int* source;    // [count], room for all entries
  float* weight;  // [count, kRows]
  int* entry;     // [entries]: the logit row, -1 for one of no weight
  int* fresh;     // [entries]: 1 for the first entry of its logit row
};

// Bytes of shared memory that the groups of all views need.
template <int kRows>
__host__ __device__ inline size_t row_group_bytes(const CudaTail& problem) {
  const size_t words = problem.views * (1 + static_cast<size_t>(kRows) * problem.most_row_taps * (3 + kRows));
  return (words * 4 + 15) / 16 * 16;
}

// Where the group of a view lies.
template <int kRows>
__device__ __forceinline__ RowGroup<kRows> row_group(const CudaTail& problem, unsigned char* memory, int number) {
  const int room = kRows * problem.most_row_taps;
  int* counts = reinterpret_cast<int*>(memory);
  int* place = counts + problem.views + number * room * (3 + kRows);
  int* entry = place + room + room * kRows;
  return {counts + number, place, reinterpret_cast<float*>(place + room), entry, entry + room};
}

// The logit row of an entry; `first` is the first pixel row of the group.
template <int kRows>
__device__ __forceinline__ int source_of(const CudaTail& problem, const CudaView& view, int first, int entry) {
  const int row = first + entry / view.rows.taps;
  if (row >= problem.height) return -1;
  const int64_t place = static_cast<int64_t>(row) * view.rows.taps + entry % view.rows.taps;
  if (view.rows.weights[place] == 0) return -1;
  return min(max(view.rows.sources[place], 0), view.height - 1);
}

// Gives a logit row its place in the list, and its weight in every pixel row of the group.
template <int kRows>
__device__ __forceinline__ void list_row(const CudaView& view, const RowGroup<kRows>& group, int first, int entry) {
  int slot = 0;
  for (int before = 0; before < entry; ++before) slot += group.fresh[before];
  group.source[slot] = group.entry[entry];
  for (int row = 0; row < kRows; ++row) {
    float sum = 0;
    for (int tap = 0; tap < view.rows.taps; ++tap) {
      if (group.entry[row * view.rows.taps + tap] != group.entry[entry]) continue;
      sum += view.rows.weights[static_cast<int64_t>(first + row) * view.rows.taps + tap];
    }
    group.weight[slot * kRows + row] = sum;
  }
}

// Calls `work` with every entry of every view, shared out among the threads; ends with a barrier.
template <int kRows, typename Work>
__device__ __forceinline__ void for_entries(const CudaTail& problem, unsigned char* memory, const Work& work) {
  for (int number = 0; number < problem.views; ++number) {
    const RowGroup<kRows> group = row_group<kRows>(problem, memory, number);
    const int entries = kRows * problem.view[number].rows.taps;
    for (int entry = threadIdx.x; entry < entries; entry += blockDim.x) work(problem.view[number], group, entry, entries);
  }
  __syncthreads();
}

// All threads of the block fill in the groups of all views.
template <int kRows>
__device__ __forceinline__ void find_row_groups(const CudaTail& problem, unsigned char* memory, int first) {
  using Group = RowGroup<kRows>;
  for_entries<kRows>(problem, memory, [&](const CudaView& view, const Group& group, int entry, int) {
    group.entry[entry] = source_of<kRows>(problem, view, first, entry);
  });
  for_entries<kRows>(problem, memory, [&](const CudaView&, const Group& group, int entry, int) {
    const int source = group.entry[entry];
    bool fresh = source >= 0;
    for (int before = 0; before < entry && fresh; ++before) fresh = group.entry[before] != source;
    group.fresh[entry] = fresh;
  });
  for_entries<kRows>(problem, memory, [&](const CudaView& view, const Group& group, int entry, int entries) {
    if (group.fresh[entry]) list_row<kRows>(view, group, first, entry);
    if (entry > 0) return;
    int count = 0;
    for (int each = 0; each < entries; ++each) count += group.fresh[each];
    *group.count = count;
  });
}

}  // namespace segzoo
