// Facility-location gains straight from products by tensor cores, which are not written out.
//
// A block of threads takes tiles of rows x candidates, one after the other. Of a tile's operands a few words
// a row are in shared memory at a time, in a ring of stages: while one is multiplied, the next ones, also
// those of the next tile, are on their way. Each warp keeps 64 x 64 products in registers. When they are
// whole, they lose the coverage of their rows and are summed over the rows of the tile. Tiles with the same
// rows and neighbouring candidates are taken at the same time, and all candidates of a call stay in the
// second-level cache.
//
// Rounding, with u = 2^-24. The coverage is rounded down. A positive difference is at least (1 - u) times the
// exact one, and each of the 13 additions that a term goes through on its way to the sum of a tile takes at
// most a share u, as no term is negative. These sums are added in double. So 1 + 16 u times what comes out is
// not below the exact sum for these products, as (1 - 14 u) (1 + 16 u) > 1, and above it by less than 2^-18,
// relative to the gain and to the coverage it is taken from.
#pragma once
#include "kernels.h"
#include "tensor_cores.cuh"

namespace fastcore::cuda {

constexpr int kTileRows = 256, kTileCandidates = 128, kTileThreads = 256;
constexpr int kWarpSide = 64;  // of the products of a warp
constexpr int kWarpColumns = kTileCandidates / kWarpSide;
constexpr int kStageWords = 16, kStageChunks = kStageWords / 4;  // a chunk is 16 bytes
constexpr int kStageSize = (kTileRows + kTileCandidates) * kStageChunks;
constexpr int kStages = 4, kFewStages = 2;  // few where shared memory is small
constexpr double kGainRounding = 16.0 / (1 << 24);

// Which tile is the number `item`.
struct GainTile {
  int64_t set, row_tile, row, candidate;

  __device__ GainTile(const ProductGains& args, int64_t item) {
    const int64_t columns = ceil_div(args.block, kTileCandidates), tiles = ceil_div(args.rows, kTileRows);
    candidate = item % columns * kTileCandidates;
    row_tile = item / columns % tiles;
    row = row_tile * kTileRows;
    set = item / columns / tiles;
  }
};

// Sends for the operands of the tiles of a block of threads, stage by stage.
class Loader {
 public:
  __device__ Loader(const ProductGains& args, int64_t words, int64_t items)
      : args_(args), words_(words), items_(items), item_(blockIdx.x), word_(0) {}

  // Each thread copies the chunk threadIdx.x % 4 of every 64th row and candidate.
  __device__ void next(int4* stage) {
    constexpr int kStep = kTileThreads / kStageChunks;
    if (item_ < items_) {
      if (word_ == 0) aim();
      const bool inside = word_ + mine() < words_;
      int4* const to = stage + threadIdx.x;
#pragma unroll
      for (int q = 0; q < kTileRows / kStep; ++q) {
        const bool there = inside && q * kStep < rows_;
        copy_later(to + q * kTileThreads, at(row_, there, q * kStep), there);
      }
#pragma unroll
      for (int q = 0; q < kTileCandidates / kStep; ++q) {
        const bool there = inside && q * kStep < candidates_;
        copy_later(to + (kTileRows / kStep + q) * kTileThreads, at(candidate_, there, q * kStep), there);
      }
      word_ += kStageWords;
      if (word_ >= words_) word_ = 0, item_ += gridDim.x;
    }
    close_copies();
  }

 private:
  __device__ static int mine() { return static_cast<int>(threadIdx.x) % kStageChunks * 4; }

  __device__ void aim() {
    const GainTile tile(args_, item_);
    const int64_t first = threadIdx.x / kStageChunks;
    row_ = static_cast<const int32_t*>(args_.features) + (tile.set * args_.rows + tile.row + first) * words_ +
           mine();
    candidate_ = static_cast<const int32_t*>(args_.candidates) +
                 (tile.set * args_.block + tile.candidate + first) * words_ + mine();
    rows_ = args_.rows - tile.row - first;
    candidates_ = args_.block - tile.candidate - first;
  }

  // An address that exists also where nothing is read.
  __device__ const int4* at(const int32_t* first, bool there, int64_t row) const {
    const int32_t* const words =
        there ? first + row * words_ + word_ : static_cast<const int32_t*>(args_.features);
    return reinterpret_cast<const int4*>(words);
  }

