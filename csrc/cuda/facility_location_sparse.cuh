// Lazy facility-location picks over a sparse matrix: one block of threads a ground set, of one warp where
// columns are short. Every step waits for the one before, so a step should wait for few reads: the bounds of
// a set stand below a tree of maxima with 32 children a node, and a warp goes down or up a level with one
// read.
#pragma once
#include "choice.cuh"

namespace fastcore::cuda {

constexpr int kFanBits = 5;  // a child a lane
static_assert(kLanes == 1 << kFanBits);

// Scratch of all sets. Nodes of level l >= 1 of set g start at (l - 1) * level_size + (starts[g] >> 5 l) + g,
// which leaves each set room for a last node that is not full.
struct SparseTree {
  double* nodes;
  int64_t level_size;
  int32_t* fresh;  // (rows): the pick before which a gain was taken, or -1
};

inline int64_t level_size_of(int64_t rows, int64_t sets) { return (rows >> kFanBits) + sets; }

// Levels above the bounds for a set of `rows`, at least 1.
__host__ __device__ inline int height_of(int64_t rows) {
  int height = 1;
  while ((rows - 1) >> (kFanBits * height) > 0) ++height;
  return height;
}

__device__ inline double sparse_excess(const FacilityLocationSparse& args, int64_t e) {
  return Max()(0.0, double(args.values[e]) - args.coverage[args.indices[e]]);
}

// The bounds of one set and the tree above them. Every warp of the block does all of it, with the same
// result, and thread 0 writes.
class SetMaxima {
 public:
  __device__ SetMaxima(const FacilityLocationSparse& args, const SparseTree& tree, int64_t set)
      : bounds_(args.bounds + args.starts[set]),
        nodes_(tree.nodes + set),
        level_size_(tree.level_size),
        first_(args.starts[set]),
        rows_(args.starts[set + 1] - first_),
        height_(height_of(rows_)) {}

  // Makes the levels above the first.
  template <int threads>
  __device__ void build() {
    for (int level = 2; level <= height_; ++level) {
      for (int64_t node = warp_id(); node < count(level); node += threads / kLanes) {
        const double largest = warp_reduce(child_of(level, node, -1), Max());
        if (lane_id() == 0) *at(level, node) = largest;
      }
      __syncthreads();
    }
  }

  __device__ double largest() const { return *at(height_, 0); }
  __device__ double bound(int64_t row) const { return bounds_[row]; }

  // The first row whose bound reaches the threshold, which one must.
  __device__ int64_t first_from(double threshold) const {
    int64_t node = 0;
    for (int level = height_; level > 0; --level) {
      const unsigned reach = __ballot_sync(kAllLanes, child_of(level, node, -1) >= threshold);
      node = (node << kFanBits) + __ffs(static_cast<int>(reach)) - 1;
    }
    return node;
  }

  // Between two barriers. A place that thread 0 writes is read by nobody: its value goes up in registers.
  __device__ void change(int64_t row, double value) {
    if (threadIdx.x == 0) bounds_[row] = value;
    int64_t node = row;
    for (int level = 1; level <= height_; ++level) {
      const bool changed = lane_id() == int(node & (kLanes - 1));
      const int64_t parent = node >> kFanBits;
      value = warp_reduce(changed ? value : child_of(level, parent, node), Max());
      if (threadIdx.x == 0) *at(level, parent) = value;
      node = parent;
    }
  }

 private:
  __device__ int64_t count(int level) const { return ((rows_ - 1) >> (kFanBits * level)) + 1; }

  __device__ double* at(int level, int64_t node) const {
    if (level == 0) return bounds_ + node;
    return nodes_ + (level - 1) * level_size_ + (first_ >> (kFanBits * level)) + node;
  }

  // The child of this lane below a node of a level.
  __device__ double child_of(int level, int64_t node, int64_t except) const {
    const int64_t child = (node << kFanBits) + lane_id();
    return child < count(level - 1) && child != except ? *at(level - 1, child) : kClosed;
  }

  double* bounds_;
  double* nodes_;
  int64_t level_size_, first_, rows_;
  int height_;
};

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
    facility_sparse_start_kernel(FacilityLocationSparse args, SparseTree tree) {
  constexpr int kWarps = threads / kLanes;
  for (int64_t node = int64_t(blockIdx.x) * kWarps + warp_id(); node < tree.level_size;
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
      tree.fresh[first + lane_id()] = unknown >> lane_id() & 1 ? 0 : -1;
    }
    const double largest = warp_reduce(bound, Max());
    if (lane_id() == 0) {
      tree.nodes[node] = largest;
      // A count of whole numbers is the same in any order.
      atomicAdd(reinterpret_cast<unsigned long long*>(args.evaluations + set),
                static_cast<unsigned long long>(__popc(unknown)));
    }
  }
}

template <int threads>
__global__ void __launch_bounds__(threads, 1)
    facility_location_sparse_kernel(FacilityLocationSparse args, SparseTree tree) {
  const int64_t set = blockIdx.x, first = args.starts[set], budget = budget_of(args, set);
  if (budget <= 0 || args.starts[set + 1] == first) return;
  const double floor = args.floor[set];
  int32_t* const fresh = tree.fresh + first;
  SetMaxima maxima(args, tree, set);
  maxima.build<threads>();
  int64_t evaluations = 0, picks = 0;
  while (picks < budget) {
    const double top = maxima.largest();
    if (top == kClosed) break;
    const auto known = [&](int64_t row) { return fresh[row] == picks || maxima.bound(row) <= 0.0; };
    // No row before this one can be tied with the best, whatever that is.
    int64_t row = maxima.first_from(top - tolerance_of(top, floor));
    const double value = maxima.bound(row);
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
