#include "facility_location_sparse.cuh"
#include "launch.h"

namespace fastcore::cuda {
namespace {

template <int threads>
void launch(const FacilityLocationSparse& args, const FacilitySparse& scratch, cudaStream_t stream) {
  FASTCORE_LAUNCH((facility_location_sparse_kernel<threads>), args.sets, threads, stream, args, scratch);
}

}  // namespace

// Picks of a set count up to 2^31.
int facility_location_sparse(const FacilityLocationSparse& args, const Queue& queue) {
  constexpr int kThreads = 256;
  constexpr int64_t kWarps = kThreads / kLanes, kShortColumns = 256;
  if (args.sets == 0 || args.rows == 0) return 0;
  const cudaStream_t stream = as_stream(queue);
  const FacilitySparse scratch{tree_for(queue, args.rows, args.sets), scratch_of<int32_t>(queue, args.rows)};
  FASTCORE_LAUNCH((facility_sparse_start_kernel<kThreads>),
                  blocks_for(ceil_div(scratch.tree.level_size, kWarps)), kThreads, stream, args, scratch);
  // A warp has four reads a lane on the way; beyond, its reads take longer than a barrier of more warps.
  args.entries <= kShortColumns* args.rows ? launch<kLanes>(args, scratch, stream)
                                           : launch<kThreads>(args, scratch, stream);
  return launch_status();
}

}  // namespace fastcore::cuda
