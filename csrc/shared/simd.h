// Vectors of the width that this translation unit is compiled for, with the compiler's own vector types.
//
// Everything is in an unnamed namespace: the same source is compiled once per processor variant, and a
// function shared by name could be linked from the wrong one.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define SEGZOO_VECTOR_BYTES 64
#define SEGZOO_REGISTERS 32
#elif defined(__AVX2__)
#define SEGZOO_VECTOR_BYTES 32
#define SEGZOO_REGISTERS 16
#elif defined(__aarch64__)
#define SEGZOO_VECTOR_BYTES 16
#define SEGZOO_REGISTERS 32
#else
#define SEGZOO_VECTOR_BYTES 16
#define SEGZOO_REGISTERS 16
#endif

#define SEGZOO_FORCE_INLINE inline __attribute__((always_inline))
#define SEGZOO_INLINE_LAMBDA __attribute__((always_inline))

namespace {

template <typename Real>
struct Types;

template <>
struct Types<float> {
  using Integer = int;
  typedef float Vector __attribute__((vector_size(SEGZOO_VECTOR_BYTES)));
  typedef float Unaligned __attribute__((vector_size(SEGZOO_VECTOR_BYTES), aligned(4), may_alias));
  typedef int Mask __attribute__((vector_size(SEGZOO_VECTOR_BYTES)));
};

template <>
struct Types<double> {
  using Integer = long long;
  typedef double Vector __attribute__((vector_size(SEGZOO_VECTOR_BYTES)));
  typedef double Unaligned __attribute__((vector_size(SEGZOO_VECTOR_BYTES), aligned(8), may_alias));
  typedef long long Mask __attribute__((vector_size(SEGZOO_VECTOR_BYTES)));
};

template <typename Real>
using Vector = typename Types<Real>::Vector;
template <typename Real>
using Mask = typename Types<Real>::Mask;
template <typename Real>
constexpr int kLanes = SEGZOO_VECTOR_BYTES / sizeof(Real);

// The next multiple of the lanes.
template <typename Real>
SEGZOO_FORCE_INLINE long padded(long count) {
  return (count + kLanes<Real> - 1) / kLanes<Real> * kLanes<Real>;
}

template <typename Real>
SEGZOO_FORCE_INLINE Vector<Real> load(const Real* source) {
  return *reinterpret_cast<const typename Types<Real>::Unaligned*>(source);
}

template <typename Real>
SEGZOO_FORCE_INLINE void store(Real* target, Vector<Real> value) {
  *reinterpret_cast<typename Types<Real>::Unaligned*>(target) = value;
}

// The upper half of a float's bits.
struct BFloat16 {
  uint16_t bits;
};

typedef uint16_t Halves __attribute__((vector_size(SEGZOO_VECTOR_BYTES / 2)));
typedef uint16_t UnalignedHalves __attribute__((vector_size(SEGZOO_VECTOR_BYTES / 2), aligned(2), may_alias));
typedef uint32_t Words __attribute__((vector_size(SEGZOO_VECTOR_BYTES)));

template <typename Real, typename Stored>
SEGZOO_FORCE_INLINE Real widened(Stored value) {
  if constexpr (std::is_same_v<Stored, BFloat16>) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
  } else {
    return value;
  }
}

// Rounds to the nearest, ties to even; NaN stays NaN.
template <typename Stored, typename Real>
SEGZOO_FORCE_INLINE Stored narrowed(Real value) {
  if constexpr (std::is_same_v<Stored, BFloat16>) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (value != value) return {0x7fc0};
    return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
  } else {
    return value;
  }
}

// kLanes<Real> stored values as a vector to compute with.
template <typename Real, typename Stored>
SEGZOO_FORCE_INLINE Vector<Real> load_wide(const Stored* source) {
  if constexpr (std::is_same_v<Stored, BFloat16>) {
    const Halves halves = *reinterpret_cast<const UnalignedHalves*>(source);
    return reinterpret_cast<Vector<Real>>(__builtin_convertvector(halves, Words) << 16);
  } else {
    return load<Real>(source);
  }
}

template <typename Real, typename Stored>
SEGZOO_FORCE_INLINE void store_narrow(Stored* target, Vector<Real> value) {
  if constexpr (std::is_same_v<Stored, BFloat16>) {
    const Words bits = reinterpret_cast<Words>(value);
    const Words rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const Words kept = value == value ? rounded : Words{} + 0x7fc0;
    *reinterpret_cast<UnalignedHalves*>(target) = __builtin_convertvector(kept, Halves);
  } else {
    store<Real>(target, value);
  }
}

template <typename Real>
SEGZOO_FORCE_INLINE Vector<Real> broadcast(Real value) {
  return value - Vector<Real>{};  // 0 + value would be an addition: it turns -0 into 0
}

