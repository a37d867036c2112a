// Small kernels, right and wrong ones, for the tests of the stand-in: `probes NAME` prints what the kernel
// NAME wrote.
#include <cstdio>
#include <map>

#include "reduce.cuh"
#include "simt.cuh"
#include "tensor_cores.cuh"

namespace {

using fastcore::cuda::kAllLanes;
using fastcore::cuda::Sum;

constexpr int kThreads = 96;

// Sum of the numbers of all threads, 4560, by hand: each warp its part, then thread 0 the parts, twice over.
template <bool before, bool after>
__global__ void sum(double* out) {
  FASTCORE_SHARED(double, part, kThreads / 32);
  for (int round = 0; round < 2; ++round) {
    const double value = fastcore::cuda::warp_reduce(double(threadIdx.x) * (round + 1), Sum());
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = value;
    if (before) __syncthreads();
    double total = 0.0;
    for (int warp = 0; warp < kThreads / 32; ++warp) total += part[warp];
    if (after) __syncthreads();
    out[round * kThreads + threadIdx.x] = total;
  }
}

__global__ void divergent_barrier(double*) {
  if (threadIdx.x < 40) __syncthreads();
}

__global__ void barrier_after_exit(double*) {
  if (threadIdx.x >= 64) return;
  __syncthreads();
}

__global__ void barrier_against_shuffle(double*) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncwarp();
    __syncthreads();
    __syncthreads();
  }
}

__global__ void missing_lane(double*) {
  if (threadIdx.x % 32 != 5) __syncwarp();
}

__global__ void different_masks(double*) {
  __shfl_xor_sync(threadIdx.x % 2 == 0 ? kAllLanes : 0xfffffffeu, 1, 2);
}

__global__ void lane_outside_its_mask(double*) { __syncwarp(0xffffu); }

__global__ void shuffle_from_outside_the_mask(double*) {
  if (threadIdx.x % 32 < 16) __shfl_xor_sync(0xffffu, 1, 16);
}

__global__ void different_operations(double*) {
  if (threadIdx.x % 2 == 0) {
    __syncwarp();
  } else {
    __ballot_sync(kAllLanes, 1);
  }
}

// Two halves of each warp that go separate ways, each with its own mask: allowed.
__global__ void halves(double* out) {
  const bool low = threadIdx.x % 32 < 16;
  const unsigned mask = low ? 0xffffu : 0xffff0000u;
  int value = int(threadIdx.x);
  for (int offset = 8; offset > 0; offset /= 2) value += __shfl_xor_sync(mask, value, offset);
  if (low) value += __popc(__ballot_sync(mask, threadIdx.x % 2));
  out[threadIdx.x] = value;
}

__global__ void warp_operations(double* out) {
  const int lane = int(threadIdx.x % 32);
  const unsigned odd = __ballot_sync(kAllLanes, lane % 2);
  const int down = __shfl_down_sync(kAllLanes, lane, 30);
  const int any = __any_sync(kAllLanes, lane == 7), all = __all_sync(kAllLanes, lane < 31);
  out[threadIdx.x] =
      __shfl_sync(kAllLanes, lane, 3) + 10 * down + 1000 * (odd == 0xaaaaaaaau) + 2000 * any + 4000 * all;
}

__global__ void atomics(double* out) {
  atomicAdd(&out[0], 1.0);
  atomicMax(&out[1], double(threadIdx.x));
  atomicMin(&out[2], -double(threadIdx.x));
  atomicCAS(&out[3], 0.0, 7.0);
}

__global__ void unwritten_shared(double* out) {
  FASTCORE_SHARED(double, values, kThreads);
  out[threadIdx.x] = values[threadIdx.x];
  values[threadIdx.x] = 1.0;
}

__global__ void order(double* out) { out[int(atomicAdd(&out[2 * kThreads - 1], 1.0))] = threadIdx.x; }

__global__ void blocks(double* out) {
  if (threadIdx.x == 0) out[int(atomicAdd(&out[2 * kThreads - 1], 1.0))] = blockIdx.x;
}

