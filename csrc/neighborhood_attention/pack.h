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
template <typename Stored>
struct Row {
  const Stored* data;
  const int* column_of_place;
  long column, channel;

  Row() = default;
  Row(const Problem& problem, const Tokens& tokens, long batch, long row, long head)
      : data(static_cast<const Stored*>(tokens.data) + batch * tokens.batch + row * tokens.row +
             head * tokens.head),
        column_of_place(problem.column_of_place),
        column(tokens.column),
        channel(tokens.channel) {}

  const Stored* at(long place) const { return data + column_of_place[place] * column; }
};

// target[place][padded head_dim] = factor * tokens, the padding zero
template <typename Real, typename Stored>
void pack_rows(const Row<Stored>& row, long first, long count, long head_dim, Real factor, Real* target) {
  constexpr int lanes = kLanes<Real>;
  const long pitch = padded<Real>(head_dim);
  for (long i = 0; i < count; ++i, target += pitch) {
    const Stored* source = row.at(first + i);
    long d = 0;
    if (row.channel == 1) {
      for (; d + lanes <= head_dim; d += lanes) store<Real>(target + d, load_wide<Real>(source + d) * factor);
    }
    for (; d < head_dim; ++d) target[d] = widened<Real>(source[d * row.channel]) * factor;
    for (; d < pitch; ++d) target[d] = 0;
  }
}

// target[d * pitch + place] = factor * tokens; places from `count` to the next multiple of the lanes
// repeat the last token, so that no lane holds anything that was not an input
template <typename Real, typename Stored>
void pack_columns(const Row<Stored>& row, long first, long count, long head_dim, Real factor, long pitch,
                  Real* target) {
  constexpr int lanes = kLanes<Real>;
  for (long block = 0; block < count; block += lanes) {
    const Stored* source[lanes];
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
        for (int lane = 0; lane < lanes; ++lane) square[lane] = load_wide<Real>(source[lane] + d) * factor;
        transpose<Real>(square);
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) store<Real>(corner + (d + i) * pitch, square[i]);
      }
    }
    for (; d < head_dim; ++d) {
      for (int lane = 0; lane < lanes; ++lane) {
        corner[d * pitch + lane] = widened<Real>(source[lane][d * row.channel]) * factor;
      }
    }
  }
}

// Fetches rows of tokens into the caches, a few at a time, while others are computed with: the tokens of one head
// lie far apart, and no processor foresees the next row.
template <typename Stored>
class Ahead {
 public:
  explicit Ahead(long head_dim) : bytes_(head_dim * static_cast<long>(sizeof(Stored))) {}

  void add(const Row<Stored>& row, long first, long count) {
    if (rows_ == kMostRows || row.channel != 1) return;
    stretches_[rows_++] = {row, first, count};
    left_ += count;
  }

  // What was added is fetched in `steps` calls of step().
  void share_among(long steps) { tokens_a_step_ = left_ / steps + 1; }

  SEGZOO_FORCE_INLINE void step() {
    for (long i = 0; i < tokens_a_step_ && current_ < rows_; ++i) {
      const Stretch& stretch = stretches_[current_];
      const char* token = reinterpret_cast<const char*>(stretch.row.at(stretch.first + place_));
      for (long byte = 0; byte < bytes_; byte += kLine) __builtin_prefetch(token + byte, 0, 2);
      if (++place_ == stretch.count) ++current_, place_ = 0;
    }
  }

 private:
  static constexpr int kMostRows = 24;
  static constexpr long kLine = 64;
  struct Stretch {
    Row<Stored> row;
    long first, count;
  };
  Stretch stretches_[kMostRows];
  long bytes_, left_ = 0, tokens_a_step_ = 0, place_ = 0;
  int rows_ = 0, current_ = 0;
};

}  // namespace
