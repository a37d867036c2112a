// The list of ops, and the CPU kernels behind one name whatever the machine's instruction set.
//
// Every csrc/cpu/<op>.cpp is compiled once per instruction set, into the namespace FASTCORE_ISA: `base` is
// what the compiler targets by default, `v3` is x86-64-v3 (AVX2).
#pragma once
#include "kernels.h"

// X(op, struct of its arguments)
#define FASTCORE_OPS(X)                               \
  X(project, Project)                                 \
  X(squared_norms, SquaredNorms)                      \
  X(weighted_sum, WeightedSum)                        \
  X(nearest_update, NearestUpdate)                    \
  X(farthest_first_block, FarthestFirstBlock)         \
  X(graph_cut_block, GraphCutBlock)                   \
  X(graph_cut_sparse, GraphCutSparse)                 \
  X(linear_cut, LinearCut)                            \
  X(log_det_block, LogDetBlock)                       \
  X(herding, Herding)                                 \
  X(matching_pursuit, MatchingPursuit)                \
  X(coverage_gains, CoverageGains)                    \
  X(refine_products, RefineProducts)                  \
  X(facility_location_block, FacilityLocationBlock)   \
  X(facility_location_sparse, FacilityLocationSparse) \
  X(deepfool_step, DeepfoolStep)

// Ops without a CUDA kernel.
#define FASTCORE_CPU_OPS(X)                               \
  X(asymmetry, Asymmetry)                                 \
  X(coordinates, Coordinates)                             \
  X(euclidean_tile, EuclideanTile)                        \
  X(facility_location_factored, FacilityLocationFactored) \
  X(factored_columns, FactoredColumns)                    \
  X(factored_project, FactoredProject)                    \
  X(factored_sum, FactoredSum)                            \
  X(nearest_factored, NearestFactored)                    \
  X(factored_coordinates, FactoredCoordinates)

// Ops without a CPU kernel.
#define FASTCORE_CUDA_OPS(X) X(product_gains, ProductGains)

namespace fastcore::cpu {

#define FASTCORE_DECLARE(op, Args) void op(const Args& args);
FASTCORE_OPS(FASTCORE_DECLARE)
FASTCORE_CPU_OPS(FASTCORE_DECLARE)
#undef FASTCORE_DECLARE

}  // namespace fastcore::cpu
