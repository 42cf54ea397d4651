// Copies of a few tokens from the strided tensors into the layouts that the products read.
#pragma once

#include "problem.h"
#include "../shared/simd.h"

namespace {

using segzoo::Problem;
using segzoo::Tile;
using segzoo::Tokens;

template <typename Real>
SEGZOO_FORCE_INLINE long padded(long count) {
  return (count + kLanes<Real> - 1) / kLanes<Real> * kLanes<Real>;
}

// One row of one head: `at(place)` is the first channel of the token in that place.
template <typename Real>
struct Row {
  const Real* data;
  const int* column_of_place;
  long column, channel;

  Row(const Problem& problem, const Tokens& tokens, long batch, long row, long head)
      : data(static_cast<const Real*>(tokens.data) + batch * tokens.batch + row * tokens.row +
             head * tokens.head),
        column_of_place(problem.column_of_place),
        column(tokens.column),
        channel(tokens.channel) {}

  const Real* at(long place) const { return data + column_of_place[place] * column; }
};

// target[place][padded head_dim] = factor * tokens, the padding zero
template <typename Real>
void pack_rows(const Row<Real>& row, long first, long count, long head_dim, Real factor, Real* target) {
  constexpr int lanes = kLanes<Real>;
  const long pitch = padded<Real>(head_dim);
  for (long i = 0; i < count; ++i, target += pitch) {
    const Real* source = row.at(first + i);
    long d = 0;
    if (row.channel == 1) {
      for (; d + lanes <= head_dim; d += lanes) store<Real>(target + d, load<Real>(source + d) * factor);
    }
    for (; d < head_dim; ++d) target[d] = source[d * row.channel] * factor;
    for (; d < pitch; ++d) target[d] = 0;
  }
}

// target[d * pitch + place] = factor * tokens; places from `count` to the next multiple of the lanes
// repeat the last token, so that no lane holds anything that was not an input
template <typename Real>
void pack_columns(const Row<Real>& row, long first, long count, long head_dim, Real factor, long pitch,
                  Real* target) {
  constexpr int lanes = kLanes<Real>;
  for (long block = 0; block < count; block += lanes) {
    const Real* source[lanes];
    for (int lane = 0; lane < lanes; ++lane) {
      const long place = block + lane;
      source[lane] = row.at(first + (place < count ? place : count - 1));
    }
    Real* corner = target + block;
    long d = 0;
    if (row.channel == 1) {
      for (; d + lanes <= head_dim; d += lanes) {
        Vector<Real> square[lanes];
#pragma GCC unroll 16
        for (int lane = 0; lane < lanes; ++lane) square[lane] = load<Real>(source[lane] + d) * factor;
        transpose<Real>(square);
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) store<Real>(corner + (d + i) * pitch, square[i]);
      }
    }
    for (; d < head_dim; ++d) {
      for (int lane = 0; lane < lanes; ++lane) {
        corner[d * pitch + lane] = source[lane][d * row.channel] * factor;
      }
    }
  }
}

}  // namespace
