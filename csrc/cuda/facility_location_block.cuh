// Exact lazy facility-location picks inside a block of candidates: what happens next, and the kernel with one
// block of threads a ground set. facility_location_grid.cuh has the one for large sets.
//
// bounds[j] and lower[j] enclose the gain of candidate j under the coverage of now:
//   stale    lower is -inf, the bound is from an earlier coverage (gains only shrink)
//   fresh    from the float column, `error` away for each row that can contribute
//   exact    lower == bound; a bound of 0 is exact as it is, since gains are never negative
//
// The greedy is a sequence of jobs over lists of candidates. One block of threads looks at all bounds and
// says what the next job is; then the block itself does it, or the grid.
#pragma once
#include "facility_location_gain.cuh"

namespace fastcore::cuda {

enum class Job : int32_t { kEstimate, kExact, kFold, kEnd };

constexpr int kContenders = 16;  // candidates of an exact job, at most

// Where a set stands; the same in every thread.
struct Progress {
  Job job;
  int32_t count;  // candidates of the job
  int32_t wave;   // candidates of the next estimates, at most, but for ties
  int64_t picks;
  int64_t estimates, exact;
};

// Keeps what `chosen` threads have in the list, in any order. At most as many threads as the list has room
// for.
template <int threads>
__device__ int32_t write_list(bool chosen, int64_t candidate, int64_t* list, int32_t room) {
  FASTCORE_SHARED(int32_t, count, 1);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  if (chosen) {
    const int32_t place = atomicAdd(&count[0], 1);
    if (place < room) list[place] = candidate;
  }
  __syncthreads();
  const int32_t listed = Min()(count[0], room);
  __syncthreads();  // before the next list starts
  return listed;
}

// The least value that at most `most` threads reach, or the largest of all where there are ties or no end.
template <int threads>
__device__ double cut_of(double value, double largest, int32_t most) {
  double low = block_reduce<threads>(value == kClosed ? INFINITY : value, Min()), high = largest;
  if (block_reduce<threads>(int32_t(value >= low), Sum()) <= most) return low;
  for (int step = 0; step < 8 && low < high; ++step) {
    const double middle = low + 0.5 * (high - low);
    const bool few = block_reduce<threads>(int32_t(value >= middle), Sum()) <= most;
    (few ? high : low) = middle;
  }
  return high;
}

// Chooses the next job from the bounds, which nobody may change at the same time.
template <int threads>
__device__ void next_job(const FacilityLocationBlock& args, const Ground& ground, Progress& progress,
                         int64_t* list) {
  double best = kClosed, top = kClosed;  // the largest lower bound, the largest bound
  for (int64_t b = threadIdx.x; b < args.block; b += threads) {
    const double bound = ground.bounds[b];
    if (bound == kClosed) continue;
    best = Max()(best, bound <= 0.0 ? bound : ground.lower[b]);
    top = Max()(top, bound);
  }
  best = block_reduce<threads>(best, Max());
  top = block_reduce<threads>(top, Max());
  progress.job = Job::kEnd;
  if (top == kClosed || top + tolerance_of(top, ground.floor) < ground.outside) return;

  // The best of this thread among those that may be the pick: one that is stale, one that is not exact.
  const double threshold = best - tolerance_of(best, ground.floor);
  double stale = kClosed;
  int64_t stale_at = -1, open_at = -1;
  int32_t open = 0;
  for (int64_t b = threadIdx.x; b < args.block; b += threads) {
    const double bound = ground.bounds[b], lower = ground.lower[b];
    if (bound < threshold || bound <= 0.0) continue;  // closed, beaten, or exact
    if (lower == kClosed) {
      if (bound > stale) stale = bound, stale_at = b;
    } else if (lower < bound) {
      ++open, open_at = b;
    }
  }
  const double stalest = block_reduce<threads>(stale, Max());
  if (stalest > kClosed) {
    const double cut = cut_of<threads>(stale, stalest, progress.wave);
    progress.job = Job::kEstimate;
    progress.count = write_list<threads>(stale_at >= 0 && stale >= cut, stale_at, list, threads);
    progress.wave = Min()(2 * progress.wave, threads);
    return;
  }
  open = block_reduce<threads>(open, Sum());
  if (open == 0) {  // all that may be tied are exact
    const double tolerance = best - threshold;
    const Place place = lowest_row<threads>(ground.bounds, ground.row_ids, args.block, threshold);
    const Choice choice = {best, tolerance, place.row, place.position, 0.0};
    if (!choice.wins(ground.outside, ground.outside_row)) return;
    progress.job = Job::kFold;
    progress.count = write_list<threads>(threadIdx.x == 0, place.position, list, 1);
    return;
  }
  progress.job = Job::kExact;
  progress.count = write_list<threads>(open_at >= 0, open_at, list, kContenders);
  if (open > 1) return;
  // A candidate that is ahead of all others by its lower bound needs no exact gain to be the pick.
  const int64_t candidate = list[0];
  double rest = ground.outside;
  for (int64_t b = threadIdx.x; b < args.block; b += threads) {
    if (b != candidate) rest = Max()(rest, ground.bounds[b]);
  }
  rest = block_reduce<threads>(rest, Max());
  const double lower = ground.lower[candidate];
  if (lower - tolerance_of(lower, ground.floor) > rest) progress.job = Job::kFold;
}

// Keeps what a job found about a candidate; by one thread.
__device__ inline void keep(const FacilityLocationBlock& args, const Ground& ground, Job job,
                            int64_t candidate, Estimate found) {
  if (job == Job::kEstimate) {
    const double slack = found.active * args.error;
    ground.bounds[candidate] = Min()(ground.bounds[candidate], found.gain + slack);
    ground.lower[candidate] = Min()(ground.bounds[candidate], found.gain - slack);
  } else {
    ground.bounds[candidate] = ground.lower[candidate] = job == Job::kFold ? kClosed : found.gain;
  }
}

// Counts a job that is done, and after a pick forgets what is fresh. `gain` is that of the pick.
template <int threads>
__device__ void count_job(const FacilityLocationBlock& args, const Ground& ground, Progress& progress,
                          int64_t set, int32_t wave, int64_t pick, double gain) {
  (progress.job == Job::kEstimate ? progress.estimates : progress.exact) += progress.count;
  if (progress.job != Job::kFold) return;
  if (threadIdx.x == 0) record(args, set, progress.picks, pick, gain);
  for (int64_t b = threadIdx.x; b < args.block; b += threads) ground.lower[b] = kClosed;
  ++progress.picks;
  progress.wave = wave;
}

// By one block of threads: a warp a candidate for estimates, the block for exact gains.
template <int threads>
__device__ double do_job(const FacilityLocationBlock& args, const Ground& ground, const Progress& progress,
                         const int64_t* list) {
  constexpr int kWarps = threads / kLanes;
  double gain = 0.0;
  if (progress.job == Job::kEstimate) {
    for (int e = warp_id(); e < progress.count; e += kWarps) {
      const int64_t candidates[1] = {list[e]};
      Estimate estimates[1];
      estimate_rows(args, ground, candidates, 0, args.rows, estimates);
      if (lane_id() == 0) keep(args, ground, progress.job, candidates[0], estimates[0]);
    }
    return gain;
  }
  const bool fold = progress.job == Job::kFold;
  for (int e = 0; e < progress.count; ++e) {
    gain = exact_rows(args, ground, list[e], warp_id() * kLanes, args.rows, threads, fold);
    gain = block_reduce<threads>(lane_id() == 0 ? gain : 0.0, Sum());
    if (threadIdx.x == 0) keep(args, ground, progress.job, list[e], {gain, 0.0});
  }
  return gain;
}

template <int threads>
__global__ void __launch_bounds__(threads, 1)
    facility_location_block_kernel(FacilityLocationBlock args, double* lower, int64_t* lists) {
  constexpr int32_t kWave = threads / kLanes;
  const int64_t set = blockIdx.x;
  const Ground ground = ground_of(args, lower, set);
  int64_t* const list = lists + set * threads;
  for (int64_t b = threadIdx.x; b < args.block; b += threads) ground.lower[b] = kClosed;
  Progress progress = {Job::kEnd, 0, kWave, 0, 0, 0};
  const int64_t budget = budget_of(args, set);
  while (progress.picks < budget) {
    __syncthreads();
    next_job<threads>(args, ground, progress, list);
    if (progress.job == Job::kEnd) break;
    const double gain = do_job<threads>(args, ground, progress, list);
    count_job<threads>(args, ground, progress, set, kWave, list[0], gain);
  }
  if (threadIdx.x == 0) {
    args.evaluations[set * 2] = progress.estimates;
    args.evaluations[set * 2 + 1] = progress.exact;
  }
}

}  // namespace fastcore::cuda
