// Faults that each sanitizer must report before its silence about the kernels means anything; see sanitize.sh.
#include <climits>
#include <cstdint>
#include <memory>

extern "C" int32_t torch_parallel_for(int64_t begin, int64_t end, int64_t grain,
                                      void (*function)(int64_t, int64_t, void*), void* context)
    __attribute__((weak));

// Reads one value past the end of an array.
extern "C" float overrun() {
  volatile long count = 16;
  const std::unique_ptr<float[]> values(new float[count]());
  return values[count];
}

// Adds one to the largest int.
extern "C" int overflow() {
  volatile int most = INT_MAX;
  return most + 1;
}

// All threads of a parallel loop write to the same place.
extern "C" void race() {
  long sum = 0;
  const auto add = [](int64_t begin, int64_t, void* sum) { *static_cast<long*>(sum) += begin; };
  torch_parallel_for(0, 1024, 1, add, &sum);
}
