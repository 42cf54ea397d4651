// Last kernel of the backward: adds the blocks' parts of the bias gradient, always in the same order.
#pragma once

#include "cuda_problem.cuh"

namespace segzoo {

constexpr int kSumWarps = 32;

// Block (32 cells, head): each warp sums every 32nd part, then the warps' sums are added in order.
template <typename Sum>
__global__ void __launch_bounds__(32 * kSumWarps) add_bias_parts(const CudaProblem problem, Sum* grad_bias) {
  __shared__ Sum sums[kSumWarps][32];
  const int width = 2 * problem.shape.kernel - 1, cells = width * width;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int cell = blockIdx.x * 32 + lane, head = blockIdx.y;
  Sum sum = 0;
  if (cell < cells) {
    const Sum* part = static_cast<const Sum*>(problem.bias_parts) + head * static_cast<long>(problem.parts) * cells + cell;
    for (long i = warp; i < problem.parts; i += kSumWarps) sum += part[i * cells];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || cell >= cells) return;
  sum = 0;
  for (int i = 0; i < kSumWarps; ++i) sum += sums[i][lane];
  grad_bias[static_cast<long>(head) * cells + cell] = sum;
}

}  // namespace segzoo
