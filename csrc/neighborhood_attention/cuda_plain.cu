// The kernels without tensor cores. 32 lanes of 4 channels hold head dimensions up to 128.
#include "cuda_plain_run.cuh"

namespace segzoo {
namespace {

// Calls `run` with the kernel's template argument as a value.
template <typename Run>
const char* for_kernel(const CudaProblem& problem, Precision precision, bool aligned, const Run& run) {
  const int head_dim = problem.shape.head_dim;
  if (precision == Precision::kDouble) return run(Plain<double, double, 32, 1>{});
  if (precision == Precision::kHalf) return run(Plain<__half, float, 32, 1>{});
  if (precision == Precision::kBFloat16) return run(Plain<__nv_bfloat16, float, 32, 1>{});
  if (!aligned || head_dim % 4) return run(Plain<float, float, 32, 1>{});
  if (head_dim <= 32) return run(Plain<float, float, 8, 4>{});
  if (head_dim <= 64) return run(Plain<float, float, 16, 4>{});
  return run(Plain<float, float, 32, 4>{});
}

}  // namespace

const char* plain_forward(const CudaProblem& problem, Precision precision, bool aligned, const Device& device) {
  return for_kernel(problem, precision, aligned,
                    [&](auto kernel) { return run_plain_forward<decltype(kernel)>(problem, device); });
}

const char* plain_backward(const CudaProblem& problem, Precision precision, bool aligned, void* grad_bias,
                           const Device& device) {
  return for_kernel(problem, precision, aligned,
                    [&](auto kernel) { return run_plain_backward<decltype(kernel)>(problem, grad_bias, device); });
}

int plain_bias_parts(const CudaProblem& problem) { return plain_parts(problem); }

}  // namespace segzoo
