// What the kernels and launchers need of CUDA, behind two macros.
//
// nvcc takes it from the CUDA runtime. With FASTCORE_SIMT a C++ compiler takes it from a stand-in
// that runs the same kernels on the CPU, one fiber per CUDA thread (tests/simt/simt.h).
#pragma once
#include <algorithm>
#include <cstdint>

#ifdef FASTCORE_SIMT
#include "simt.h"
#else
#include <cuda_runtime.h>
// A block's array in shared memory.
#define FASTCORE_SHARED(type, name, count) __shared__ type name[count]
// Launch of `kernel`, in parentheses where it has template arguments, with the arguments behind.
#define FASTCORE_LAUNCH(kernel, blocks, threads, stream, ...) \
  kernel<<<(blocks), (threads), 0, (stream)>>>(__VA_ARGS__)
#endif

namespace fastcore::cuda {

// Blocks for `items` pieces of work: kernels step by gridDim.x, so fewer are right as well. The
// stand-in has a low limit, which puts the stepping to the test.
#ifdef FASTCORE_SIMT
constexpr int64_t kMaxBlocks = 5;
#else
constexpr int64_t kMaxBlocks = 1 << 24;
#endif

inline unsigned blocks_for(int64_t items) { return static_cast<unsigned>(std::min(items, kMaxBlocks)); }

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

inline int launch_status() { return static_cast<int>(cudaGetLastError()); }

// Device memory for the launches queued between its construction and its destruction. Taken and
// given back in stream order, so nobody waits.
class Scratch {
 public:
  Scratch(int64_t bytes, cudaStream_t stream) : stream_(stream) {
    status_ = cudaMallocAsync(&data_, static_cast<size_t>(bytes), stream);
    // The error is returned, so the runtime must not hand it to whoever launches next.
    if (status_ != 0) cudaGetLastError();
  }
  ~Scratch() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  int status() const { return static_cast<int>(status_); }
  double* doubles() const { return static_cast<double*>(data_); }

 private:
  cudaStream_t stream_;
  cudaError_t status_;
  void* data_ = nullptr;
};

}  // namespace fastcore::cuda
