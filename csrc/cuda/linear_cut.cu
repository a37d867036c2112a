#include "launch.h"
#include "linear_cut_grid.cuh"

namespace fastcore::cuda {
namespace {

template <int threads>
void launch_sets(const LinearCut& args, double* scratch, cudaStream_t stream) {
  FASTCORE_LAUNCH((linear_cut_kernel<threads>), args.sets, threads, stream, args, scratch);
}

void launch_grid(const LinearCut& args, const Queue& queue, double* scratch) {
  constexpr int kThreads = 256;
  constexpr int64_t kWarps = kThreads / kLanes, kMeasured = 1 << 12;
  const cudaStream_t stream = as_stream(queue);
  const int64_t tiles = args.sets * ceil_div(args.rows, kCutTile);
  const CutGrid grid{scratch, scratch_of<double>(queue, tiles),
                     scratch_of<int64_t>(queue, args.sets * args.rows),
                     scratch_of<CutPass>(queue, args.sets)};
  const unsigned row_blocks = blocks_for(ceil_div(args.sets * args.rows, kThreads));
  const unsigned tile_blocks = blocks_for(ceil_div(tiles, kWarps));
  const unsigned group_blocks = blocks_for(ceil_div(ceil_div(tiles, kLanes) + args.sets, kWarps));
  const unsigned list_blocks = blocks_for(ceil_div(std::min(args.rows, kMeasured), kWarps));
  FASTCORE_LAUNCH((cut_start_kernel<kThreads>), row_blocks, kThreads, stream, args, grid);
  for (int64_t t = 0; t < args.most; ++t) {
    FASTCORE_LAUNCH((cut_bound_kernel<kThreads>), tile_blocks, kThreads, stream, args, grid, t);
    FASTCORE_LAUNCH((cut_lead_kernel<kWideBlock>), args.sets, kWideBlock, stream, args, grid, t);
    FASTCORE_LAUNCH((cut_collect_kernel<kThreads>), group_blocks, kThreads, stream, args, grid, t);
    FASTCORE_LAUNCH((cut_measure_kernel<kThreads>), list_blocks, kThreads, stream, args, grid, t);
    FASTCORE_LAUNCH((cut_choose_kernel<kWideBlock>), args.sets, kWideBlock, stream, args, grid, t);
  }
}

}  // namespace

int linear_cut(const LinearCut& args, const Queue& queue) {
  constexpr int64_t kManyRows = 1 << 14;
  double* const scratch = scratch_of<double>(queue, args.sets * CutScratch::doubles(args));
  if (on_grid(args.sets, args.rows, kManyRows)) {
    launch_grid(args, queue, scratch);
  } else {
    args.rows <= kSmallBlock ? launch_sets<kSmallThreads>(args, scratch, as_stream(queue))
                             : launch_sets<kLargeThreads>(args, scratch, as_stream(queue));
  }
  return launch_status();
}

}  // namespace fastcore::cuda
