// Lazy facility-location picks over a sparse matrix: one block of threads a ground set, of one warp where
// columns are short, below a tree of maxima of its bounds.
#pragma once
#include "set_maxima.cuh"

namespace fastcore::cuda {

// Scratch of all sets.
struct FacilitySparse {
  MaximaTree tree;  // above the bounds
  int32_t* fresh;   // (rows): the pick before which a gain was taken, or -1
};

__device__ inline double sparse_excess(const FacilityLocationSparse& args, int64_t e) {
  return Max()(0.0, double(args.values[e]) - args.coverage[args.indices[e]]);
}

// The set that a node of the first level belongs to.
__device__ inline int64_t set_of_node(const FacilityLocationSparse& args, int64_t node) {
  int64_t low = 0, high = args.sets - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    (args.starts[middle] >> kFanBits) + middle <= node ? low = middle : high = middle - 1;
  }
  return low;
}

// Takes the gains of which nothing is known, and makes the first level: a warp a node of it.
template <int threads>
__global__ void __launch_bounds__(threads)
    facility_sparse_start_kernel(FacilityLocationSparse args, FacilitySparse scratch) {
  constexpr int kWarps = threads / kLanes;
  for (int64_t node = int64_t(blockIdx.x) * kWarps + warp_id(); node < scratch.tree.level_size;
       node += int64_t(gridDim.x) * kWarps) {
    const int64_t set = set_of_node(args, node), start = args.starts[set];
    const int64_t first = start + ((node - (start >> kFanBits) - set) << kFanBits);
    const int64_t left = args.starts[set + 1] - first;
    if (left <= 0 || budget_of(args, set) <= 0) continue;
    const bool inside = lane_id() < left;
    double bound = inside ? args.bounds[first + lane_id()] : kClosed;
    const unsigned unknown = __ballot_sync(kAllLanes, bound == INFINITY);
    for (unsigned todo = unknown; todo != 0; todo &= todo - 1) {
      const int lane = __ffs(static_cast<int>(todo)) - 1;
      const int64_t begin = args.offsets[first + lane], end = args.offsets[first + lane + 1];
      const double gain = warp_sum(end - begin, [=](int64_t e) { return sparse_excess(args, begin + e); });
      if (lane_id() == lane) bound = gain;
    }
    if (inside) {
      args.bounds[first + lane_id()] = bound;
      scratch.fresh[first + lane_id()] = unknown >> lane_id() & 1 ? 0 : -1;
    }
    const double largest = warp_reduce(bound, Max());
    if (lane_id() == 0) {
      scratch.tree.nodes[node] = largest;
      // A count of whole numbers is the same in any order.
      atomicAdd(reinterpret_cast<unsigned long long*>(args.evaluations + set),
                static_cast<unsigned long long>(__popc(unknown)));
    }
  }
}

template <int threads>
__global__ void __launch_bounds__(threads, 1)
    facility_location_sparse_kernel(FacilityLocationSparse args, FacilitySparse scratch) {
  const int64_t set = blockIdx.x, first = args.starts[set], budget = budget_of(args, set);
  if (budget <= 0 || args.starts[set + 1] == first) return;
  const double floor = args.floor[set];
  int32_t* const fresh = scratch.fresh + first;
  SetMaxima maxima(args.bounds, args.starts, scratch.tree, set);
  maxima.build<threads>(2);
  int64_t evaluations = 0, picks = 0;
  while (picks < budget) {
    const double top = maxima.largest();
    if (top == kClosed) break;
    const auto known = [&](int64_t row) { return fresh[row] == picks || maxima.value(row) <= 0.0; };
    // No row before this one can be tied with the best, whatever that is.
    int64_t row = maxima.first_from(top - tolerance_of(top, floor));
    const double value = maxima.value(row);
    bool pick = known(row);
    if (pick && value < top) {
      const int64_t best = maxima.first_from(top);
      pick = known(best);
      if (!pick) row = best;
    }
    const int64_t begin = args.offsets[first + row], end = args.offsets[first + row + 1];
    __syncthreads();  // all have seen the tree before it changes
    if (pick) {
      for (int64_t e = begin + threadIdx.x; e < end; e += threads) {
        double* const covered = args.coverage + args.indices[e];
        *covered = Max()(*covered, double(args.values[e]));
      }
      if (threadIdx.x == 0) record(args, set, picks, first + row, value);
      maxima.change(row, kClosed);
      ++picks;
    } else {
      double gain = 0.0;
#pragma unroll 4
      for (int64_t e = begin + threadIdx.x; e < end; e += threads) gain += sparse_excess(args, e);
      gain = block_reduce<threads>(gain, Sum());
      if (threadIdx.x == 0) fresh[row] = static_cast<int32_t>(picks);
      maxima.change(row, gain);
      ++evaluations;
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) args.evaluations[set] += evaluations;
}

}  // namespace fastcore::cuda
