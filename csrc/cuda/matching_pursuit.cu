#include "launch.h"
#include "matching_pursuit.cuh"
#include "repeat.cuh"

namespace fastcore::cuda {
namespace {

template <int threads>
int launch(const MatchingPursuit& args, const Queue& queue) {
  const int64_t numbers = args.sets * args.capacity;
  double* const values = scratch_of<double>(queue, 2 * numbers);
  int64_t* const places = scratch_of<int64_t>(queue, 2 * args.sets);
  const PursuitStep step{places, places + args.sets, values, values + numbers};
  const int64_t rows = args.sets * args.rows;
  const auto one = [=](cudaStream_t queued_on) {
    FASTCORE_LAUNCH((pursuit_choose_kernel<threads>), args.sets, threads, queued_on, args, step);
    FASTCORE_LAUNCH((pursuit_column_kernel<kSmallThreads>),
                    blocks_for(ceil_div(rows, kSmallThreads / kLanes)), kSmallThreads, queued_on, args, step);
    FASTCORE_LAUNCH((pursuit_weigh_kernel<threads>), args.sets, threads, queued_on, args, step);
    FASTCORE_LAUNCH((pursuit_correlate_kernel<kSmallThreads>), blocks_for(ceil_div(rows, kSmallThreads)),
                    kSmallThreads, queued_on, args, step);
  };
  return Repeated(as_stream(queue), one).queue(args.steps);
}

}  // namespace

int matching_pursuit(const MatchingPursuit& args, const Queue& queue) {
  return args.rows <= kSmallBlock ? launch<kSmallThreads>(args, queue) : launch<kLargeThreads>(args, queue);
}

}  // namespace fastcore::cuda
