// What the operator hands to the CUDA kernels.
//
// Letters: C classes, H x W pixels of the image, h x w logits of a view.
#pragma once

#include <cstdint>

namespace segzoo {

constexpr int kMostViews = 40;  // as many as the parameters of a kernel hold

// The logits that every pixel along one side of the image is made of: [pixels, taps].
struct CudaTaps {
  const int* sources;
  const float* weights;
  int taps;
};

struct CudaView {
  const void* logits;  // [C, h, w]; the column stride is 1
  int64_t class_stride, row_stride;
  int height, width;
  CudaTaps rows, columns;
};

struct CudaTail {
  int classes, height, width, views;
  int most_row_taps;  // of all views
  CudaView view[kMostViews];
  void* labels;  // [H, W], bytes or, for more than 256 classes, int32
  bool wide;

  const void* target;  // [H, W], bytes or int64; null counts nothing
  bool target_wide;
  int64_t counted;  // K: [K + 1, K + 1] cells, target down
  int64_t ignore;
  unsigned long long* counts;
};

}  // namespace segzoo
