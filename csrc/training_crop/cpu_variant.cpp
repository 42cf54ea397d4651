// The kernels of one processor variant. This file is compiled once per variant, named by SEGZOO_VARIANT.
#include <utility>

#include "colour.h"
#include "normalise.h"
#include "problem.h"
#include "resize.h"

namespace {

// A row of pixels (R, G, B, unused) as R, G, B in its place, mirrored or not.
inline void store(const uint8_t* pixels, long columns, bool mirrored, uint8_t* row) {
  if (mirrored) {
    for (long column = 0; column < columns; ++column) {
      const uint8_t* pixel = pixels + 4 * (columns - 1 - column);
      row[3 * column] = pixel[0], row[3 * column + 1] = pixel[1], row[3 * column + 2] = pixel[2];
    }
    return;
  }
  // Four bytes at once, of which the last is written over by the next pixel.
  for (long column = 0; column < columns - 1; ++column) std::memcpy(row + 3 * column, pixels + 4 * column, 4);
  std::memcpy(row + 3 * (columns - 1), pixels + 4 * (columns - 1), 3);
}

void distort(const segzoo::Colours& colours, uint8_t* bytes, uint32_t* pixels, long columns) {
  for (const Affine& affine : colours.before) apply(affine, bytes, 4 * columns);
  if (colours.saturation.wanted) through_hsv<false>(pixels, columns, colours.saturation, 0);
  if (colours.turned) through_hsv<true>(pixels, columns, colours.saturation, colours.hue);
  apply(colours.after, bytes, 4 * columns);
}

void crop(const Problem& problem, void* scratch) {
  const long columns = problem.columns, stride = 4 * segzoo::padded_columns(columns);
  int16_t* blended[2] = {static_cast<int16_t*>(scratch), static_cast<int16_t*>(scratch) + stride};
  uint32_t* pixels = reinterpret_cast<uint32_t*>(blended[1] + stride);
  uint8_t* bytes = reinterpret_cast<uint8_t*>(pixels);
  long held[2] = {-1, -1};
  for (long row = 0; row < problem.rows; ++row) {
    const Blend& blend = problem.row_blends[row];
    const long wanted[2] = {blend.first, blend.second};
    // Enlarged pictures use a row several times.
    if (held[0] != wanted[0] && held[1] == wanted[0]) {
      std::swap(held[0], held[1]);
      std::swap(blended[0], blended[1]);
    }
    for (int which = 0; which < 2; ++which) {
      if (held[which] == wanted[which]) continue;
      blend_columns(problem.picture + wanted[which] * problem.width * 3, problem, blended[which]);
      held[which] = wanted[which];
    }
    blend_rows(blended[0], blended[1], blend, columns, bytes);
    distort(problem.colours, bytes, pixels, columns);
    store(bytes, columns, problem.mirrored, problem.crop + row * columns * 3);
  }
}

}  // namespace

const segzoo::Variant& segzoo::variant(SEGZOO_VARIANT) {
  static constexpr segzoo::Variant variant = {SEGZOO_VARIANT::name, normalise_row, crop};
  return variant;
}
