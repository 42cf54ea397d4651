// Tensor cores and the instructions that feed them, one thin function an instruction (sm_80 and later).
//
// Register layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix". A lane is 4 * group + quad. A fragment
// of a 16 x 16 operand A is 4 registers of two halves, of a 16 x 8 operand B 2 registers, of the sums 4 floats.
#pragma once

#include <cstring>
#include <type_traits>

#include "cuda_target.cuh"

namespace segzoo {

#if !defined(SEGZOO_CUDA_EMULATED)
__device__ __forceinline__ unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
#endif

// The lane, read anew at each call: kept in registers, what follows from it would crowd out a kernel's sums.
__device__ __forceinline__ int lane_again() {
#if defined(SEGZOO_CUDA_EMULATED)
  return static_cast<int>(threadIdx.x % 32);
#else
  int lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
#endif
}

#define SEGZOO_MMA(type)                                                                                      \
  asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "    \
      "{%10,%11,%12,%13};"                                                                                     \
      : "=f"(result[0]), "=f"(result[1]), "=f"(result[2]), "=f"(result[3])                                     \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c0), "f"(c1), "f"(c2), "f"(c3))

// result = a * b + c, in float32. Half is __half or __nv_bfloat16.
template <typename Half>
__device__ __forceinline__ void multiply_and_add(float (&result)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                                                 float c0, float c1, float c2, float c3) {
#if defined(SEGZOO_CUDA_EMULATED)
  const segzoo_emulator::MatrixOperands operands{{a[0], a[1], a[2], a[3]}, {b0, b1}, {c0, c1, c2, c3}};
  const auto product = segzoo_emulator::matrix_product<Half>(operands, SEGZOO_HERE);
  for (int i = 0; i < 4; ++i) result[i] = product.d[i];
#else
  if constexpr (std::is_same_v<Half, __half>) {
    SEGZOO_MMA("f16");
  } else {
    SEGZOO_MMA("bf16");
  }
#endif
}

#undef SEGZOO_MMA

// sums += a * b
template <typename Half>
__device__ __forceinline__ void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  multiply_and_add<Half>(sums, a, b0, b1, sums[0], sums[1], sums[2], sums[3]);
}

// result = a * b
template <typename Half>
__device__ __forceinline__ void multiply(float (&result)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  multiply_and_add<Half>(result, a, b0, b1, 0.0f, 0.0f, 0.0f, 0.0f);
}

// Four 8 x 8 matrices of halves, transposed: lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_transposed(unsigned (&matrices)[4], const void* row) {
#if defined(SEGZOO_CUDA_EMULATED)
  const auto loaded = segzoo_emulator::load_matrices(row, true, SEGZOO_HERE);
  for (int i = 0; i < 4; ++i) matrices[i] = loaded.r[i];
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(shared_address(row)));
#endif
}

// The same without transposing.
__device__ __forceinline__ void load_matrices(unsigned (&matrices)[4], const void* row) {
#if defined(SEGZOO_CUDA_EMULATED)
  const auto loaded = segzoo_emulator::load_matrices(row, false, SEGZOO_HERE);
  for (int i = 0; i < 4; ++i) matrices[i] = loaded.r[i];
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(shared_address(row)));
#endif
}

// 2 ** value, to about 2 units of the last place.
__device__ __forceinline__ float exp2_fast(float value) {
#if defined(SEGZOO_CUDA_EMULATED)
  return exp2_of(value);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
#endif
}

// Base-2 logarithm, to about 2 ** -22.
__device__ __forceinline__ float log2_fast(float value) {
#if defined(SEGZOO_CUDA_EMULATED)
  return log2f(value);
#else
  float result;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
#endif
}

// Two floats as one register of halves, `low` in the lower half.
template <typename Half>
__device__ __forceinline__ unsigned pack(float low, float high) {
  unsigned result;
  if constexpr (std::is_same_v<Half, __half>) {
    const __half2 pair = __floats2half2_rn(low, high);
    memcpy(&result, &pair, 4);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    memcpy(&result, &pair, 4);
  }
  return result;
}

template <typename Half>
__device__ __forceinline__ float2 unpack(unsigned both) {
  if constexpr (std::is_same_v<Half, __half>) {
    __half2 pair;
    memcpy(&pair, &both, 4);
    return __half22float2(pair);
  } else {
    __nv_bfloat162 pair;
    memcpy(&pair, &both, 4);
    return __bfloat1622float2(pair);
  }
}

}  // namespace segzoo
