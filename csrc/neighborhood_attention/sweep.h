// What forward and backward share: a unit of work, its scratch memory, and the logits of a group of rows.
#pragma once

#include "pack.h"
#include "problem.h"
#include "products.h"
#include "window.h"

namespace {

using segzoo::kGroupRows;
using segzoo::kStripTiles;
using segzoo::Problem;
using segzoo::Strip;
using segzoo::Tile;

constexpr double kLog2E = 1.4426950408889634;

template <typename Real>
void fill(Real* target, long count, Real value) {
  for (long i = 0; i < count; ++i) target[i] = value;
}

// Hands out pieces of one allocation; with a null base it only counts.
template <typename Real>
struct Arena {
  Real* base;
  long used = 0;

  Real* take(long count) {
    Real* piece = base ? base + used : nullptr;
    used += (count + 15) / 16 * 16;
    return piece;
  }
};

// A band of query rows of one residue class, one head, one image. Rows are ranks in the class.
struct Unit {
  long band, residue, head, batch;
  long rows, begin, end;      // ranks in the class, and this band's part of them
  long key_begin, key_end;    // the rows of keys that the band attends to

  Unit(const Problem& problem, long number) {
    band = number % problem.bands;
    number /= problem.bands;
    residue = number % problem.dilation;
    number /= problem.dilation;
    head = number % problem.heads;
    batch = number / problem.heads;
    rows = segzoo::class_length(problem.height, residue, problem.dilation);
    begin = rows * band / problem.bands;
    end = rows * (band + 1) / problem.bands;
    key_begin = segzoo::window_start(begin, rows, problem.kernel);
    key_end = segzoo::window_start(end - 1, rows, problem.kernel) + problem.kernel;
  }

  long row(const Problem& problem, long rank) const { return residue + rank * problem.dilation; }
};

// Up to kGroupRows rows of queries that are worked on together.
struct Group {
  long first;
  int count;
  long start[kGroupRows];  // first key rank of each row's window
  long key_begin, key_end;

  Group(const Problem& problem, const Unit& unit, long first_rank) : first(first_rank) {
    const long left = unit.end - first_rank;
    count = left < kGroupRows ? static_cast<int>(left) : kGroupRows;
    for (int i = 0; i < count; ++i) {
      start[i] = segzoo::window_start(first + i, unit.rows, problem.kernel);
    }
    key_begin = start[0];
    key_end = start[count - 1] + problem.kernel;
  }

  // The rows whose windows hold the row of keys `key`: [from, to), without a gap.
  void rows_of(long key, long kernel, int* from, int* to) const {
    *from = 0;
    while (start[*from] + kernel <= key) ++*from;
    *to = count;
    while (start[*to - 1] > key) --*to;
  }
};

// One tile with its lane permutation and the bias of every (row of the table, tap).
template <typename Real>
struct TileView {
  const Tile& tile;
  long key_place;  // of the tile's first key in the strip
  Mask<Real> order;
  const Real* bias;  // [2 * kernel - 1][kernel][lanes], in units of log 2; or null

  TileView(const Tile& tile, const Strip& strip, const Real* bias)
      : tile(tile), key_place(tile.first_key - strip.first_key), bias(bias) {
    for (int lane = 0; lane < kLanes<Real>; ++lane) order[lane] = tile.key_offset[lane];
  }
};

inline long bias_size(const Problem& problem, long lanes) {
  return (2 * problem.kernel - 1) * problem.kernel * lanes;
}

// The bias of one tile, a vector for every row of the table and tap.
template <typename Real>
void spread_bias(const Problem& problem, const Tile& tile, long head, Real* target) {
  const long table = 2 * problem.kernel - 1;
  const Real* entry = static_cast<const Real*>(problem.bias) + head * table * table;
  for (long row = 0; row < table; ++row, entry += table) {
    for (long tap = 0; tap < problem.kernel; ++tap) {
      for (int lane = 0; lane < kLanes<Real>; ++lane, ++target) {
        *target = entry[tile.bias_offset[lane] + tap] * static_cast<Real>(kLog2E);
      }
    }
  }
}

// A ring of rows of keys (or values) of one strip in two layouts: by columns [head_dim][pitch] for the
// products over the head dimension, by rows [place][padded head_dim] for the others. Either may be absent.
template <typename Real>
struct Ring {
  long slots, places, pitch, width, head_dim;
  Real* columns;
  Real* rows;

  // A tile may load a whole vector at its last tap, hence the lanes beyond the keys.
  Ring(Arena<Real>& arena, const Problem& problem, bool with_columns, bool with_rows)
      : slots(problem.kernel + kGroupRows - 1),
        places(problem.strip_keys),
        pitch(padded<Real>(places + kLanes<Real> - 1)),
        width(padded<Real>(problem.head_dim)),
        head_dim(problem.head_dim),
        columns(with_columns ? arena.take(slots * head_dim * pitch) : nullptr),
        rows(with_rows ? arena.take(slots * places * width) : nullptr) {}

