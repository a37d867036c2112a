// Herding over whole ground sets, two kernels a pick: one scores all rows and keeps the best score of
// every tile of rows, one block of threads a set then makes the choice from those. With an 8-bit copy of the
// rows: herding_codes.cuh.
//
// The host knows the largest budget, so all launches are queued at once. A set whose budget is
// spent, or whose rows are, does nothing.
#pragma once
#include "choice.cuh"

namespace fastcore::cuda {

constexpr int64_t kTileRows = 64;

__device__ inline bool still_picking(const Herding& args, int64_t set, int64_t t) {
  return t < budget_of(args, set) && (t == 0 || args.picks[set * args.most + t - 1] >= 0);
}

// The score of a row of all sets, by one warp.
__device__ inline double score_row(const Herding& args, int64_t row, const double* __restrict__ residual) {
  const float* __restrict__ x = args.features + row * args.width;
  const double dot = warp_sum(args.width, [=](int64_t k) { return x[k] * residual[k]; });
  return 2.0 * args.scale[row] * dot - args.norms[row];
}

// Makes pick t, by one block of threads.
template <int threads>
__device__ void take_row(const Herding& args, int64_t set, int64_t t, int64_t pick) {
  const int64_t row = set * args.rows + pick;
  const float* __restrict__ x = args.features + row * args.width;
  const double* __restrict__ mean = args.mean + set * args.width;
  double* residual = args.residual + set * args.width;
  for (int64_t k = threadIdx.x; k < args.width; k += threads) {
    residual[k] += mean[k] - args.scale[row] * x[k];
  }
  if (threadIdx.x == 0) {
    args.taken[row] = 1;
    record(args, set, t, pick, args.scores[row]);
  }
}

// tile_best: (sets, tiles).
template <int threads>
__global__ void __launch_bounds__(threads, 1)
    herding_score_kernel(Herding args, int64_t t, double* tile_best) {
  const int64_t tiles = ceil_div(args.rows, kTileRows);
  for (int64_t item = blockIdx.x; item < args.sets * tiles; item += gridDim.x) {
    const int64_t set = item / tiles;
    if (!still_picking(args, set, t)) continue;
    const double* __restrict__ residual = args.residual + set * args.width;
    const int64_t first = item % tiles * kTileRows;
    const int64_t stop = Min()(first + kTileRows, args.rows);
    double best = kClosed;
    for (int64_t i = first + warp_id(); i < stop; i += threads / kLanes) {
      const int64_t row = set * args.rows + i;
      const double score = args.taken[row] ? kClosed : score_row(args, row, residual);
      if (lane_id() == 0) args.scores[row] = score;
      best = Max()(best, score);
    }
    best = block_reduce<threads>(best, Max());
    if (threadIdx.x == 0) tile_best[item] = best;
  }
}

// The lowest tied row stands in the first tile whose best is tied: only that tile is read again.
template <int threads>
__global__ void __launch_bounds__(threads, 1)
    herding_choose_kernel(Herding args, int64_t t, const double* __restrict__ tile_best) {
  const int64_t set = blockIdx.x;
  if (!still_picking(args, set, t)) return;
  const int64_t tiles = ceil_div(args.rows, kTileRows);
  tile_best += set * tiles;
  const double* __restrict__ scores = args.scores + set * args.rows;

  double best = kClosed;
  for (int64_t i = threadIdx.x; i < tiles; i += threads) best = Max()(best, tile_best[i]);
  best = block_reduce<threads>(best, Max());
  if (best == kClosed) return;
  const double threshold = best - tolerance_of(best, args.floor[set]);

  int64_t tile = tiles;
  for (int64_t i = threadIdx.x; i < tiles; i += threads) {
    if (tile_best[i] >= threshold) tile = Min()(tile, i);
  }
  tile = block_reduce<threads>(tile, Min());

  const int64_t first = tile * kTileRows;
  const int64_t stop = Min()(first + kTileRows, args.rows);
  int64_t pick = kNoRow;
  for (int64_t i = first + threadIdx.x; i < stop; i += threads) {
    if (scores[i] >= threshold) pick = Min()(pick, i);
  }
  take_row<threads>(args, set, t, block_reduce<threads>(pick, Min()));
}

}  // namespace fastcore::cuda
