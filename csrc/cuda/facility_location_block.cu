#include <vector>

#include "facility_location_grid.cuh"
#include "launch.h"
#include "repeat.cuh"

namespace fastcore::cuda {
namespace {

template <int threads>
void launch_sets(const FacilityLocationBlock& args, double* lower, const Queue& queue) {
  int64_t* const lists = scratch_of<int64_t>(queue, args.sets * threads);
  FASTCORE_LAUNCH((facility_location_block_kernel<threads>), args.sets, threads, as_stream(queue), args,
                  lower, lists);
}

// Queues rounds until all sets have ended. How many it takes depends on the data, so the host looks after
// every few: one wait beside many launches.
int launch_grid(const FacilityLocationBlock& args, double* lower, const Queue& queue) {
  constexpr int kThreads = 256, kRounds = 16;
  constexpr int64_t kMostBlocks = 2048;
  const cudaStream_t stream = as_stream(queue);
  const int64_t chunk_rows = estimate_rows_of_chunk();
  const int64_t chunks = ceil_div(args.rows, chunk_rows), finer = ceil_div(args.rows, chunk_rows / kFiner);
  const int64_t room = std::max(std::min<int64_t>(args.block, kWideBlock) * chunks, kContenders * finer);
  const FacilityGrid grid{lower,
                          scratch_of<Progress>(queue, args.sets),
                          scratch_of<int64_t>(queue, args.sets * kWideBlock),
                          scratch_of<Estimate>(queue, args.sets * room),
                          room,
                          chunk_rows};
  const unsigned blocks = blocks_for(std::min(kMostBlocks, kContenders * finer));
  FASTCORE_LAUNCH((facility_choose_kernel<kWideBlock>), args.sets, kWideBlock, stream, args, grid, true);
  std::vector<Progress> progress(args.sets);
  const auto ended = [](const Progress& set) { return set.job == Job::kEnd; };
  Repeated rounds(stream, [=](cudaStream_t queued_on) {
    FASTCORE_LAUNCH((facility_work_kernel<kThreads>), blocks, kThreads, queued_on, args, grid);
    FASTCORE_LAUNCH((facility_choose_kernel<kWideBlock>), args.sets, kWideBlock, queued_on, args, grid,
                    false);
  });
  do {
    if (const int error = rounds.queue(kRounds)) return error;
    int error = static_cast<int>(cudaMemcpyAsync(progress.data(), grid.progress, args.sets * sizeof(Progress),
                                                 cudaMemcpyDeviceToHost, stream));
    if (error == 0) error = static_cast<int>(cudaStreamSynchronize(stream));
    if (error != 0) return error;
  } while (!std::all_of(progress.begin(), progress.end(), ended));
  return 0;
}

}  // namespace

int facility_location_block(const FacilityLocationBlock& args, const Queue& queue) {
  constexpr int64_t kFewRows = 2048, kManyRows = 4096;
  double* const lower = scratch_of<double>(queue, args.sets * args.block);
  if (on_grid(args.sets, args.rows, kManyRows)) return launch_grid(args, lower, queue);
  args.rows <= kFewRows ? launch_sets<256>(args, lower, queue) : launch_sets<512>(args, lower, queue);
  return launch_status();
}

}  // namespace fastcore::cuda
