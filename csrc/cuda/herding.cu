#include "herding_codes.cuh"
#include "launch.h"
#include "repeat.cuh"

namespace fastcore::cuda {
namespace {

constexpr int kThreads = 256;

int launch_codes(const Herding& args, const Queue& queue) {
  constexpr int64_t kWarps = kThreads / kLanes;
  const cudaStream_t stream = as_stream(queue);
  const int64_t tiles = ceil_div(args.rows, kTileRows), codes_size = args.sets * args.code_width;
  const HerdingCodes codes{
      scratch_of<HerdingPass>(queue, args.sets),    scratch_of<int8_t>(queue, codes_size),
      scratch_of<int8_t>(queue, codes_size),        scratch_of<double>(queue, args.sets * tiles),
      scratch_of<double>(queue, args.sets * tiles), scratch_of<int64_t>(queue, args.sets * args.rows),
      static_cast<double>(most_code(args.width))};
  const unsigned tile_blocks = blocks_for(ceil_div(args.sets * tiles, kWarps));
  const unsigned group_blocks = blocks_for(ceil_div(args.sets * ceil_div(tiles, kLanes), kWarps));
  const unsigned list_blocks = blocks_for(args.sets * kMeasuring);
  FASTCORE_LAUNCH((herding_start_kernel<kThreads>), args.sets, kThreads, stream, args, codes);
  const auto pick = [=](cudaStream_t queued_on) {
    FASTCORE_LAUNCH((herding_bound_kernel<kThreads>), tile_blocks, kThreads, queued_on, args, codes);
    FASTCORE_LAUNCH((herding_lead_kernel<kWideBlock>), args.sets, kWideBlock, queued_on, args, codes);
    FASTCORE_LAUNCH((herding_collect_kernel<kThreads>), group_blocks, kThreads, queued_on, args, codes);
    FASTCORE_LAUNCH((herding_measure_kernel<kThreads>), list_blocks, kThreads, queued_on, args, codes);
    FASTCORE_LAUNCH((herding_take_kernel<kThreads>), args.sets, kThreads, queued_on, args, codes);
  };
  return Repeated(stream, pick).queue(args.most);
}

// Without codes there are few picks.
int launch_rows(const Herding& args, const Queue& queue) {
  const cudaStream_t stream = as_stream(queue);
  const int64_t tiles = args.sets * ceil_div(args.rows, kTileRows);
  double* const tile_best = scratch_of<double>(queue, tiles);
  for (int64_t t = 0; t < args.most; ++t) {
    FASTCORE_LAUNCH((herding_score_kernel<kThreads>), blocks_for(tiles), kThreads, stream, args, t,
                    tile_best);
    FASTCORE_LAUNCH((herding_choose_kernel<kThreads>), args.sets, kThreads, stream, args, t, tile_best);
  }
  return launch_status();
}

}  // namespace

int herding(const Herding& args, const Queue& queue) {
  return args.codes == nullptr ? launch_rows(args, queue) : launch_codes(args, queue);
}

}  // namespace fastcore::cuda
