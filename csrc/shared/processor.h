// Which of the variants that a library was compiled in this processor runs.
#pragma once

#include <cstdlib>
#include <cstring>

#include "variants.h"

namespace segzoo {

// call(variant{}) with the best variant here. SEGZOO_CPU_VARIANT names a lesser one, for tests.
template <typename Call>
decltype(auto) on_this_processor(const Call& call) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  const char* named = std::getenv("SEGZOO_CPU_VARIANT");
  const auto asks_for = [named](const char* variant) { return named && std::strcmp(named, variant) == 0; };
  if (has_avx512 && !asks_for(avx2::name) && !asks_for(portable::name)) return call(avx512{});
  if (has_avx2 && !asks_for(portable::name)) return call(avx2{});
#endif
  return call(portable{});
}

}  // namespace segzoo
