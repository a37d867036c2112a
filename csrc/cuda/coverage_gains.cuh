// Facility-location gains of many candidates at once, in chunks of rows: a warp a chunk of a few candidates,
// which share the reading of the coverage; then the chunks are added in one order, so that a gain has the
// same bits on every run.
#pragma once
#include "kernels.h"
#include "reduce.cuh"

namespace fastcore::cuda {

// Rows of a chunk: enough work for a warp, and enough warps for a device where candidates are few.
inline int64_t estimate_rows_of_chunk() { return std::clamp<int64_t>(grid_rows(1024), 256, 1024); }

// A sum of gains, and the rows that are active, where they are counted.
struct Estimate {
  double gain, active;
};

struct Add {
  __device__ Estimate operator()(Estimate a, Estimate b) const {
    return {a.gain + b.gain, a.active + b.active};
  }
};

__device__ inline Estimate shuffle_xor(Estimate estimate, int offset) {
  return {shuffle_xor(estimate.gain, offset), shuffle_xor(estimate.active, offset)};
}

// Adds up the parts that lie `step` apart from `part` on.
__device__ inline Estimate add_parts(const Estimate* __restrict__ partial, int64_t part, int64_t count,
                                     int64_t step) {
  Estimate sum = {0.0, 0.0};
#pragma unroll 8
  for (int64_t i = part; i < count; i += step) sum = Add()(sum, partial[i]);
  return sum;
}

// Estimates over some rows for several candidates, by one warp.
template <bool count, int several>
__device__ void estimate_rows(const float* const (&similarity)[several], const double* __restrict__ coverage,
                              double margin, int64_t first, int64_t stop, Estimate (&estimates)[several]) {
  double gain[several] = {};
  int active[several] = {};
#pragma unroll 4
  for (int64_t i = first + lane_id(); i < stop; i += kLanes) {
    const double covered = coverage[i], reached = covered - margin;
#pragma unroll
    for (int c = 0; c < several; ++c) {
      const double found = similarity[c][i];
      gain[c] += Max()(0.0, found - covered);
      if (count) active[c] += found > reached;
    }
  }
#pragma unroll
  for (int c = 0; c < several; ++c) {
    estimates[c] = warp_reduce(Estimate{gain[c], static_cast<double>(active[c])}, Add());
  }
}

// partial: (sets, block, chunks).
template <int several, int threads>
__global__ void __launch_bounds__(threads)
    coverage_gains_kernel(CoverageGains args, Estimate* partial, int64_t chunk_rows) {
  constexpr int kWarps = threads / kLanes;
  const int64_t groups = ceil_div(args.block, several), chunks = ceil_div(args.rows, chunk_rows);
  for (int64_t item = int64_t(blockIdx.x) * kWarps + warp_id(); item < args.sets * groups * chunks;
       item += int64_t(gridDim.x) * kWarps) {
    const int64_t set = item / chunks / groups, chunk = item % chunks;
    const int64_t start = item / chunks % groups * several, first = chunk * chunk_rows;
    const float* row[several];
    Estimate found[several];
#pragma unroll
    for (int c = 0; c < several; ++c) {
      const int64_t j = Min()(start + c, args.block - 1);  // the last one again, beyond the end
      row[c] = args.similarity + (set * args.block + j) * args.rows;
    }
    estimate_rows<false>(row, args.coverage + set * args.rows, 0.0, first,
                         Min()(first + chunk_rows, args.rows), found);
#pragma unroll
    for (int c = 0; c < several; ++c) {
      if (lane_id() == 0 && start + c < args.block) {
        partial[(set * args.block + start + c) * chunks + chunk] = found[c];
      }
    }
  }
}

// A warp a candidate.
template <int threads>
__global__ void __launch_bounds__(threads)
    add_gains_kernel(CoverageGains args, const Estimate* __restrict__ partial, int64_t chunks) {
  constexpr int kWarps = threads / kLanes;
  for (int64_t j = int64_t(blockIdx.x) * kWarps + warp_id(); j < args.sets * args.block;
       j += int64_t(gridDim.x) * kWarps) {
    const Estimate sum = warp_reduce(add_parts(partial + j * chunks, lane_id(), chunks, kLanes), Add());
    if (lane_id() == 0) args.gains[j] = sum.gain;
  }
}

}  // namespace fastcore::cuda
