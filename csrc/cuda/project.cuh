// Inner products of float rows with one double direction per set: a warp a row.
#pragma once
#include "kernels.h"
#include "reduce.cuh"

namespace fastcore::cuda {

template <int threads>
__global__ void __launch_bounds__(threads) project_kernel(Project args) {
  constexpr int kWarps = threads / kLanes;
  const int64_t rows = args.sets * args.rows;
  for (int64_t r = int64_t(blockIdx.x) * kWarps + warp_id(); r < rows; r += int64_t(gridDim.x) * kWarps) {
    const float* __restrict__ row = args.features + r * args.width;
    const double* __restrict__ direction = args.direction + r / args.rows * args.width;
    const double sum = warp_sum(args.width, [=](int64_t k) { return row[k] * direction[k]; });
    if (lane_id() == 0) args.out[r] = sum;
  }
}

}  // namespace fastcore::cuda
