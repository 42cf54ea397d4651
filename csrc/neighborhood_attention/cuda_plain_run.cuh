// Starts the kernels without tensor cores.
#pragma once

#include "cuda_bias_sum.cuh"
#include "cuda_matrix_run.cuh"
#include "cuda_plain_backward.cuh"
#include "cuda_plain_forward.cuh"

namespace segzoo {

inline long plain_blocks(const CudaProblem& problem, int runs_of_block) {
  return (runs_of_head(problem) + runs_of_block - 1) / runs_of_block * problem.shape.heads;
}

inline LaunchShape plain_shape(long blocks, long shared_bytes, const Device& device) {
  return {dim3(static_cast<unsigned>(blocks)), dim3(kPlainThreads), static_cast<size_t>(shared_bytes), device.stream};
}

// Blocks of a head in the first backward kernel, each with a part of the bias gradient.
inline int plain_parts(const CudaProblem& problem) {
  constexpr long kBlocks = 2048;
  const long heads = problem.shape.heads, all = plain_blocks(problem, kMostRunsOfBlock) / heads;
  return static_cast<int>(problem.bias ? std::clamp(kBlocks / heads, 1L, all) : all);
}

template <typename P>
const char* run_plain_forward(const CudaProblem& problem, const Device& device) {
  const long blocks = plain_blocks(problem, P::runs);
  if (blocks > kMostBlocks) return kTooManyBlocks;
  return launch(plain_forward_kernel<P>, plain_shape(blocks, 0, device), problem);
}

// `problem.bias_parts` has room for plain_parts() tables a head.
template <typename P>
const char* run_plain_backward(CudaProblem problem, void* grad_bias, const Device& device) {
  using Sum = typename P::Sum;
  const long blocks = plain_blocks(problem, P::runs), width = 2 * problem.shape.kernel - 1;
  if (blocks > kMostBlocks) return kTooManyBlocks;
  problem.parts = plain_parts(problem);
  const long tables = problem.bias ? P::runs * width * width * static_cast<long>(sizeof(Sum)) : 0;
  if (tables > device.shared_bytes) return kTooMuchShared;
  const LaunchShape shape = plain_shape(static_cast<long>(problem.parts) * problem.shape.heads, tables, device);
  if (const char* error = launch(plain_backward_query_kernel<P>, shape, problem)) return error;
  if (problem.bias) {
    const LaunchShape sum{dim3(static_cast<unsigned>((width * width + 31) / 32), problem.shape.heads),
                          dim3(32 * kSumWarps), 0, device.stream};
    if (const char* error = launch(add_bias_parts<Sum>, sum, problem, static_cast<Sum*>(grad_bias))) return error;
  }
  return launch(plain_backward_key_kernel<P>, plain_shape(blocks, 0, device), problem);
}

}  // namespace segzoo