  Real* columns_of(long key) const { return columns + key % slots * head_dim * pitch; }
  Real* rows_of(long key) const { return rows + key % slots * places * width; }

  void fill(const Problem& problem, const Tokens& tokens, const Unit& unit, const Strip& strip,
            long key) const {
    const Row<Real> row(problem, tokens, unit.batch, unit.row(problem, key), unit.head);
    if (columns) {
      pack_columns<Real>(row, strip.first_key, strip.key_count, head_dim, 1, pitch, columns_of(key));
    }
    if (rows) pack_rows<Real>(row, strip.first_key, strip.key_count, head_dim, 1, rows_of(key));
  }
};

// target[d][row][lane] = factor * queries of the group
template <typename Real>
void pack_group(const Problem& problem, const Tokens& tokens, const Unit& unit, const Group& group,
                const Tile& tile, Real factor, Real* target) {
  for (int i = 0; i < group.count; ++i) {
    const Row<Real> row(problem, tokens, unit.batch, unit.row(problem, group.first + i), unit.head);
    pack_columns<Real>(row, tile.first, tile.count, problem.head_dim, factor, kGroupRows * kLanes<Real>,
                       target + i * kLanes<Real>);
  }
}

// scores[row][row tap][column tap][lane] of a group: products with the keys in the ring, plus the bias.
template <typename Real>
void score_group(const Problem& problem, const Group& group, const TileView<Real>& view, const Real* bias,
                 const Ring<Real>& ring, const Real* queries, Real* scores) {
  const long kernel = problem.kernel, line = kernel * kLanes<Real>;
  for (long key = group.key_begin; key < group.key_end; ++key) {
    int from, to;
    group.rows_of(key, kernel, &from, &to);
    const Real* initial[kGroupRows];
    Real* target[kGroupRows];
    for (int i = from; i < to; ++i) {
      target[i - from] = scores + (i * kernel + key - group.start[i]) * line;
      if (bias) initial[i - from] = bias + segzoo::bias_index(group.first + i, key, kernel) * line;
    }
    const auto score = view.tile.shifted ? score_rows<Real, true> : score_rows<Real, false>;
    score(to - from, ring.columns_of(key) + view.key_place, ring.pitch, queries + from * kLanes<Real>,
          problem.head_dim, view.order, bias ? initial : nullptr, target, kernel);
  }
}

// sums[row][lane][d] += weights * the rows in the ring, over the neighbourhoods of a group
template <typename Real>
void gather_group(const Problem& problem, const Group& group, const TileView<Real>& view,
                  const Ring<Real>& ring, const Real* weights, Real* sums) {
  const long kernel = problem.kernel, line = kernel * kLanes<Real>;
  for (long key = group.key_begin; key < group.key_end; ++key) {
    int from, to;
    group.rows_of(key, kernel, &from, &to);
    const Real* weight[kGroupRows];
    Real* sum[kGroupRows];
    for (int i = from; i < to; ++i) {
      weight[i - from] = weights + (i * kernel + key - group.start[i]) * line;
      sum[i - from] = sums + i * kLanes<Real> * ring.width;
    }
    const Real* source = ring.rows_of(key) + view.key_place * ring.width;
    gather_rows<Real>(to - from, view.tile, kernel, weight, source, sum, ring.width);
  }
}

// Writes sums[row][lane][d] * factor[row][lane] to a contiguous [batch, height, width, heads, head_dim].
template <typename Real>
void write_group(const Problem& problem, const Unit& unit, const Group& group, const Tile& tile,
                 const Real* sums, const Real* factor, void* target) {
  const long width = padded<Real>(problem.head_dim);
  for (int i = 0; i < group.count; ++i) {
    const long line = (unit.batch * problem.height + unit.row(problem, group.first + i)) * problem.width;
    for (int lane = 0; lane < tile.count; ++lane) {
      const long token = line + problem.column_of_place[tile.first + lane];
      Real* out = static_cast<Real*>(target) + (token * problem.heads + unit.head) * problem.head_dim;
      const Real* sum = sums + (i * kLanes<Real> + lane) * width;
      const Real times = factor[i * kLanes<Real> + lane];
      long d = 0;
      for (; d + kLanes<Real> <= problem.head_dim; d += kLanes<Real>) {
        store<Real>(out + d, load<Real>(sum + d) * times);
      }
      for (; d < problem.head_dim; ++d) out[d] = sum[d] * times;
    }
  }
}

}  // namespace
