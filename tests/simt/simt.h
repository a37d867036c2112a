// A stand-in for the CUDA device language: runs kernels on the CPU, so that they can be tested without a GPU.
//
// Blocks run one after the other, the threads of a block as fibers (fibers.h). Shared arrays are heap memory
// of the block, filled with 0xFF: reading what nobody wrote gives NaN, and the address sanitizer sees an
// index out of bounds. So is scratch memory.
//
// FASTCORE_SIMT_SCHEDULE chooses who runs when:
//   forward   (default) each warp as far as it can go, from the first to the last, and so for blocks
//   reverse   the same from the last block, warp and lane to the first
//   <number>  blocks, warps and lanes in random order with that seed, a warp pausing at each of its
//   operations
// Copies that go on beside other work (tensor_cores.cuh) are made at once by "forward", and when they are
// waited for by the others. A kernel that lacks a barrier gives a wrong result under at least one of them.
// Errors of the memory model beyond that, and speed, need a card.
//
// Compile with -U_FORTIFY_SOURCE: the checked longjmp takes a change of stacks for an error.
#pragma once
#include <math.h>

#include <utility>

#include "fibers.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __restrict__ __restrict
// The name is unique to the place in the source and to the template instance, as shared memory is.
#define FASTCORE_SHARED(type, name, count) \
  static char name##_place;                \
  type* const name = simt::shared<type>(&name##_place, count)
#define FASTCORE_LAUNCH(kernel, blocks, threads, stream, ...) \
  ((void)(stream), simt::launch(#kernel, (blocks), (threads), kernel, __VA_ARGS__))
#define FASTCORE_DYNAMIC_SHARED(type, name) \
  static char name##_place;                 \
  type* const name = simt::dynamic_shared<type>(&name##_place)
#define FASTCORE_LAUNCH_SHARED(kernel, blocks, threads, bytes, stream, ...) \
  ((void)(stream), simt::launch_shared(#kernel, (blocks), (threads), size_t(bytes), kernel, __VA_ARGS__))

namespace simt {

constexpr size_t kSharedBytes = 48 * 1024;

// What a launch may ask for: as on an A100, and in "reverse" order as on a card from before.
inline size_t most_shared_bytes(const std::string& schedule) {
  return (schedule == "reverse" ? 64 : 163) * 1024;
}

inline std::string schedule_asked_for() {
  const char* const variable = std::getenv("FASTCORE_SIMT_SCHEDULE");
  return variable == nullptr ? "forward" : variable;
}

template <class... Parameters, class... Arguments>
void launch_shared(const char* kernel, int64_t blocks, int64_t threads, size_t dynamic_bytes,
                   void (*function)(Parameters...), Arguments... arguments) {
  if (blocks < 1 || blocks > INT32_MAX || threads < 1 || threads > 1024 || threads % kWarp != 0)
    throw std::runtime_error(std::string(kernel) + ": invalid launch of " + std::to_string(blocks) +
                             " blocks of " + std::to_string(threads) + " threads");
  static thread_local std::unique_ptr<char[]> stacks(new char[1024 * kStackBytes]);
  const std::string schedule = schedule_asked_for();
  for (const unsigned b : in_order(unsigned(blocks), schedule)) {
    Block block;
    block.kernel = kernel;
    block.index = {b};
    block.threads = {unsigned(threads)};
    block.blocks = {unsigned(blocks)};
    block.dynamic_bytes = dynamic_bytes;
    block.most_bytes = most_shared_bytes(schedule);
    block.copies_late = schedule != "forward";
    block.body = [&] { function(arguments...); };
    block.fibers.resize(size_t(threads));
    for (unsigned i = 0; i < threads; ++i) {
      block.fibers[i].block = &block;
      block.fibers[i].thread = {i};
      block.fibers[i].stack = stacks.get() + i * kStackBytes;
    }
    run_block(block, schedule);
  }
}

template <class... Parameters, class... Arguments>
void launch(const char* kernel, int64_t blocks, int64_t threads, void (*function)(Parameters...),
            Arguments... arguments) {
  launch_shared(kernel, blocks, threads, 0, function, arguments...);
}

// The array of a place in the source, made when it is first asked for.
template <class T>
T* array_at(const void* place, size_t bytes) {
  Block& block = *current->block;
  for (const SharedArray& array : block.arrays) {
    if (array.place == place) return reinterpret_cast<T*>(array.bytes.get());
  }
  block.arrays.push_back({place, std::unique_ptr<unsigned char[]>(new unsigned char[bytes])});
  std::memset(block.arrays.back().bytes.get(), 0xFF, bytes);
  block.array_bytes += bytes;
  const size_t most = block.dynamic_bytes > 0 ? block.most_bytes : kSharedBytes;
  if (block.array_bytes > most) fail("more than " + std::to_string(most / 1024) + " KiB of shared memory");
  return reinterpret_cast<T*>(block.arrays.back().bytes.get());
}

template <class T>
T* shared(const void* place, size_t count) {
  return array_at<T>(place, count * sizeof(T));
}

// The array whose size was given at the launch.
template <class T>
T* dynamic_shared(const void* place) {
  return array_at<T>(place, current->block->dynamic_bytes);
}

inline void make(const Copy& copy) {
  if (copy.from == nullptr) {
    std::memset(copy.to, 0, copy.bytes);
  } else {
    std::memcpy(copy.to, copy.from, copy.bytes);
  }
}

inline void copy_later(void* to, const void* from, size_t bytes) {
  const Copy copy = {to, from, bytes};
  if (current->block->copies_late) {
    current->copies.back().push_back(copy);
  } else {
    make(copy);
  }
}

inline void close_copies() { current->copies.emplace_back(); }

// Makes the copies of all closed groups but the last `but`.
inline void wait_for_copies(size_t but) {
  auto& groups = current->copies;
  while (groups.size() - 1 > but) {
    for (const Copy& copy : groups.front()) make(copy);
    groups.erase(groups.begin());
  }
}

inline int lane() { return int(current->thread.x % kWarp); }

}  // namespace simt

// ---- the device language ----------------------------------------------------------------------------------

#define threadIdx (simt::current->thread)
#define blockIdx (simt::current->block->index)
#define blockDim (simt::current->block->threads)
#define gridDim (simt::current->block->blocks)

inline void __syncthreads() { simt::wait(simt::State::kAtBarrier, "__syncthreads"); }
inline void __syncwarp(unsigned mask = ~0u) { simt::exchange("__syncwarp", mask, 0, simt::lane()); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
  return simt::exchange("__shfl_sync", mask, value, source & 31);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int offset) {
  return simt::exchange("__shfl_xor_sync", mask, value, (simt::lane() ^ offset) & 31);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int offset) {
  return simt::exchange("__shfl_down_sync", mask, value,
                        simt::lane() + offset < 32 ? simt::lane() + offset : simt::lane());
}
inline unsigned __ballot_sync(unsigned mask, int vote) {
  simt::exchange("__ballot_sync", mask, int(vote != 0), simt::lane());
  return simt::current->votes;
}
inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
inline int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) == mask; }

// Rounded down, as the name says.
inline float __double2float_rd(double value) {
  const float near = float(value);
  return double(near) > value ? std::nextafter(near, -INFINITY) : near;
}

inline int __ffs(int bits) { return __builtin_ffs(bits); }
struct alignas(16) int4 {
  int x, y, z, w;
};

// The inner product of four signed bytes with four others, plus a number.
inline int __dp4a(int a, int b, int sum) {
  for (int byte = 0; byte < 32; byte += 8) sum += int(int8_t(a >> byte)) * int(int8_t(b >> byte));
  return sum;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

// One fiber runs at a time, so plain reads and writes are atomic.
template <class T>
T atomicAdd(T* place, T value) {
  return std::exchange(*place, T(*place + value));
}
template <class T>
T atomicMax(T* place, T value) {
  return std::exchange(*place, std::max(*place, value));
}
template <class T>
T atomicMin(T* place, T value) {
  return std::exchange(*place, std::min(*place, value));
}
template <class T>
T atomicCAS(T* place, T expected, T value) {
  return std::exchange(*place, *place == expected ? value : *place);
}

// ---- the runtime, as far as the launchers use it ----------------------------------------------------------

using cudaStream_t = void*;
using cudaError_t = int;
inline cudaError_t cudaGetLastError() { return 0; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0; }
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrMaxSharedMemoryPerBlockOptin };
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  *value =
      which == cudaDevAttrMultiProcessorCount ? 3 : int(simt::most_shared_bytes(simt::schedule_asked_for()));
  return 0;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return 0; }
enum cudaMemcpyKind { cudaMemcpyDeviceToHost };
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return 0;
}
