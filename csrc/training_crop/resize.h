// OpenCV's bilinear resize of bytes, for one row of a crop: along the columns in 11 bits, then along the rows.
//
// A pixel is 4 numbers (R, G, B, unused), so that one vector operation serves whole pixels.
#pragma once

#include <cstring>

#include "problem.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

using segzoo::Blend;
using segzoo::Problem;

// Blends a row of the picture along its columns: [columns, 4] in 1/128 of a step, which fits 16 bits.
inline void blend_columns(const uint8_t* row, const Problem& problem, int16_t* blended) {
  long column = 0;
#if defined(__AVX2__)
  // The last columns may lie at the end of the picture's memory, where 8 bytes cannot be read.
  const __m128i pairs = _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
  const long safe = problem.width - 3;
  for (; column < problem.columns && problem.column_blends[column].first < safe; ++column) {
    const Blend& blend = problem.column_blends[column];
    if (blend.second != blend.first + 1) break;
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + 3 * blend.first));
    int32_t weights;
    std::memcpy(&weights, &blend.first_weight, 4);
    const __m128i sums = _mm_madd_epi16(_mm_shuffle_epi8(bytes, pairs), _mm_set1_epi32(weights));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(blended + 4 * column),
                     _mm_packs_epi32(_mm_srli_epi32(sums, 4), sums));
  }
#endif
  for (; column < problem.columns; ++column) {
    const Blend& blend = problem.column_blends[column];
    const uint8_t *first = row + 3 * blend.first, *second = row + 3 * blend.second;
    for (int channel = 0; channel < 3; ++channel) {
      const int32_t sum = first[channel] * blend.first_weight + second[channel] * blend.second_weight;
      blended[4 * column + channel] = static_cast<int16_t>(sum >> 4);
    }
    blended[4 * column + 3] = 0;
  }
}

// Blends two such rows: [columns, 4] bytes.
inline void blend_rows(const int16_t* __restrict first, const int16_t* __restrict second, const Blend& blend,
                       long columns, uint8_t* __restrict pixels) {
  const int32_t above = blend.first_weight, below = blend.second_weight;
  for (long i = 0; i < 4 * columns; ++i) {
    const int16_t upper = static_cast<int16_t>((above * first[i]) >> 16);
    const int16_t lower = static_cast<int16_t>((below * second[i]) >> 16);
    pixels[i] = static_cast<uint8_t>(static_cast<int16_t>(upper + lower + 2) >> 2);
  }
}

}  // namespace
