// Switching between stacks in one operating-system thread, so that the threads of a CUDA block can stop at a
// barrier in the middle of a kernel. Known to AddressSanitizer, which must be told whose stack it looks at.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
extern "C" void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_bottom, size_t* old_size);
extern "C" void __asan_unpoison_memory_region(const volatile void* memory, size_t size);
#else
inline void __asan_unpoison_memory_region(const volatile void*, size_t) {}
inline void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
inline void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif

namespace segzoo_emulator {

#if defined(__x86_64__)
// Saves the registers that a call must keep on the old stack and takes them from the new one.
// swapcontext would do, but makes a system call each time.
extern "C" void segzoo_emulator_switch(void** save_stack_pointer, void* stack_pointer);
asm(R"(
.text
.weak segzoo_emulator_switch
.type segzoo_emulator_switch, @function
segzoo_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size segzoo_emulator_switch, .-segzoo_emulator_switch
)");
#endif

// One stack. `entry` never returns: it must switch away for good.
struct Fiber {
  static constexpr size_t kStackBytes = 256 * 1024;
  char* stack = nullptr;
  void* fake_stack = nullptr;
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif

  Fiber() = default;
  Fiber(const Fiber&) = delete;
  ~Fiber() {
    if (stack) munmap(stack, kStackBytes);
  }

  void start(void (*entry)()) {
    if (stack == nullptr) {
      void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (memory == MAP_FAILED) {
        std::fprintf(stderr, "emulator: no memory for a stack\n");
        std::exit(3);
      }
      stack = static_cast<char*>(memory);
    }
    __asan_unpoison_memory_region(stack, kStackBytes);  // the last thread on it never returned
#if defined(__x86_64__)
    void** top = reinterpret_cast<void**>(stack + kStackBytes) - 2;  // keeps the stack aligned at the entry
    *top = reinterpret_cast<void*>(entry);
    stack_pointer = top - 6;
#else
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = kStackBytes;
    makecontext(&context, entry, 0);
#endif
  }
};

inline void switch_stacks(Fiber& from, Fiber& to) {
#if defined(__x86_64__)
  segzoo_emulator_switch(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
}

// The scheduler's own stack, and where it lies: AddressSanitizer wants to know on the way back.
inline Fiber scheduler_fiber;
inline const void* scheduler_bottom = nullptr;
inline size_t scheduler_size = 0;

inline void run_until_it_stops(Fiber& fiber) {
  __sanitizer_start_switch_fiber(&scheduler_fiber.fake_stack, fiber.stack, Fiber::kStackBytes);
  switch_stacks(scheduler_fiber, fiber);
  __sanitizer_finish_switch_fiber(scheduler_fiber.fake_stack, nullptr, nullptr);
}

// First thing in an entry function.
inline void entered() { __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size); }

inline void back_to_scheduler(Fiber& fiber, bool for_good) {
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake_stack, scheduler_bottom, scheduler_size);
  switch_stacks(fiber, scheduler_fiber);
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &scheduler_bottom, &scheduler_size);
}

}  // namespace segzoo_emulator
