// What the operator hands to the CUDA kernels.
//
// Letters: S tokens of all levels, M heads, D channels of a head, L levels, P points, Q queries.
#pragma once

#include <cstdint>

namespace segzoo {

constexpr int kMostLevels = 16;

// Passed by value, so that the levels lie in constant memory. Tensors are contiguous; locations, weights and all
// sums are float32, or float64 where `value` is.
struct CudaProblem {
  int64_t batch, queries, tokens;
  int heads, head_dim, levels, points;
  int height[kMostLevels], width[kMostLevels], start[kMostLevels];

  const void* value;        // [batch, S, M, D]
  const void* locations;    // [batch, Q, M, L, P, 2], (x, y)
  const void* weights;      // [batch, Q, M, L, P]
  const void* grad_output;  // [batch, Q, M, D], backward only
  void* output;             // [batch, Q, M, D], forward only
  void* grad_value;         // [batch, S, M, D] in float32 or float64, zeros at first
  void* grad_locations;
  void* grad_weights;
  bool deterministic;  // grad_value without atomics
};

}  // namespace segzoo
