// Facility-location gains of many candidates at once: one block of threads a few candidates, which
// share the reading of the coverage.
#pragma once
#include "kernels.h"
#include "reduce.cuh"

namespace fastcore::cuda {

template <int candidates, int threads>
__global__ void __launch_bounds__(threads) coverage_gains_kernel(CoverageGains args) {
  const int64_t groups = ceil_div(args.block, candidates);
  for (int64_t item = blockIdx.x; item < args.sets * groups; item += gridDim.x) {
    const int64_t set = item / groups;
    const int64_t first = item % groups * candidates;
    const double* __restrict__ coverage = args.coverage + set * args.rows;
    const float* row[candidates];
    double gain[candidates] = {};
    int64_t active[candidates] = {};
    for (int c = 0; c < candidates; ++c) {
      const int64_t j = Min()(first + c, args.block - 1);  // the last one again, beyond the end
      row[c] = args.similarity + (set * args.block + j) * args.rows;
    }
    for (int64_t i = threadIdx.x; i < args.rows; i += threads) {
      const double covered = coverage[i];
      const double reached = covered - args.margin;
#pragma unroll
      for (int c = 0; c < candidates; ++c) {
        const double similarity = row[c][i];
        gain[c] += Max()(0.0, similarity - covered);
        active[c] += similarity > reached;
      }
    }
    for (int c = 0; c < candidates && first + c < args.block; ++c) {
      const double total = block_reduce<threads>(gain[c], Sum());
      const int64_t count = block_reduce<threads>(active[c], Sum());
      if (threadIdx.x == 0) {
        args.gains[set * args.block + first + c] = total;
        args.active[set * args.block + first + c] = count;
      }
    }
  }
}

}  // namespace fastcore::cuda
