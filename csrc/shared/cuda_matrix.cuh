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

// sums += a * b, in float32. Half is __half or __nv_bfloat16.
template <typename Half>
__device__ __forceinline__ void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if defined(SEGZOO_CUDA_EMULATED)
  const segzoo_emulator::MatrixOperands operands{
      {a[0], a[1], a[2], a[3]}, {b0, b1}, {sums[0], sums[1], sums[2], sums[3]}};
  const auto result = segzoo_emulator::matrix_product<Half>(operands, SEGZOO_HERE);
  for (int i = 0; i < 4; ++i) sums[i] = result.d[i];
#else
  if constexpr (std::is_same_v<Half, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
#endif
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
