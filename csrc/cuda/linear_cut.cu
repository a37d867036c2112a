#include "launch.h"
#include "linear_cut_grid.cuh"
#include "repeat.cuh"

namespace fastcore::cuda {
namespace {

template <int threads>
void launch_sets(const LinearCut& args, double* scratch, cudaStream_t stream) {
  FASTCORE_LAUNCH((linear_cut_kernel<threads>), args.sets, threads, stream, args, scratch);
}

int launch_grid(const LinearCut& args, const Queue& queue, double* scratch) {
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
  const auto pick = [=](cudaStream_t queued_on) {
    FASTCORE_LAUNCH((cut_bound_kernel<kThreads>), tile_blocks, kThreads, queued_on, args, grid);
    FASTCORE_LAUNCH((cut_lead_kernel<kWideBlock>), args.sets, kWideBlock, queued_on, args, grid);
    FASTCORE_LAUNCH((cut_collect_kernel<kThreads>), group_blocks, kThreads, queued_on, args, grid);
    FASTCORE_LAUNCH((cut_measure_kernel<kThreads>), list_blocks, kThreads, queued_on, args, grid);
    FASTCORE_LAUNCH((cut_choose_kernel<kWideBlock>), args.sets, kWideBlock, queued_on, args, grid);
  };
  return Repeated(stream, pick).queue(args.most);
}

}  // namespace

int linear_cut(const LinearCut& args, const Queue& queue) {
  constexpr int64_t kManyRows = 1 << 14;
  double* const scratch = scratch_of<double>(queue, args.sets * CutScratch::doubles(args));
  if (on_grid(args.sets, args.rows, kManyRows)) return launch_grid(args, queue, scratch);
  args.rows <= kSmallBlock ? launch_sets<kSmallThreads>(args, scratch, as_stream(queue))
                           : launch_sets<kLargeThreads>(args, scratch, as_stream(queue));
  return launch_status();
}

}  // namespace fastcore::cuda
