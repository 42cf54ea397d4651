// Elements of several vectors exchanged: transposed blocks, pairs taken apart, sums over lanes.
#pragma once

#include <type_traits>
#include <utility>

#include "simd.h"

namespace {

template <typename Real, int Half, int... Lane>
SEGZOO_FORCE_INLINE Vector<Real> interleave(Vector<Real> even, Vector<Real> odd,
                                            std::integer_sequence<int, Lane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(even, odd,
                                 (Half * kLanes<Real> / 2 + Lane / 2 + (Lane % 2) * kLanes<Real>)...);
#else
  return __builtin_shuffle(
      even, odd, Mask<Real>{(Half * kLanes<Real> / 2 + Lane / 2 + (Lane % 2) * kLanes<Real>)...});
#endif
}

template <typename Real, int First, int... Lane>
SEGZOO_FORCE_INLINE Vector<Real> every_other(Vector<Real> low, Vector<Real> high, std::integer_sequence<int, Lane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(low, high, (2 * Lane + First)...);
#else
  return __builtin_shuffle(low, high, Mask<Real>{(2 * Lane + First)...});
#endif
}

// Pairs (x, y) that lie one after the other, kLanes of them, to a vector of x and one of y.
template <typename Real>
SEGZOO_FORCE_INLINE void split_pairs(const Real* pairs, Vector<Real>& x, Vector<Real>& y) {
  using Sequence = std::make_integer_sequence<int, kLanes<Real>>;
  const Vector<Real> low = load<Real>(pairs), high = load<Real>(pairs + kLanes<Real>);
  x = every_other<Real, 0>(low, high, Sequence{});
  y = every_other<Real, 1>(low, high, Sequence{});
}

// The way back.
template <typename Real>
SEGZOO_FORCE_INLINE void join_pairs(Vector<Real> x, Vector<Real> y, Real* pairs) {
  using Sequence = std::make_integer_sequence<int, kLanes<Real>>;
  store<Real>(pairs, interleave<Real, 0>(x, y, Sequence{}));
  store<Real>(pairs + kLanes<Real>, interleave<Real, 1>(x, y, Sequence{}));
}

// sums[i] = the sum over the lanes of part[i]
template <typename Real>
SEGZOO_FORCE_INLINE void sums_of_four(const Vector<Real>* part, Real* sums) {
  constexpr int lanes = kLanes<Real>;
  using Sequence = std::make_integer_sequence<int, lanes>;
  if constexpr (lanes < 4) {
    for (int i = 0; i < 4; ++i) {
      sums[i] = 0;
      for (int lane = 0; lane < lanes; ++lane) sums[i] += part[i][lane];
    }
  } else {
    const auto halves = [](Vector<Real> a, Vector<Real> b) SEGZOO_INLINE_LAMBDA {
      return interleave<Real, 0>(a, b, Sequence{}) + interleave<Real, 1>(a, b, Sequence{});
    };
    Vector<Real> sum = halves(halves(part[0], part[2]), halves(part[1], part[3]));
#pragma GCC unroll 2
    for (int left = lanes / 4; left > 1; left /= 2) sum = halves(sum, sum);
    for (int i = 0; i < 4; ++i) sums[i] = sum[i * (lanes / 4)];
  }
}

// Transposes a square block held in kLanes vectors: interleaving the first half with the second,
// log2(kLanes) times, moves every element to its mirrored place.
template <typename Real>
SEGZOO_FORCE_INLINE void transpose(Vector<Real>* block) {
  constexpr int lanes = kLanes<Real>;
  using Sequence = std::make_integer_sequence<int, lanes>;
  Vector<Real> other[lanes];
#pragma GCC unroll 8
  for (int step = 1; step < lanes; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < lanes / 2; ++i) {
      other[2 * i] = interleave<Real, 0>(block[i], block[i + lanes / 2], Sequence{});
      other[2 * i + 1] = interleave<Real, 1>(block[i], block[i + lanes / 2], Sequence{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) block[i] = other[i];
  }
}

// block[i][lane] = source[lane][at + i]
template <typename Real, typename Stored>
SEGZOO_FORCE_INLINE void load_transposed(const Stored* const* source, long at, Vector<Real>* block) {
  constexpr int lanes = kLanes<Real>;
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<Stored, float>) {
    // Quarters of a vector are brought where they belong by the loads, so that two of the four rounds of shuffles
    // are within quarters and one more joins them.
    __m512 quarters[4][4];
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const float* const* first = source + q / 2 * 8;
      const long from = at + q % 2 * 8;
      __m512 row[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const __m512 low = _mm512_castps256_ps512(_mm256_loadu_ps(first[i] + from));
        row[i] = _mm512_insertf32x8(low, _mm256_loadu_ps(first[i + 4] + from), 1);
      }
      const __m512 a = _mm512_unpacklo_ps(row[0], row[1]), b = _mm512_unpackhi_ps(row[0], row[1]);
      const __m512 c = _mm512_unpacklo_ps(row[2], row[3]), d = _mm512_unpackhi_ps(row[2], row[3]);
      quarters[q][0] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(c)));
      quarters[q][1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(c)));
      quarters[q][2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(b), _mm512_castps_pd(d)));
      quarters[q][3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(b), _mm512_castps_pd(d)));
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        block[half * 8 + i] = _mm512_shuffle_f32x4(quarters[half][i], quarters[half + 2][i], 0x88);
        block[half * 8 + 4 + i] = _mm512_shuffle_f32x4(quarters[half][i], quarters[half + 2][i], 0xdd);
      }
    }
    return;
  }
#endif
#pragma GCC unroll 16
  for (int lane = 0; lane < lanes; ++lane) block[lane] = load_wide<Real>(source[lane] + at);
  transpose<Real>(block);
}

}  // namespace
