// The kernels of one processor variant. This file is compiled once per variant, named by SEGZOO_VARIANT.
//
// A unit of work belongs to one thread. It sweeps down the rows of a strip of tiles: a ring holds the rows
// of keys and values that a group of query rows needs, each packed once; the attention weights of a group
// stay in the innermost caches and are never written out.
#include "backward.h"
#include "forward.h"
#include "problem.h"

namespace {

template <typename Real, typename Stored>
constexpr segzoo::Variant<Real> variant() {
  return {kLanes<Real>,           forward_scratch<Real>,  forward<Real, Stored>,
          backward_scratch<Real>, backward<Real, Stored>, add_up<Real, Stored>};
}

}  // namespace

const segzoo::Variants& segzoo::variants(SEGZOO_VARIANT) {
  static constexpr segzoo::Variants variants = {SEGZOO_VARIANT::name, variant<float, float>(),
                                                variant<double, double>(), variant<float, BFloat16>()};
  return variants;
}
