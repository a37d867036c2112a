#include "launch.h"
#include "matching_pursuit.cuh"

namespace fastcore::cuda {
namespace {

template <int threads>
int launch(const MatchingPursuit& args, cudaStream_t stream) {
  const int64_t numbers = args.sets * args.capacity;
  const Scratch scratch((2 * numbers + 2 * args.sets) * int64_t(sizeof(double)), stream);
  if (scratch.status() != 0) return scratch.status();
  int64_t* places = reinterpret_cast<int64_t*>(scratch.doubles() + 2 * numbers);
  const PursuitStep step{places, places + args.sets, scratch.doubles(), scratch.doubles() + numbers};
  const int64_t rows = args.sets * args.rows;
  for (int64_t t = 0; t < args.steps; ++t) {
    FASTCORE_LAUNCH((pursuit_choose_kernel<threads>), args.sets, threads, stream, args, step);
    FASTCORE_LAUNCH((pursuit_column_kernel<kSmallThreads>),
                    blocks_for(ceil_div(rows, kSmallThreads / kLanes)), kSmallThreads, stream, args, step);
    FASTCORE_LAUNCH((pursuit_weigh_kernel<threads>), args.sets, threads, stream, args, step);
    FASTCORE_LAUNCH((pursuit_correlate_kernel<kSmallThreads>), blocks_for(ceil_div(rows, kSmallThreads)),
                    kSmallThreads, stream, args, step);
  }
  return launch_status();
}

}  // namespace

int matching_pursuit(const MatchingPursuit& args, void* stream) {
  return args.rows <= kSmallBlock ? launch<kSmallThreads>(args, as_stream(stream))
                                  : launch<kLargeThreads>(args, as_stream(stream));
}

}  // namespace fastcore::cuda
