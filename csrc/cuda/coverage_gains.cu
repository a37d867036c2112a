#include "coverage_gains.cuh"
#include "launch.h"

namespace fastcore::cuda {

int coverage_gains(const CoverageGains& args, const Queue& queue) {
  constexpr int kCandidates = 4;
  constexpr int kThreads = 256;
  const unsigned blocks = blocks_for(args.sets * ceil_div(args.block, kCandidates));
  FASTCORE_LAUNCH((coverage_gains_kernel<kCandidates, kThreads>), blocks, kThreads, as_stream(queue), args);
  return launch_status();
}

}  // namespace fastcore::cuda
