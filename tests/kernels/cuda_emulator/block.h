// The threads of a block as fibers: barriers, collectives of a warp, blocks one after the other.
//
// A thread runs until it waits. Which one runs next is drawn anew each round (SEGZOO_EMULATOR_SEED; 0: by number),
// so that a missing barrier shows as a wrong result. Threads that wait for each other in different places, or for
// one that has returned, end the program with a message.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fibers.h"

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace segzoo_emulator {

[[noreturn]] inline void fail(const std::string& message) {
  std::fprintf(stderr, "emulator: %s\n", message.c_str());
  std::exit(3);
}

struct Place {
  const char* file = "";
  int line = 0;
  bool operator==(const Place& other) const { return line == other.line && !std::strcmp(file, other.file); }
  std::string text() const { return std::string(file) + ":" + std::to_string(line); }
};

// A meeting point of `size` threads. `rounds` counts how often all have met.
struct Barrier {
  int size = 0, arrived = 0;
  long rounds = 0;
  Place place;
};

constexpr size_t kSlotBytes = 64;

// What the lanes of a warp hand each other. Two sets of slots: a lane may be one collective ahead of another.
struct Warp {
  Barrier barrier;
  alignas(16) unsigned char given[2][32][kSlotBytes], taken[2][32][kSlotBytes];
};

// A copy that cp.async has promised and not yet made.
struct Copy {
  void* target;
  const void* source;
  size_t bytes, zeros;
};

struct Thread {
  Fiber fiber;
  dim3 index;
  int number = 0;
  bool finished = false;
  Barrier* waits_for = nullptr;
  long waits_for_round = 0;
  Place place;
  std::vector<std::vector<Copy>> copies;  // by commit group; the last one is open
};

struct Block {
  std::vector<std::unique_ptr<Thread>> threads;
  std::vector<std::unique_ptr<Warp>> warps;
  Barrier barrier;
  Thread* current = nullptr;
  unsigned char* shared = nullptr;
  size_t shared_bytes = 0;
  std::function<void()> body;
};
inline Block block;

inline bool blocked(const Thread& thread) {
  return thread.waits_for && thread.waits_for->rounds < thread.waits_for_round;
}

inline void stop(bool for_good) { back_to_scheduler(block.current->fiber, for_good); }

// Waits at a barrier; `complete` is run by the thread that comes last, before any leaves.
template <typename Complete>
void meet(Barrier& barrier, Place place, Complete complete) {
  Thread& thread = *block.current;
  if (barrier.arrived == 0) barrier.place = place;
  if (!(barrier.place == place)) {
    fail("threads of one barrier wait in " + barrier.place.text() + " and in " + place.text());
  }
  if (++barrier.arrived == barrier.size) {
    complete();
    barrier.arrived = 0;
    ++barrier.rounds;
    return;
  }
  thread.waits_for = &barrier;
  thread.waits_for_round = barrier.rounds + 1;
  thread.place = place;
  while (blocked(thread)) stop(false);
  thread.waits_for = nullptr;
}

inline void block_barrier(Place place) {
  meet(block.barrier, place, [] {});
}

inline int lane() { return block.current->number % 32; }

inline Warp& warp() { return *block.warps[block.current->number / 32]; }

// Every lane gives an In; the last to arrive computes all 32 Outs from all 32 Ins.
template <typename Out, typename In, typename All>
Out collective(unsigned mask, const In& in, Place place, All all) {
  static_assert(sizeof(In) <= kSlotBytes && sizeof(Out) <= kSlotBytes);
  if (mask != 0xffffffffu) fail("only collectives of a whole warp are emulated: " + place.text());
  Warp& own = warp();
  const int set = own.barrier.rounds % 2, number = lane();
  std::memcpy(own.given[set][number], &in, sizeof(In));
  meet(own.barrier, place, [&] {
    In ins[32];
    Out outs[32] = {};
    for (int i = 0; i < 32; ++i) std::memcpy(&ins[i], own.given[set][i], sizeof(In));
    all(ins, outs);
    for (int i = 0; i < 32; ++i) std::memcpy(own.taken[set][i], &outs[i], sizeof(Out));
  });
  Out out;
  std::memcpy(&out, own.taken[set][number], sizeof(Out));
  return out;
}

inline void thread_entry() {
  entered();
  threadIdx = block.current->index;
  block.body();
  for (const auto& group : block.current->copies) {
    if (!group.empty()) fail("a thread returns with a cp.async that nothing has waited for");
  }
  block.current->finished = true;
  stop(true);
}

inline std::string who_waits() {
  std::string text;
  int shown = 0, finished = 0;
  for (const auto& thread : block.threads) {
    finished += thread->finished;
    if (!thread->finished && shown++ < 4) {
      text += " thread " + std::to_string(thread->number) + " in " + thread->place.text() + ";";
    }
  }
  return text + " " + std::to_string(finished) + " threads have returned";
}

inline unsigned seed() {
  static const char* text = std::getenv("SEGZOO_EMULATOR_SEED");
  return text ? static_cast<unsigned>(std::atoi(text)) : 1u;
}

// Fresh threads, and shared memory full of NaNs.
inline void prepare_block() {
  for (auto& thread : block.threads) {
    thread->finished = false;
    thread->waits_for = nullptr;
    thread->copies.assign(1, {});
    thread->fiber.start(thread_entry);
  }
  block.barrier = {static_cast<int>(block.threads.size()), 0, 0, {}};
  for (auto& own : block.warps) own->barrier = {32, 0, 0, {}};
  if (block.shared_bytes) std::memset(block.shared, 0xff, block.shared_bytes);
}

inline void run_block(std::mt19937& random) {
  prepare_block();
  std::vector<Thread*> left;
  for (auto& thread : block.threads) left.push_back(thread.get());
  while (!left.empty()) {
    if (seed()) std::shuffle(left.begin(), left.end(), random);
    bool moved = false;
    for (Thread* thread : left) {
      if (blocked(*thread)) continue;
      moved = true;
      block.current = thread;
      threadIdx = thread->index;
      run_until_it_stops(thread->fiber);
    }
    if (!moved) fail("deadlock in block " + std::to_string(blockIdx.x) + ":" + who_waits());
    left.erase(std::remove_if(left.begin(), left.end(), [](Thread* t) { return t->finished; }), left.end());
  }
}

inline void size_block(dim3 shape, size_t shared_bytes) {
  const unsigned count = shape.x * shape.y * shape.z;
  if (count == 0 || count % 32 || count > 1024) fail("a block of " + std::to_string(count) + " threads");
  while (block.threads.size() > count) block.threads.pop_back();
  while (block.threads.size() < count) block.threads.push_back(std::make_unique<Thread>());
  for (unsigned i = 0; i < count; ++i) {
    block.threads[i]->number = static_cast<int>(i);
    block.threads[i]->index = dim3(i % shape.x, i / shape.x % shape.y, i / shape.x / shape.y);
  }
  block.warps.clear();
  for (unsigned i = 0; i < count / 32; ++i) block.warps.push_back(std::make_unique<Warp>());
  std::free(block.shared);
  block.shared_bytes = shared_bytes;
  // exactly as large as asked for, so that AddressSanitizer sees a step beyond
  void* memory = nullptr;
  if (posix_memalign(&memory, 128, std::max<size_t>(1, shared_bytes))) fail("no memory for shared memory");
  block.shared = static_cast<unsigned char*>(memory);
}

// kernel<<<grid, shape, shared_bytes>>>(arguments...)
template <typename Kernel, typename... Arguments>
void launch(Kernel kernel, dim3 grid, dim3 shape, size_t shared_bytes, const Arguments&... arguments) {
  size_block(shape, shared_bytes);
  std::mt19937 random(seed());
  blockDim = shape;
  gridDim = grid;
  block.body = [&] { kernel(arguments...); };
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        run_block(random);
      }
}

}  // namespace segzoo_emulator
