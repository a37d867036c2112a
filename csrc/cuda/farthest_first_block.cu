#include "farthest_first_block.cuh"
#include "launch.h"

namespace fastcore::cuda {
namespace {

template <class Distance, int threads>
void launch(const FarthestFirstBlock& args, cudaStream_t stream) {
  FASTCORE_LAUNCH((farthest_first_block_kernel<Distance, threads>), args.sets, threads, stream, args);
}

template <class Distance>
void launch(const FarthestFirstBlock& args, cudaStream_t stream) {
  args.block <= kSmallBlock ? launch<Distance, kSmallThreads>(args, stream)
                            : launch<Distance, kLargeThreads>(args, stream);
}

}  // namespace

int farthest_first_block(const FarthestFirstBlock& args, const Queue& queue) {
  args.distances_double ? launch<double>(args, as_stream(queue)) : launch<float>(args, as_stream(queue));
  return launch_status();
}

}  // namespace fastcore::cuda
