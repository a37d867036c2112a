#include "coverage_gains.cuh"
#include "launch.h"

namespace fastcore::cuda {

int coverage_gains(const CoverageGains& args, const Queue& queue) {
  constexpr int kSeveral = 4, kThreads = 256;
  constexpr int64_t kWarps = kThreads / kLanes;
  const cudaStream_t stream = as_stream(queue);
  const int64_t chunk_rows = estimate_rows_of_chunk(), chunks = ceil_div(args.rows, chunk_rows);
  const int64_t candidates = args.sets * args.block;
  Estimate* const partial = scratch_of<Estimate>(queue, candidates * chunks);
  const int64_t items = args.sets * ceil_div(args.block, kSeveral) * chunks;
  FASTCORE_LAUNCH((coverage_gains_kernel<kSeveral, kThreads>), blocks_for(ceil_div(items, kWarps)), kThreads,
                  stream, args, partial, chunk_rows);
  FASTCORE_LAUNCH((add_gains_kernel<kThreads>), blocks_for(ceil_div(candidates, kWarps)), kThreads, stream,
                  args, partial, chunks);
  return launch_status();
}

}  // namespace fastcore::cuda
