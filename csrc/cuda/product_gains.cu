#include "launch.h"
#include "product_gains.cuh"

namespace fastcore::cuda {

template <class Number>
static void sum_products(const ProductGains& args, float* partial, int64_t words, cudaStream_t stream) {
  constexpr int64_t kStageBytes = kStageSize * sizeof(int4);
  constexpr int64_t kOtherBytes = 2048;  // what the kernel has in shared memory beside the ring
  const int stages = kStages * kStageBytes + kOtherBytes <= most_shared_bytes() ? kStages : kFewStages;
  const int64_t items = args.sets * ceil_div(args.rows, kTileRows) * ceil_div(args.block, kTileCandidates);
  // As many as run at the same time: each fills a multiprocessor, and goes on from tile to tile.
  const unsigned blocks = static_cast<unsigned>(std::min<int64_t>(items, multiprocessors()));
  FASTCORE_LAUNCH_SHARED(product_gains_kernel<Number>, blocks, kTileThreads, stages * kStageBytes, stream,
                         args, partial, words, stages);
}

int product_gains(const ProductGains& args, const Queue& queue) {
  constexpr int kThreads = 256;
  const cudaStream_t stream = as_stream(queue);
  float* const partial = scratch_of<float>(queue, args.sets * ceil_div(args.rows, kTileRows) * args.block);
  if (args.half) {
    sum_products<Half>(args, partial, args.width / 2, stream);
  } else {
    sum_products<Tf32>(args, partial, args.width, stream);
  }
  FASTCORE_LAUNCH((add_tiles_kernel<kThreads>), blocks_for(args.sets * ceil_div(args.block, kLanes)),
                  kThreads, stream, args, partial);
  return launch_status();
}

}  // namespace fastcore::cuda
