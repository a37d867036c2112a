// A tree of maxima above the values of every ground set, the rows of a set side by side, for kernels with one
// block of threads a set. Every step of such a kernel waits for the one before, so a step should wait for few
// reads: a node has 32 children, and a warp goes down or up a level with one read.
#pragma once
#include "choice.cuh"

namespace fastcore::cuda {

constexpr int kFanBits = 5;  // a child a lane
static_assert(kLanes == 1 << kFanBits);

// Scratch of all sets. Nodes of level l >= 1 of set g start at (l - 1) * level_size + (starts[g] >> 5 l) + g,
// which leaves each set room for a last node that is not full.
struct MaximaTree {
  double* nodes;
  int64_t level_size;
};

// Levels above the values for a set of `rows`, at least 1.
__host__ __device__ inline int height_of(int64_t rows) {
  int height = 1;
  while ((rows - 1) >> (kFanBits * height) > 0) ++height;
  return height;
}

inline MaximaTree tree_for(const Queue& queue, int64_t rows, int64_t sets) {
  const int64_t level_size = (rows >> kFanBits) + sets;
  return {scratch_of<double>(queue, level_size * height_of(rows)), level_size};
}

// The values of one set and the tree above them.
class SetMaxima {
 public:
  __device__ SetMaxima(double* values, const int64_t* starts, const MaximaTree& tree, int64_t set)
      : values_(values + starts[set]),
        nodes_(tree.nodes + set),
        level_size_(tree.level_size),
        first_(starts[set]),
        rows_(starts[set + 1] - first_),
        height_(height_of(rows_)) {}

  // Makes the levels from `level` on, above what other launches or this block made before a barrier.
  template <int threads>
  __device__ void build(int level) {
    for (; level <= height_; ++level) {
      for (int64_t node = warp_id(); node < count(level); node += threads / kLanes) make(level, node);
      __syncthreads();
    }
  }

  __device__ double largest() const { return *at(height_, 0); }
  __device__ double value(int64_t row) const { return values_[row]; }

  // The first row whose value reaches the threshold, which one must. Every warp finds it.
  __device__ int64_t first_from(double threshold) const {
    int64_t node = 0;
    for (int level = height_; level > 0; --level) {
      const unsigned reach = __ballot_sync(kAllLanes, child_of(level, node, -1) >= threshold);
      node = (node << kFanBits) + __ffs(static_cast<int>(reach)) - 1;
    }
    return node;
  }

  // Between two barriers: one value changes. Every warp goes the way up, with the same result, and thread 0
  // writes. A place that it writes is read by nobody: its value goes up in registers.
  __device__ void change(int64_t row, double value) {
    if (threadIdx.x == 0) values_[row] = value;
    int64_t node = row;
    for (int level = 1; level <= height_; ++level) {
      const bool changed = lane_id() == int(node & (kLanes - 1));
      const int64_t parent = node >> kFanBits;
      value = warp_reduce(changed ? value : child_of(level, parent, node), Max());
      if (threadIdx.x == 0) *at(level, parent) = value;
      node = parent;
    }
  }

  // Follows many changes at once: the block has written the value of `row` and those of others(0) <
  // others(1) < ... < others(number - 1). A warp a node of which a child changed.
  template <int threads, class Others>
  __device__ void follow(int64_t row, int64_t number, Others others) {
    for (int level = 1; level <= height_; ++level) {
      const int shift = kFanBits * level;
      __syncthreads();  // the level below is complete
      for (int64_t i = warp_id(); i <= number; i += threads / kLanes) {
        const int64_t node = (i < number ? others(i) : row) >> shift;
        // One warp has the node above `row`, and of others below the same node that of the first.
        if (i < number && (node == row >> shift || (i > 0 && node == others(i - 1) >> shift))) continue;
        make(level, node);
      }
    }
    __syncthreads();
  }

 private:
  __device__ int64_t count(int level) const { return ((rows_ - 1) >> (kFanBits * level)) + 1; }

  __device__ double* at(int level, int64_t node) const {
    if (level == 0) return values_ + node;
    return nodes_ + (level - 1) * level_size_ + (first_ >> (kFanBits * level)) + node;
  }

  // The child of this lane below a node of a level.
  __device__ double child_of(int level, int64_t node, int64_t except) const {
    const int64_t child = (node << kFanBits) + lane_id();
    return child < count(level - 1) && child != except ? *at(level - 1, child) : kClosed;
  }

  __device__ void make(int level, int64_t node) {
    const double largest = warp_reduce(child_of(level, node, -1), Max());
    if (lane_id() == 0) *at(level, node) = largest;
  }

  double* values_;
  double* nodes_;
  int64_t level_size_, first_, rows_;
  int height_;
};

}  // namespace fastcore::cuda
