#include "graph_cut_block.cuh"
#include "launch.h"

namespace fastcore::cuda {
namespace {

template <class Similarity, int threads>
void launch(const GraphCutBlock& args, cudaStream_t stream) {
  FASTCORE_LAUNCH((graph_cut_block_kernel<Similarity, threads>), args.sets, threads, stream, args);
}

template <class Similarity>
void launch(const GraphCutBlock& args, cudaStream_t stream) {
  args.block <= kSmallBlock ? launch<Similarity, kSmallThreads>(args, stream)
                            : launch<Similarity, kLargeThreads>(args, stream);
}

}  // namespace

int graph_cut_block(const GraphCutBlock& args, const Queue& queue) {
  args.similarity_double ? launch<double>(args, as_stream(queue)) : launch<float>(args, as_stream(queue));
  return launch_status();
}

}  // namespace fastcore::cuda
