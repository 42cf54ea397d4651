// What the operator hands to a compiled variant: plain data, no code that unlike processors could share.
//
// Columns are taken in the order of their residue classes ("places"): with dilation 1 a place is a
// column; with dilation d the places are columns 0, d, 2d, ..., 1, d + 1, ... so that the neighbours
// of a query are consecutive places. A tile is a run of places that one vector holds, a lane each.
#pragma once

#include "../shared/variants.h"

namespace segzoo {

constexpr int kMaxLanes = 16;
constexpr int kGroupRows = 4;   // query rows that share each loaded key
constexpr int kMostBands = 32;  // parts that the backward pass cuts the rows of a residue class into
constexpr int kStripTiles = 4;  // neighbouring tiles that share the packed rows of keys

// A strided [batch, height, width, heads, head_dim] tensor; strides in elements.
struct Tokens {
  const void* data;
  long batch, row, column, head, channel;
};

struct Tile {
  int first, count;          // places of the queries
  int first_key, key_count;  // places of all their keys
  bool shifted;              // lane i's window does not simply start i places after lane 0's
  int key_offset[kMaxLanes];   // start of each lane's window, relative to first_key
  int bias_offset[kMaxLanes];  // index in a row of the bias table of each lane's first tap
};

// Consecutive tiles with the places of all their keys.
struct Strip {
  int first_tile, tile_count;
  int first_key, key_count;
};

struct Problem {
  long batch, height, width, heads, head_dim, kernel, dilation;
  double scale;
  Tokens query, key, value, grad_output;
  const void* bias;  // contiguous [heads, 2 * kernel - 1, 2 * kernel - 1] or null

  const int* column_of_place;  // [width]
  const Tile* tiles;
  const Strip* strips;
  long strip_count;
  long strip_keys;  // the most keys of any strip
  long bands;  // parts that the rows of a residue class are cut into

  void* output;     // contiguous, as are all that follow
  void* logsumexp;  // [batch, height, width, heads]

  // Backward only. A unit of work sums the key and value gradients of the rows it touches for itself;
  // a second pass adds the units up in a fixed order, so that the result does not depend on threads.
  void* grad_query;
  void* grad_key;
  void* grad_value;
  void* unit_grad_key;    // [units, unit_key_rows, width, padded head_dim]
  void* unit_grad_value;
  void* unit_grad_bias;   // [units, 2 * kernel - 1, 2 * kernel - 1] or null
  long unit_key_rows;
};

// One processor variant for one element type. `unit` numbers independent pieces of work.
template <typename Real>
struct Variant {
  int lanes;
  long (*forward_scratch)(const Problem&);
  void (*forward)(const Problem&, long unit, Real* scratch);
  long (*backward_scratch)(const Problem&);
  void (*backward)(const Problem&, long unit, Real* scratch);
  void (*add_up)(const Problem&, long row);
};

struct Variants {
  const char* name;
  Variant<float> single;
  Variant<double> twice;
  Variant<float> half;  // tensors in bfloat16, arithmetic in float
};

const Variants& variants(portable);
const Variants& variants(avx2);
const Variants& variants(avx512);

}  // namespace segzoo
