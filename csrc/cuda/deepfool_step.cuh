// The nearest hyperplane so far and the step onto it: a block a row.
#pragma once
#include <cmath>

#include "kernels.h"
#include "reduce.cuh"

namespace fastcore::cuda {

template <int threads>
__global__ void __launch_bounds__(threads) deepfool_step_kernel(DeepfoolStep args) {
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const float* __restrict__ normal = args.normals + row * args.pixels;
    const double value = fabs(args.values[row]);
    const double nearest = args.nearest[row];  // read by all before the reduction, written after it
    double sum = 0.0;
#pragma unroll 4
    for (int64_t k = threadIdx.x; k < args.pixels; k += threads) sum += double(normal[k]) * normal[k];
    const double squares = block_reduce<threads>(sum, Sum());
    if (!isfinite(squares + value)) {
      if (threadIdx.x == 0) args.nearest[row] = NAN;
    } else if (squares > 0.0) {
      const double distance = value / sqrt(squares);
      if (!(distance < nearest * (1.0 - kTie))) continue;  // all threads alike
      if (threadIdx.x == 0) args.nearest[row] = distance;
      const double scale = Max()(value, args.least) / squares;
      float* __restrict__ step = args.step + row * args.pixels;
#pragma unroll 4
      for (int64_t k = threadIdx.x; k < args.pixels; k += threads) step[k] = float(scale * normal[k]);
    }
  }
}

}  // namespace fastcore::cuda
