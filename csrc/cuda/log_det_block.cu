#include "launch.h"
#include "log_det_block.cuh"

namespace fastcore::cuda {
namespace {

template <int threads>
void launch(const LogDetBlock& args, cudaStream_t stream) {
  FASTCORE_LAUNCH((log_det_block_kernel<threads>), args.sets, threads, stream, args);
}

}  // namespace

int log_det_block(const LogDetBlock& args, const Queue& queue) {
  args.block <= kSmallBlock ? launch<kSmallThreads>(args, as_stream(queue))
                            : launch<kLargeThreads>(args, as_stream(queue));
  return launch_status();
}

}  // namespace fastcore::cuda
