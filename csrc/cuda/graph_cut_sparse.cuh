// Graph-cut picks over a sparse matrix: one block of threads a ground set, which goes from pick to pick with
// a few reads that wait for each other.
#pragma once
#include "set_maxima.cuh"

namespace fastcore::cuda {

template <int threads>
__global__ void __launch_bounds__(threads, 1) graph_cut_sparse_kernel(GraphCutSparse args, MaximaTree tree) {
  const int64_t set = blockIdx.x, first = args.starts[set], budget = budget_of(args, set);
  if (budget <= 0 || args.starts[set + 1] == first) return;
  const double floor = args.floor[set];
  SetMaxima maxima(args.values, args.starts, tree, set);
  maxima.build<threads>(1);
  for (int64_t t = 0; t < budget; ++t) {
    const double top = maxima.largest();
    if (top == kClosed) break;
    const int64_t row = maxima.first_from(top - tolerance_of(top, floor)), pick = first + row;
    const double gain = maxima.value(row);
    const int64_t* __restrict__ others = args.indices + args.offsets[pick];
    const double* __restrict__ weights = args.weights + args.offsets[pick];
    const int64_t number = args.offsets[pick + 1] - args.offsets[pick];
    __syncthreads();  // all have seen the values before they change
#pragma unroll 4
    for (int64_t e = threadIdx.x; e < number; e += threads) {
      if (others[e] != pick) args.values[others[e]] -= args.penalty * weights[e];
    }
    if (threadIdx.x == 0) {
      record(args, set, t, pick, gain);
      args.values[pick] = kClosed;
    }
    maxima.follow<threads>(row, number, [=](int64_t e) { return others[e] - first; });
  }
}

}  // namespace fastcore::cuda