// A whole number up to 15 as a float16.
int half_of(int number) {
  const int size = number < 0 ? -number : number, sign = number < 0 ? 0x8000 : 0;
  if (size == 0) return 0;
  int exponent = 0;
  while (size >> (exponent + 1)) ++exponent;
  return sign | (15 + exponent) << 10 | (size << (10 - exponent) & 0x3FF);
}

// A word whose numbers count up from `first`, around 0.
template <class Number>
int32_t word_of(int first) {
  const auto number = [](int n) { return n * 5 % 13 - 6; };
  if (std::is_same_v<Number, fastcore::cuda::Half>)
    return half_of(number(first)) | half_of(number(first + 1)) << 16;
  const float value = float(number(first));
  int32_t word;
  std::memcpy(&word, &value, sizeof word);
  return word;
}

// Every lane writes what it holds of a product, where its registers hold other numbers than those of all
// lanes.
template <class Number>
__global__ void fragments(double* out) {
  constexpr int kNumbers = std::is_same_v<Number, fastcore::cuda::Half> ? 2 : 1;
  const int lane = fastcore::cuda::lane_id();
  int32_t a[4], b[2];
  float sum[4] = {100.0f, 200.0f, 300.0f, 400.0f};
  for (int i = 0; i < 4; ++i) a[i] = word_of<Number>((lane * 4 + i) * kNumbers);
  for (int i = 0; i < 2; ++i) b[i] = word_of<Number>((lane * 2 + i) * kNumbers + 3);
  fastcore::cuda::multiply_add<Number, kThreads>(sum, a, b);
  if (threadIdx.x < 32) std::copy(sum, sum + 4, out + lane * 4);
}

// Each thread writes a number that it sent for, twice in the same place, and the zero that it sent for last.
template <int but>
__global__ void copies(double* out) {
  FASTCORE_SHARED(int4, ring, kThreads * 2);
  static const int4 source[2] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
  for (int i = 0; i < 2; ++i) {
    fastcore::cuda::copy_later(ring + threadIdx.x, source + i, true);
    fastcore::cuda::close_copies();
  }
  fastcore::cuda::copy_later(ring + kThreads + threadIdx.x, source, false);
  fastcore::cuda::close_copies();
  fastcore::cuda::wait_for_copies<but>();
  out[threadIdx.x] = ring[threadIdx.x].y;
  out[kThreads + threadIdx.x] = ring[kThreads + threadIdx.x].w;
}

__global__ void shared_out_of_bounds(double* out) {
  FASTCORE_SHARED(double, values, kThreads);
  values[threadIdx.x + 1] = out[threadIdx.x];
}

__global__ void global_out_of_bounds(double* out) { out[threadIdx.x + kThreads + 1] = 1.0; }

}  // namespace

int main(int, char** argv) {
  using Kernel = void (*)(double*);
  const std::map<std::string, Kernel> kernels = {
      {"sum", sum<true, true>},
      {"sum_without_first_barrier", sum<false, true>},
      {"sum_without_second_barrier", sum<true, false>},
      {"fragments_tf32", fragments<fastcore::cuda::Tf32>},
      {"fragments_half", fragments<fastcore::cuda::Half>},
      {"copies", copies<0>},
      {"copies_but_one", copies<1>},
      {"copies_but_two", copies<2>},
#define PROBE(name) {#name, name}
      PROBE(divergent_barrier),
      PROBE(barrier_after_exit),
      PROBE(barrier_against_shuffle),
      PROBE(missing_lane),
      PROBE(different_masks),
      PROBE(lane_outside_its_mask),
      PROBE(shuffle_from_outside_the_mask),
      PROBE(different_operations),
      PROBE(halves),
      PROBE(warp_operations),
      PROBE(atomics),
      PROBE(unwritten_shared),
      PROBE(order),
      PROBE(blocks),
      PROBE(shared_out_of_bounds),
      PROBE(global_out_of_bounds),
#undef PROBE
  };
  const std::unique_ptr<double[]> out(new double[2 * kThreads]());
  try {
    // Two blocks: what the first leaves in shared memory must not reach the second.
    simt::launch(argv[1], 2, kThreads, kernels.at(argv[1]), out.get());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  for (int i = 0; i < 2 * kThreads; ++i) std::printf("%.17g\n", out[i]);
  return 0;
}
