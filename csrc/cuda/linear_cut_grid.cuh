// Lazy graph-cut picks over large ground sets: the whole grid works on a set, five kernels a pick.
//
//   bound    the best bound of every tile of rows
//   lead     measures the row with the best bound of all; no row below its gain can be the pick
//   collect  lists the rows whose bounds reach that gain
//   measure  measures the listed rows
//   choose   takes the best of the list, and the drift that the pick causes
//
// The host knows the largest budget, so all launches are queued at once, the same for every pick: which one
// it is stands beside the set. A set that has ended does nothing.
#pragma once
#include "linear_cut.cuh"

namespace fastcore::cuda {

constexpr int64_t kCutTile = 64;  // rows of a tile

// What the kernels of a pick tell each other about a set.
struct CutPass {
  double threshold;  // gains that may be the best reach it
  int64_t listed;    // rows that reach it
  int64_t measured;  // gains, in all
  int64_t picks;     // made
  int64_t ended;
};

struct CutGrid {
  double* scratch;     // of every set: CutScratch
  double* tile_bound;  // (sets, tiles)
  int64_t* list;       // (sets, rows)
  CutPass* passes;     // (sets)
};

__device__ inline bool ended(const LinearCut& args, const CutGrid& grid, int64_t set) {
  return grid.passes[set].picks >= budget_of(args, set) || grid.passes[set].ended != 0;
}

template <int threads>
__global__ void __launch_bounds__(threads) cut_start_kernel(LinearCut args, CutGrid grid) {
  const int64_t thread = int64_t(blockIdx.x) * threads + threadIdx.x, count = int64_t(gridDim.x) * threads;
  for (int64_t i = thread; i < args.sets * args.rows; i += count) {
    const CutScratch cut(args, grid.scratch, i / args.rows);
    cut.first[i % args.rows] = args.values[i];
    cut.when[i % args.rows] = 0;
  }
  for (int64_t set = 0; set < args.sets; ++set) {
    start_cut(args, CutScratch(args, grid.scratch, set), thread, count);
    if (thread == 0) grid.passes[set] = {kClosed, 0, 0, 0, 0};
  }
}

// A warp a tile.
template <int threads>
__global__ void __launch_bounds__(threads) cut_bound_kernel(LinearCut args, CutGrid grid) {
  constexpr int kWarps = threads / kLanes;
  const int64_t tiles = ceil_div(args.rows, kCutTile);
  for (int64_t item = int64_t(blockIdx.x) * kWarps + warp_id(); item < args.sets * tiles;
       item += int64_t(gridDim.x) * kWarps) {
    const int64_t set = item / tiles;
    if (ended(args, grid, set)) continue;
    const CutScratch cut(args, grid.scratch, set);
    const int64_t first = item % tiles * kCutTile;
    double best = kClosed;
#pragma unroll
    for (int64_t step = 0; step < kCutTile; step += kLanes) {
      const int64_t row = first + step + lane_id();
      if (row < args.rows) best = Max()(best, bound_gain(args, cut, set, row));
    }
    best = warp_reduce(best, Max());
    if (lane_id() == 0) grid.tile_bound[item] = best;
  }
}

// A bound and whose it is.
struct Leader {
  double bound;
  int64_t place;
};

struct Ahead {
  __device__ Leader operator()(Leader a, Leader b) const {
    return b.bound > a.bound || (b.bound == a.bound && b.place < a.place) ? b : a;
  }
};

__device__ inline Leader shuffle_xor(Leader leader, int offset) {
  return {shuffle_xor(leader.bound, offset), shuffle_xor(leader.place, offset)};
}

template <int threads>
__global__ void __launch_bounds__(threads, 1) cut_lead_kernel(LinearCut args, CutGrid grid) {
  const int64_t set = blockIdx.x;
  if (ended(args, grid, set)) return;
  const int64_t t = grid.passes[set].picks;
  const CutScratch cut(args, grid.scratch, set);
  const int64_t tiles = ceil_div(args.rows, kCutTile);
  const double* __restrict__ tile_bound = grid.tile_bound + set * tiles;
  Leader best = {kClosed, kNoRow};
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < tiles; i += threads) best = Ahead()(best, Leader{tile_bound[i], i});
  best = block_reduce<threads>(best, Ahead());
  if (warp_id() != 0) return;
  CutPass& pass = grid.passes[set];
  if (best.bound == kClosed) {
    if (lane_id() == 0) pass.ended = 1;
    return;
  }
  Leader leader = {kClosed, kNoRow};
  const int64_t first = best.place * kCutTile;
  for (int64_t row = first + lane_id(); row < Min()(first + kCutTile, args.rows); row += kLanes) {
    leader = Ahead()(leader, Leader{bound_gain(args, cut, set, row), row});
  }
  leader = warp_reduce(leader, Ahead());
  double gain = leader.bound;
  const bool stale = cut.when[leader.place] < t;
  if (stale) gain = measure_gain(args, cut, set, t, leader.place);
  if (lane_id() == 0) {
    if (stale) {
      args.values[set * args.rows + leader.place] = gain;
      cut.when[leader.place] = static_cast<int32_t>(t);
      ++pass.measured;
    }
    pass.threshold = gain - tolerance_of(gain, args.floor[set]);
    pass.listed = 0;
  }
}

