// What cpu.cpp hands to a variant: plain data, no code that unlike processors could share.
#pragma once

#include "../../csrc/shared/variants.h"

namespace segzoo_rivals {

struct Neighborhood {
  long batch, heads, height, width, head_dim, kernel;
  float scale;
  const float *query, *key, *value;  // [batch, heads, height, width, head_dim], contiguous
  const float* bias;                 // [heads, 2 * kernel - 1, 2 * kernel - 1]
  float* logits;                     // [batch, heads, height, width, kernel, kernel]
  float* output;                     // as query
};

// One processor variant. A plane is a head of an image.
struct Variant {
  const char* name;
  long lanes;
  void (*logits)(const Neighborhood&, long plane, long row);
  void (*values)(const Neighborhood&, long plane, long row);
  void (*multiply_add)(long rounds, float* sink);  // flops_a_round FLOP each
  long flops_a_round;
};

const Variant& variant(segzoo::portable);
const Variant& variant(segzoo::avx2);
const Variant& variant(segzoo::avx512);

}  // namespace segzoo_rivals
