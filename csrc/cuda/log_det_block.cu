#include "launch.h"
#include "log_det_block.cuh"

namespace fastcore::cuda {
namespace {

template <int threads>
void launch(const LogDetBlock& args, cudaStream_t stream) {
  FASTCORE_LAUNCH((log_det_block_kernel<threads>), args.sets, threads, stream, args);
}

}  // namespace

int log_det_block(const LogDetBlock& args, void* stream) {
  args.block <= kSmallBlock ? launch<kSmallThreads>(args, as_stream(stream))
                            : launch<kLargeThreads>(args, as_stream(stream));
  return launch_status();
}

}  // namespace fastcore::cuda
