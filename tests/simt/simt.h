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
// A kernel that lacks a barrier gives a wrong result under at least one of them. Errors of the memory model
// beyond that, and speed, need a card.
//
// Compile with -U_FORTIFY_SOURCE: the checked longjmp takes a change of stacks for an error.
#pragma once
#include <math.h>

#include <utility>

#include "fibers.h"
#include "graphs.h"

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
  simt::queue((stream), [=] { simt::launch(#kernel, (blocks), (threads), kernel, __VA_ARGS__); })

namespace simt {

constexpr size_t kSharedBytes = 48 * 1024;

template <class... Parameters, class... Arguments>
void launch(const char* kernel, int64_t blocks, int64_t threads, void (*function)(Parameters...),
            Arguments... arguments) {
  if (blocks == 0) return;
  if (blocks < 0 || blocks > INT32_MAX || threads < 1 || threads > 1024 || threads % kWarp != 0)
    throw std::runtime_error(std::string(kernel) + ": invalid launch of " + std::to_string(blocks) +
                             " blocks of " + std::to_string(threads) + " threads");
  static thread_local std::unique_ptr<char[]> stacks(new char[1024 * kStackBytes]);
  const char* const variable = std::getenv("FASTCORE_SIMT_SCHEDULE");
  const std::string schedule = variable == nullptr ? "forward" : variable;
  for (const unsigned b : in_order(unsigned(blocks), schedule)) {
    Block block;
    block.kernel = kernel;
    block.index = {b};
    block.threads = {unsigned(threads)};
    block.blocks = {unsigned(blocks)};
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

template <class T>
T* shared(const void* place, size_t count) {
  Block& block = *current->block;
  for (const SharedArray& array : block.arrays) {
    if (array.place == place) return reinterpret_cast<T*>(array.bytes.get());
  }
  const size_t bytes = count * sizeof(T);
  block.shared_bytes += bytes;
  if (block.shared_bytes > kSharedBytes) fail("more than 48 KiB of shared memory");
  block.arrays.push_back({place, std::unique_ptr<unsigned char[]>(new unsigned char[bytes])});
  std::memset(block.arrays.back().bytes.get(), 0xFF, bytes);
  return reinterpret_cast<T*>(block.arrays.back().bytes.get());
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

// ---- the runtime, as far as the launchers use it: tests/simt/graphs.h has the rest ------------------------

inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return 0; }
enum cudaMemcpyKind { cudaMemcpyDeviceToHost };
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return 0;
}
