// What the operator hands to a compiled variant: plain data, no code that unlike processors could share.
//
// Letters: S tokens of all levels, M heads, D channels of a head, L levels, P points, Q queries.
#pragma once

#include "../shared/variants.h"

namespace segzoo {

constexpr long kQueriesAUnit = 128;  // of one head, in the forward pass
constexpr long kTokensAUnit = 256;   // of an image, to be packed

// A map of height x width tokens, from token `start` on.
struct Level {
  long height, width, start;
};

struct Problem {
  long batch, tokens, heads, head_dim, points, queries;
  const Level* levels;
  long level_count;

  const void* value;        // [batch, S, M, D]; all tensors are contiguous
  const void* locations;    // [batch, Q, M, L, P, 2], (x, y)
  const void* weights;      // [batch, Q, M, L, P]
  const void* grad_output;  // [batch, Q, M, D], backward only
  void* output;             // [batch, Q, M, D], forward only
  void* grad_value;
  void* grad_locations;
  void* grad_weights;

  // A head's tokens one after the other, each padded with zeros to whole vectors: reading neighbours in the
  // tensor itself would touch one cache line in every heads * head_dim elements.
  void* packed_value;  // [batch, M, S, padded D]
  void* packed_grad;   // the same, the gradient of value
};

// `static`, so that no variant uses the copy that was compiled for another processor.
static inline long token_blocks(const Problem& problem) {
  return (problem.tokens + kTokensAUnit - 1) / kTokensAUnit;
}

// One processor variant for one element type. `unit` numbers independent pieces of work; no two of a pass
// write to the same place, so that sums do not depend on threads.
template <typename Real>
struct Variant {
  int lanes;
  void (*pack)(const Problem&, long unit);                        // a unit is kTokensAUnit tokens of an image
  long (*forward_scratch)(const Problem&);
  void (*forward)(const Problem&, long unit, Real* scratch);      // kQueriesAUnit queries of a head
  long (*backward_scratch)(const Problem&);
  void (*backward)(const Problem&, long unit, Real* scratch);     // a level of a head
  void (*unpack_gradient)(const Problem&, long unit);             // kTokensAUnit tokens of an image
};

struct Variants {
  const char* name;
  Variant<float> single;
  Variant<double> twice;
};

const Variants& variants(portable);
const Variants& variants(avx2);
const Variants& variants(avx512);

}  // namespace segzoo
