// Photometric distortion of one row of pixels (R, G, B, unused), as OpenCV's conversions of bytes round it.
#pragma once

#include <cmath>
#include <cstring>

#include "problem.h"

namespace {

using segzoo::Affine;

inline void apply(const Affine& affine, uint8_t* pixels, long count) {
  if (!affine.wanted) return;
  const float factor = affine.factor, shift = affine.shift;
  for (long i = 0; i < count; ++i) {
    float value = static_cast<float>(pixels[i]) * factor + shift;
    value = value < 0.0f ? 0.0f : value;
    value = value > 255.0f ? 255.0f : value;
    pixels[i] = static_cast<uint8_t>(static_cast<int32_t>(value));
  }
}

inline float rounded(float value) {
  // To the nearest whole number, halves to the even one, for values below 2^22.
  return (value + 12582912.0f) - 12582912.0f;
}

inline int32_t mask(bool wanted) { return -static_cast<int32_t>(wanted); }

// OpenCV cuts here, though its way to HSV rounds.
inline int32_t byte(float share) { return static_cast<int32_t>(share * 255.0f); }

// 1 - a * b, rounded once, as OpenCV's own code comes out of its compiler.
inline float one_less_product(float a, float b) {
#if defined(__FMA__)
  return __builtin_fmaf(-a, b, 1.0f);
#else
  // A product of two floats is exact in double precision.
  return static_cast<float>(1.0 - static_cast<double>(a) * static_cast<double>(b));
#endif
}

// Through 8-bit HSV (H in steps of 2 degrees, 0..179) and back, with S * factor or H + turn in between.
template <bool Turned>
inline void through_hsv(uint32_t* pixels, long count, const Affine& saturation, int32_t turn) {
  for (long i = 0; i < count; ++i) {
    const int32_t red = pixels[i] & 255, green = (pixels[i] >> 8) & 255, blue = (pixels[i] >> 16) & 255;
    const int32_t larger = red > green ? red : green, smaller = red < green ? red : green;
    const int32_t value = larger > blue ? larger : blue;
    const int32_t range = value - (smaller < blue ? smaller : blue);
    // 255 / value and 30 / range in 1/4096, each rounded first, as OpenCV's tables have them.
    // Black and grey have range 0, so that what they are divided by does not matter.
    const float divisor = static_cast<float>(value > 0 ? value : 1), part = static_cast<float>(range > 0 ? range : 1);
    const int32_t by_value = static_cast<int32_t>(rounded(1044480.0f / divisor));
    const int32_t by_range = static_cast<int32_t>(rounded(122880.0f / part));
    int32_t s = (range * by_value + 2048) >> 12;
    const int32_t at_red = green - blue, at_green = blue - red + 2 * range, at_blue = red - green + 4 * range;
    const int32_t is_red = mask(value == red), is_green = mask(value == green) & ~is_red;
    const int32_t sixths = (at_red & is_red) | (at_green & is_green) | (at_blue & ~(is_red | is_green));
    int32_t h = (sixths * by_range + 2048) >> 12;
    h += 180 & mask(h < 0);
    if constexpr (Turned) {
      h += turn;
      h -= 180 & mask(h >= 180);
    } else {
      float scaled = static_cast<float>(s) * saturation.factor;
      s = static_cast<int32_t>(scaled > 255.0f ? 255.0f : scaled);
    }
    const float share = static_cast<float>(s) * (1.0f / 255.0f), top = static_cast<float>(value) * (1.0f / 255.0f);
    const float place = static_cast<float>(h) * (6.0f / 180.0f);
    const int32_t sector = static_cast<int32_t>(place);
    const float rest = place - static_cast<float>(sector);
    const int32_t least = byte(top * (1.0f - share)), most = byte(top);
    const int32_t falling = byte(top * one_less_product(share, rest));
    const int32_t rising = byte(top * one_less_product(share, 1.0f - rest));
    // Red falls from the first of the six sectors on, green from the third and blue from the fifth.
    const int32_t in_0 = mask(sector == 0) | mask(sector == 6), in_1 = mask(sector == 1), in_2 = mask(sector == 2);
    const int32_t in_3 = mask(sector == 3), in_4 = mask(sector == 4), in_5 = mask(sector == 5);
    const int32_t r = (most & (in_0 | in_5)) | (falling & in_1) | (rising & in_4) | (least & (in_2 | in_3));
    const int32_t g = (most & (in_1 | in_2)) | (falling & in_3) | (rising & in_0) | (least & (in_4 | in_5));
    const int32_t b = (most & (in_3 | in_4)) | (falling & in_5) | (rising & in_2) | (least & (in_0 | in_1));
    pixels[i] = static_cast<uint32_t>(r | g << 8 | b << 16);
  }
}

}  // namespace
