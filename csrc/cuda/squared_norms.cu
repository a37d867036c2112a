#include "launch.h"
#include "squared_norms.cuh"

namespace fastcore::cuda {

int squared_norms(const SquaredNorms& args, const Queue& queue) {
  constexpr int kThreads = 256;
  const unsigned blocks = blocks_for(ceil_div(args.sets * args.rows, kThreads / kLanes));
  FASTCORE_LAUNCH((squared_norms_kernel<kThreads>), blocks, kThreads, as_stream(queue), args);
  return launch_status();
}

}  // namespace fastcore::cuda
