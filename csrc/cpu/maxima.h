// A tree of maxima, for the CPU kernels that pick from a sparse matrix.
#pragma once
#include <algorithm>
#include <vector>

#include "cpu/choice.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// The largest of some values, and the first that reaches a threshold, each in logarithmic time: a binary tree
// of maxima. A heap would have to take out every tied candidate to find the one with the lowest row.
class Maxima {
 public:
  Maxima(const double* values, int64_t count) {
    while (leaves_ < count) leaves_ *= 2;
    node_.assign(2 * leaves_, kClosed);
    std::copy(values, values + count, node_.begin() + leaves_);
    for (int64_t i = leaves_ - 1; i > 0; --i) node_[i] = std::max(node_[2 * i], node_[2 * i + 1]);
  }

  double largest() const { return node_[1]; }

  // One value at least must reach the threshold.
  int64_t first_from(double threshold) const {
    int64_t i = 1;
    while (i < leaves_) {
      i *= 2;
      if (node_[i] < threshold) ++i;
    }
    return i - leaves_;
  }

  void change(int64_t at, double value) {
    int64_t i = at + leaves_;
    node_[i] = value;
    while (i > 1) {
      i /= 2;
      const double largest = std::max(node_[2 * i], node_[2 * i + 1]);
      if (largest == node_[i]) return;
      node_[i] = largest;
    }
  }

 private:
  int64_t leaves_ = 1;
  std::vector<double> node_;  // the children of i are 2 i and 2 i + 1
};

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
