// Exact lazy facility-location picks over large ground sets. Rounds of two kernels: the grid does a job, then
// one block of threads a set keeps what it found and chooses the next one.
//
// Sums are taken in chunks of rows and then over the chunks, in one order whatever the grid: the same bits on
// every run.
#pragma once
#include "facility_location_block.cuh"

namespace fastcore::cuda {

constexpr int kTogether = 4;  // candidates that share the reading of the coverage
constexpr int kFiner = 8;  // an exact gain may cost a whole row of features where an estimate reads a number
constexpr int32_t kWave = 16;  // candidates of the first estimates after a pick

struct FacilityGrid {
  double* lower;       // (sets, block)
  Progress* progress;  // (sets)
  int64_t* lists;      // (sets, kWideBlock)
  Estimate* partial;   // (sets, `room`): (candidates of a job, chunks)
  int64_t room;
  int64_t chunk_rows;  // of estimates; a multiple of kFiner * kLanes
};

__device__ inline int64_t rows_of_chunk(const FacilityGrid& grid, Job job) {
  return job == Job::kEstimate ? grid.chunk_rows : grid.chunk_rows / kFiner;
}

// A warp a chunk of a few candidates.
template <int threads>
__global__ void __launch_bounds__(threads)
    facility_work_kernel(FacilityLocationBlock args, FacilityGrid grid) {
  constexpr int kWarps = threads / kLanes;
  for (int64_t set = 0; set < args.sets; ++set) {
    const Progress progress = grid.progress[set];
    if (progress.job == Job::kEnd) continue;
    const Ground ground = ground_of(args, grid.lower, set);
    const int64_t* __restrict__ list = grid.lists + set * kWideBlock;
    Estimate* partial = grid.partial + set * grid.room;
    const bool estimate = progress.job == Job::kEstimate;
    const int64_t chunk_rows = rows_of_chunk(grid, progress.job), chunks = ceil_div(args.rows, chunk_rows);
    const int64_t items = ceil_div(progress.count, estimate ? kTogether : 1) * chunks;
    for (int64_t item = int64_t(blockIdx.x) * kWarps + warp_id(); item < items;
         item += int64_t(gridDim.x) * kWarps) {
      const int64_t chunk = item % chunks, first = chunk * chunk_rows;
      const int64_t stop = Min()(first + chunk_rows, args.rows);
      if (estimate) {
        const int64_t start = item / chunks * kTogether;
        int64_t candidates[kTogether];
        Estimate found[kTogether];
#pragma unroll
        for (int c = 0; c < kTogether; ++c)
          candidates[c] = list[Min()(start + c, progress.count - int64_t(1))];
        estimate_rows(args, ground, candidates, first, stop, found);
#pragma unroll
        for (int c = 0; c < kTogether; ++c) {
          if (lane_id() == 0 && start + c < progress.count) partial[(start + c) * chunks + chunk] = found[c];
        }
      } else {
        const bool fold = progress.job == Job::kFold;
        const double gain = exact_rows(args, ground, list[item / chunks], first, stop, kLanes, fold);
        if (lane_id() == 0) partial[item] = {gain, 0.0};
      }
    }
  }
}

template <int threads>
__global__ void __launch_bounds__(threads, 1)
    facility_choose_kernel(FacilityLocationBlock args, FacilityGrid grid, bool start) {
  constexpr int kWarps = threads / kLanes;
  const int64_t set = blockIdx.x;
  const Ground ground = ground_of(args, grid.lower, set);
  int64_t* const list = grid.lists + set * threads;
  const Estimate* partial = grid.partial + set * grid.room;
  Progress progress = {Job::kEnd, 0, kWave, 0, 0, 0};
  if (start) {
    for (int64_t b = threadIdx.x; b < args.block; b += threads) ground.lower[b] = kClosed;
  } else {
    progress = grid.progress[set];
    if (progress.job == Job::kEnd) return;
    const int64_t chunks = ceil_div(args.rows, rows_of_chunk(grid, progress.job));
    Estimate found = {0.0, 0.0};
    if (progress.job == Job::kEstimate) {  // many candidates of few parts
      for (int e = warp_id(); e < progress.count; e += kWarps) {
        found = warp_reduce(add_parts(partial + e * chunks, lane_id(), chunks, kLanes), Add());
        if (lane_id() == 0) keep(args, ground, progress.job, list[e], found);
      }
    } else {  // few candidates of many parts
      for (int e = 0; e < progress.count; ++e) {
        found = block_reduce<threads>(add_parts(partial + e * chunks, threadIdx.x, chunks, threads), Add());
        if (threadIdx.x == 0) keep(args, ground, progress.job, list[e], found);
      }
    }
    count_job<threads>(args, ground, progress, set, kWave, list[0], found.gain);
  }
  __syncthreads();
  progress.job = Job::kEnd;
  if (progress.picks < budget_of(args, set)) next_job<threads>(args, ground, progress, list);
  if (threadIdx.x == 0) {
    grid.progress[set] = progress;
    args.evaluations[set * 2] = progress.estimates;
    args.evaluations[set * 2 + 1] = progress.exact;
  }
}

}  // namespace fastcore::cuda
