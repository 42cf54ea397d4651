// The tensor-core kernels of head dimensions up to SEGZOO_HEAD_DIM (16, 32, 64 or 128), in both half-precision types.
#include "cuda_matrix_run.cuh"

namespace segzoo {

template <>
const char* matrix_forward<SEGZOO_HEAD_DIM>(const CudaProblem& problem, Precision precision, const Device& device) {
  return precision == Precision::kHalf ? run_forward<__half, SEGZOO_HEAD_DIM>(problem, device)
                                       : run_forward<__nv_bfloat16, SEGZOO_HEAD_DIM>(problem, device);
}

template <>
const char* matrix_backward<SEGZOO_HEAD_DIM>(const CudaProblem& problem, Precision precision, void* grad_bias,
                                             const Device& device) {
  return precision == Precision::kHalf ? run_backward<__half, SEGZOO_HEAD_DIM>(problem, grad_bias, device)
                                       : run_backward<__nv_bfloat16, SEGZOO_HEAD_DIM>(problem, grad_bias, device);
}

}  // namespace segzoo
