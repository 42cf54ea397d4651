// What the host code of every CUDA operator needs: the stream to launch on, and saying that a launch failed.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include "cuda_target.cuh"

namespace segzoo {

// PyTorch's current stream of a device, through its C interface, which outlives its versions.
inline cudaStream_t stream_of(const torch::stable::Tensor& tensor) {
  void* stream = nullptr;
  const int device = tensor.get_device_index();
  // PyTorch's own macro for such codes has another name in 2.11.
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(device, &stream) == AOTI_TORCH_SUCCESS,
                  "no current stream of CUDA device ", device);
  return static_cast<cudaStream_t>(stream);
}

inline void require_launched(const char* operation, const char* error) {
  STD_TORCH_CHECK(error == nullptr, operation, ": ", error == nullptr ? "" : error);
}

}  // namespace segzoo
