// Which of the variants that a library was compiled in this processor runs.
#pragma once

#include <cstdlib>
#include <cstring>

namespace segzoo {

// 0 portable, 1 avx2, 2 avx512: the best one here. SEGZOO_CPU_VARIANT names a lesser one, for tests.
inline int processor_variant() {
  int best = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = 1;
  if (best == 1 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    best = 2;
  }
#endif
  const char* names[] = {"portable", "avx2", "avx512"};
  const char* wanted = std::getenv("SEGZOO_CPU_VARIANT");
  for (int i = 0; wanted && i < best; ++i) {
    if (std::strcmp(wanted, names[i]) == 0) return i;
  }
  return best;
}

}  // namespace segzoo
