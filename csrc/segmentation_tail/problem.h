// What the operator hands to a compiled variant: plain data, no code that unlike processors could share.
//
// Letters: C classes, H x W pixels of the image, h x w logits of a view. A strip is as many pixel columns as a
// vector has lanes; a group is a few pixel rows that read the same few logit rows.
#pragma once

#include "../shared/variants.h"

namespace segzoo {

constexpr int kGroupRows = 4;     // pixel rows of a group, of one view
constexpr int kAveragedRows = 2;  // the same where several views are averaged

// The columns of a strip as sums of terms: lane l of a term is weight[l] * logits[start + index[l]]. Terms that
// read the same logits follow one another and have the same start, from which a whole vector may be read.
struct Terms {
  const long* first;     // [strips + 1]: the first term of every strip
  const long* start;     // [terms]
  const int* index;      // [terms, lanes], below the number of lanes
  const float* weight;   // [terms, lanes]
};

// The rows of all groups: pixel row r of group g is the sum over k of
// weight[first[g] * rows + r * count + k] * logit row source[first[g] + k], where count is first[g + 1] - first[g]
// and `rows` is kGroupRows or kAveragedRows.
struct Sources {
  const long* first;    // [groups + 1]
  const int* source;
  const float* weight;
  long most;            // the largest count
};

struct View {
  const void* logits;  // float, or bfloat16 where `half`; the column stride is 1
  bool half;
  long class_stride, row_stride;  // in elements
  Terms columns;
  Sources rows;
};

struct Group {
  long first, rows;  // pixel rows
};

struct Problem {
  long classes, height, width, strips;
  const View* views;
  long view_count;
  const Group* groups;
  void* labels;  // [H, W], bytes or, where `wide`, int32
  bool wide;
};

// A unit of work: these groups, of these strips.
struct Part {
  long first_group, last_group, first_strip, last_strip;
};

struct Variant {
  const char* name;
  int lanes;
  long (*scratch)(const Problem&);  // floats that a thread needs
  void (*label)(const Problem&, const Part&, float* scratch);
};

const Variant& variant(portable);
const Variant& variant(avx2);
const Variant& variant(avx512);

}  // namespace segzoo
