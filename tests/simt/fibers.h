// The threads of one CUDA block as fibers: who runs when, and where they wait for each other.
//
// A fiber runs until it meets others: at a barrier all threads of the block, at a warp operation all lanes of
// its mask. A meeting that can never be complete (a barrier in divergent code, a lane missing from a mask) is
// an error that names the kernel. See simt.h for the schedules.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

constexpr size_t kStackBytes = 128 * 1024;
constexpr unsigned kWarp = 32;

enum class State { kReady, kAtBarrier, kAtWarpOperation, kDone };

struct Index {
  unsigned x;
};

struct Block;

// 16 bytes or so for shared memory, on their way; from nullptr come zeros.
struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

struct Fiber {
  Block* block;
  Index thread;
  State state = State::kReady;
  const char* where = "the start";
  unsigned mask = 0;   // lanes it waits for
  uint64_t given = 0;  // what it brings to a warp operation
  int source = 0;      // the lane it reads from
  uint64_t taken = 0;  // what that lane brought
  unsigned votes = 0;  // lanes that brought something other than 0
  std::vector<std::vector<Copy>> copies = std::vector<std::vector<Copy>>(1);  // groups; the last one is open
  bool started = false;
  char* stack = nullptr;
  jmp_buf resume;
};

struct SharedArray {
  const void* place;
  std::unique_ptr<unsigned char[]> bytes;
};

struct Block {
  const char* kernel;
  Index index, threads, blocks;
  std::function<void()> body;
  std::vector<Fiber> fibers;
  std::vector<SharedArray> arrays;
  size_t array_bytes = 0;    // of all arrays
  size_t dynamic_bytes = 0;  // of the one whose size was given at the launch
  size_t most_bytes = 0;     // of all arrays, with such a one
  bool copies_late = false;  // copies are made when they are waited for, and not at once
  std::string error;
};

inline thread_local Fiber* current = nullptr;
inline thread_local jmp_buf scheduler;

[[noreturn]] inline void fail(const std::string& what) {
  throw std::runtime_error(std::string(current->block->kernel) + ": " + what);
}

// ---- fibers -----------------------------------------------------------------------------------------------

// Leaves the running fiber; comes back when the scheduler resumes it.
inline void wait(State state, const char* where) {
  Fiber* const self = current;
  self->state = state;
  self->where = where;
  if (_setjmp(self->resume) == 0) _longjmp(scheduler, 1);
}

inline void fiber_main() {
  Fiber* const self = current;
  try {
    self->block->body();
  } catch (const std::exception& error) {
    self->block->error = error.what();
  }
  self->state = State::kDone;
  _longjmp(scheduler, 1);
}

inline void run(Fiber& fiber) {
  current = &fiber;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.resume, 1);
  fiber.started = true;
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(fiber.stack, kStackBytes);
#endif
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack;
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, fiber_main, 0);
  setcontext(&context);
}

// ---- meetings ---------------------------------------------------------------------------------------------

inline bool same_operation(const Fiber& a, const Fiber& b) {
  return b.state == State::kAtWarpOperation && a.mask == b.mask && std::strcmp(a.where, b.where) == 0;
}

// Lets the lanes of a warp go on whose meeting is complete.
inline void settle_warp(Block& block, unsigned first) {
  Fiber* const lanes = block.fibers.data() + first;
  for (unsigned l = 0; l < kWarp; ++l) {
    if (lanes[l].state != State::kAtWarpOperation) continue;
    unsigned here = 0, votes = 0;
    for (unsigned m = 0; m < kWarp; ++m) {
      if (!same_operation(lanes[l], lanes[m])) continue;
      here |= 1u << m;
      votes |= unsigned(lanes[m].given != 0) << m;
    }
    if (here != lanes[l].mask) continue;
    for (unsigned m = 0; m < kWarp; ++m) {
      if (!(here >> m & 1)) continue;
      lanes[m].taken = lanes[lanes[m].source].given;
      lanes[m].votes = votes;
      lanes[m].state = State::kReady;
    }
  }
}

