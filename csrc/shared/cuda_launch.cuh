// Starting a kernel: with <<<>>> under nvcc, as a loop over blocks in the emulator.
#pragma once

#include <cstddef>

#include "cuda_target.cuh"

namespace segzoo {

struct LaunchShape {
  dim3 grid, block;
  size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
};

// Returns null, or what is wrong with the launch. Errors inside the kernel show at the next synchronisation.
template <typename... Parameters, typename... Arguments>
const char* launch(void (*kernel)(Parameters...), const LaunchShape& shape, const Arguments&... arguments) {
#if defined(SEGZOO_CUDA_EMULATED)
  segzoo_emulator::launch(kernel, shape.grid, shape.block, shape.shared_bytes, Parameters(arguments)...);
  return nullptr;
#else
  constexpr size_t kAlwaysGranted = 48 * 1024;
  if (shape.shared_bytes > kAlwaysGranted) {
    const cudaError_t refused = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                     cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                     static_cast<int>(shape.shared_bytes));
    if (refused != cudaSuccess) return cudaGetErrorString(refused);
  }
  kernel<<<shape.grid, shape.block, shape.shared_bytes, shape.stream>>>(Parameters(arguments)...);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
#endif
}

}  // namespace segzoo
