// Several neighbouring values of a tensor as one load or store, computed with in float32 (float64 stays as it is).
#pragma once

#include <cstring>
#include <type_traits>

#include "cuda_matrix.cuh"
#include "cuda_target.cuh"

namespace segzoo {

constexpr int kVectorBytes = 16;

// What values of a type are computed with.
template <typename Value>
using RealOf = std::conditional_t<std::is_same_v<Value, double>, double, float>;

template <typename Value>
__device__ __forceinline__ RealOf<Value> widened(Value value) {
  if constexpr (std::is_same_v<Value, __half>) return __half2float(value);
  else if constexpr (std::is_same_v<Value, __nv_bfloat16>) return __bfloat162float(value);
  else return value;
}

template <typename Value>
__device__ __forceinline__ Value narrowed(RealOf<Value> value) {
  if constexpr (std::is_same_v<Value, __half>) return __float2half_rn(value);
  else if constexpr (std::is_same_v<Value, __nv_bfloat16>) return __float2bfloat16_rn(value);
  else return value;
}

// `kCount` neighbouring values as they lie in memory: one, or those of 16 bytes at an address that is a multiple of 16.
// Loading and widening are apart, so that several loads can be on their way before the first is used.
template <typename Value, int kCount>
struct Packet {
  static_assert(kCount * sizeof(Value) == kVectorBytes);
  uint4 raw = {0, 0, 0, 0};

  __device__ __forceinline__ void load(const Value* source) {
    raw = __ldg(reinterpret_cast<const uint4*>(source));
  }
  __device__ __forceinline__ void widen(RealOf<Value> (&values)[kCount]) const {
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kCount == 4) {
        memcpy(&values[i], &words[i], 4);
      } else {
        const float2 both = unpack<Value>(words[i]);
        values[2 * i] = both.x;
        values[2 * i + 1] = both.y;
      }
    }
  }
};

template <typename Value>
struct Packet<Value, 1> {
  RealOf<Value> raw = 0;

  __device__ __forceinline__ void load(const Value* source) { raw = widened(*source); }
  __device__ __forceinline__ void widen(RealOf<Value> (&values)[1]) const { values[0] = raw; }
};

template <typename Value, int kCount>
__device__ __forceinline__ void store_values(Value* target, const RealOf<Value> (&values)[kCount]) {
  if constexpr (kCount == 1) {
    *target = narrowed<Value>(values[0]);
  } else {
    static_assert(kCount * sizeof(Value) == kVectorBytes);
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kCount == 4) memcpy(&words[i], &values[i], 4);
      else words[i] = pack<Value>(values[2 * i], values[2 * i + 1]);
    }
    *reinterpret_cast<uint4*>(target) = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

}  // namespace segzoo
