// Exact lazy facility-location picks inside a block of candidates: one block of threads a ground
// set.
//
// bounds[j] and lower[j] enclose the gain of candidate j under the coverage of now:
//   stale    lower is -inf, the bound is from an earlier coverage (gains only shrink)
//   fresh    from the float column, `error` away for each row that can contribute
//   exact    lower == bound; a bound of 0 is exact as it is, since gains are never negative
// Thread t owns the candidates t, t + threads, ... and the same rows: it alone writes them.
#pragma once
#include "choice.cuh"

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

struct Estimate {
  double gain, slack;  // the exact gain is within slack of gain
};

template <int threads>
__device__ Estimate estimate_gain(const FacilityLocationBlock& args, const Ground& ground,
                                  int64_t candidate) {
  const float* __restrict__ similarity = ground.similarity + candidate * args.rows;
  double gain = 0.0;
  int64_t active = 0;
  for (int64_t i = threadIdx.x; i < args.rows; i += threads) {
    const double covered = ground.coverage[i];
    gain += Max()(0.0, similarity[i] - covered);
    active += similarity[i] > covered - args.error;
  }
  gain = block_reduce<threads>(gain, Sum());
  const double count = static_cast<double>(block_reduce<threads>(active, Sum()));
  return {gain, count * args.error};
}

// The exact gain of a candidate; with `fold` its similarities also become part of the coverage.
// Each lane tests a row of its own, then the warp takes the inner products of the rows that passed
// one after the other.
template <int threads, bool fold>
__device__ double exact_gain(const FacilityLocationBlock& args, const Ground& ground, int64_t candidate) {
  const float* __restrict__ similarity = ground.similarity + candidate * args.rows;
  const int64_t j = ground.positions[candidate];
  double gain = 0.0;
  for (int64_t first = warp_id() * kLanes; first < args.rows; first += threads) {
    const int64_t i = first + lane_id();
    const double covered = i < args.rows ? ground.coverage[i] : INFINITY;
    const bool active = i < args.rows && similarity[i] > covered - args.error;
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
  return block_reduce<threads>(gain, Sum());
}

// The largest exact gain, and the largest bound that is not exact with its candidate.
struct Standing {
  double exact, open;
  int64_t candidate;
};

struct Lead {
  __device__ Standing operator()(Standing a, Standing b) const {
    const bool ahead = b.open > a.open || (b.open == a.open && b.candidate < a.candidate);
    return {Max()(a.exact, b.exact), ahead ? b.open : a.open, ahead ? b.candidate : a.candidate};
  }
};

__device__ inline Standing shuffle_xor(Standing standing, int offset) {
  return {shuffle_xor(standing.exact, offset), shuffle_xor(standing.open, offset),
          shuffle_xor(standing.candidate, offset)};
}

template <int threads>
__device__ Standing standing_of(const Ground& ground, int64_t block) {
  Standing standing = {kClosed, kClosed, kNoRow};
  for (int64_t b = threadIdx.x; b < block; b += threads) {
    const double bound = ground.bounds[b];
    if (bound == kClosed) continue;
    if (bound <= 0.0 || bound == ground.lower[b]) {
      standing.exact = Max()(standing.exact, bound);
    } else {
      standing = Lead()(standing, Standing{kClosed, bound, b});
    }
  }
  return block_reduce<threads>(standing, Lead());
}

template <int threads>
__device__ double largest_other(const Ground& ground, int64_t block, int64_t candidate) {
  double largest = kClosed;
  for (int64_t b = threadIdx.x; b < block; b += threads) {
    if (b != candidate) largest = Max()(largest, ground.bounds[b]);
  }
  return block_reduce<threads>(largest, Max());
}

struct Evaluations {
  int64_t estimates, exact;
};

// The next pick, or -1 where the pass ends.
template <int threads>
__device__ int64_t next_pick(const FacilityLocationBlock& args, const Ground& ground,
                             Evaluations& evaluations) {
  for (int64_t b = threadIdx.x; b < args.block; b += threads) ground.lower[b] = kClosed;
  while (true) {
    const Standing standing = standing_of<threads>(ground, args.block);
    const double top = Max()(standing.exact, standing.open);
    if (top == kClosed || top + tolerance_of(top, ground.floor) < ground.outside) return -1;

    const double tolerance = tolerance_of(standing.exact, ground.floor);
    if (standing.open < standing.exact - tolerance) {  // all that may be tied are exact
      const Place place =
          lowest_row<threads>(ground.bounds, ground.row_ids, args.block, standing.exact - tolerance);
      const Choice choice = {standing.exact, tolerance, place.row, place.position, 0.0};
      return choice.wins(ground.outside, ground.outside_row) ? place.position : -1;
    }

    const int64_t candidate = standing.candidate;
    const bool owner = candidate % threads == threadIdx.x;
    const double lower = ground.lower[candidate];
    if (lower == kClosed) {
      const Estimate estimate = estimate_gain<threads>(args, ground, candidate);
      ++evaluations.estimates;
      if (owner) {
        ground.bounds[candidate] = estimate.gain + estimate.slack;
        ground.lower[candidate] = estimate.gain - estimate.slack;
      }
      continue;
    }
    const double rest = Max()(largest_other<threads>(ground, args.block, candidate), ground.outside);
    if (lower - tolerance_of(lower, ground.floor) > rest) return candidate;
    const double gain = exact_gain<threads, false>(args, ground, candidate);
    ++evaluations.exact;
    if (owner) ground.bounds[candidate] = ground.lower[candidate] = gain;
  }
}

template <int threads>
__global__ void __launch_bounds__(threads, 1)
    facility_location_block_kernel(FacilityLocationBlock args, double* lower) {
  const int64_t set = blockIdx.x;
  const Ground ground = ground_of(args, lower, set);
  Evaluations evaluations = {0, 0};
  const int64_t budget = budget_of(args, set);
  for (int64_t t = 0; t < budget; ++t) {
    const int64_t pick = next_pick<threads>(args, ground, evaluations);
    if (pick < 0) break;
    const double gain = exact_gain<threads, true>(args, ground, pick);
    ++evaluations.exact;
    if (pick % threads == threadIdx.x) {
      ground.bounds[pick] = kClosed;
      record(args, set, t, pick, gain);
    }
  }
  if (threadIdx.x == 0) {
    args.evaluations[set * 2] = evaluations.estimates;
    args.evaluations[set * 2 + 1] = evaluations.exact;
  }
}

}  // namespace fastcore::cuda
