// The open candidates of a lazy greedy, by bounds on their gains, and its choice among those it has measured.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/choice.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// A heap, the largest bound first. The bound of a candidate may change while it is out of it.
class Candidates {
 public:
  explicit Candidates(const double* bounds) : order_{bounds} {}

  bool empty() const { return heap_.empty(); }

  int64_t best() const { return heap_.front(); }

  void push(int64_t j) {
    heap_.push_back(j);
    std::push_heap(heap_.begin(), heap_.end(), order_);
  }

  void clear() { heap_.clear(); }

  int64_t pop() {
    std::pop_heap(heap_.begin(), heap_.end(), order_);
    const int64_t j = heap_.back();
    heap_.pop_back();
    return j;
  }

 private:
  struct Order {
    const double* bounds;
    bool operator()(int64_t x, int64_t y) const { return bounds[x] < bounds[y]; }
  };

  Order order_;
  std::vector<int64_t> heap_;
};

// The best of some candidates, ties to the lowest row number.
inline Choice choose_among(const std::vector<int64_t>& candidates, const double* values,
                           const int64_t* row_ids, double floor) {
  double best = kClosed;
  for (int64_t j : candidates) best = std::max(best, values[j]);
  const double tolerance = tolerance_of(best, floor);
  int64_t position = -1;
  for (int64_t j : candidates)
    if (values[j] >= best - tolerance && (position < 0 || row_ids[j] < row_ids[position])) position = j;
  return {position, best, tolerance};
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
