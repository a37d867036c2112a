#include "facility_location_block.cuh"
#include "launch.h"

namespace fastcore::cuda {
namespace {

template <int threads>
void launch(const FacilityLocationBlock& args, double* lower, cudaStream_t stream) {
  FASTCORE_LAUNCH((facility_location_block_kernel<threads>), args.sets, threads, stream, args, lower);
}

}  // namespace

int facility_location_block(const FacilityLocationBlock& args, void* stream_handle) {
  constexpr int64_t kFewRows = 2048;
  const cudaStream_t stream = as_stream(stream_handle);
  const Scratch lower(args.sets * args.block * int64_t(sizeof(double)), stream);
  if (lower.status() != 0) return lower.status();
  args.rows <= kFewRows ? launch<128>(args, lower.doubles(), stream)
                        : launch<512>(args, lower.doubles(), stream);
  return launch_status();
}

}  // namespace fastcore::cuda