// Lets the block go on when all of its threads are at the barrier.
inline bool settle_barrier(Block& block) {
  for (const Fiber& fiber : block.fibers) {
    if (fiber.state != State::kAtBarrier) return false;
  }
  for (Fiber& fiber : block.fibers) fiber.state = State::kReady;
  return true;
}

[[noreturn]] inline void report_deadlock(const Block& block) {
  std::string message = "threads wait for others that never come:", last;
  int groups = 0;
  for (const Fiber& fiber : block.fibers) {
    std::string at = fiber.state == State::kDone ? "finished" : std::string("at ") + fiber.where;
    if (fiber.state == State::kAtWarpOperation) {
      char mask[32];
      std::snprintf(mask, sizeof mask, " with mask 0x%x", fiber.mask);
      at += mask;
    }
    if (at == last) continue;  // one entry for a run of threads at the same place
    if (++groups > 6) break;
    message += " from thread " + std::to_string(fiber.thread.x) + " " + at + ";";
    last = at;
  }
  fail(message);
}

inline bool is_random(const std::string& schedule) { return schedule != "forward" && schedule != "reverse"; }

inline std::mt19937 generator_of(const std::string& schedule) {
  return std::mt19937(is_random(schedule) ? unsigned(std::stoul(schedule)) : 0u);
}

// The numbers up to `count` in the order of a schedule.
inline std::vector<unsigned> in_order(unsigned count, const std::string& schedule) {
  std::vector<unsigned> numbers(count);
  for (unsigned i = 0; i < count; ++i) numbers[i] = schedule == "reverse" ? count - 1 - i : i;
  std::mt19937 generator = generator_of(schedule);
  if (is_random(schedule)) std::shuffle(numbers.begin(), numbers.end(), generator);
  return numbers;
}

inline void run_block(Block& block, const std::string& schedule) {
  const bool random = is_random(schedule);
  std::vector<unsigned> warps = in_order(block.threads.x / kWarp, schedule),
                        lanes = in_order(kWarp, schedule);
  std::mt19937 generator = generator_of(schedule);
  const auto run_warp = [&](unsigned warp) {
    bool ran = false;
    if (random) std::shuffle(lanes.begin(), lanes.end(), generator);
    for (const unsigned lane : lanes) {
      Fiber& fiber = block.fibers[warp * kWarp + lane];
      if (fiber.state != State::kReady) continue;
      ran = true;
      run(fiber);
      if (!block.error.empty()) throw std::runtime_error(block.error);
    }
    settle_warp(block, warp * kWarp);
    return ran;
  };
  const auto done = [](const Fiber& fiber) { return fiber.state == State::kDone; };
  while (!std::all_of(block.fibers.begin(), block.fibers.end(), done)) {
    bool progress = false;
    if (random) std::shuffle(warps.begin(), warps.end(), generator);
    for (const unsigned warp : warps) {
      while (run_warp(warp)) {
        progress = true;
        if (random) break;
      }
    }
    if (!settle_barrier(block) && !progress) report_deadlock(block);
  }
}

// Brings `value` to the lanes of `mask` and returns what the lane `source` brought.
template <class T>
T exchange(const char* where, unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a lane brings 8 bytes at most");
  const int lane = int(current->thread.x % kWarp);
  if (!(mask >> lane & 1)) fail(std::string(where) + " by a lane that is not in its mask");
  if (!(mask >> source & 1)) fail(std::string(where) + " from a lane that is not in its mask");
  current->given = 0;
  std::memcpy(&current->given, &value, sizeof(T));
  current->mask = mask;
  current->source = source;
  wait(State::kAtWarpOperation, where);
  std::memcpy(&value, &current->taken, sizeof(T));
  return value;
}

}  // namespace simt
