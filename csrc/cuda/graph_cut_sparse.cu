#include "graph_cut_sparse.cuh"
#include "launch.h"

namespace fastcore::cuda {
namespace {

template <int threads>
void launch(const GraphCutSparse& args, const MaximaTree& tree, cudaStream_t stream) {
  FASTCORE_LAUNCH((graph_cut_sparse_kernel<threads>), args.sets, threads, stream, args, tree);
}

}  // namespace

// One launch for all picks of all sets.
int graph_cut_sparse(const GraphCutSparse& args, const Queue& queue) {
  constexpr int kThreads = 256;
  constexpr int64_t kFewOthers = 32;  // of a row: a warp has up to four nodes of the tree to bring up to date
  if (args.sets == 0 || args.rows == 0) return 0;
  const MaximaTree tree = tree_for(queue, args.rows, args.sets);
  args.entries <= kFewOthers* args.rows ? launch<kThreads>(args, tree, as_stream(queue))
                                        : launch<kWideBlock>(args, tree, as_stream(queue));
  return launch_status();
}

}  // namespace fastcore::cuda
