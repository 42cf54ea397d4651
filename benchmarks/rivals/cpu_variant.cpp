// The rivals and the peak of arithmetic of one processor variant, compiled with the flags of segzoo's own kernels.
#include "neighborhood_attention.h"
#include "rivals.h"

namespace {

// head_dim must be 1, 2, 4 or 8 vectors; cpu.cpp has checked it.
void logits(const Neighborhood& problem, long plane, long row) {
  switch (problem.head_dim / kLanes<float>) {
    case 1: return logits_of<1>(problem, plane, row);
    case 2: return logits_of<2>(problem, plane, row);
    case 4: return logits_of<4>(problem, plane, row);
    default: return logits_of<8>(problem, plane, row);
  }
}

void values(const Neighborhood& problem, long plane, long row) {
  switch (problem.head_dim / kLanes<float>) {
    case 1: return values_of<1>(problem, plane, row);
    case 2: return values_of<2>(problem, plane, row);
    case 4: return values_of<4>(problem, plane, row);
    default: return values_of<8>(problem, plane, row);
  }
}

constexpr int kChains = 12;  // independent sums: more than latency times width of any processor so far needs

// Nothing but multiply-adds of registers: no program of this variant is faster.
void multiply_add(long rounds, float* sink) {
  Vector<float> sum[kChains];
  Vector<float> factor = broadcast<float>(0.999f), term = broadcast<float>(0.001f);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sum[i] = broadcast<float>(static_cast<float>(i));
  for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = sum[i] * factor + term;
  }
#pragma GCC unroll 12
  for (int i = 1; i < kChains; ++i) sum[0] += sum[i];
  *sink = sum[0][0];
}

}  // namespace

const segzoo_rivals::Variant& segzoo_rivals::variant(segzoo::SEGZOO_VARIANT) {
  static constexpr segzoo_rivals::Variant variant = {
      segzoo::SEGZOO_VARIANT::name, kLanes<float>, logits, values, multiply_add, 2L * kChains * kLanes<float>};
  return variant;
}
