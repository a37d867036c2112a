#include "facility_location_sparse.cuh"
#include "launch.h"

namespace fastcore::cuda {
namespace {

template <int threads>
void launch(const FacilityLocationSparse& args, const SparseTree& tree, cudaStream_t stream) {
  FASTCORE_LAUNCH((facility_location_sparse_kernel<threads>), args.sets, threads, stream, args, tree);
}

}  // namespace

// Picks of a set count up to 2^31.
int facility_location_sparse(const FacilityLocationSparse& args, const Queue& queue) {
  constexpr int kThreads = 256;
  constexpr int64_t kWarps = kThreads / kLanes, kShortColumns = 256;
  if (args.sets == 0 || args.rows == 0) return 0;
  const cudaStream_t stream = as_stream(queue);
  const int64_t level_size = level_size_of(args.rows, args.sets);
  const SparseTree tree{scratch_of<double>(queue, level_size * height_of(args.rows)), level_size,
                        scratch_of<int32_t>(queue, args.rows)};
  FASTCORE_LAUNCH((facility_sparse_start_kernel<kThreads>), blocks_for(ceil_div(level_size, kWarps)),
                  kThreads, stream, args, tree);
  // A warp has four reads a lane on the way; beyond, its reads take longer than a barrier of more warps.
  args.entries <= kShortColumns* args.rows ? launch<kLanes>(args, tree, stream)
                                           : launch<kThreads>(args, tree, stream);
  return launch_status();
}

}  // namespace fastcore::cuda
