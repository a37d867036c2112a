// The fold of new picks into every row's nearest and second nearest squared distance.
#pragma once
#include <cmath>

#include "kernels.h"
#include "reduce.cuh"

namespace fastcore::cuda {

// The two smallest distances of a row, and the pick of the smaller one.
struct Nearest {
  float nearest, second;
  int64_t pick;  // -1: the owner before this fold
};

// Equal distances stay with the earlier pick, in whatever order picks are merged.
struct Merge {
  __device__ Nearest operator()(Nearest a, Nearest b) const {
    if (b.nearest < a.nearest || (b.nearest == a.nearest && b.pick < a.pick)) {
      const Nearest swapped = a;
      a = b;
      b = swapped;
    }
    a.second = Min()(a.second, b.nearest);
    return a;
  }
};

__device__ inline Nearest shuffle_xor(Nearest value, int offset) {
  return {shuffle_xor(value.nearest, offset), shuffle_xor(value.second, offset),
          shuffle_xor(value.pick, offset)};
}

// `group` lanes share a row and read its products side by side. All lanes of a warp stay in the
// loop until its last row is done, for the shuffles.
template <int group, int threads>
__global__ void __launch_bounds__(threads) nearest_update_kernel(NearestUpdate args) {
  constexpr int kGroups = threads / group;
  const int64_t rows = args.sets * args.rows;
  const int member = static_cast<int>(threadIdx.x % group);
  for (int64_t first = int64_t(blockIdx.x) * kGroups; first < rows; first += int64_t(gridDim.x) * kGroups) {
    const int64_t row = first + threadIdx.x / group;
    const int64_t set = row / args.rows;
    const int64_t state = set * args.state_stride + row % args.rows;
    Nearest best = {INFINITY, INFINITY, INT64_MAX};
    if (row < rows) {
      const float* __restrict__ products = args.products + row * args.picks;
      const float* __restrict__ pick_norms = args.pick_norms + set * args.picks;
      const float row_norm = args.row_norms[state];
      if (member == 0) best = {args.nearest[state], args.second[state], -1};
      // Padding is infinitely far, or NaN, and so never nearer.
      for (int64_t p = member; p < args.picks; p += group) {
        const float distance = row_norm + pick_norms[p] - 2.0f * products[p];
        best = Merge()(best, Nearest{Max()(distance, 0.0f), INFINITY, p});
      }
    }
    best = warp_reduce<group>(best, Merge());
    if (row < rows && member == 0) {
      args.nearest[state] = best.nearest;
      args.second[state] = best.second;
      if (best.pick >= 0) args.owner[state] = args.offset + best.pick;
    }
  }
}

}  // namespace fastcore::cuda
