// Which instantiation runs, with how many blocks and how much shared memory.
#pragma once

#include "../shared/cuda_launch.cuh"
#include "cuda_label.cuh"

namespace segzoo {

template <typename Logit, int kTaps>
const char* launch_label(const CudaTail& problem, cudaStream_t stream) {
  const bool one = problem.views == 1;
  const int rows = one ? 4 : 2;
  const int64_t tiles = (problem.width + kColumns - 1) / kColumns;
  const int64_t blocks = tiles * ((problem.height + rows - 1) / rows);
  if (blocks > 0x7fffffff) return "the image is too large for one launch";
  if (blocks == 0) return nullptr;
  LaunchShape shape{static_cast<unsigned>(blocks), kColumns, 0, stream};
  if (one) {
    shape.shared_bytes = row_group_bytes<4>(problem);
    return launch(label_one_view<Logit, kTaps>, shape, problem);
  }
  shape.shared_bytes = row_group_bytes<2>(problem) + sizeof(float) * problem.views * rows * kColumns;
  return launch(label_views<Logit, kTaps>, shape, problem);
}

// Null, or what went wrong. All views have logits of one type.
template <typename Logit>
const char* run_tail(const CudaTail& problem, cudaStream_t stream) {
  int taps = problem.view[0].columns.taps;
  for (int view = 1; view < problem.views; ++view) {
    if (problem.view[view].columns.taps != taps) taps = 0;
  }
  if (taps == 1) return launch_label<Logit, 1>(problem, stream);
  if (taps == 2) return launch_label<Logit, 2>(problem, stream);
  if (taps == 3) return launch_label<Logit, 3>(problem, stream);
  if (taps == 4) return launch_label<Logit, 4>(problem, stream);
  return launch_label<Logit, 0>(problem, stream);
}

}  // namespace segzoo
