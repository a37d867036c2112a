#include "launch.h"
#include "linear_cut.cuh"

namespace fastcore::cuda {
namespace {

template <int threads>
void launch(const LinearCut& args, double* scratch, cudaStream_t stream) {
  FASTCORE_LAUNCH((linear_cut_kernel<threads>), args.sets, threads, stream, args, scratch);
}

}  // namespace

int linear_cut(const LinearCut& args, void* stream_handle) {
  const cudaStream_t stream = as_stream(stream_handle);
  const Scratch scratch(args.sets * CutScratch::doubles(args) * int64_t(sizeof(double)), stream);
  if (scratch.status() != 0) return scratch.status();
  args.rows <= kSmallBlock ? launch<kSmallThreads>(args, scratch.doubles(), stream)
                           : launch<kLargeThreads>(args, scratch.doubles(), stream);
  return launch_status();
}

}  // namespace fastcore::cuda
