// Crops of bytes side by side as the network's input: (value - mean) * scale in float, zeros where there is no crop.
#pragma once

#include <algorithm>

#include "problem.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

using segzoo::Normalisation;

#if defined(__AVX2__)
// Compilers make little of bytes that lie three apart. 8 values of a channel, or of 8 neighbours.
inline void store_normalised(__m256i values, __m256 mean, __m256 scale, float* target) {
  _mm256_storeu_ps(target, _mm256_mul_ps(_mm256_sub_ps(_mm256_cvtepi32_ps(values), mean), scale));
}
#endif

// One row of one crop, channel by channel: three rows, `plane` apart.
inline void normalise_planes(const uint8_t* pixels, long columns, const Normalisation& by, float* target, long plane) {
  long column = 0;
#if defined(__AVX2__)
  // In each half of a vector 4 pixels of 3 bytes: a channel's bytes become whole numbers where they are.
  const __m256i places = _mm256_setr_epi8(0, -1, -1, -1, 3, -1, -1, -1, 6, -1, -1, -1, 9, -1, -1, -1,  //
                                          0, -1, -1, -1, 3, -1, -1, -1, 6, -1, -1, -1, 9, -1, -1, -1);
  const __m256i next = _mm256_set1_epi32(1);
  // 28 bytes are read for 24 that are meant; the row's last pixels have no others behind them.
  for (; column + 10 <= columns; column += 8) {
    const __m128i* first = reinterpret_cast<const __m128i*>(pixels + 3 * column);
    const __m128i* second = reinterpret_cast<const __m128i*>(pixels + 3 * column + 12);
    const __m256i bytes = _mm256_set_m128i(_mm_loadu_si128(second), _mm_loadu_si128(first));
    __m256i channel_places = places;
    for (int channel = 0; channel < 3; ++channel) {
      store_normalised(_mm256_shuffle_epi8(bytes, channel_places), _mm256_set1_ps(by.mean[channel]),
                       _mm256_set1_ps(by.scale[channel]), target + channel * plane + column);
      channel_places = _mm256_add_epi32(channel_places, next);
    }
  }
#endif
  for (; column < columns; ++column) {
    for (int channel = 0; channel < 3; ++channel) {
      target[channel * plane + column] =
          (static_cast<float>(pixels[3 * column + channel]) - by.mean[channel]) * by.scale[channel];
    }
  }
}

// The same with the channels of a pixel side by side.
inline void normalise_pixels(const uint8_t* pixels, long columns, const Normalisation& by, float* row) {
  const long count = 3 * columns;
  long i = 0;
#if defined(__AVX2__)
  // Three vectors are 8 whole pixels: each has the three means in a turn of its own.
  constexpr int kVectors = 3, kLanes = 8;
  __m256 means[kVectors], scales[kVectors];
  for (int vector = 0; vector < kVectors; ++vector) {
    float mean[kLanes], scale[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      mean[lane] = by.mean[(vector * kLanes + lane) % 3], scale[lane] = by.scale[(vector * kLanes + lane) % 3];
    }
    means[vector] = _mm256_loadu_ps(mean), scales[vector] = _mm256_loadu_ps(scale);
  }
  for (; i + kVectors * kLanes <= count; i += kVectors * kLanes) {
    for (int vector = 0; vector < kVectors; ++vector) {
      const long at = i + vector * kLanes;
      const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(pixels + at));
      store_normalised(_mm256_cvtepu8_epi32(bytes), means[vector], scales[vector], row + at);
    }
  }
#endif
  for (; i < count; ++i) row[i] = (static_cast<float>(pixels[i]) - by.mean[i % 3]) * by.scale[i % 3];
}

inline void normalise_row(const Normalisation& by, long sample, long row) {
  const long width = by.width, height = by.height;
  const long columns = row < by.extents[2 * sample] ? by.extents[2 * sample + 1] : 0;
  const uint8_t* pixels = by.crops + (sample * height + row) * width * 3;
  if (by.channels_last) {
    float* target = by.result + (sample * height + row) * width * 3;
    normalise_pixels(pixels, columns, by, target);
    std::fill(target + 3 * columns, target + 3 * width, 0.0f);
    return;
  }
  const long plane = height * width;
  float* target = by.result + sample * 3 * plane + row * width;
  normalise_planes(pixels, columns, by, target, plane);
  for (int channel = 0; channel < 3; ++channel) {
    std::fill(target + channel * plane + columns, target + channel * plane + width, 0.0f);
  }
}

}  // namespace
