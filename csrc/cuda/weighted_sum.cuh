// Weighted sums of float rows, without atomics, so that a sum has the same bits on every run.
//
// The rows of a set are cut into chunks whose size depends on the number of rows alone. The first
// kernel sums each chunk, a thread a column; the second adds the chunks in order.
#pragma once
#include "kernels.h"
#include "reduce.cuh"

namespace fastcore::cuda {

// At least 256 rows a chunk, and at most 512 chunks for the second kernel to walk.
inline int64_t rows_per_chunk(int64_t rows) { return std::max<int64_t>(256, ceil_div(rows, 512)); }

// partial: (sets, chunks, width).
template <int threads>
__global__ void __launch_bounds__(threads)
    weighted_sum_chunks_kernel(WeightedSum args, int64_t chunk_rows, double* partial) {
  const int64_t chunks = ceil_div(args.rows, chunk_rows);
  const int64_t tiles = ceil_div(args.width, threads);
  for (int64_t item = blockIdx.x; item < args.sets * chunks * tiles; item += gridDim.x) {
    const int64_t chunk = item / tiles;  // of all sets
    const int64_t set = chunk / chunks;
    const int64_t column = item % tiles * threads + threadIdx.x;
    if (column >= args.width) continue;
    const int64_t first = chunk % chunks * chunk_rows;
    const int64_t count = Min()(chunk_rows, args.rows - first);
    const float* __restrict__ entry = args.features + (set * args.rows + first) * args.width + column;
    const double* __restrict__ weights = args.weights + set * args.rows + first;
    double sum = 0.0;
#pragma unroll 8
    for (int64_t i = 0; i < count; ++i) sum += weights[i] * entry[i * args.width];
    partial[chunk * args.width + column] = sum;
  }
}

template <int threads>
__global__ void __launch_bounds__(threads)
    add_chunks_kernel(const double* __restrict__ partial, double* __restrict__ out, int64_t sets,
                      int64_t chunks, int64_t width) {
  for (int64_t i = int64_t(blockIdx.x) * threads + threadIdx.x; i < sets * width;
       i += int64_t(gridDim.x) * threads) {
    const double* __restrict__ entry = partial + i / width * chunks * width + i % width;
    double sum = 0.0;
#pragma unroll 8
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += entry[chunk * width];
    out[i] = sum;
  }
}

}  // namespace fastcore::cuda
