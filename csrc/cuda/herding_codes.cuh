// Herding with an 8-bit copy of the rows, five kernels a pick:
//
//   bound    bounds on the scores of all rows, from the copy and the residual in 15 bits
//   lead     no row whose upper bound is below the best lower bound can be the pick
//   collect  lists the rows whose upper bounds reach that
//   measure  measures the listed rows, from the features
//   choose   takes the best of the list, and brings the residual up to date
//
// The launches are the same for every pick: which one it is stands beside the set.
//
// A pick reads a byte a number instead of four, and a few whole rows. The inner products are of whole numbers
// and exact; what they miss is bounded by the lengths of what the copy and the 15 bits leave out.
#pragma once
#include "herding.cuh"

namespace fastcore::cuda {

constexpr int64_t kMeasuring = 32;  // blocks of threads that measure the rows of a set
constexpr double kRounding = 1e-9;  // of lengths, relative, and far more than that

// What the kernels of a pick tell each other about a set.
struct HerdingPass {
  double step;    // residual = step * (128 * high + low) + a rest
  double length;  // of the residual
  double rest;    // length of the rest
  double threshold;
  int64_t listed;
  int64_t picks;  // made
};

struct HerdingCodes {
  HerdingPass* passes;              // (sets)
  int8_t *high, *low;               // (sets, code_width)
  double *tile_upper, *tile_lower;  // (sets, tiles)
  int64_t* list;                    // (sets, rows)
  double most;                      // most_code of the width
};

// The residual in whole numbers, by one block of threads.
template <int threads>
__device__ void code_residual(const Herding& args, const HerdingCodes& codes, int64_t set) {
  const double* residual = args.residual + set * args.width;
  double largest = 0.0, squares = 0.0, rest = 0.0;
  for (int64_t k = threadIdx.x; k < args.width; k += threads) {
    largest = Max()(largest, fabs(residual[k]));
    squares += residual[k] * residual[k];
  }
  largest = block_reduce<threads>(largest, Max());
  squares = block_reduce<threads>(squares, Sum());
  const double most = codes.most, step = largest / most;
  for (int64_t k = threadIdx.x; k < args.code_width; k += threads) {
    const double value = k < args.width ? residual[k] : 0.0;
    const double whole = step > 0.0 ? Max()(-most, Min()(most, rint(value / step))) : 0.0;
    rest += (value - step * whole) * (value - step * whole);
    const int code = static_cast<int>(whole), high = (code + 64) >> 7;
    codes.high[set * args.code_width + k] = static_cast<int8_t>(high);
    codes.low[set * args.code_width + k] = static_cast<int8_t>(code - 128 * high);
  }
  rest = block_reduce<threads>(rest, Sum());
  if (threadIdx.x != 0) return;
  HerdingPass& pass = codes.passes[set];
  pass.step = step;
  pass.length = sqrt(squares) * (1 + kRounding);
  pass.rest = sqrt(rest) * (1 + kRounding) + kTie * pass.length;  // with the rounding of all that follows
}

template <int threads>
__global__ void __launch_bounds__(threads, 1) herding_start_kernel(Herding args, HerdingCodes codes) {
  if (threadIdx.x == 0) codes.passes[blockIdx.x].picks = 0;
  code_residual<threads>(args, codes, blockIdx.x);
}

__device__ inline bool still_picking(const Herding& args, const HerdingCodes& codes, int64_t set) {
  return still_picking(args, set, codes.passes[set].picks);
}

__device__ inline int dot16(int4 a, int4 b) {
  return __dp4a(a.x, b.x, __dp4a(a.y, b.y, __dp4a(a.z, b.z, __dp4a(a.w, b.w, 0))));
}

// The inner product of the codes of `kLanes` rows with those of the residual, a row a lane, by one warp.
__device__ inline int dot_codes(const Herding& args, const HerdingCodes& codes, int64_t set, int64_t first) {
  constexpr int kTogether = 4, kBytes = 16;  // rows read at the same time, and bytes of a load
  const int8_t* __restrict__ high = codes.high + set * args.code_width;
  const int8_t* __restrict__ low = codes.low + set * args.code_width;
  int mine = 0;
  for (int start = 0; start < kLanes; start += kTogether) {
    int sum[kTogether] = {};
    const int8_t* row[kTogether];
#pragma unroll
    for (int r = 0; r < kTogether; ++r) {
      const int64_t i = Min()(first + start + r, args.rows - 1);
      row[r] = args.codes + (set * args.rows + i) * args.code_width;
    }
#pragma unroll 1
    for (int64_t k = lane_id() * kBytes; k < args.code_width; k += kLanes * kBytes) {
      const int4 h = *reinterpret_cast<const int4*>(high + k), l = *reinterpret_cast<const int4*>(low + k);
#pragma unroll
      for (int r = 0; r < kTogether; ++r) {
        const int4 x = *reinterpret_cast<const int4*>(row[r] + k);
        sum[r] += 128 * dot16(x, h) + dot16(x, l);
      }
    }
#pragma unroll
    for (int r = 0; r < kTogether; ++r) {
      sum[r] = warp_reduce(sum[r], Sum());
      if (lane_id() == start + r) mine = sum[r];
    }
  }
  return mine;
}

// A warp a tile. scores become upper bounds.
template <int threads>
__global__ void __launch_bounds__(threads, 3) herding_bound_kernel(Herding args, HerdingCodes codes) {
  constexpr int kWarps = threads / kLanes;
  const int64_t tiles = ceil_div(args.rows, kTileRows);
  for (int64_t item = int64_t(blockIdx.x) * kWarps + warp_id(); item < args.sets * tiles;
       item += int64_t(gridDim.x) * kWarps) {
    const int64_t set = item / tiles;
    if (!still_picking(args, codes, set)) continue;
    const HerdingPass pass = codes.passes[set];
    const int64_t first = item % tiles * kTileRows;
    double upper = kClosed, lower = kClosed;
    for (int64_t start = first; start < Min()(first + kTileRows, args.rows); start += kLanes) {
      const int dot = dot_codes(args, codes, set, start);
      const int64_t at = set * args.rows + start + lane_id();
      if (start + lane_id() >= args.rows) continue;
      double score = kClosed;
      if (!args.taken[at]) {
        const double about = 2.0 * args.step[at] * pass.step * dot - args.norms[at];
        const double error =
            2.0 * (args.slack[at] * (pass.length + pass.rest) + sqrt(args.norms[at]) * pass.rest);
        score = about + error;
        lower = Max()(lower, about - error);
      }
      args.scores[at] = score;
      upper = Max()(upper, score);
    }
    upper = warp_reduce(upper, Max());
    lower = warp_reduce(lower, Max());
    if (lane_id() == 0) codes.tile_upper[item] = upper, codes.tile_lower[item] = lower;
  }
}

template <int threads>
__global__ void __launch_bounds__(threads, 1) herding_lead_kernel(Herding args, HerdingCodes codes) {
  const int64_t set = blockIdx.x;
  if (!still_picking(args, codes, set)) return;
  const int64_t tiles = ceil_div(args.rows, kTileRows);
  const double* __restrict__ tile_lower = codes.tile_lower + set * tiles;
  double best = kClosed;
#pragma unroll 4
  for (int64_t i = threadIdx.x; i < tiles; i += threads) best = Max()(best, tile_lower[i]);
  best = block_reduce<threads>(best, Max());
  if (threadIdx.x != 0) return;
  codes.passes[set].threshold = best - tolerance_of(best, args.floor[set]);
  codes.passes[set].listed = 0;
}

// A warp looks at as many tiles as it has lanes. The order of the list does not matter.
template <int threads>
__global__ void __launch_bounds__(threads) herding_collect_kernel(Herding args, HerdingCodes codes) {
  constexpr int kWarps = threads / kLanes;
  const int64_t tiles = ceil_div(args.rows, kTileRows), groups = ceil_div(tiles, kLanes);
  for (int64_t item = int64_t(blockIdx.x) * kWarps + warp_id(); item < args.sets * groups;
       item += int64_t(gridDim.x) * kWarps) {
    const int64_t set = item / groups, start = item % groups * kLanes;
    if (!still_picking(args, codes, set)) continue;
    HerdingPass& pass = codes.passes[set];
    const double threshold = pass.threshold;
    const int64_t tile = start + lane_id();
    const bool reaches = tile < tiles && codes.tile_upper[set * tiles + tile] > kClosed &&
                         codes.tile_upper[set * tiles + tile] >= threshold;
    for (unsigned todo = __ballot_sync(kAllLanes, reaches); todo != 0; todo &= todo - 1) {
      const int64_t first = (start + __ffs(static_cast<int>(todo)) - 1) * kTileRows;
      for (int64_t i = first + lane_id(); i < Min()(first + kTileRows, args.rows); i += kLanes) {
        const double score = args.scores[set * args.rows + i];
        if (score == kClosed || score < threshold) continue;
        codes.list[set * args.rows + atomicAdd(reinterpret_cast<unsigned long long*>(&pass.listed), 1ull)] =
            i;
      }
    }
  }
}

// A warp a row.
template <int threads>
__global__ void __launch_bounds__(threads) herding_measure_kernel(Herding args, HerdingCodes codes) {
  constexpr int kWarps = threads / kLanes;
  for (int64_t item = int64_t(blockIdx.x); item < args.sets * kMeasuring; item += gridDim.x) {
    const int64_t set = item / kMeasuring;
    if (!still_picking(args, codes, set)) continue;
    const double* __restrict__ residual = args.residual + set * args.width;
    const int64_t listed = codes.passes[set].listed;
    for (int64_t i = item % kMeasuring * kWarps + warp_id(); i < listed; i += kMeasuring * kWarps) {
      const int64_t row = set * args.rows + codes.list[set * args.rows + i];
      const double score = score_row(args, row, residual);
      if (lane_id() == 0) args.scores[row] = score;
    }
  }
}

template <int threads>
__global__ void __launch_bounds__(threads, 1) herding_take_kernel(Herding args, HerdingCodes codes) {
  const int64_t set = blockIdx.x;
  if (!still_picking(args, codes, set)) return;
  const double* scores = args.scores + set * args.rows;
  const int64_t* __restrict__ list = codes.list + set * args.rows;
  const int64_t listed = codes.passes[set].listed;
  if (listed == 0) {  // no row is left
    if (threadIdx.x == 0) codes.passes[set].picks = args.most;
    return;
  }
  const int64_t t = codes.passes[set].picks;
  double best = kClosed;
  for (int64_t i = threadIdx.x; i < listed; i += threads) best = Max()(best, scores[list[i]]);
  best = block_reduce<threads>(best, Max());
  const double threshold = best - tolerance_of(best, args.floor[set]);
  int64_t pick = kNoRow;
  for (int64_t i = threadIdx.x; i < listed; i += threads) {
    if (scores[list[i]] >= threshold) pick = Min()(pick, list[i]);
  }
  pick = block_reduce<threads>(pick, Min());
  take_row<threads>(args, set, t, pick);
  if (threadIdx.x == 0) codes.passes[set].picks = t + 1;
  code_residual<threads>(args, codes, set);  // a thread reads of the residual what it has written
}

}  // namespace fastcore::cuda
