// What the kernels and launchers need of CUDA, behind two macros.
//
// nvcc takes it from the CUDA runtime. With FASTCORE_SIMT a C++ compiler takes it from a stand-in
// that runs the same kernels on the CPU, one fiber per CUDA thread (tests/simt/simt.h).
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "launch.h"

#ifdef FASTCORE_SIMT
#include "simt.h"
#else
#include <cuda_runtime.h>
// A block's array in shared memory.
#define FASTCORE_SHARED(type, name, count) __shared__ type name[count]
// Launch of `kernel`, in parentheses where it has template arguments, with the arguments behind.
#define FASTCORE_LAUNCH(kernel, blocks, threads, stream, ...) \
  kernel<<<(blocks), (threads), 0, (stream)>>>(__VA_ARGS__)
// A block's array in shared memory whose size is given at the launch, which FASTCORE_LAUNCH_SHARED does in
// bytes.
#define FASTCORE_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#define FASTCORE_LAUNCH_SHARED(kernel, blocks, threads, bytes, stream, ...)                            \
  (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), \
   kernel<<<(blocks), (threads), (bytes), (stream)>>>(__VA_ARGS__))
#endif

namespace fastcore::cuda {

// Blocks for `items` pieces of work: kernels step by gridDim.x, so fewer are right as well. The
// stand-in has a low limit, which puts the stepping to the test.
//
// kWideBlock: threads of the one block that chooses among the rows of a large set.
#ifdef FASTCORE_SIMT
constexpr int64_t kMaxBlocks = 5;
constexpr int kWideBlock = 128;
#else
constexpr int64_t kMaxBlocks = 1 << 24;
constexpr int kWideBlock = 1024;
#endif

inline unsigned blocks_for(int64_t items) { return static_cast<unsigned>(std::min(items, kMaxBlocks)); }

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline cudaStream_t as_stream(const Queue& queue) { return static_cast<cudaStream_t>(queue.stream); }

template <class T>
T* scratch_of(const Queue& queue, int64_t count) {
  return static_cast<T*>(queue.scratch(count * int64_t(sizeof(T))));
}

// An attribute of the device that the next launch goes to.
inline int device_attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&value, which, device);
  return value;
}

inline int multiprocessors() { return std::max(1, device_attribute(cudaDevAttrMultiProcessorCount)); }

// The most that a block can have, where the launch asks for it.
inline int most_shared_bytes() { return device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

inline int launch_status() { return static_cast<int>(cudaGetLastError()); }

// Where sets of more than `usual` rows take a kernel for large sets: that number, or $FASTCORE_GRID_ROWS,
// which is for tests.
inline int64_t grid_rows(int64_t usual) {
  const char* const rows = std::getenv("FASTCORE_GRID_ROWS");
  return rows == nullptr ? usual : std::atoll(rows);
}

// Whether the whole grid works on each set, and not one block of threads. Many sets side by side fill the
// device with one block each.
inline bool on_grid(int64_t sets, int64_t rows, int64_t usual) {
  constexpr int64_t kFewSets = 32;
  return rows > grid_rows(usual) && sets <= kFewSets;
}

}  // namespace fastcore::cuda