// Keeps a loaded vector in its register: GCC otherwise makes the load part of every multiply-add that uses the
// vector, and one that straddles two cache lines costs twice as many cycles as the multiply-add.
template <typename Real>
SEGZOO_FORCE_INLINE void keep(Vector<Real>& value) {
#if defined(__AVX512F__)
  asm("" : "+v"(value));
#elif defined(__x86_64__)
  asm("" : "+x"(value));
#elif defined(__aarch64__)
  asm("" : "+w"(value));
#endif
}

// lane i of the result is lane order[i] of `value`
template <typename Real>
SEGZOO_FORCE_INLINE Vector<Real> permute(Vector<Real> value, Mask<Real> order) {
#if defined(__clang__)
  Vector<Real> result;
  for (int lane = 0; lane < kLanes<Real>; ++lane) result[lane] = value[order[lane]];
  return result;
#else
  return __builtin_shuffle(value, order);
#endif
}

template <typename Real>
struct Exponent;

// 2^f on [-0.5, 0.5]: least-squares fit at Chebyshev nodes, relative error below 1e-8
template <>
struct Exponent<float> {
  static constexpr float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  static constexpr float lowest = -126.0f;
  static constexpr int mantissa = 23;
  static constexpr int one = 127 << 23;
  static constexpr float series[] = {
      1.0f, 0.693147182f, 0.240226477f, 0.0555032901f, 0.00961837359f, 0.00133998087f, 0.000153706322f};
};

// Taylor series of 2^f, to (log 2)^13 / 13!
template <>
struct Exponent<double> {
  static constexpr double round = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double lowest = -1022.0;
  static constexpr int mantissa = 52;
  static constexpr long long one = 1023LL << 52;
  static constexpr double series[] = {
      1.0, 0.6931471805599453, 0.2402265069591007, 0.055504108664821576, 0.009618129107628477,
      0.0013333558146428441, 0.00015403530393381606, 1.5252733804059838e-05, 1.3215486790144305e-06,
      1.0178086009239696e-07, 7.054911620801121e-09, 4.44553827187081e-10, 2.5678435993488196e-11,
      1.3691488853904124e-12};
};

// The series at `fraction`, in [-0.5, 0.5].
template <typename Real>
SEGZOO_FORCE_INLINE Vector<Real> exp2_series(Vector<Real> fraction) {
  constexpr int terms = sizeof(Exponent<Real>::series) / sizeof(Real);
  Vector<Real> power = broadcast<Real>(Exponent<Real>::series[terms - 1]);
#pragma GCC unroll 16
  for (int i = terms - 2; i >= 0; --i) power = power * fraction + Exponent<Real>::series[i];
  return power;
}

// 2^x for x <= about 0. What is below the smallest normal number comes out as anything from 0 to that. NaN stays NaN.
template <typename Real>
SEGZOO_FORCE_INLINE Vector<Real> exp2_of(Vector<Real> x) {
  using E = Exponent<Real>;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<Real, float>) {
    const Vector<float> fraction = _mm512_maskz_reduce_ps(0xffff, x, 8);  // x - its nearest integer; 0 of infinity
    return _mm512_maskz_scalef_ps(0xffff, exp2_series<float>(fraction), x - fraction);
  }
#endif
  const Vector<Real> lowest = broadcast<Real>(E::lowest);
  x = x < lowest ? lowest : x;
  const Vector<Real> shifted = x + E::round;
  const Vector<Real> whole = shifted - E::round;
  const Mask<Real> exponent = (reinterpret_cast<Mask<Real>>(shifted) << E::mantissa) + E::one;
  return exp2_series<Real>(x - whole) * reinterpret_cast<Vector<Real>>(exponent);
}

// log2 of normal numbers, relative error below 1e-7. NaN stays NaN.
SEGZOO_FORCE_INLINE Vector<float> log2_of(Vector<float> x) {
  constexpr int half = 0x3f3504f3;  // sqrt(0.5), so that the mantissa is within [sqrt(0.5), sqrt(2))
  const Mask<float> bits = reinterpret_cast<Mask<float>>(x) - half;
  const Vector<float> exponent = __builtin_convertvector(bits >> 23, Vector<float>);
  const Vector<float> mantissa = reinterpret_cast<Vector<float>>((bits & 0x7fffff) + half);
  // log m = 2 atanh((m - 1) / (m + 1)), and the series of atanh
  const Vector<float> ratio = (mantissa - 1.0f) / (mantissa + 1.0f), square = ratio * ratio;
  Vector<float> series = square * (1.0f / 9) + 1.0f / 7;
  series = series * square + 1.0f / 5;
  series = series * square + 1.0f / 3;
  series = series * square + 1.0f;
  return exponent + ratio * series * 2.8853900817779268f + x * 0.0f;
}

}  // namespace
