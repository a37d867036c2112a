// Lazy graph-cut picks over rows whose similarities are inner products: what a ground set keeps, and the
// kernel with one block of threads a set. linear_cut_grid.cuh has the one for large sets.
#pragma once
#include "choice.cuh"

namespace fastcore::cuda {

// What one ground set needs besides its arguments.
struct CutScratch {
  double* first;     // (rows) gains at the start
  double* bounds;    // (rows) upper bounds on the gains now, exact where measured now; not on the grid
  int32_t* when;     // (rows) picks made when the gain in `values` was measured
  double* sum;       // (width, 1 + second_width) of the scaled picks, where rows are measured by it
  double* products;  // (most + 1) of the newest pick with every earlier one
  double* lengths;   // (most + 1) of the scaled picks
  double* squared;   // (most + 1) of the sum of the picks since every time: squared length,
  double* rest;      // (most + 1) length apart from the directions
  double* along;     // (most + 1, directions) coordinates of the sum of the first picks
  double* now;       // (directions) of all picks

  // Whether rows are measured by the sum of the picks, and not by their products with every pick: factored
  // rows x (x) [1; y] sum to a width x (1 + second_width) matrix.
  static __host__ __device__ bool summed(const LinearCut& args) {
    return args.second == nullptr ||
           2 * args.width * (1 + args.second_width) <= args.most * (args.width + args.second_width);
  }

  static __host__ __device__ int64_t numbers(const LinearCut& args) {
    return summed(args) ? args.width * (1 + args.second_width) : 0;
  }

  static __host__ __device__ int64_t doubles(const LinearCut& args) {
    return 2 * args.rows + ceil_div(args.rows, 2) + numbers(args) + 4 * (args.most + 1) +
           args.directions * (args.most + 2);
  }

