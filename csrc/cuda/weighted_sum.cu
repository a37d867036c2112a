#include "launch.h"
#include "weighted_sum.cuh"

namespace fastcore::cuda {

int weighted_sum(const WeightedSum& args, const Queue& queue) {
  constexpr int kThreads = 128;
  const cudaStream_t stream = as_stream(queue);
  const int64_t chunk_rows = rows_per_chunk(args.rows);
  const int64_t chunks = ceil_div(args.rows, chunk_rows);
  const unsigned blocks = blocks_for(args.sets * chunks * ceil_div(args.width, kThreads));
  if (chunks == 1) {
    FASTCORE_LAUNCH((weighted_sum_chunks_kernel<kThreads>), blocks, kThreads, stream, args, chunk_rows,
                    args.out);
    return launch_status();
  }
  double* const partial = scratch_of<double>(queue, args.sets * chunks * args.width);
  FASTCORE_LAUNCH((weighted_sum_chunks_kernel<kThreads>), blocks, kThreads, stream, args, chunk_rows,
                  partial);
  FASTCORE_LAUNCH((add_chunks_kernel<kThreads>), blocks_for(ceil_div(args.sets * args.width, kThreads)),
                  kThreads, stream, partial, args.out, args.sets, chunks, args.width);
  return launch_status();
}

}  // namespace fastcore::cuda
