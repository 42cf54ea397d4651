// The entries to the kernels, each compiled in an object file of its own: cuda_matrix.cu for one padded head dimension,
// cuda_plain.cu for the kernels without tensor cores. All return null, or what went wrong.
#pragma once

#include "cuda_problem.cuh"

namespace segzoo {

struct Device {
  long shared_bytes;  // that one block may have
  cudaStream_t stream;
};

enum class Precision { kFloat, kDouble, kHalf, kBFloat16 };

// Head dimensions that the tensor-core kernels are compiled for; others are filled up with zeros.
inline int padded_head_dim(long head_dim) {
  for (const int padded : {16, 32, 64, 128}) {
    if (head_dim <= padded) return padded;
  }
  return 0;
}

constexpr const char* kTooManyBlocks = "more than 2^31 - 1 blocks: use a smaller batch";
constexpr const char* kTooMuchShared = "kernel size and head dimension need more shared memory than this GPU has";

// Workspaces of the tensor-core kernels and the number of tiles, which differs between the passes (cuda_plan.cuh).
struct MatrixSpace {
  int tiles;
  long table;  // float4s
  int parts;   // tables of bias gradients a head; backward only
  const char* error = nullptr;
};

template <int head_dim>
const char* matrix_forward(const CudaProblem& problem, Precision precision, const Device& device);
template <int head_dim>
const char* matrix_backward(const CudaProblem& problem, Precision precision, void* grad_bias, const Device& device);

// `aligned`: channels lie side by side and every token starts at a multiple of 16 bytes.
const char* plain_forward(const CudaProblem& problem, Precision precision, bool aligned, const Device& device);
const char* plain_backward(const CudaProblem& problem, Precision precision, bool aligned, void* grad_bias,
                           const Device& device);
int plain_bias_parts(const CudaProblem& problem);

}  // namespace segzoo
