#include "launch.h"
#include "nearest_update.cuh"

namespace fastcore::cuda {
namespace {

constexpr int kThreads = 256;

template <int group>
void launch(const NearestUpdate& args, cudaStream_t stream) {
  const unsigned blocks = blocks_for(ceil_div(args.sets * args.rows, kThreads / group));
  FASTCORE_LAUNCH((nearest_update_kernel<group, kThreads>), blocks, kThreads, stream, args);
}

}  // namespace

int nearest_update(const NearestUpdate& args, const Queue& queue) {
  // As many lanes as there are picks to share, so that a warp reads whole lines.
  if (args.picks <= 2) {
    launch<1>(args, as_stream(queue));
  } else if (args.picks <= 16) {
    launch<8>(args, as_stream(queue));
  } else {
    launch<kLanes>(args, as_stream(queue));
  }
  return launch_status();
}

}  // namespace fastcore::cuda