// A warp looks at as many tiles as it has lanes. The order of the list does not matter.
template <int threads>
__global__ void __launch_bounds__(threads) cut_collect_kernel(LinearCut args, CutGrid grid) {
  constexpr int kWarps = threads / kLanes;
  const int64_t tiles = ceil_div(args.rows, kCutTile);
  const int64_t groups = ceil_div(tiles, kLanes);
  for (int64_t item = int64_t(blockIdx.x) * kWarps + warp_id(); item < args.sets * groups;
       item += int64_t(gridDim.x) * kWarps) {
    const int64_t set = item / groups;
    if (ended(args, grid, set)) continue;
    const CutScratch cut(args, grid.scratch, set);
    const double threshold = grid.passes[set].threshold;
    int64_t* list = grid.list + set * args.rows;
    const int64_t start = item % groups * kLanes;
    const bool reaches =
        start + lane_id() < tiles && grid.tile_bound[set * tiles + start + lane_id()] >= threshold;
    for (unsigned todo = __ballot_sync(kAllLanes, reaches); todo != 0; todo &= todo - 1) {
      const int64_t first = (start + __ffs(static_cast<int>(todo)) - 1) * kCutTile;
      for (int64_t row = first + lane_id(); row < Min()(first + kCutTile, args.rows); row += kLanes) {
        if (bound_gain(args, cut, set, row) < threshold) continue;
        list[atomicAdd(reinterpret_cast<unsigned long long*>(&grid.passes[set].listed), 1ull)] = row;
      }
    }
  }
}

// A warp a row.
template <int threads>
__global__ void __launch_bounds__(threads) cut_measure_kernel(LinearCut args, CutGrid grid) {
  constexpr int kWarps = threads / kLanes;
  for (int64_t set = 0; set < args.sets; ++set) {
    if (ended(args, grid, set)) continue;
    const CutScratch cut(args, grid.scratch, set);
    const int64_t listed = grid.passes[set].listed, t = grid.passes[set].picks;
    for (int64_t i = int64_t(blockIdx.x) * kWarps + warp_id(); i < listed; i += int64_t(gridDim.x) * kWarps) {
      const int64_t row = grid.list[set * args.rows + i];
      if (cut.when[row] == t) continue;
      const double gain = measure_gain(args, cut, set, t, row);
      if (lane_id() == 0) {
        args.values[set * args.rows + row] = gain;
        cut.when[row] = static_cast<int32_t>(t);
        atomicAdd(reinterpret_cast<unsigned long long*>(&grid.passes[set].measured), 1ull);
      }
    }
  }
}

template <int threads>
__global__ void __launch_bounds__(threads, 1) cut_choose_kernel(LinearCut args, CutGrid grid) {
  const int64_t set = blockIdx.x;
  if (ended(args, grid, set)) return;
  const CutScratch cut(args, grid.scratch, set);
  CutPass& pass = grid.passes[set];
  const double* values = args.values + set * args.rows;
  const int64_t* __restrict__ list = grid.list + set * args.rows;
  const int64_t listed = pass.listed, t = pass.picks;
  double best = kClosed;
  for (int64_t i = threadIdx.x; i < listed; i += threads) best = Max()(best, values[list[i]]);
  best = block_reduce<threads>(best, Max());
  const double threshold = best - tolerance_of(best, args.floor[set]);
  int64_t pick = kNoRow;
  for (int64_t i = threadIdx.x; i < listed; i += threads) {
    if (values[list[i]] >= threshold) pick = Min()(pick, list[i]);
  }
  pick = block_reduce<threads>(pick, Min());
  if (threadIdx.x == 0) {
    record(args, set, t, pick, values[pick]);
    args.evaluations[set] = pass.measured;
    pass.picks = t + 1;
    pass.ended = pass.measured > args.rows / 2;
  }
  add_pick<threads>(args, cut, set, t, pick);
}

}  // namespace fastcore::cuda
