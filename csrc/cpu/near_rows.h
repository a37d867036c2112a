// The rows that each candidate may add to under parameter - distance of gradients, with lower bounds on their
// distances.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/gain_sweep.h"
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "cpu/reduced_rows.h"
#include "cpu/row_boxes.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// A candidate has a list once it was asked for. Reaches only shrink, so a row that left a list stays out.
// Rows are known by their places in an order, of which every box has kBlock.
class NearRows {
 public:
  static constexpr int kBlock = PackedRows::kBlock;
  static constexpr size_t kTogether = 32;  // candidates that get a list together, at most

  NearRows(const ReducedRows& rows, const std::vector<int64_t>& order, const RowBoxes& boxes)
      : rows_(rows),
        boxes_(boxes),
        packed_(rows, order),
        reach_(packed_.blocks() * kBlock, 0.0f),
        squares_(reach_.size(), -kFar),
        places_(new int32_t[kTogether * stride()]),
        distances_(new float[kTogether * stride()]),
        lists_(order.size()) {}

  void set_reach(int64_t place, double reach) {
    reach_[place] = static_cast<float>(positive(reach)) * kUp;
    squares_[place] = reach > 0.0 ? reach_[place] * reach_[place] * kUp : -kFar;
  }

  // Upper bounds on the gains of some candidates for reaches by place, in double: before the first pick,
  // reaches are long and gains are nearly alike. Makes no lists.
  std::vector<double> gains_at_most(const std::vector<int64_t>& candidates, const std::vector<double>& reach,
                                    bool in_parallel) const {
    const PackedRows packed(rows_, candidates);
    std::vector<double> gains(candidates.size());
    for_groups(gains.size(), in_parallel, [&](int64_t first, int count) {
      LaneSums sums[kRows];
      double lower[kRows][kColumns], distances[kColumns], excess[kColumns];
      for (int64_t column = 0; column < static_cast<int64_t>(reach.size()); column += kColumns) {
        packed.lower_bounds(packed_, first, column, lower);
        for (int i = 0; i < count; ++i) {
          roots(lower[i], distances);
          for (int t = 0; t < kColumns; ++t) excess[t] = positive(reach[column + t] - distances[t]);
          for (int t = 0; t < kColumns; t += kFloats) sums[i].add(excess + t);
        }
      }
      for (int i = 0; i < count; ++i) gains[first + i] = sums[i].total() * (1.0 + GainSweep::kRounding);
    });
    return gains;
  }

  // Lists for at most kTogether candidates, those with most rows in common behind each other. Returns upper
  // bounds on their gains.
  std::vector<double> list(const std::vector<int64_t>& candidates, bool in_parallel) {
    const PackedRows packed(rows_, candidates);
    std::vector<double> gains(candidates.size());
    for_groups(gains.size(), in_parallel, [&](int64_t first, int count) {
      list_group(packed, &candidates[first], first, count, &gains[first]);
    });
    return gains;
  }

  bool listed(int64_t candidate) const { return lists_[candidate].made; }
  int64_t size(int64_t candidate) const { return lists_[candidate].count; }

  // Calls body(place) for every row of a list, and drops the list.
  template <class Body>
  void take(int64_t candidate, const Body& body) {
    for (int64_t e = 0; e < size(candidate); ++e) body(lists_[candidate].places[e]);
    drop(candidate);
  }
  void drop(int64_t candidate) { lists_[candidate] = List(); }

  // An upper bound on a gain now; rows that are out of reach leave the list.
  double gain_at_most(int64_t candidate) {
    List& list = lists_[candidate];
    LaneSums sums;
    int64_t kept = 0;
    for (int64_t e = 0; e < list.count; e += kFloats) {
      const FloatBits places = load(&list.places[e]);
      const Floats distances = load(&list.distances[e]), reaches = gather(reach_.data(), places);
      sums.add(positive(reaches - distances));
      const uint32_t bits = above(reaches, distances);
      pack(bits, places, &list.places[kept]);
      pack(bits, distances, &list.distances[kept]);
      kept += __builtin_popcount(bits);
    }
    list.count = kept;
    list.pad();
    return at_most(sums);
  }

