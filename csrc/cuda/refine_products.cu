#include "launch.h"
#include "refine_products.cuh"

namespace fastcore::cuda {

int refine_products(const RefineProducts& args, const Queue& queue) {
  constexpr int kSeveral = 4, kThreads = 256, kChunkRows = 1024;  // 16 KB of shared memory
  const int64_t items = args.sets * ceil_div(args.block, kSeveral) * ceil_div(args.rows, kChunkRows);
  FASTCORE_LAUNCH((refine_products_kernel<kSeveral, kThreads, kChunkRows>), blocks_for(items), kThreads,
                  as_stream(queue), args);
  return launch_status();
}

}  // namespace fastcore::cuda
