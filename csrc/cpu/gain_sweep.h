// Upper bounds on the gains of all candidates under parameter - distance of gradients, from all pairs of
// rows.
#pragma once
#include <array>
#include <numeric>
#include <utility>
#include <vector>

#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "cpu/reduced_rows.h"
#include "cpu/row_boxes.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// A gain is the sum of all reaches less that of the smaller of reach and distance: what is summed in float is
// small where gains are large. Each pair of rows is looked at once, for both of them. Positions are places in
// an order of the rows, of which every box has kBlock.
class GainSweep {
 public:
  static constexpr int kBlock = PackedRows::kBlock;
  static constexpr double kRounding = 1e-12;  // of sums in double

  GainSweep(const ReducedRows& rows, const std::vector<int64_t>& order, const RowBoxes& boxes)
      : rows_(rows), order_(order), boxes_(boxes), packed_(rows, order, kFew) {}

  // For reaches by place, those that the boxes have.
  std::vector<double> gains_at_most(const std::vector<double>& reach, int64_t threads) const {
    const Reaches reaches[] = {{reach, packed_.blocks()}};
    return std::move(sums_over_pairs(reaches, threads)[0]);
  }

  // The same for others, too, none of which is larger.
  std::array<std::vector<double>, 2> gains_at_most(const std::vector<double>& reach,
                                                   const std::vector<double>& other, int64_t threads) const {
    const Reaches reaches[] = {{reach, packed_.blocks()}, {other, packed_.blocks()}};
    return sums_over_pairs(reaches, threads);
  }

  // About the sum of the distances from every place to some rows.
  std::vector<float> distances_to_some() const {
    const int64_t count = static_cast<int64_t>(order_.size()), some = std::min<int64_t>(count, kSample);
    std::vector<int64_t> sample(some);
    for (int64_t i = 0; i < some; ++i) sample[i] = order_[i * count / some];
    const PackedRows packed(rows_, sample, kFew);
    std::vector<float> sums(packed_.blocks() * kBlock);
    for (int64_t row = 0; row + kRows <= some; row += kRows)
      for (int64_t column = 0; column < count; column += kColumns) {
        float lower[kRows][kColumns];
        packed.lower_bounds(packed_, row, column, lower);
        for (int i = 0; i < kRows; ++i)
          for (int t = 0; t < kColumns; t += kFloats)
            store(&sums[column + t], load(&sums[column + t]) + root(load(lower[i] + t)));
      }
    return sums;
  }

 private:
  static constexpr int kRows = PackedRows::kRows, kColumns = PackedRows::kColumns;
  static constexpr int64_t kFew = 12;                        // coordinates that do
  static constexpr int64_t kSample = 64;                     // rows
  static constexpr double kFloatRounding = 4.0 / (1 << 24);  // of at most three additions in float

  struct Reaches {
    std::vector<float> each;       // rounded down
    std::vector<double> of_block;  // their sums
    double total = 0.0;

    Reaches(const std::vector<double>& reach, int64_t blocks) : each(reach.size()), of_block(blocks) {
      for (size_t p = 0; p < reach.size(); ++p) {
        each[p] = static_cast<float>(positive(reach[p]) * (1 - 1.0 / (1 << 23)));
        of_block[p / kBlock] += static_cast<double>(each[p]);
        total += positive(reach[p]);
      }
    }
  };

  template <size_t kSets>
  std::array<std::vector<double>, kSets> sums_over_pairs(const Reaches (&reaches)[kSets],
                                                         int64_t threads) const {
    const int64_t places = packed_.blocks() * kBlock;
    std::vector<double> sums(threads * kSets * places);  // of the smaller of reach and distance
    parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t thread = begin; thread < end; ++thread)
        for (int64_t block = thread; block < packed_.blocks(); block += threads)
          add_pairs(reaches, block, &sums[thread * kSets * places]);
    });
    std::array<std::vector<double>, kSets> gains;
    for (size_t set = 0; set < kSets; ++set) {
      const double total = reaches[set].total;
      for (int64_t p = 0; p < places; ++p) {
        double smaller = 0.0;
        for (int64_t thread = 0; thread < threads; ++thread)
          smaller += sums[(thread * kSets + set) * places + p];
        gains[set].push_back(total - smaller * (1 - kFloatRounding) + kRounding * total);
      }
    }
    return gains;
  }

  // The pairs of a block with itself and those before it. Blocks that are out of reach are not looked at.
  template <size_t kSets>
  void add_pairs(const Reaches (&reaches)[kSets], int64_t block, double* sums) const {
    const int64_t first = block * kBlock, places = packed_.blocks() * kBlock;
    std::vector<uint8_t> near(packed_.blocks());
    boxes_.mark(boxes_.around(block), near);
    double ours[kSets][kBlock][kFloats] = {}, out_of_reach[kSets] = {};
    for (int64_t other = 0; other <= block; ++other) {
      double* theirs = sums + other * kBlock;
      const double sign = other < block ? 1.0 : 0.0;
      if (!near[other]) {
        for (size_t set = 0; set < kSets; ++set) {
          out_of_reach[set] += reaches[set].of_block[other];
          for (int t = 0; t < kBlock; ++t) theirs[set * places + t] += sign * reaches[set].of_block[block];
        }
        continue;
      }
      float lower[kRows][kColumns], row_sums[kSets][kBlock][kFloats], column_sums[kColumns];
      for (int64_t row = 0; row < kBlock; row += kRows) {
        packed_.lower_bounds(packed_, first + row, other * kBlock, lower);
        for (int t = 0; t < kColumns; t += kFloats)
          for (int i = 0; i < kRows; ++i) store(lower[i] + t, root(load(lower[i] + t)));
        for (size_t set = 0; set < kSets; ++set) {
          const float* each = reaches[set].each.data();
          for (int t = 0; t < kColumns; t += kFloats) {
            const Floats reach = load(each + other * kBlock + t);
            Floats column = {};
            for (int i = 0; i < kRows; ++i) {
              const Floats distance = load(lower[i] + t);
              const Floats ahead = t == 0 ? Floats{} : load(row_sums[set][row + i]);
              store(row_sums[set][row + i], ahead + smaller(reach, distance));
              column += smaller(each[first + row + i] + Floats{}, distance);
            }
            store(column_sums + t, column);
          }
          for (int t = 0; t < kColumns; ++t)
            theirs[set * places + t] += sign * static_cast<double>(column_sums[t]);
        }
      }
      for (size_t set = 0; set < kSets; ++set)
        for (int i = 0; i < kBlock; ++i)
          for (int l = 0; l < kFloats; ++l) ours[set][i][l] += static_cast<double>(row_sums[set][i][l]);
    }
    for (size_t set = 0; set < kSets; ++set)
      for (int i = 0; i < kBlock; ++i)
        sums[set * places + first + i] +=
            std::accumulate(ours[set][i], ours[set][i] + kFloats, out_of_reach[set]);
  }

  const ReducedRows rows_;
  const std::vector<int64_t>& order_;
  const RowBoxes& boxes_;
  const PackedRows packed_;
};

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
