#include "herding.cuh"
#include "launch.h"

namespace fastcore::cuda {

int herding(const Herding& args, const Queue& queue) {
  constexpr int kThreads = 256;
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

}  // namespace fastcore::cuda
