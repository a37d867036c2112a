// Upper bounds on the gains of all candidates under parameter - distance of gradients, from all pairs of
// rows.
#pragma once
#include <numeric>
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
  static constexpr int kBlock = PackedRows<float>::kBlock;
  static constexpr double kRounding = 1e-12;  // of sums in double

  GainSweep(const ReducedRows& rows, const std::vector<int64_t>& order, const RowBoxes& boxes,
            const std::vector<double>& reach)
      : boxes_(boxes), packed_(rows, order, kFew), reach_(reach.size()), reached_(packed_.blocks()) {
    for (size_t p = 0; p < reach.size(); ++p) {
      reach_[p] = static_cast<float>(positive(reach[p]) * (1 - 1.0 / (1 << 23)));
      reached_[p / kBlock] += static_cast<double>(reach_[p]);
      total_ += positive(reach[p]);
    }
  }

  std::vector<double> gains_at_most(int64_t threads) const {
    std::vector<std::vector<double>> sums(threads, std::vector<double>(reach_.size()));
    parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t thread = begin; thread < end; ++thread)
        for (int64_t block = thread; block < packed_.blocks(); block += threads)
          add_distances(block, sums[thread].data());
    });
    std::vector<double> gains(reach_.size());
    for (size_t p = 0; p < gains.size(); ++p) {
      double distances = 0.0;
      for (const auto& sum : sums) distances += sum[p];
      gains[p] = total_ - distances * (1 - kFloatRounding) + kRounding * total_;
    }
    return gains;
  }

 private:
  static constexpr int kRows = PackedRows<float>::kRows, kColumns = PackedRows<float>::kColumns;
  static constexpr int64_t kFew = 12;                        // coordinates that do
  static constexpr double kFloatRounding = 4.0 / (1 << 24);  // of at most three additions in float

  // The pairs of a block with itself and those before it. Blocks that are out of reach are not looked at.
  void add_distances(int64_t block, double* sums) const {
    const int64_t first = block * kBlock;
    std::vector<uint8_t> near(packed_.blocks());
    boxes_.mark(boxes_.around(block), near);
    double ours[kBlock][kFloats] = {}, out_of_reach = 0.0;
    for (int64_t other = 0; other <= block; ++other) {
      double* theirs = sums + other * kBlock;
      const double sign = other < block ? 1.0 : 0.0;
      if (!near[other]) {
        out_of_reach += reached_[other];
        for (int t = 0; t < kBlock; ++t) theirs[t] += sign * reached_[block];
        continue;
      }
      float lower[kRows][kColumns], row_sums[kBlock][kFloats], column_sums[kColumns];
      for (int64_t row = 0; row < kBlock; row += kRows) {
        packed_.lower_bounds(packed_, first + row, other * kBlock, lower);
        for (int t = 0; t < kColumns; t += kFloats) {
          const Floats reaches = load(&reach_[other * kBlock + t]);
          Floats column = {};
          for (int i = 0; i < kRows; ++i) {
            const Floats distance = root(load(lower[i] + t));
            const Floats ahead = t == 0 ? Floats{} : load(row_sums[row + i]);
            store(row_sums[row + i], ahead + smaller(reaches, distance));
            column += smaller(reach_[first + row + i] + Floats{}, distance);
          }
          store(column_sums + t, column);
        }
        for (int t = 0; t < kColumns; ++t) theirs[t] += sign * static_cast<double>(column_sums[t]);
      }
      for (int i = 0; i < kBlock; ++i)
        for (int l = 0; l < kFloats; ++l) ours[i][l] += static_cast<double>(row_sums[i][l]);
    }
    for (int i = 0; i < kBlock; ++i)
      sums[first + i] += std::accumulate(ours[i], ours[i] + kFloats, out_of_reach);
  }

  const RowBoxes& boxes_;
  const PackedRows<float> packed_;
  std::vector<float> reach_;     // rounded down
  std::vector<double> reached_;  // their sum over each block
  double total_ = 0.0;
};

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
