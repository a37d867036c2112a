// Inner products in float where an upper bound says that they may matter; -inf elsewhere.
//
// A block of threads takes a chunk of rows for a few candidates: it reads the bounds once, lists the pairs
// that may matter in shared memory, and then computes them, a warp a pair. Candidates come first in the order
// of the blocks, so that those that run at the same time read the same rows, from the cache.
#pragma once
#include "kernels.h"
#include "reduce.cuh"

namespace fastcore::cuda {

// By one warp; its order depends on the width alone.
__device__ inline float float_dot(const float* __restrict__ x, const float* __restrict__ y, int64_t width) {
  float sum = 0.0f;
#pragma unroll 8
  for (int64_t k = lane_id(); k < width; k += kLanes) sum += x[k] * y[k];
  return warp_reduce(sum, Sum());
}

// Lists the pairs of a chunk that may matter as candidate * rows of a chunk + row, in any order.
template <int several, int threads, int chunk_rows>
__device__ void list_pairs(float* const (&products)[several], int candidates, const float* __restrict__ least,
                           int64_t rows, int32_t* list, int32_t* listed, int32_t* counts) {
  for (int32_t i = threadIdx.x; i < chunk_rows && i < rows; i += threads) {
    const float reached = least[i];
    float value[several];  // all reads before the first write
#pragma unroll
    for (int c = 0; c < several; ++c) value[c] = products[c][i];
#pragma unroll
    for (int c = 0; c < several; ++c) {
      if (c >= candidates) continue;
      if (value[c] <= reached) {
        products[c][i] = -INFINITY;
      } else {  // NaN, too
        list[atomicAdd(listed, 1)] = c * chunk_rows + i;
        atomicAdd(&counts[c], 1);
      }
    }
  }
}

template <int several, int threads, int chunk_rows>
__global__ void __launch_bounds__(threads) refine_products_kernel(RefineProducts args) {
  constexpr int kWarps = threads / kLanes;
  FASTCORE_SHARED(int32_t, list, several* chunk_rows);
  FASTCORE_SHARED(int32_t, counts, several + 1);  // of each candidate, and of all
  const int64_t groups = ceil_div(args.block, several), chunks = ceil_div(args.rows, chunk_rows);
  for (int64_t item = blockIdx.x; item < args.sets * chunks * groups; item += gridDim.x) {
    const int64_t set = item / groups / chunks, first = item / groups % chunks * chunk_rows;
    const int64_t start = set * args.block + item % groups * several;
    const int candidates = static_cast<int>(Min()(args.block - item % groups * several, int64_t(several)));
    const float* const features = args.features + set * args.rows * args.width;
    float* products[several];
#pragma unroll
    for (int c = 0; c < several; ++c) {  // the last one again, beyond the end
      products[c] = args.products + (start + Min()(c, candidates - 1)) * args.rows + first;
    }
    if (threadIdx.x <= several) counts[threadIdx.x] = 0;
    __syncthreads();
    list_pairs<several, threads, chunk_rows>(products, candidates, args.least + set * args.rows + first,
                                             args.rows - first, list, &counts[several], counts);
    __syncthreads();
    for (int32_t e = warp_id(); e < counts[several]; e += kWarps) {
      const int32_t c = list[e] / chunk_rows, i = list[e] % chunk_rows;
      const float* const candidate = features + args.positions[start + c] * args.width;
      const float product = float_dot(features + (first + i) * args.width, candidate, args.width);
      if (lane_id() == 0) args.products[(start + c) * args.rows + first + i] = product;
    }
    if (threadIdx.x < candidates && counts[threadIdx.x] > 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(&args.counts[start + threadIdx.x]),
                static_cast<unsigned long long>(counts[threadIdx.x]));
    }
    __syncthreads();  // before the next item counts
  }
}

}  // namespace fastcore::cuda
