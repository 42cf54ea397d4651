// The matrix products of neighborhood attention over one row of keys and up to kGroupRows rows of queries.
//
// Logits and the gradients of the weights are sums over the head dimension: there the lanes of a vector
// are the queries of a tile, and a key is read once for all the query rows. Everything else is a sum over
// taps or queries: there the lanes are the head dimension.
#pragma once

#include "pack.h"
#include "problem.h"
#include "../shared/simd.h"

namespace {

using segzoo::kGroupRows;
using segzoo::Tile;

// A row of keys (or values) of a group: its rank, its place in the ring, and the query rows [from, to) that attend
// to it, which have no gap.
struct KeyRow {
  long rank, slot;
  int from, to;
};

// Accumulators of a block of logits: as many as fit beside the queries and the key.
constexpr int most_taps(int rows) {
  if (SEGZOO_REGISTERS >= 32) return rows == 4 ? 4 : 7;
  return rows == 4 ? 2 : (rows == 3 ? 3 : (rows == 2 ? 5 : 7));
}

// scores[row][tap][lane] = initial[row][tap][lane] + sum over d of query * key
template <typename Real, int Rows, int Taps, bool Shifted>
SEGZOO_FORCE_INLINE void score_block(const Real* keys, long pitch, const Real* queries, long head_dim,
                                     Mask<Real> order, const Real* const* initial, Real* const* scores,
                                     long tap, Ahead& ahead) {
  constexpr int lanes = kLanes<Real>;
  Vector<Real> sum[Rows][Taps];
#pragma GCC unroll 4
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 8
    for (int t = 0; t < Taps; ++t) {
      sum[row][t] = initial ? load<Real>(initial[row] + (tap + t) * lanes) : Vector<Real>{};
    }
  }
  const Real* key = keys + tap;
  Ahead::Run fetched = ahead.take(head_dim);
  for (long d = 0; d < head_dim; ++d, key += pitch, queries += kGroupRows * lanes) {
    fetched.step();
    Vector<Real> query[Rows];
#pragma GCC unroll 4
    for (int row = 0; row < Rows; ++row) keep<Real>(query[row] = load<Real>(queries + row * lanes));
#pragma GCC unroll 8
    for (int t = 0; t < Taps; ++t) {
      Vector<Real> neighbour = load<Real>(key + t);
      keep<Real>(neighbour);
      if (Shifted) neighbour = permute<Real>(neighbour, order);
#pragma GCC unroll 4
      for (int row = 0; row < Rows; ++row) sum[row][t] += query[row] * neighbour;
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 8
    for (int t = 0; t < Taps; ++t) store<Real>(scores[row] + (tap + t) * lanes, sum[row][t]);
  }
}

// All taps of a row of keys, in blocks of nearly equal size.
template <typename Real, int Rows, bool Shifted>
void score_row(const Real* keys, long pitch, const Real* queries, long head_dim, Mask<Real> order,
               const Real* const* initial, Real* const* scores, long kernel, Ahead& ahead) {
  constexpr int most = most_taps(Rows);
  long blocks = (kernel + most - 1) / most;
  for (long tap = 0; tap < kernel; --blocks) {
    const long taps = (kernel - tap + blocks - 1) / blocks;
#define SEGZOO_BLOCK(count)                                                                       \
  if constexpr (count <= most) {                                                                  \
    if (taps == count) {                                                                          \
      score_block<Real, Rows, count, Shifted>(keys, pitch, queries, head_dim, order, initial, scores, tap, ahead); \
    }                                                                                             \
  }
    SEGZOO_BLOCK(1)
    SEGZOO_BLOCK(2)
    SEGZOO_BLOCK(3)
    SEGZOO_BLOCK(4)
    SEGZOO_BLOCK(5)
    SEGZOO_BLOCK(6)
    SEGZOO_BLOCK(7)
#undef SEGZOO_BLOCK
    tap += taps;
  }
}

template <typename Real, bool Shifted>
SEGZOO_FORCE_INLINE void score_rows(int rows, const Real* keys, long pitch, const Real* queries,
                                    long head_dim, Mask<Real> order, const Real* const* initial,
                                    Real* const* scores, long kernel, Ahead& ahead) {
  switch (rows) {
    case 1:
      return score_row<Real, 1, Shifted>(keys, pitch, queries, head_dim, order, initial, scores, kernel, ahead);
    case 2:
      return score_row<Real, 2, Shifted>(keys, pitch, queries, head_dim, order, initial, scores, kernel, ahead);
    case 3:
      return score_row<Real, 3, Shifted>(keys, pitch, queries, head_dim, order, initial, scores, kernel, ahead);
    default:
      return score_row<Real, 4, Shifted>(keys, pitch, queries, head_dim, order, initial, scores, kernel, ahead);
  }
}

// sum[row] += weight of one tap * its value, for one lane.
template <typename Real, int From, int To, int Parts>
SEGZOO_FORCE_INLINE void gather_tap(const Real* value, const Real* const* weight, long offset,
                                    Vector<Real> (&sum)[kGroupRows][Parts]) {
  Vector<Real> part[Parts];
#pragma GCC unroll 2
  for (int p = 0; p < Parts; ++p) keep<Real>(part[p] = load<Real>(value + p * kLanes<Real>));
#pragma GCC unroll 4
  for (int row = From; row < To; ++row) {
    Vector<Real> factor = broadcast<Real>(weight[row][offset]);
    keep<Real>(factor);
#pragma GCC unroll 2
    for (int p = 0; p < Parts; ++p) sum[row][p] += factor * part[p];
  }
}

// One lane's sums over all rows of keys, whatever query rows attend to each.
template <typename Real, int Parts>
SEGZOO_FORCE_INLINE void gather_any(const KeyRow* keys, int key_count, const Real* const* values, long place,
                                    const Real* const* weights, long kernel, long pitch, int lane,
                                    Vector<Real> (&sum)[kGroupRows][Parts]) {
  for (int i = 0; i < key_count; ++i) {
    const Real* value = values[i] + place;
    long offset = keys[i].rank * kernel * kLanes<Real> + lane;
    switch (keys[i].from * (kGroupRows + 1) + keys[i].to) {
#define SEGZOO_ROWS(from, to)                                                                         \
  case from * (kGroupRows + 1) + to:                                                                  \
    for (long tap = 0; tap < kernel; ++tap, value += pitch, offset += kLanes<Real>) {                 \
      gather_tap<Real, from, to, Parts>(value, weights, offset, sum);                                 \
    }                                                                                                 \
    break;
      SEGZOO_ROWS(0, 1)
      SEGZOO_ROWS(0, 2)
      SEGZOO_ROWS(0, 3)
      SEGZOO_ROWS(0, 4)
      SEGZOO_ROWS(1, 2)
      SEGZOO_ROWS(1, 3)
      SEGZOO_ROWS(1, 4)
      SEGZOO_ROWS(2, 3)
      SEGZOO_ROWS(2, 4)
      SEGZOO_ROWS(3, 4)
#undef SEGZOO_ROWS
    }
  }
}

template <typename Real, int From, int To, int Parts>
SEGZOO_FORCE_INLINE void gather_seven(const Real* value, const Real* const* weight, long offset, long pitch,
                                      Vector<Real> (&sum)[kGroupRows][Parts]) {
#pragma GCC unroll 7
  for (int tap = 0; tap < 7; ++tap, value += pitch, offset += kLanes<Real>) {
    gather_tap<Real, From, To, Parts>(value, weight, offset, sum);
  }
}

// The same without a branch, for kernel size 7 and a full group: with windows that start one row after the other
// (Step 1) or, at the map's edge, all on the same row (Step 0).
template <typename Real, int Parts, int Step, int... Index>
SEGZOO_FORCE_INLINE void gather_full(const Real* const* values, long place, const Real* const* weights, long offset,
                                     long pitch, Vector<Real> (&sum)[kGroupRows][Parts],
                                     std::integer_sequence<int, Index...>) {
  (gather_seven<Real, Step * (Index < 7 ? 0 : Index - 6), Step && Index + 1 < kGroupRows ? Index + 1 : kGroupRows,
                Parts>(values[Index] + place, weights, offset + Index * 7 * kLanes<Real>, pitch, sum),
   ...);
}

// For every lane and query row of a tile the sum over its neighbourhood of weight * value, handed to
// write(row, lane, d, vector). `weights` are a group's [row][row tap][column tap][lane], `values` its rows of keys.
template <typename Real, int Parts, typename Write>
SEGZOO_FORCE_INLINE void gather_part(const Tile& tile, long kernel, const KeyRow* keys, int key_count,
                                     const Real* const* values, const Real* const* weights, int rows, long pitch,
                                     long d, const Write& write) {
  constexpr int lanes = kLanes<Real>;
  constexpr bool often = std::is_same_v<Real, float> && Parts == 2;  // the rest is not worth its compilation
  const bool seven = often && kernel == 7 && rows == kGroupRows;
  const bool staggered = seven && key_count == 7 + kGroupRows - 1, together = seven && key_count == 7;
  for (int lane = 0; lane < tile.count; ++lane) {
    const long place = tile.key_offset[lane] * pitch + d;
    const long offset = keys[0].rank * 7 * lanes + lane;
    Vector<Real> sum[kGroupRows][Parts] = {};
    if constexpr (often) {
      using Staggered = std::make_integer_sequence<int, 7 + kGroupRows - 1>;
      using Together = std::make_integer_sequence<int, 7>;
      if (staggered) gather_full<Real, Parts, 1>(values, place, weights, offset, pitch, sum, Staggered{});
      if (together) gather_full<Real, Parts, 0>(values, place, weights, offset, pitch, sum, Together{});
    }
    if (!staggered && !together) {
      gather_any<Real, Parts>(keys, key_count, values, place, weights, kernel, pitch, lane, sum);
    }
#pragma GCC unroll 4
    for (int row = 0; row < kGroupRows; ++row) {
      if (row == rows) break;
#pragma GCC unroll 2
      for (int p = 0; p < Parts; ++p) write(row, lane, d + p * lanes, sum[row][p]);
    }
  }
}

// sums[window of lane + tap][d] += sum over rows of weights[row][tap][lane] * source[row][lane][d]
template <typename Real, int Rows, int Parts>
SEGZOO_FORCE_INLINE void scatter_part(const Tile& tile, long kernel, const Real* const* weights,
                                      const Real* const* source, Real* sums, long pitch, long d) {
  constexpr int lanes = kLanes<Real>;
  for (int lane = 0; lane < tile.count; ++lane) {
    Real* neighbour = sums + tile.key_offset[lane] * pitch + d;
    Vector<Real> value[Rows][Parts];
#pragma GCC unroll 4
    for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 2
      for (int part = 0; part < Parts; ++part) {
        value[row][part] = load<Real>(source[row] + lane * pitch + d + part * lanes);
      }
    }
    for (long tap = 0; tap < kernel; ++tap, neighbour += pitch) {
      Vector<Real> sum[Parts];
#pragma GCC unroll 2
      for (int part = 0; part < Parts; ++part) sum[part] = load<Real>(neighbour + part * lanes);
#pragma GCC unroll 4
      for (int row = 0; row < Rows; ++row) {
        const Vector<Real> weight = broadcast<Real>(weights[row][tap * lanes + lane]);
#pragma GCC unroll 2
        for (int part = 0; part < Parts; ++part) sum[part] += weight * value[row][part];
      }
#pragma GCC unroll 2
      for (int part = 0; part < Parts; ++part) store<Real>(neighbour + part * lanes, sum[part]);
    }
  }
}

template <typename Real, int Rows>
void scatter_row(const Tile& tile, long kernel, const Real* const* weights, const Real* const* source,
                 Real* sums, long pitch) {
  constexpr int lanes = kLanes<Real>;
  long d = 0;
  for (; d + 2 * lanes <= pitch; d += 2 * lanes) {
    scatter_part<Real, Rows, 2>(tile, kernel, weights, source, sums, pitch, d);
  }
  if (d < pitch) scatter_part<Real, Rows, 1>(tile, kernel, weights, source, sums, pitch, d);
}

template <typename Real>
void scatter_rows(int rows, const Tile& tile, long kernel, const Real* const* weights,
                  const Real* const* source, Real* sums, long pitch) {
  switch (rows) {
    case 1: return scatter_row<Real, 1>(tile, kernel, weights, source, sums, pitch);
    case 2: return scatter_row<Real, 2>(tile, kernel, weights, source, sums, pitch);
    case 3: return scatter_row<Real, 3>(tile, kernel, weights, source, sums, pitch);
    default: return scatter_row<Real, 4>(tile, kernel, weights, source, sums, pitch);
  }
}

}  // namespace
