// Squared lengths of float rows, summed in double: a warp a row.
#pragma once
#include "kernels.h"
#include "reduce.cuh"

namespace fastcore::cuda {

template <int threads>
__global__ void __launch_bounds__(threads) squared_norms_kernel(SquaredNorms args) {
  constexpr int kWarps = threads / kLanes;
  const int64_t rows = args.sets * args.rows;
  for (int64_t r = int64_t(blockIdx.x) * kWarps + warp_id(); r < rows; r += int64_t(gridDim.x) * kWarps) {
    const float* __restrict__ row = args.features + r * args.width;
    const double sum = warp_sum(args.width, [=](int64_t k) { return double(row[k]) * row[k]; });
    if (lane_id() == 0) args.out[r] = sum;
  }
}

}  // namespace fastcore::cuda
