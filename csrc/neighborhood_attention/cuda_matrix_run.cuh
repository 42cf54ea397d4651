// Starts the tensor-core kernels of one head dimension and half-precision type.
#pragma once

#include "cuda_backward_key.cuh"
#include "cuda_backward_query.cuh"
#include "cuda_bias_sum.cuh"
#include "cuda_forward.cuh"
#include "cuda_plan.cuh"
#include "cuda_runs.cuh"
#include "cuda_table_fill.cuh"

namespace segzoo {

inline LaunchShape shape_of(const CudaProblem& problem, long images, int most_warps, long bytes, const Device& device) {
  const int warps = std::min(problem.tile_rows * problem.tile_columns, most_warps);
  return {dim3(static_cast<unsigned>(blocks_of(problem, images))), dim3(32 * warps), static_cast<size_t>(bytes),
          device.stream};
}

inline const char* run_table(const CudaProblem& problem, const Device& device) {
  const long size = table_size(problem);
  return launch(make_table, {dim3(static_cast<unsigned>((size + 255) / 256)), dim3(256), 0, device.stream}, problem, size);
}

// `problem.table` has room for what matrix_forward_space() says, which gives `problem.tiles` too.
template <typename Half, int head_dim>
const char* run_forward(CudaProblem problem, const Device& device) {
  const long images = problem.shape.batch;
  const long bytes = choose_tile(problem, kForwardTiles, images, device.shared_bytes, head_dim, forward_bytes);
  if (bytes == 0) return kTooMuchShared;
  if (blocks_of(problem, images) > kMostBlocks) return kTooManyBlocks;
  if (const char* error = run_table(problem, device)) return error;
  const LaunchShape shape = shape_of(problem, images, kForwardWarps, bytes, device);
  if (is_usual(problem)) return launch(forward_kernel<Half, head_dim, 7>, shape, problem);
  return launch(forward_kernel<Half, head_dim, 0>, shape, problem);
}

// Likewise with matrix_backward_space(), and `problem.bias_parts` for its parts.
template <typename Half, int head_dim>
const char* run_backward(CudaProblem problem, void* grad_bias, const Device& device) {
  const long bytes = plan_backward_query(problem, device.shared_bytes, head_dim);
  if (bytes == 0) return kTooMuchShared;
  if (blocks_of(problem, problem.splits) > kMostBlocks) return kTooManyBlocks;
  if (const char* error = run_table(problem, device)) return error;
  const LaunchShape shape = shape_of(problem, problem.splits, 8, bytes, device);
  const bool usual = is_usual(problem);
  const char* failed = usual ? launch(backward_query_kernel<Half, head_dim, 7>, shape, problem)
                             : launch(backward_query_kernel<Half, head_dim, 0>, shape, problem);
  if (failed) return failed;
  if (problem.bias) {
    const unsigned width = 2 * problem.shape.kernel - 1, heads = problem.shape.heads;
    const LaunchShape sum{dim3((width * width + 31) / 32, heads), dim3(32 * kSumWarps), 0, device.stream};
    if (const char* error = launch(add_bias_parts<float>, sum, problem, static_cast<float*>(grad_bias))) return error;
  }
  const long images = problem.shape.batch;
  const long key_bytes = choose_tile(problem, kBackwardTiles, images, device.shared_bytes, head_dim, backward_key_bytes);
  if (key_bytes == 0) return kTooMuchShared;
  if (blocks_of(problem, images) > kMostBlocks) return kTooManyBlocks;
  const LaunchShape of_keys = shape_of(problem, images, kBackwardKeyWarps, key_bytes, device);
  if constexpr (head_dim < 128) {  // there the registers are too few
    if (usual) return launch(backward_key_kernel<Half, head_dim, 7>, of_keys, problem);
  }
  return launch(backward_key_kernel<Half, head_dim, 0>, of_keys, problem);
}

}  // namespace segzoo
