// CUDA's words for an ordinary C++ compiler: the device code of csrc/ is compiled from the very same files and run
// on the CPU, one thread of a block at a time.
//
// What is here is what csrc/ uses: thread indices, static and dynamic shared memory, barriers, shuffles, matrix
// products, ldmatrix, cp.async, atomics, half-precision types. Build with -fsanitize=address,undefined: device
// pointers are host pointers and dynamic shared memory is a heap block of the size asked for, so a step outside
// either is reported. Shared memory starts as NaNs. Threads of a warp do not run in lockstep, so code that
// relies on lockstep fails here, as it may on hardware.
//
// Not modelled: speed, the number of registers, bank conflicts, limits of shared memory, clusters, concurrency of
// blocks (they run in order), streams.
#pragma once

#include <algorithm>
#include <cmath>

#include "block.h"
#include "numbers.h"
#include "warp.h"

#define __device__
#define __host__
#define __global__
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(bytes) alignas(bytes)

using cudaStream_t = void*;

using std::max;
using std::min;

template <typename Value>
inline Value __ldg(const Value* address) {
  return *address;
}

inline float exp2_of(float value) { return std::exp2(value); }
inline float __expf(float value) { return std::exp(value); }
inline float __logf(float value) { return std::log(value); }
inline float __log2f(float value) { return std::log2(value); }
inline float __fdividef(float numerator, float denominator) { return numerator / denominator; }
inline float __frcp_rn(float value) { return 1.0f / value; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

template <typename Value>
inline Value atomicAdd(Value* address, Value value) {
  const Value before = *address;
  *address = before + value;
  return before;
}
