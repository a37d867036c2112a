// Graph-cut picks inside a block of candidates: one block of threads a ground set.
#pragma once
#include "choice.cuh"

namespace fastcore::cuda {

template <class Similarity, int threads>
__global__ void __launch_bounds__(threads, 1) graph_cut_block_kernel(GraphCutBlock args) {
  const int64_t set = blockIdx.x;
  const int64_t block = args.block;
  const Similarity* __restrict__ similarity =
      static_cast<const Similarity*>(args.similarity) + set * block * block;
  const int64_t* __restrict__ row_ids = args.row_ids + set * block;
  double* values = args.values + set * block;

  const int64_t budget = budget_of(args, set);
  for (int64_t t = 0; t < budget; ++t) {
    const Choice pick = choose<threads>(values, row_ids, block, args.floor[set]);
    if (pick.position < 0 || !pick.wins(args.outside[set], args.outside_row[set])) break;
    const Similarity* __restrict__ row = similarity + pick.position * block;
    if (threadIdx.x == 0) record(args, set, t, pick.position, pick.value);
    for (int64_t b = threadIdx.x; b < block; b += threads) {
      values[b] = b == pick.position ? kClosed : values[b] - args.penalty * row[b];
    }
  }
}

}  // namespace fastcore::cuda
