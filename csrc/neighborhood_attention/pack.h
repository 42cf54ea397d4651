// Copies of a few tokens from the strided tensors into the layouts that the products read.
#pragma once

#include "problem.h"
#include "../shared/shuffle.h"

namespace {

using segzoo::Problem;
using segzoo::Tile;
using segzoo::Tokens;

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
        load_transposed<Real>(source, d, square);
#pragma GCC unroll 16
        for (int lane = 0; lane < lanes; ++lane) square[lane] *= factor;
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

// Fetches tokens into the second cache, one at a time, while others are computed with: the tokens of one head lie far
// apart, and no processor foresees the next row.
class Ahead {
 public:
  // Tokens at equal distances, two lines of each.
  struct Run {
    const char* token;
    long second, stride, left;  // bytes to the token's other line, bytes to the next token, tokens

    // Costs little beside a dozen multiply-adds. The last token is repeated: no jump, and nothing beyond it.
    SEGZOO_FORCE_INLINE void step() {
      __builtin_prefetch(token, 0, 2);
      __builtin_prefetch(token + second, 0, 2);
      stride = --left > 0 ? stride : 0;
      token += stride;
    }
  };

  // Tokens of a row, to be fetched after those added before.
  template <typename Stored>
  void add(const Row<Stored>& row, long first, long count, long head_dim) {
    if (row.channel != 1) return;
    constexpr long size = sizeof(Stored);
    const int* column = row.column_of_place + first;
    for (long from = 0; from < count;) {
      const long pace = from + 1 < count ? column[from + 1] - column[from] : 1;
      long to = count;  // mostly all of them are evenly spaced; residue classes begin anew
      if (column[to - 1] - column[from] != pace * (to - 1 - from)) {
        for (to = from + 1; to < count && column[to] - column[to - 1] == pace;) ++to;
      }
      const char* token = reinterpret_cast<const char*>(row.data + column[from] * row.column);
      const long lead = static_cast<long>(reinterpret_cast<uintptr_t>(token) % kLine), bytes = lead + head_dim * size;
      for (long byte = 0; byte < bytes && count_ < kMostRuns; byte += 2 * kLine) {
        const long second = byte + kLine < bytes ? kLine : 0;
        runs_[count_++] = {token - lead + byte, second, pace * row.column * size, to - from};
      }
      from = to;
    }
  }

  // What to fetch in the next `steps` steps.
  Run take(long steps) {
    if (current_ == count_) return {reinterpret_cast<const char*>(this), 0, 0, 0};
    Run& run = runs_[current_];
    const Run part = run;
    run.token += steps * run.stride;
    run.left -= steps;
    if (run.left <= 0) ++current_;
    return part;
  }

 private:
  static constexpr int kMostRuns = 64;
  static constexpr long kLine = 64;
  Run runs_[kMostRuns];
  int count_ = 0, current_ = 0;
};

}  // namespace
