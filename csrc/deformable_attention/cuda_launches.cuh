// Which instantiation runs, with how many blocks.
#pragma once

#include "../shared/cuda_launch.cuh"
#include "cuda_backward.cuh"
#include "cuda_forward.cuh"

namespace segzoo {

constexpr int64_t kMostBlocks = 0x7fffffff;

enum class Pass { kForward, kBackward };

template <Pass pass, typename Value, int kVector, int kGroup>
const char* launch_pass(const CudaProblem& problem, cudaStream_t stream) {
  constexpr int64_t kQueries = Seat<kGroup>::kQueries;
  const int64_t blocks = (problem.queries + kQueries - 1) / kQueries * problem.batch * problem.heads;
  if (blocks > kMostBlocks) return "too many queries for one launch";
  const LaunchShape shape{static_cast<unsigned>(blocks), kWarps * 32, 0, stream};
  if constexpr (pass == Pass::kForward) return launch(deformable_forward<Value, kVector, kGroup>, shape, problem);
  else return launch(deformable_backward<Value, kVector, kGroup>, shape, problem);
}

// Vectors of 16 bytes where heads and addresses are multiples of them, else one channel a lane.
inline bool takes_vectors(const CudaProblem& problem, size_t value_bytes) {
  const auto whole = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kVectorBytes == 0; };
  return problem.head_dim * value_bytes % kVectorBytes == 0 && whole(problem.value) && whole(problem.grad_output) &&
         whole(problem.output);
}

template <Pass pass, typename Value>
const char* launch_any(const CudaProblem& problem, cudaStream_t stream) {
  if constexpr (!std::is_same_v<Value, double>) {
    constexpr int kVector = kVectorBytes / sizeof(Value);
    if (takes_vectors(problem, sizeof(Value))) {
      const int lanes = problem.head_dim / kVector;
      if (lanes <= 2) return launch_pass<pass, Value, kVector, 2>(problem, stream);
      if (lanes <= 4) return launch_pass<pass, Value, kVector, 4>(problem, stream);
      if (lanes <= 8) return launch_pass<pass, Value, kVector, 8>(problem, stream);
      return launch_pass<pass, Value, kVector, 16>(problem, stream);
    }
  }
  return launch_pass<pass, Value, 1, 32>(problem, stream);
}

// Null, or what went wrong. A problem without queries has nothing to compute.
template <typename Value>
const char* run_forward(const CudaProblem& problem, cudaStream_t stream) {
  if (problem.queries * problem.batch * problem.heads == 0) return nullptr;
  return launch_any<Pass::kForward, Value>(problem, stream);
}

template <typename Value>
const char* run_backward(const CudaProblem& problem, cudaStream_t stream) {
  if (problem.queries * problem.batch * problem.heads == 0) return nullptr;
  if (const char* error = launch_any<Pass::kBackward, Value>(problem, stream)) return error;
  if (!problem.deterministic) return nullptr;
  const int64_t chunks = (problem.head_dim + 31) / 32;
  const int64_t blocks = problem.batch * problem.heads * problem.levels * chunks;
  if (blocks == 0) return nullptr;
  if (blocks > kMostBlocks) return "too many heads for one launch";
  return launch(deformable_value_gradient<Value>, LaunchShape{static_cast<unsigned>(blocks), 32, 0, stream}, problem);
}

}  // namespace segzoo
