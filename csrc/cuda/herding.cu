#include "herding.cuh"
#include "launch.h"

namespace fastcore::cuda {

int herding(const Herding& args, void* stream_handle) {
  constexpr int kThreads = 256;
  const cudaStream_t stream = as_stream(stream_handle);
  const int64_t tiles = args.sets * ceil_div(args.rows, kTileRows);
  const Scratch tile_best(tiles * int64_t(sizeof(double)), stream);
  if (tile_best.status() != 0) return tile_best.status();
  for (int64_t t = 0; t < args.most; ++t) {
    FASTCORE_LAUNCH((herding_score_kernel<kThreads>), blocks_for(tiles), kThreads, stream, args, t,
                    tile_best.doubles());
    FASTCORE_LAUNCH((herding_choose_kernel<kThreads>), args.sets, kThreads, stream, args, t,
                    tile_best.doubles());
  }
  return launch_status();
}

}  // namespace fastcore::cuda
