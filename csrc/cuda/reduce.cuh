// Reductions over the lanes of a warp and the threads of a block.
//
// All are butterflies: every thread ends with the same bits, in the same order of operations on
// every run. Every thread of the warp, or of the block, must take part.
#pragma once
#include "simt.cuh"

namespace fastcore::cuda {

constexpr int kLanes = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int lane_id() { return static_cast<int>(threadIdx.x % kLanes); }
__device__ inline int warp_id() { return static_cast<int>(threadIdx.x / kLanes); }

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Max {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};

struct Min {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};

template <class T>
__device__ T shuffle_xor(T value, int offset) {
  return __shfl_xor_sync(kAllLanes, value, offset);
}

// Reduces each aligned group of `group` lanes, a power of two.
template <int group = kLanes, class T, class Op>
__device__ T warp_reduce(T value, Op op) {
  for (int offset = group / 2; offset > 0; offset /= 2) {
    value = op(value, shuffle_xor(value, offset));
  }
  return value;
}

template <int threads, class T, class Op>
__device__ T block_reduce(T value, Op op) {
  constexpr int kWarps = threads / kLanes;
  FASTCORE_SHARED(T, partial, kWarps);
  value = warp_reduce(value, op);
  if (lane_id() == 0) partial[warp_id()] = value;
  __syncthreads();
  value = warp_reduce<kWarps>(partial[lane_id() % kWarps], op);
  __syncthreads();  // before the next reduction writes `partial`
  return value;
}

// Sum over k of term(k), k < width, by one warp.
template <class Term>
__device__ double warp_sum(int64_t width, Term term) {
  double sum = 0.0;
#pragma unroll 4
  for (int64_t k = lane_id(); k < width; k += kLanes) sum += term(k);
  return warp_reduce(sum, Sum());
}

}  // namespace fastcore::cuda
