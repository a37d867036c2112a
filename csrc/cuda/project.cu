#include "launch.h"
#include "project.cuh"

namespace fastcore::cuda {

int project(const Project& args, const Queue& queue) {
  constexpr int kThreads = 256;
  const unsigned blocks = blocks_for(ceil_div(args.sets * args.rows, kThreads / kLanes));
  FASTCORE_LAUNCH((project_kernel<kThreads>), blocks, kThreads, as_stream(queue), args);
  return launch_status();
}

}  // namespace fastcore::cuda
