// Facility-location gains of a candidate over some of the rows, by one warp: estimates from the float
// columns, and exact gains from the features.
#pragma once
#include "choice.cuh"
#include "coverage_gains.cuh"

namespace fastcore::cuda {

// One ground set of the arguments.
struct Ground {
  const float* similarity;
  const float* features;
  const double* scale;
  const double* norms;
  const float* second;
  const int64_t* positions;
  const int64_t* row_ids;
  double* coverage;
  double* bounds;
  double* lower;
  double floor, outside;
  int64_t outside_row;
};

__device__ inline Ground ground_of(const FacilityLocationBlock& args, double* lower, int64_t set) {
  const bool precomputed = args.features == nullptr;
  return {args.similarity + set * args.block * args.rows,
          precomputed ? nullptr : args.features + set * args.rows * args.width,
          precomputed ? nullptr : args.scale + set * args.rows,
          precomputed ? nullptr : args.norms + set * args.rows,
          args.second == nullptr ? nullptr : args.second + set * args.rows * args.second_width,
          args.positions + set * args.block,
          args.row_ids + set * args.block,
          args.coverage + set * args.rows,
          args.bounds + set * args.block,
          lower + set * args.block,
          args.floor[set],
          args.outside[set],
          args.outside_row[set]};
}

// The exact similarity of rows i and j from their inner product.
__device__ inline double exact_similarity(const FacilityLocationBlock& args, const Ground& ground, int64_t i,
                                          int64_t j, double dot) {
  if (args.metric == Metric::kDot) return dot;
  if (args.metric == Metric::kCosine) return 0.5 + 0.5 * dot * ground.scale[i] * ground.scale[j];
  const double sum = ground.norms[i] + ground.norms[j];
  double squared = sum - 2.0 * dot;
  if (squared < kSame * sum) squared = 0.0;
  return args.metric == Metric::kEuclidean ? args.parameter - sqrt(squared) : exp(-args.parameter * squared);
}

// Estimates over some rows for several candidates, by one warp: the exact gain is within active * error.
template <int several>
__device__ void estimate_rows(const FacilityLocationBlock& args, const Ground& ground,
                              const int64_t (&candidates)[several], int64_t first, int64_t stop,
                              Estimate (&estimates)[several]) {
  const float* similarity[several];
#pragma unroll
  for (int c = 0; c < several; ++c) similarity[c] = ground.similarity + candidates[c] * args.rows;
  estimate_rows<true>(similarity, ground.coverage, args.error, first, stop, estimates);
}

// The exact gain of a candidate over some rows, by one warp; with `fold` its similarities also become part of
// the coverage. Each lane tests a row of its own, then the warp takes the inner products of the rows that
// passed one after the other. The rows are those from `start` on in steps of `step`, a lane each.
__device__ inline double exact_rows(const FacilityLocationBlock& args, const Ground& ground,
                                    int64_t candidate, int64_t start, int64_t stop, int64_t step, bool fold) {
  const float* __restrict__ similarity = ground.similarity + candidate * args.rows;
  const int64_t j = ground.positions[candidate];
  double gain = 0.0;
  for (int64_t first = start; first < stop; first += step) {
    const int64_t i = first + lane_id();
    const double covered = i < stop ? ground.coverage[i] : INFINITY;
    const bool active = i < stop && similarity[i] > covered - args.error;
    double exact = active ? similarity[i] : kClosed;
    if (ground.features != nullptr) {
      const float* __restrict__ y = ground.features + j * args.width;
      const float* __restrict__ y2 = ground.second + j * args.second_width;
      for (unsigned todo = __ballot_sync(kAllLanes, active); todo != 0; todo &= todo - 1) {
        const int lane = __ffs(static_cast<int>(todo)) - 1;
        const float* __restrict__ x = ground.features + (first + lane) * args.width;
        double dot = warp_sum(args.width, [=](int64_t k) { return double(x[k]) * y[k]; });
        if (ground.second != nullptr) {
          const float* __restrict__ x2 = ground.second + (first + lane) * args.second_width;
          dot *= 1.0 + warp_sum(args.second_width, [=](int64_t k) { return double(x2[k]) * y2[k]; });
        }
        if (lane_id() == lane) exact = exact_similarity(args, ground, i, j, dot);
      }
    }
    if (exact > covered) {
      gain += exact - covered;
      if (fold) ground.coverage[i] = exact;
    }
  }
  return warp_reduce(gain, Sum());
}

}  // namespace fastcore::cuda