  const ProductGains& args_;
  int64_t words_, items_, item_, word_;
  const int32_t *row_, *candidate_;  // of this thread's first ones
  int64_t rows_, candidates_;        // from there to the end
};

// The products of a warp: sums[m][c] are those of rows 16 m to 16 m + 15 and candidates 8 c to 8 c + 7.
using WarpProducts = float[kWarpSide / 16][kWarpSide / 8][4];

// Adds the products of a stage. A lane reads 16 bytes a row, so that it has the words 4 member to 4 member +
// 3 of rows and candidates alike: in the first of two products it takes the first two of them for the words
// `member` and `member + 4` of the fragments, in the second the others. A sum does not depend on the names of
// its terms.
template <class Number>
__device__ void multiply_stage(WarpProducts& sums, const int4* rows, const int4* candidates) {
  const int place = lane_id();  // group * 4 + member: chunk `member` of row `group`
  int4 low[kWarpSide / 16], high[kWarpSide / 16];
#pragma unroll
  for (int m = 0; m < kWarpSide / 16; ++m) {
    low[m] = rows[m * 16 * kStageChunks + place];
    high[m] = rows[(m * 16 + 8) * kStageChunks + place];
  }
#pragma unroll
  for (int c = 0; c < kWarpSide / 8; ++c) {
    const int4 other = candidates[c * 8 * kStageChunks + place];
#pragma unroll
    for (int m = 0; m < kWarpSide / 16; ++m) {
      multiply_add<Number, kTileThreads>(sums[m][c], {low[m].x, high[m].x, low[m].y, high[m].y},
                                         {other.x, other.y});
    }
#pragma unroll
    for (int m = 0; m < kWarpSide / 16; ++m) {
      multiply_add<Number, kTileThreads>(sums[m][c], {low[m].z, high[m].z, low[m].w, high[m].w},
                                         {other.z, other.w});
    }
  }
}

// What the rows of this warp add to the gain of each of its candidates, to gains[0 .. kWarpSide - 1].
__device__ inline void sum_gains(const WarpProducts& sums, const float (&covered)[kWarpSide / 8],
                                 float* gains) {
#pragma unroll
  for (int c = 0; c < kWarpSide / 8; ++c) {
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      float gain = 0.0f;
#pragma unroll
      for (int i = 0; i < kWarpSide / 8; ++i) {  // row 8 i + group
        gain += Max()(0.0f, sums[i / 2][c][i % 2 * 2 + side] - covered[i]);
      }
      for (int offset = 4; offset < kLanes; offset *= 2) gain += shuffle_xor(gain, offset);
      if (lane_id() < 4) gains[c * 8 + lane_id() * 2 + side] = gain;
    }
  }
}

// partial: (sets, row tiles, block).
template <class Number>
__global__ void __launch_bounds__(kTileThreads, 1)
    product_gains_kernel(ProductGains args, float* partial, int64_t words, int stages) {
  FASTCORE_DYNAMIC_SHARED(int4, ring);  // (stages, rows and candidates of a tile, chunks)
  constexpr int kWarpRows = kTileRows / kWarpSide;
  FASTCORE_SHARED(float, gains, kWarpRows* kTileCandidates);
  const int64_t row_tiles = ceil_div(args.rows, kTileRows);
  const int64_t items = args.sets * row_tiles * ceil_div(args.block, kTileCandidates);
  const int warp_row = warp_id() / kWarpColumns, warp_column = warp_id() % kWarpColumns;
  Loader loader(args, words, items);
  for (int stage = 0; stage < stages - 1; ++stage) loader.next(ring + stage * kStageSize);
  int reading = 0, writing = stages - 1;
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const GainTile tile(args, item);
    float covered[kWarpSide / 8];
#pragma unroll
    for (int i = 0; i < kWarpSide / 8; ++i) {
      const int64_t row = tile.row + warp_row * kWarpSide + 8 * i + lane_id() / 4;
      covered[i] = row < args.rows ? __double2float_rd(args.coverage[tile.set * args.rows + row]) : INFINITY;
    }
    WarpProducts sums = {};
    for (int64_t word = 0; word < words; word += kStageWords) {
      if (stages == kStages) {
        wait_for_copies<kStages - 2>();
      } else {
        wait_for_copies<kFewStages - 2>();
      }
      __syncthreads();  // the stage is there, and all have read the one before, which is written next
      loader.next(ring + writing * kStageSize);
      const int4* const rows = ring + reading * kStageSize;
      multiply_stage<Number>(sums, rows + warp_row * kWarpSide * kStageChunks,
                             rows + (kTileRows + warp_column * kWarpSide) * kStageChunks);
      writing = reading;
      reading = reading + 1 == stages ? 0 : reading + 1;
    }
    sum_gains(sums, covered, gains + warp_row * kTileCandidates + warp_column * kWarpSide);
    __syncthreads();  // the next tile has another before it writes gains
    const int64_t candidate = tile.candidate + threadIdx.x;
    if (threadIdx.x < kTileCandidates && candidate < args.block) {
      float gain = 0.0f;
#pragma unroll
      for (int i = 0; i < kWarpRows; ++i) gain += gains[i * kTileCandidates + threadIdx.x];
      partial[(tile.set * row_tiles + tile.row_tile) * args.block + candidate] = gain;
    }
  }
}

// A lane a candidate: each warp adds some of the tiles of rows, and then the sums of the warps are added.
template <int threads>
__global__ void __launch_bounds__(threads)
    add_tiles_kernel(ProductGains args, const float* __restrict__ partial) {
  constexpr int kWarps = threads / kLanes;
  FASTCORE_SHARED(double, sums, threads);
  const int64_t row_tiles = ceil_div(args.rows, kTileRows), groups = ceil_div(args.block, kLanes);
  for (int64_t item = blockIdx.x; item < args.sets * groups; item += gridDim.x) {
    const int64_t set = item / groups, candidate = item % groups * kLanes + lane_id();
    double sum = 0.0;
    if (candidate < args.block) {
#pragma unroll 8
      for (int64_t t = warp_id(); t < row_tiles; t += kWarps) {
        sum += partial[(set * row_tiles + t) * args.block + candidate];
      }
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (warp_id() == 0 && candidate < args.block) {
      for (int warp = 1; warp < kWarps; ++warp) sum += sums[warp * kLanes + lane_id()];
      args.gains[set * args.block + candidate] = sum * (1.0 + kGainRounding);
    }
    __syncthreads();  // before the next item is summed
  }
}

}  // namespace fastcore::cuda
