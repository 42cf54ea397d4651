// The scores of a pixel column in a group of pixel rows, a few classes at a time, straight from the logits.
#pragma once

#include "../shared/cuda_vector.cuh"
#include "cuda_rows.cuh"

namespace segzoo {

// What a thread keeps of its pixel column in one view: where its logits lie, and their weights times `factor`.
// kTaps is the number of taps, or 0 for any number, which are then read anew every time.
template <int kTaps>
struct ColumnTaps {
  int source[kTaps];
  float weight[kTaps];

  __device__ __forceinline__ ColumnTaps(const CudaView& view, int column, float factor) {
    for (int tap = 0; tap < kTaps; ++tap) {
      const int64_t place = static_cast<int64_t>(column) * kTaps + tap;
      source[tap] = min(max(view.columns.sources[place], 0), view.width - 1);
      weight[tap] = view.columns.weights[place] * factor;
    }
  }
  template <typename Logit>
  __device__ __forceinline__ float value(const Logit* line) const {
    float sum = weight[0] * widened(line[source[0]]);
#pragma unroll
    for (int tap = 1; tap < kTaps; ++tap) sum += weight[tap] * widened(line[source[tap]]);
    return sum;
  }
};

template <>
struct ColumnTaps<0> {
  const int* source;
  const float* weight;
  int taps, last;
  float factor;

  __device__ __forceinline__ ColumnTaps(const CudaView& view, int column, float factor_)
      : taps(view.columns.taps), last(view.width - 1), factor(factor_) {
    source = view.columns.sources + static_cast<int64_t>(column) * taps;
    weight = view.columns.weights + static_cast<int64_t>(column) * taps;
  }
  template <typename Logit>
  __device__ __forceinline__ float value(const Logit* line) const {
    float sum = 0;
    for (int tap = 0; tap < taps; ++tap) sum += weight[tap] * widened(line[min(max(source[tap], 0), last)]);
    return sum * factor;
  }
};

// scores[i][r] = score of class `first + i` in pixel row r of the group; classes beyond the last repeat it.
template <int kClasses, int kRows, int kTaps, typename Logit>
__device__ __forceinline__ void find_scores(const CudaTail& problem, const CudaView& view, const RowGroup<kRows>& group,
                                            const ColumnTaps<kTaps>& columns, int first,
                                            float (&scores)[kClasses][kRows]) {
#pragma unroll
  for (int i = 0; i < kClasses; ++i) {
    for (int row = 0; row < kRows; ++row) scores[i][row] = 0;
  }
  const int count = *group.count;
  const Logit* logits = static_cast<const Logit*>(view.logits);
  for (int slot = 0; slot < count; ++slot) {
    const Logit* line = logits + group.source[slot] * view.row_stride;
    float weights[kRows], values[kClasses];
#pragma unroll
    for (int row = 0; row < kRows; ++row) weights[row] = group.weight[slot * kRows + row];
#pragma unroll
    for (int i = 0; i < kClasses; ++i) {
      values[i] = columns.value(line + min(first + i, problem.classes - 1) * view.class_stride);
    }
#pragma unroll
    for (int i = 0; i < kClasses; ++i) {
#pragma unroll
      for (int row = 0; row < kRows; ++row) scores[i][row] += weights[row] * values[i];
    }
  }
}

}  // namespace segzoo
