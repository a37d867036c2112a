#include "deepfool_step.cuh"
#include "launch.h"

namespace fastcore::cuda {

int deepfool_step(const DeepfoolStep& args, const Queue& queue) {
  constexpr int kThreads = 512;
  FASTCORE_LAUNCH((deepfool_step_kernel<kThreads>), blocks_for(args.rows), kThreads, as_stream(queue), args);
  return launch_status();
}

}  // namespace fastcore::cuda
