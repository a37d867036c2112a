// The rule of choice of kernels.h, by one block of threads.
#pragma once
#include <cmath>

#include "kernels.h"
#include "reduce.cuh"

namespace fastcore::cuda {

// Threads for one ground set: many small sets fill the device better with small blocks of threads.
// The kernels that choose are bounded by latency, not by occupancy: __launch_bounds__(threads, 1)
// lets them keep their values in registers.
constexpr int64_t kSmallBlock = 256;  // candidates
constexpr int kSmallThreads = 128;
constexpr int kLargeThreads = 512;

constexpr double kClosed = -INFINITY;  // padding, or picked already
constexpr int64_t kNoRow = INT64_MAX;

// An infinite best is tied with its equals only.
__device__ inline double tolerance_of(double best, double floor) {
  return isinf(best) ? 0.0 : kTie * fabs(best) + floor;
}

// A row number and where it stands.
struct Place {
  int64_t row, position;
};

__device__ inline bool operator<(Place a, Place b) {
  return a.row < b.row || (a.row == b.row && a.position < b.position);
}

__device__ inline Place shuffle_xor(Place place, int offset) {
  return {shuffle_xor(place.row, offset), shuffle_xor(place.position, offset)};
}

struct Choice {
  double best, tolerance;
  int64_t row, position;  // position -1: no candidate is left
  double value;           // of the pick, within the tolerance of the best

  // Whether it also beats every candidate outside the block.
  __device__ bool wins(double outside, int64_t outside_row) const {
    return best - tolerance > outside || (best + tolerance >= outside && row < outside_row);
  }
};

// The lowest row among the `count` values that reach `threshold`.
template <int threads>
__device__ Place lowest_row(const double* values, const int64_t* row_ids, int64_t count, double threshold) {
  Place lowest = {kNoRow, -1};
  for (int64_t b = threadIdx.x; b < count; b += threads) {
    if (values[b] >= threshold) lowest = Min()(lowest, Place{row_ids[b], b});
  }
  return block_reduce<threads>(lowest, Min());
}

// The choice among `count` values. Every thread gets it, and none may have changed a value since
// the last barrier but its own: those at threadIdx.x, threadIdx.x + threads, ...
template <int threads>
__device__ Choice choose(const double* values, const int64_t* row_ids, int64_t count, double floor) {
  double best = kClosed;
  for (int64_t b = threadIdx.x; b < count; b += threads) best = Max()(best, values[b]);
  best = block_reduce<threads>(best, Max());
  if (best == kClosed) return {best, 0.0, kNoRow, -1, best};
  const double tolerance = tolerance_of(best, floor);
  const Place place = lowest_row<threads>(values, row_ids, count, best - tolerance);
  const double value = values[place.position];
  __syncthreads();  // all have read it before its owner changes it
  return {best, tolerance, place.row, place.position, value};
}

template <class Args>
__device__ void record(const Args& args, int64_t set, int64_t t, int64_t pick, double gain) {
  args.picks[set * args.most + t] = pick;
  args.gains[set * args.most + t] = gain;
}

template <class Args>
__device__ int64_t budget_of(const Args& args, int64_t set) {
  return Min()(args.budgets[set], args.most);
}

}  // namespace fastcore::cuda
