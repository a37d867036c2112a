// Boxes around groups of gradients x (1, y), which tell that all rows of two groups are far apart without a
// look at one.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// A row or a group of rows: the range of each number of x, the largest |y|, the largest |g|, the smallest
// |g|^2, and the smallest |g|^2 less the square of its reach.
struct Box {
  std::vector<float> low, high;
  float second, length, norm;
  float gap = std::numeric_limits<float>::infinity();
};
// The boxes of `size` rows each, one after the other in an order.
class RowBoxes {
 public:
  RowBoxes(const ReducedRows& rows, const std::vector<int64_t>& order, int64_t size)
      : rows_(rows),
        order_(order),
        size_(size),
        count_((static_cast<int64_t>(order.size()) + size - 1) / size),
        low_(rows.width * count_),
        high_(rows.width * count_),
        second_(count_),
        length_(count_),
        norm_(count_),
        gap_(count_, std::numeric_limits<float>::infinity()) {
    const int64_t numbers = static_cast<int64_t>(order.size()) * rows.second_width;
    positive_ = std::all_of(rows.second, rows.second + numbers, [](float y) { return y >= 0.0f; });
    for (int64_t g = 0; g < count_; ++g) {
      const Box box = around(g);
      for (int64_t c = 0; c < rows.width; ++c)
        low_[c * count_ + g] = box.low[c], high_[c * count_ + g] = box.high[c];
      second_[g] = box.second, length_[g] = box.length, norm_[g] = box.norm;
    }
  }

  int64_t count() const { return count_; }

  // Around one group.
  Box around(int64_t group) const {
    const int64_t first = group * size_, last = std::min<int64_t>(order_.size(), first + size_);
    Box box = of(order_[first]);
    for (int64_t p = first + 1; p < last; ++p) {
      const Box other = of(order_[p]);
      for (int64_t c = 0; c < rows_.width; ++c) {
        box.low[c] = std::min(box.low[c], other.low[c]);
        box.high[c] = std::max(box.high[c], other.high[c]);
      }
      box.second = std::max(box.second, other.second);
      box.length = std::max(box.length, other.length);
      box.norm = std::min(box.norm, other.norm);
    }
    box.gap = gap_[group];
    return box;
  }

  // Of a row.
  Box of(int64_t row) const {
    Box box;
    const float* x = rows_.features + row * rows_.width;
    box.low.assign(x, x + rows_.width);
    box.high = box.low;
    const double norm = rows_.norms[row], square = dot(x, x, rows_.width);
    box.second = static_cast<float>(square > 0.0 ? std::sqrt(std::max(0.0, norm / square - 1.0)) : 0.0);
    box.length = static_cast<float>(std::sqrt(norm)), box.norm = static_cast<float>(norm);
    return box;
  }

  // From now on a row of a group is near when it is nearer than its reach, by place.
  void set_reach(int64_t group, const std::vector<double>& reach) {
    double least = std::numeric_limits<double>::infinity();
    for (int64_t p = group * size_; p < std::min<int64_t>(order_.size(), (group + 1) * size_); ++p)
      if (reach[p] > 0.0)
        least = std::min(least, rows_.norms[order_[p]] * (1 - kSlack) - reach[p] * reach[p]);
    gap_[group] = static_cast<float>(least);
  }

  // Sets near[g] to 1 where some row of group g may be near a row of the box, or the other way round, and
  // leaves the others. The squared distance of two rows is |g|^2 + |g'|^2 - 2 w (1 + v), with w = <x, x'> and
  // v = <y, y'> each within its range.
  void mark(const Box& box, std::vector<uint8_t>& near) const {
    std::vector<float> least(count_), most(count_);
    for (int64_t c = 0; c < rows_.width; ++c) {
      const float low = box.low[c], high = box.high[c];
      const float* lows = &low_[c * count_];
      const float* highs = &high_[c * count_];
      if (low == high) {  // of one row
        const float *first = low < 0.0f ? highs : lows, *last = low < 0.0f ? lows : highs;
        float* __restrict down = least.data(), * __restrict up = most.data();
        for (int64_t g = 0; g < count_; ++g) down[g] += low * first[g], up[g] += low * last[g];
        continue;
      }
      for (int64_t g = 0; g < count_; ++g) {
        const float a = low * lows[g], b = low * highs[g], d = high * lows[g], e = high * highs[g];
        const float ab = a < b ? a : b, de = d < e ? d : e, AB = a < b ? b : a, DE = d < e ? e : d;
        least[g] += ab < de ? ab : de;
        most[g] += AB < DE ? DE : AB;
      }
    }
    // Sums of `width` products round by a share of the lengths.
    const float share = static_cast<float>(rows_.width + 16) / (1 << 22) * box.length,
                norm = box.norm * (1 - kSlack);
    // std::max would keep this loop from vector operations: it takes references.
    const auto larger = [](float a, float b) { return a > b ? a : b; };
    const auto smaller = [](float a, float b) { return a < b ? a : b; };
    const float *seconds = second_.data(), *lengths = length_.data(), *norms = norm_.data(),
                *gaps = gap_.data();
    const float second = box.second, other_gap = box.gap, sign = positive_ ? 0.0f : -1.0f;
    float* __restrict down = least.data(), * __restrict up = most.data();
    for (int64_t g = 0; g < count_; ++g) {
      const float high = second * seconds[g] * (1 + kSlack), low = sign * high;
      const float above = larger(up[g] * (1 + high), up[g] * (1 + low));
      const float product = larger(above, larger(down[g] * (1 + low), down[g] * (1 + high)));
      const float least_apart = smaller(norm + gaps[g], norms[g] * (1 - kSlack) + other_gap);
      down[g] = least_apart - (2 * product + share * lengths[g] + kLeast);
    }
    for (int64_t g = 0; g < count_; ++g) near[g] |= least[g] < 0.0f;
  }

 private:
  static constexpr float kSlack = 1e-5f;   // for what rounds by a share of itself
  static constexpr float kLeast = 1e-30f;  // and for what underflows

  const ReducedRows rows_;
  const std::vector<int64_t>& order_;
  const int64_t size_, count_;
  bool positive_;                  // no number of y is negative
  std::vector<float> low_, high_;  // number by number, of all groups
  std::vector<float> second_, length_, norm_;
  std::vector<float> gap_;  // the smallest |g|^2 less the square of the reach
};

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