  // Starts to read a list.
  void prefetch(int64_t candidate) const {
    for (int64_t e = 0; e < std::min<int64_t>(64, lists_[candidate].count); e += 16) {
      __builtin_prefetch(&lists_[candidate].places[e]);
      __builtin_prefetch(&lists_[candidate].distances[e]);
    }
  }

 private:
  static constexpr int kRows = PackedRows::kRows, kColumns = PackedRows::kColumns;
  static constexpr float kUp = 1.0f + 1.0f / (1 << 22);  // for the rounding of a number, and of this product
  static constexpr float kFar = std::numeric_limits<float>::infinity();

  struct List {
    std::vector<int32_t> places;   // of `count` rows and some more up to a multiple of kFloats, which are
    std::vector<float> distances;  // out of reach
    int64_t count = 0;
    bool made = false;

    void pad() {
      for (int64_t e = count; e % kFloats != 0; ++e) places[e] = 0, distances[e] = kFar;
    }
  };

  // Calls body(first, count) for kRows candidates at a time.
  template <class Body>
  static void for_groups(size_t candidates, bool in_parallel, const Body& body) {
    const int64_t count = static_cast<int64_t>(candidates), groups = (count + kRows - 1) / kRows;
    const auto some = [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; ++group)
        body(group * kRows, static_cast<int>(std::min<int64_t>(kRows, count - group * kRows)));
    };
    if (in_parallel)
      parallel_for(0, groups, 1, some);
    else
      some(0, groups);
  }

  // From a sum of differences in float.
  static double at_most(const LaneSums& sums) { return sums.total() * (1.0 + 2.0 / (1 << 24)); }

  int64_t stride() const { return static_cast<int64_t>(reach_.size()) + kFloats; }

  // For `count` of them, which are packed from `first` on.
  void list_group(const PackedRows& packed, const int64_t* candidates, int64_t first, int count,
                  double* gains) {
    constexpr FloatBits kEach = {0, 1, 2, 3, 4, 5, 6, 7};
    LaneSums sums[kRows];
    int64_t kept[kRows] = {};
    std::vector<uint8_t> near(boxes_.count());
    for (int i = 0; i < count; ++i) boxes_.mark(boxes_.of(candidates[i]), near);
    for (int64_t box = 0; box < boxes_.count(); ++box) {
      if (!near[box]) continue;
      float lower[kRows][kColumns];
      packed.lower_bounds(packed_, first, box * kColumns, lower);
      for (int i = 0; i < count; ++i) {
        int32_t* places = &places_[(first + i) * stride()];
        float* distances = &distances_[(first + i) * stride()];
        for (int t = 0; t < kColumns; t += kFloats) {
          const int64_t place = box * kColumns + t;
          const Floats squares = load(lower[i] + t);
          const uint32_t bits = above(load(&squares_[place]), squares);
          if (bits == 0) continue;
          const Floats distance = root(squares);
          sums[i].add(positive(load(&reach_[place]) - distance));
          pack(bits, kEach + static_cast<int32_t>(place), places + kept[i]);
          pack(bits, distance, distances + kept[i]);
          kept[i] += __builtin_popcount(bits);
        }
      }
    }
    for (int i = 0; i < count; ++i) {
      List& list = lists_[candidates[i]];
      const int64_t from = (first + i) * stride(), padded = (kept[i] + kFloats - 1) / kFloats * kFloats;
      list.places.assign(&places_[from], &places_[from + padded]);
      list.distances.assign(&distances_[from], &distances_[from + padded]);
      list.count = kept[i], list.made = true;
      list.pad();
      gains[i] = at_most(sums[i]);
    }
  }

  const ReducedRows rows_;
  const RowBoxes& boxes_;
  const PackedRows packed_;                  // all rows in the order
  std::vector<float> reach_, squares_;       // by place and their squares, rounded up; 0, -inf: no reach
  const std::unique_ptr<int32_t[]> places_;  // for kTogether lists
  const std::unique_ptr<float[]> distances_;
  std::vector<List> lists_;  // of the candidates
};

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
