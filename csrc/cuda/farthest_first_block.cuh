// Farthest-first picks inside a block of candidates: one block of threads a ground set.
#pragma once
#include "choice.cuh"

namespace fastcore::cuda {

template <class Distance, int threads>
__global__ void __launch_bounds__(threads, 1) farthest_first_block_kernel(FarthestFirstBlock args) {
  const int64_t set = blockIdx.x;
  const int64_t block = args.block;
  const Distance* __restrict__ distances = static_cast<const Distance*>(args.distances) + set * block * block;
  const int64_t* __restrict__ row_ids = args.row_ids + set * block;
  double* nearest = args.nearest + set * block;

  const int64_t budget = budget_of(args, set);
  for (int64_t t = 0; t < budget; ++t) {
    const Choice pick = choose<threads>(nearest, row_ids, block, 0.0);
    if (pick.position < 0 || !pick.wins(args.outside[set], args.outside_row[set])) break;
    if (threadIdx.x == 0) record(args, set, t, pick.position, pick.value);
    const Distance* __restrict__ row = distances + pick.position * block;
    for (int64_t b = threadIdx.x; b < block; b += threads) {
      nearest[b] = b == pick.position ? kClosed : Min()(nearest[b], double(row[b]));
    }
  }
}

}  // namespace fastcore::cuda
