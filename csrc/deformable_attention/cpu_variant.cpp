// The kernels of one processor variant. This file is compiled once per variant, named by SEGZOO_VARIANT.
#include <algorithm>

#include "backward.h"
#include "forward.h"
#include "problem.h"

namespace {

// Copies tokens between the tensor's layout and the packed one: all heads of each, because they lie side by side.
template <typename Real, typename Copy>
void for_tokens(const Problem& problem, long unit, const Copy& copy) {
  const long width = padded<Real>(problem.head_dim), blocks = segzoo::token_blocks(problem), batch = unit / blocks;
  const long begin = unit % blocks * segzoo::kTokensAUnit;
  const long end = std::min(begin + segzoo::kTokensAUnit, problem.tokens);
  for (long token = begin; token < end; ++token) {
    for (long head = 0; head < problem.heads; ++head) {
      copy(((batch * problem.tokens + token) * problem.heads + head) * problem.head_dim,
           ((batch * problem.heads + head) * problem.tokens + token) * width);
    }
  }
}

template <typename Real>
void pack(const Problem& problem, long unit) {
  const long dim = problem.head_dim, width = padded<Real>(dim);
  for_tokens<Real>(problem, unit, [&](long source, long target) {
    const Real* values = static_cast<const Real*>(problem.value) + source;
    Real* packed = static_cast<Real*>(problem.packed_value) + target;
    std::fill(std::copy(values, values + dim, packed), packed + width, static_cast<Real>(0));
  });
}

template <typename Real>
void unpack_gradient(const Problem& problem, long unit) {
  for_tokens<Real>(problem, unit, [&](long target, long source) {
    const Real* packed = static_cast<const Real*>(problem.packed_grad) + source;
    std::copy(packed, packed + problem.head_dim, static_cast<Real*>(problem.grad_value) + target);
  });
}

template <typename Real>
constexpr segzoo::Variant<Real> variant() {
  return {kLanes<Real>,           pack<Real>,     forward_scratch<Real>, forward<Real>,
          backward_scratch<Real>, backward<Real>, unpack_gradient<Real>};
}

}  // namespace

const segzoo::Variants& segzoo::variants(SEGZOO_VARIANT) {
  static constexpr segzoo::Variants variants = {SEGZOO_VARIANT::name, variant<float>(), variant<double>()};
  return variants;
}
