// Training crops: what is read, which part of it is wanted at which size, and in which colours.
//
// Letters: h, w sides of the picture as it is read; the box is a part of the picture resized to size.
#pragma once

#include <cstdint>

#include "../shared/variants.h"

namespace segzoo {

// Two neighbours of a resized row or column in the picture, and their weights in 1/2048.
struct Blend {
  int32_t first, second;
  int16_t first_weight, second_weight;
};

// value * factor + shift in float, cut to 0..255 and to a whole number.
struct Affine {
  bool wanted;
  float factor, shift;
};

struct Colours {
  Affine before[2];  // brightness, then contrast where it comes first
  Affine saturation;
  bool turned;  // whether the hue moves
  int32_t hue;  // by how much, 0..179
  Affine after;  // contrast where it comes last
};

struct Problem {
  const uint8_t* picture;  // [h, w, 3]
  uint8_t* crop;           // [rows, columns, 3]
  long width;              // w
  long rows, columns;
  bool mirrored;
  const Blend* row_blends;     // [rows]
  const Blend* column_blends;  // [columns]
  Colours colours;
};

// A batch of crops as the network's input.
struct Normalisation {
  const uint8_t* crops;    // [samples, height, width, 3]
  float* result;           // [samples, 3, height, width], or [samples, height, width, 3] where channels are last
  const int64_t* extents;  // [samples, 2]: rows and columns of each crop, the rest is padding
  long height, width;
  bool channels_last;
  float mean[3], scale[3];  // by channel; the scale is 1 / standard deviation
};

struct Variant {
  const char* name;
  void (*normalise_row)(const Normalisation&, long sample, long row);
  // scratch: scratch_bytes(columns) bytes on a cache line.
  void (*crop)(const Problem&, void* scratch);
};

inline long padded_columns(long columns) { return (columns + 31) / 32 * 32; }

// Two rows blended along their columns in 16 bits, one finished row in 8 bits, 4 channels each.
inline long scratch_bytes(long columns) { return padded_columns(columns) * 4 * (2 + 2 + 1) + 64; }

const Variant& variant(portable);
const Variant& variant(avx2);
const Variant& variant(avx512);

}  // namespace segzoo
