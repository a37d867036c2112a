// Lazy graph-cut picks over rows whose similarities are inner products: what a ground set keeps, and the
// kernel with one block of threads a set. linear_cut_grid.cuh has the one for large sets.
#pragma once
#include "choice.cuh"

namespace fastcore::cuda {

// What one ground set needs besides its arguments.
struct CutScratch {
  double* first;        // (rows) gains at the start
  double* bounds;       // (rows) upper bounds on the gains now, exact where measured now; not on the grid
  int32_t* when;        // (rows) picks made when the gain in `values` was measured
  double* sum;          // (width) of the scaled picks
  double* products;     // (most) of the newest pick with every earlier one
  double* squared;      // (most + 1) of the sum of the picks since every time: squared length,
  double* drift_along;  // (most + 1) part along the axis,
  double* drift_apart;  // (most + 1) length of the rest

  static __host__ __device__ int64_t doubles(const LinearCut& args) {
    return 2 * args.rows + ceil_div(args.rows, 2) + args.width + 4 * (args.most + 1);
  }

  __device__ CutScratch(const LinearCut& args, double* scratch, int64_t set)
      : first(scratch + set * doubles(args)),
        bounds(first + args.rows),
        when(reinterpret_cast<int32_t*>(bounds + args.rows)),
        sum(bounds + args.rows + ceil_div(args.rows, 2)),
        products(sum + args.width),
        squared(products + args.most + 1),
        drift_along(squared + args.most + 1),
        drift_apart(drift_along + args.most + 1) {}
};

// Sets the part of the scratch that does not grow with the rows, by `count` threads of which this is one.
__device__ inline void start_cut(const LinearCut& args, const CutScratch& cut, int64_t thread,
                                 int64_t count) {
  for (int64_t k = thread; k < args.width; k += count) cut.sum[k] = 0.0;
  for (int64_t t = thread; t <= args.most; t += count) {
    cut.squared[t] = cut.drift_along[t] = cut.drift_apart[t] = 0.0;
  }
}

// An upper bound on the gain of a row now; the gain itself where it was measured now.
__device__ inline double bound_gain(const LinearCut& args, const CutScratch& cut, int64_t set, int64_t row) {
  const int64_t at = set * args.rows + row, time = cut.when[row];
  const double taken = args.along[at] * cut.drift_along[time] - args.apart[at] * cut.drift_apart[time];
  return args.values[at] - args.penalty * taken;
}

// The gain of a row now, by one warp.
__device__ inline double measure_gain(const LinearCut& args, const CutScratch& cut, int64_t set,
                                      int64_t row) {
  const int64_t at = set * args.rows + row;
  const float* __restrict__ x = args.features + at * args.width;
  const double dot = warp_sum(args.width, [=](int64_t k) { return x[k] * cut.sum[k]; });
  return cut.first[row] - args.penalty * args.scale[at] * dot;
}

// Bounds on all gains after t picks, exact for every row that may be the best. Returns how many rows this
// thread measured.
template <int threads>
__device__ int64_t bound_gains(const LinearCut& args, const CutScratch& cut, int64_t set, int64_t t) {
  double* values = args.values + set * args.rows;
  double highest = kClosed;
  for (int64_t b = threadIdx.x; b < args.rows; b += threads) {
    cut.bounds[b] = bound_gain(args, cut, set, b);
    highest = Max()(highest, cut.bounds[b]);
  }
  highest = block_reduce<threads>(highest, Max());
  if (highest == kClosed) return 0;

  // One measured gain near the top, then everything whose bound reaches it.
  int64_t leader = args.rows;
  for (int64_t b = threadIdx.x; b < args.rows; b += threads) {
    if (cut.bounds[b] == highest) leader = Min()(leader, b);
  }
  leader = block_reduce<threads>(leader, Min());
  int64_t measured = 0;
  const auto record_gain = [&](int64_t row, double gain) {
    values[row] = cut.bounds[row] = gain;
    cut.when[row] = static_cast<int32_t>(t);
    ++measured;
  };
  if (warp_id() == 0 && cut.when[leader] < t) {
    const double gain = measure_gain(args, cut, set, leader);
    if (lane_id() == 0) record_gain(leader, gain);
  }
  __syncthreads();
  const double best = cut.bounds[leader];
  const double threshold = best - tolerance_of(best, args.floor[set]);
  for (int64_t start = warp_id() * kLanes; start < args.rows; start += threads) {
    const int64_t row = start + lane_id();
    const bool reaches = row < args.rows && cut.bounds[row] >= threshold && cut.when[row] < t;
    for (unsigned todo = __ballot_sync(kAllLanes, reaches); todo != 0; todo &= todo - 1) {
      const int lane = __ffs(static_cast<int>(todo)) - 1;
      const double gain = measure_gain(args, cut, set, start + lane);
      if (lane_id() == lane) record_gain(row, gain);
    }
  }
  __syncthreads();
  return measured;
}

// The lowest row whose gain is tied with the best, -1 where no row is left.
template <int threads>
__device__ int64_t best_row(const LinearCut& args, const CutScratch& cut, int64_t set) {
  double best = kClosed;
  for (int64_t b = threadIdx.x; b < args.rows; b += threads) best = Max()(best, cut.bounds[b]);
  best = block_reduce<threads>(best, Max());
  if (best == kClosed) return -1;
  const double threshold = best - tolerance_of(best, args.floor[set]);
  int64_t pick = args.rows;
  for (int64_t b = threadIdx.x; b < args.rows; b += threads) {
    if (cut.bounds[b] >= threshold) pick = Min()(pick, b);
  }
  return block_reduce<threads>(pick, Min());
}

// Adds pick t to the sum, and its part along and apart from the axis to the drift since every earlier pick.
template <int threads>
__device__ void add_pick(const LinearCut& args, const CutScratch& cut, int64_t set, int64_t t, int64_t pick) {
  const int64_t* picks = args.picks + set * args.most;
  const double* __restrict__ scale = args.scale + set * args.rows;
  const float* __restrict__ features = args.features + set * args.rows * args.width;
  const float* __restrict__ x = features + pick * args.width;
  for (int64_t k = threadIdx.x; k < args.width; k += threads) cut.sum[k] += scale[pick] * x[k];
  for (int64_t u = warp_id(); u <= t; u += threads / kLanes) {
    const int64_t other = u < t ? picks[u] : pick;
    const float* __restrict__ y = features + other * args.width;
    const double dot = warp_sum(args.width, [=](int64_t k) { return double(x[k]) * y[k]; });
    if (lane_id() == 0) cut.products[u] = scale[pick] * scale[other] * dot;
  }
  __syncthreads();
  for (int64_t time = threadIdx.x; time <= t; time += threads) {
    double cross = 0.0;  // product with the sum of the picks since `time`
    for (int64_t u = time; u < t; ++u) cross += cut.products[u];
    cut.squared[time] += 2.0 * cross + cut.products[t];
    cut.drift_along[time] += args.along[set * args.rows + pick];
    // A little more than the square of the rest, for rounding.
    const double rest = cut.squared[time] * (1 + 1e-9) - cut.drift_along[time] * cut.drift_along[time];
    cut.drift_apart[time] = sqrt(Max()(0.0, rest));
  }
  if (threadIdx.x == 0) args.values[set * args.rows + pick] = kClosed;
  __syncthreads();
}

template <int threads>
__global__ void __launch_bounds__(threads, 1) linear_cut_kernel(LinearCut args, double* scratch) {
  const int64_t set = blockIdx.x;
  const CutScratch cut(args, scratch, set);
  for (int64_t b = threadIdx.x; b < args.rows; b += threads) {
    cut.first[b] = args.values[set * args.rows + b];
    cut.when[b] = 0;
  }
  start_cut(args, cut, threadIdx.x, threads);
  __syncthreads();

  int64_t measured = 0;
  const int64_t budget = budget_of(args, set);
  for (int64_t t = 0; t < budget && measured <= args.rows / 4; ++t) {
    measured += block_reduce<threads>(bound_gains<threads>(args, cut, set, t), Sum());
    const int64_t pick = best_row<threads>(args, cut, set);
    if (pick < 0) break;
    if (threadIdx.x == 0) record(args, set, t, pick, cut.bounds[pick]);
    add_pick<threads>(args, cut, set, t, pick);
  }
  if (threadIdx.x == 0) args.evaluations[set] = measured;
}

}  // namespace fastcore::cuda
