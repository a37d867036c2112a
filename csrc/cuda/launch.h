// Launchers of the CUDA kernels. Each queues its op on a stream and returns a cudaError_t, 0 for success.
// None waits for the device, but for facility_location_block on sets of many rows. Picks come filled with
// -1, gains and factor with 0: what stands after the last pick is not written.
#pragma once
#include <functional>

#include "kernels.h"

namespace fastcore::cuda {

struct Queue {
  void* stream;  // a cudaStream_t
  // Device memory for the kernels of one call. torch's: it counts towards its peak, and costs nothing to take
  // again.
  std::function<void*(int64_t bytes)> scratch;
};

int project(const Project& args, const Queue& queue);
int squared_norms(const SquaredNorms& args, const Queue& queue);
int weighted_sum(const WeightedSum& args, const Queue& queue);
int nearest_update(const NearestUpdate& args, const Queue& queue);
int farthest_first_block(const FarthestFirstBlock& args, const Queue& queue);
int graph_cut_block(const GraphCutBlock& args, const Queue& queue);
int graph_cut_sparse(const GraphCutSparse& args, const Queue& queue);
int linear_cut(const LinearCut& args, const Queue& queue);
int log_det_block(const LogDetBlock& args, const Queue& queue);
int herding(const Herding& args, const Queue& queue);
int matching_pursuit(const MatchingPursuit& args, const Queue& queue);
int coverage_gains(const CoverageGains& args, const Queue& queue);
int product_gains(const ProductGains& args, const Queue& queue);
int refine_products(const RefineProducts& args, const Queue& queue);
int facility_location_block(const FacilityLocationBlock& args, const Queue& queue);
int facility_location_sparse(const FacilityLocationSparse& args, const Queue& queue);
int deepfool_step(const DeepfoolStep& args, const Queue& queue);

}  // namespace fastcore::cuda