  __device__ CutScratch(const LinearCut& args, double* scratch, int64_t set)
      : first(scratch + set * doubles(args)),
        bounds(first + args.rows),
        when(reinterpret_cast<int32_t*>(bounds + args.rows)),
        sum(bounds + args.rows + ceil_div(args.rows, 2)),
        products(sum + numbers(args)),
        lengths(products + args.most + 1),
        squared(lengths + args.most + 1),
        rest(squared + args.most + 1),
        along(rest + args.most + 1),
        now(along + args.directions * (args.most + 1)) {}
};

// Sets the part of the scratch that does not grow with the rows, by `count` threads of which this is one.
__device__ inline void start_cut(const LinearCut& args, const CutScratch& cut, int64_t thread,
                                 int64_t count) {
  for (int64_t k = thread; k < CutScratch::numbers(args); k += count) cut.sum[k] = 0.0;
  for (int64_t c = thread; c < args.directions; c += count) cut.along[c] = cut.now[c] = 0.0;
  for (int64_t t = thread; t <= args.most; t += count) cut.squared[t] = cut.rest[t] = 0.0;
}

// An upper bound on the gain of a row now; the gain itself where it was measured now.
__device__ inline double bound_gain(const LinearCut& args, const CutScratch& cut, int64_t set, int64_t row) {
  const float* __restrict__ coordinates = args.coordinates + set * (args.directions + 1) * args.rows + row;
  const int64_t time = cut.when[row];
  const double* then = cut.along + time * args.directions;
  double taken = -(coordinates[args.directions * args.rows] * cut.rest[time]);
  for (int64_t c = 0; c < args.directions; ++c) taken += coordinates[c * args.rows] * (cut.now[c] - then[c]);
  return args.values[set * args.rows + row] - args.penalty * taken;
}

// Product of two scaled rows, by one warp.
__device__ inline double scaled_product(const LinearCut& args, int64_t set, int64_t row, int64_t other) {
  const int64_t i = set * args.rows + row, j = set * args.rows + other;
  const float* __restrict__ x = args.features + i * args.width;
  const float* __restrict__ x2 = args.features + j * args.width;
  double product = warp_sum(args.width, [=](int64_t k) { return double(x[k]) * x2[k]; });
  if (args.second != nullptr) {
    const float* __restrict__ y = args.second + i * args.second_width;
    const float* __restrict__ y2 = args.second + j * args.second_width;
    product *= 1.0 + warp_sum(args.second_width, [=](int64_t k) { return double(y[k]) * y2[k]; });
  }
  return args.scale[i] * args.scale[j] * product;
}

// The gain of a row after t picks, by one warp.
__device__ inline double measure_gain(const LinearCut& args, const CutScratch& cut, int64_t set, int64_t t,
                                      int64_t row) {
  double total = 0.0;
  if (!CutScratch::summed(args)) {
    for (int64_t u = 0; u < t; ++u) total += scaled_product(args, set, row, args.picks[set * args.most + u]);
    return cut.first[row] - args.penalty * total;
  }
  const int64_t at = set * args.rows + row;
  const float* __restrict__ x = args.features + at * args.width;
  if (args.second == nullptr) {
    total = warp_sum(args.width, [=](int64_t k) { return x[k] * cut.sum[k]; });
  } else {
    const float* __restrict__ y = args.second + at * args.second_width;
    for (int64_t k = 0; k < args.width; ++k) {
      const double* sum = cut.sum + k * (1 + args.second_width);
      total += x[k] * (sum[0] + warp_sum(args.second_width, [=](int64_t l) { return y[l] * sum[l + 1]; }));
    }
  }
  return cut.first[row] - args.penalty * args.scale[at] * total;
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
    const double gain = measure_gain(args, cut, set, t, leader);
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
      const double gain = measure_gain(args, cut, set, t, start + lane);
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

// Adds pick t to the sum, and to the drift since every earlier pick.
template <int threads>
__device__ void add_pick(const LinearCut& args, const CutScratch& cut, int64_t set, int64_t t, int64_t pick) {
  const int64_t* picks = args.picks + set * args.most;
  const int64_t at = set * args.rows + pick, columns = 1 + args.second_width;
  for (int64_t k = threadIdx.x; k < CutScratch::numbers(args); k += threads) {
    const double factor = args.scale[at] * args.features[at * args.width + k / columns];
    const int64_t l = k % columns;
    cut.sum[k] += l == 0 ? factor : factor * args.second[at * args.second_width + l - 1];
  }
  const float* __restrict__ coordinates = args.coordinates + set * (args.directions + 1) * args.rows + pick;
  for (int64_t c = threadIdx.x; c < args.directions; c += threads) {
    cut.now[c] += coordinates[c * args.rows];
    cut.along[(t + 1) * args.directions + c] = cut.now[c];
  }
  for (int64_t u = warp_id(); u <= t; u += threads / kLanes) {
    const double product = scaled_product(args, set, pick, u < t ? picks[u] : pick);
    if (lane_id() == 0) cut.products[u] = product;
  }
  __syncthreads();
  if (threadIdx.x == 0) cut.lengths[t] = sqrt(cut.products[t]);
  __syncthreads();
  for (int64_t time = threadIdx.x; time <= t; time += threads) {
    double cross = 0.0, lengths = cut.lengths[t];  // of the picks since `time`: their product with this one
    for (int64_t u = time; u < t; ++u) cross += cut.products[u], lengths += cut.lengths[u];
    cut.squared[time] += 2.0 * cross + cut.products[t];
    double along = 0.0;
    for (int64_t c = 0; c < args.directions; ++c) {
      const double moved = cut.now[c] - cut.along[time * args.directions + c];
      along += moved * moved;
    }
    cut.rest[time] = sqrt(Max()(0.0, cut.squared[time] - along) + args.error * lengths * lengths);
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
  for (int64_t t = 0; t < budget && measured <= args.rows / 2; ++t) {
    measured += block_reduce<threads>(bound_gains<threads>(args, cut, set, t), Sum());
    const int64_t pick = best_row<threads>(args, cut, set);
    if (pick < 0) break;
    if (threadIdx.x == 0) record(args, set, t, pick, cut.bounds[pick]);
    add_pick<threads>(args, cut, set, t, pick);
  }
  if (threadIdx.x == 0) args.evaluations[set] = measured;
}

}  // namespace fastcore::cuda
