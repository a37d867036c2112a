// Pivoted Cholesky inside a block of candidates: one block of threads a ground set.
#pragma once
#include "choice.cuh"

namespace fastcore::cuda {

// sum over u < count of factor[u][pick] * factor[u][b], a candidate b a thread (b >= block: none).
// The coefficients factor[u][pick] pass through shared memory, `threads` at a time.
template <int threads>
__device__ double product_of_columns(const double* factor, int64_t block, int64_t count, int64_t pick,
                                     int64_t b) {
  FASTCORE_SHARED(double, coefficient, threads);
  double sum = 0.0;
  for (int64_t first = 0; first < count; first += threads) {
    const int64_t stop = Min()(count, first + threads);
    const int64_t mine = first + threadIdx.x;
    if (mine < stop) coefficient[threadIdx.x] = factor[mine * block + pick];
    __syncthreads();
    if (b < block) {
#pragma unroll 4
      for (int64_t u = first; u < stop; ++u) sum += coefficient[u - first] * factor[u * block + b];
    }
    __syncthreads();  // before the next coefficients come
  }
  return sum;
}

template <int threads>
__global__ void __launch_bounds__(threads, 1) log_det_block_kernel(LogDetBlock args) {
  const int64_t set = blockIdx.x;
  const int64_t block = args.block;
  const double* __restrict__ schur = args.schur + set * block * block;
  const int64_t* __restrict__ row_ids = args.row_ids + set * block;
  double* pivots = args.pivots + set * block;
  double* factor = args.factor + set * args.most * block;
  const double floor = args.floor[set];

  const int64_t budget = budget_of(args, set);
  for (int64_t t = 0; t < budget; ++t) {
    const Choice pick = choose<threads>(pivots, row_ids, block, floor);
    if (pick.position < 0 || pick.best <= floor) break;
    if (!pick.wins(args.outside[set], args.outside_row[set])) break;
    if (threadIdx.x == 0) record(args, set, t, pick.position, pick.value);
    const double root = sqrt(pick.value);
    for (int64_t first = 0; first < block; first += threads) {  // in step, for the barriers inside
      const int64_t b = first + threadIdx.x;
      const double explained = product_of_columns<threads>(factor, block, t, pick.position, b);
      if (b >= block) continue;
      const bool picked = b == pick.position;
      const double entry = picked ? root : (schur[pick.position * block + b] - explained) / root;
      factor[t * block + b] = entry;
      pivots[b] = picked ? kClosed : pivots[b] - entry * entry;
    }
  }
}

}  // namespace fastcore::cuda
