// torch_parallel_for and torch_get_num_threads on threads that ThreadSanitizer understands; see sanitize.sh.
//
// Loaded before PyTorch, these are the functions that the kernels' libraries find.
#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace {
constexpr int64_t kThreads = 4;
}

extern "C" int32_t torch_get_num_threads(uint32_t* threads) {
  *threads = kThreads;
  return 0;
}

extern "C" int32_t torch_parallel_for(int64_t begin, int64_t end, int64_t grain,
                                      void (*function)(int64_t, int64_t, void*), void* context) {
  const int64_t count = end - begin;
  const int64_t threads = std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, kThreads);
  std::vector<std::thread> pool;
  for (int64_t thread = 0; thread < threads; ++thread) {
    const int64_t first = begin + count * thread / threads, last = begin + count * (thread + 1) / threads;
    if (first < last) pool.emplace_back(function, first, last, context);
  }
  for (std::thread& thread : pool) thread.join();
  return 0;
}
