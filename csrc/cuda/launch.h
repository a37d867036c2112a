// Launchers of the CUDA kernels. Each queues its op on `stream`, a cudaStream_t, and returns a
// cudaError_t, 0 for success. None waits for the device. Picks come filled with -1, gains and factor
// with 0: what stands after the last pick is not written.
#pragma once
#include "kernels.h"

namespace fastcore::cuda {

int project(const Project& args, void* stream);
int squared_norms(const SquaredNorms& args, void* stream);
int weighted_sum(const WeightedSum& args, void* stream);
int nearest_update(const NearestUpdate& args, void* stream);
int farthest_first_block(const FarthestFirstBlock& args, void* stream);
int graph_cut_block(const GraphCutBlock& args, void* stream);
int linear_cut(const LinearCut& args, void* stream);
int log_det_block(const LogDetBlock& args, void* stream);
int herding(const Herding& args, void* stream);
int matching_pursuit(const MatchingPursuit& args, void* stream);
int coverage_gains(const CoverageGains& args, void* stream);
int facility_location_block(const FacilityLocationBlock& args, void* stream);
int deepfool_step(const DeepfoolStep& args, void* stream);

}  // namespace fastcore::cuda
