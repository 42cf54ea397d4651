// The two kernels: the class with the largest score of one view, or with the largest sum of probabilities of several.
//
// A block has kColumns pixel columns of kRows pixel rows, a thread one column. Scores live in registers alone. With
// several views they are found twice: first for each view's logarithm of the sum of exponentials, then for the sums
// over the views, since sums of all classes are more than registers hold.
#pragma once

#include "cuda_count.cuh"
#include "cuda_scores.cuh"

namespace segzoo {

constexpr int kColumns = 128;
constexpr float kLog2E = 1.44269504088896341f;

// The best class so far; of equal scores the first stays.
struct Best {
  float score = -INFINITY;
  int label = 0;

  __device__ __forceinline__ void meet(float other, int its) {
    if (other > score) {
      score = other;
      label = its;
    }
  }
};

template <typename Logit, int kTaps>
__global__ void __launch_bounds__(kColumns) label_one_view(const CudaTail problem) {
  constexpr int kRows = 4, kClasses = 4;
  SEGZOO_DYNAMIC_SHARED(memory);
  const int tiles = (problem.width + kColumns - 1) / kColumns;
  const int first_row = blockIdx.x / tiles * kRows, column = blockIdx.x % tiles * kColumns + threadIdx.x;
  find_row_groups<kRows>(problem, memory, first_row);
  const CudaView& view = problem.view[0];
  const RowGroup<kRows> group = row_group<kRows>(problem, memory, 0);
  const ColumnTaps<kTaps> columns(view, min(column, problem.width - 1), 1.0f);
  Best best[kRows];
  for (int first = 0; first < problem.classes; first += kClasses) {
    float scores[kClasses][kRows];
    find_scores<kClasses, kRows, kTaps, Logit>(problem, view, group, columns, first, scores);
#pragma unroll
    for (int i = 0; i < kClasses; ++i) {
#pragma unroll
      for (int row = 0; row < kRows; ++row) best[row].meet(scores[i][row], min(first + i, problem.classes - 1));
    }
  }
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    const bool inside = column < problem.width && first_row + row < problem.height;
    finish_pixel(problem, first_row + row, column, inside, best[row].label);
  }
}

// The logarithm to base 2 of the sum of 2 ** score over the classes of one view, for scores times log2(e).
template <typename Logit, int kRows, int kTaps>
__device__ __forceinline__ void find_log_sums(const CudaTail& problem, const CudaView& view,
                                              const RowGroup<kRows>& group, const ColumnTaps<kTaps>& columns,
                                              float (&log_sums)[kRows]) {
  constexpr int kClasses = 4;
  float most[kRows], sums[kRows] = {};
  for (int row = 0; row < kRows; ++row) most[row] = -INFINITY;
  for (int first = 0; first < problem.classes; first += kClasses) {
    float scores[kClasses][kRows];
    find_scores<kClasses, kRows, kTaps, Logit>(problem, view, group, columns, first, scores);
#pragma unroll
    for (int i = 0; i < kClasses; ++i) {
      if (first + i >= problem.classes) break;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        const float score = scores[i][row];
        if (score > most[row]) {
          sums[row] = sums[row] * exp2_fast(most[row] - score) + 1;
          most[row] = score;
        } else {
          sums[row] += exp2_fast(score - most[row]);
        }
      }
    }
  }
#pragma unroll
  for (int row = 0; row < kRows; ++row) log_sums[row] = most[row] + log2f(sums[row]);
}

template <typename Logit, int kTaps>
__global__ void __launch_bounds__(kColumns) label_views(const CudaTail problem) {
  constexpr int kRows = 2, kClasses = kTaps ? 8 : 4;  // taps that are read anew need registers of their own
  SEGZOO_DYNAMIC_SHARED(memory);
  const int tiles = (problem.width + kColumns - 1) / kColumns;
  const int first_row = blockIdx.x / tiles * kRows, column = blockIdx.x % tiles * kColumns + threadIdx.x;
  const int read_column = min(column, problem.width - 1);
  find_row_groups<kRows>(problem, memory, first_row);
  // [views, kRows, kColumns]; a thread reads only what it wrote itself.
  float* all_log_sums = reinterpret_cast<float*>(memory + row_group_bytes<kRows>(problem));
  for (int number = 0; number < problem.views; ++number) {
    const CudaView& view = problem.view[number];
    float log_sums[kRows];
    find_log_sums<Logit, kRows, kTaps>(problem, view, row_group<kRows>(problem, memory, number),
                                       ColumnTaps<kTaps>(view, read_column, kLog2E), log_sums);
    for (int row = 0; row < kRows; ++row) {
      all_log_sums[(number * kRows + row) * kColumns + threadIdx.x] = log_sums[row];
    }
  }
  Best best[kRows];
  for (int first = 0; first < problem.classes; first += kClasses) {
    float totals[kClasses][kRows] = {};
    for (int number = 0; number < problem.views; ++number) {
      const CudaView& view = problem.view[number];
      float scores[kClasses][kRows];
      find_scores<kClasses, kRows, kTaps, Logit>(problem, view, row_group<kRows>(problem, memory, number),
                                                 ColumnTaps<kTaps>(view, read_column, kLog2E), first, scores);
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        const float log_sum = all_log_sums[(number * kRows + row) * kColumns + threadIdx.x];
#pragma unroll
        for (int i = 0; i < kClasses; ++i) totals[i][row] += exp2_fast(scores[i][row] - log_sum);
      }
    }
#pragma unroll
    for (int i = 0; i < kClasses; ++i) {
#pragma unroll
      for (int row = 0; row < kRows; ++row) best[row].meet(totals[i][row], min(first + i, problem.classes - 1));
    }
  }
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    const bool inside = column < problem.width && first_row + row < problem.height;
    finish_pixel(problem, first_row + row, column, inside, best[row].label);
  }
}

}  // namespace segzoo
