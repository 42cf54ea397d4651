// Moving memory: asynchronous copies to shared memory, and vector additions to global memory.
#pragma once

#include "cuda_target.cuh"

namespace segzoo {

// Copies 16 bytes from global to shared memory in the background, or writes zeros where `wanted` is false (the source
// is not read then). Both addresses are multiples of 16.
__device__ __forceinline__ void copy_16_bytes(void* target, const void* source, bool wanted) {
#if defined(SEGZOO_CUDA_EMULATED)
  segzoo_emulator::promise_copy(target, source, wanted ? 16 : 0, wanted ? 0 : 16, SEGZOO_HERE);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(target))), "l"(source), "r"(wanted ? 16 : 0)
               : "memory");
#endif
}

// Closes a group of copies.
__device__ __forceinline__ void commit_copies() {
#if defined(SEGZOO_CUDA_EMULATED)
  segzoo_emulator::commit_copies();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for this thread's groups, all but the latest `pending`. A barrier is needed before other threads read.
template <int pending>
__device__ __forceinline__ void wait_for_copies() {
#if defined(SEGZOO_CUDA_EMULATED)
  segzoo_emulator::wait_for_copies(pending);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// Adds four floats to global memory, each atomically: one instruction from sm_90 on. `address` is a multiple of 16.
__device__ __forceinline__ void atomic_add_4(float* address, float4 value) {
#if !defined(SEGZOO_CUDA_EMULATED) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(__cvta_generic_to_global(address)), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
               : "memory");
#else
  atomicAdd(address, value.x);
  atomicAdd(address + 1, value.y);
  atomicAdd(address + 2, value.z);
  atomicAdd(address + 3, value.w);
#endif
}

}  // namespace segzoo
