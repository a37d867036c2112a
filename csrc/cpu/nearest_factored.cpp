#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/reduced_rows.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

using Packed = PackedRows<float>;
constexpr double kFar = std::numeric_limits<double>::infinity();
constexpr int kRows = Packed::kRows, kColumns = Packed::kColumns;

// The picks of one set, and the rows that look for the nearest one.
class Nearest {
 public:
  Nearest(const NearestFactored& args, int64_t set)
      : a_(args),
        members_(args.members + set * args.count),
        nearest_(args.nearest + set * args.count),
        picks_(args.picks + set * args.most,
               std::find(args.picks + set * args.most, args.picks + (set + 1) * args.most, -1)),
        packed_picks_(args.rows, picks_) {}

  // For the members first .. last - 1.
  void find(int64_t first, int64_t last) const {
    std::vector<int64_t> order(members_ + first, members_ + last);
    for (int64_t& row : order) row = std::max<int64_t>(row, 0);
    const Packed ours(a_.rows, order);
    const int64_t columns = packed_picks_.blocks() * Packed::kBlock;
    std::vector<float> lower(kRows * columns);
    for (int64_t start = first; start < last; start += kRows) {
      float most[kRows];
      std::fill_n(most, kRows, std::numeric_limits<float>::infinity());
      for (int64_t column = 0; column < columns; column += kColumns) {
        float low[kRows][kColumns], high[kRows][kColumns];
        ours.bounds(packed_picks_, start - first, column, low, high);
        const int64_t count = std::clamp<int64_t>(picks() - column, 0, kColumns);
        for (int i = 0; i < kRows; ++i) {
          std::copy_n(low[i], kColumns, &lower[i * columns + column]);
          for (int64_t t = 0; t < count; ++t) most[i] = std::min(most[i], high[i][t]);
        }
      }
      for (int64_t i = 0; i < std::min<int64_t>(kRows, last - start); ++i) {
        const int64_t row = members_[start + i];
        nearest_[start + i] = row < 0 ? 0 : choose(row, &lower[i * columns], most[i]);
      }
    }
  }

 private:
  int64_t picks() const { return static_cast<int64_t>(picks_.size()); }

  double farthest_equal(double best, int64_t row) const {
    return best + kTie * std::fabs(best) + a_.blur[row];
  }

  // `most` is at least the smallest squared distance.
  int64_t choose(int64_t row, const float* lower, float most) const {
    const double limit = farthest_equal(static_cast<double>(most), row);
    double best = kFar;
    std::vector<std::pair<int64_t, double>> measured;
    for (int64_t p = 0; p < picks(); ++p)
      if (static_cast<double>(lower[p]) <= limit) measured.emplace_back(p, kFar);
    if (measured.size() == 1) return measured[0].first;
    for (auto& [pick, squared] : measured) {
      const int64_t j = picks_[pick];
      squared = inner_squared(a_.rows, row, j, a_.rows.features + j * a_.rows.width,
                              a_.rows.second + j * a_.rows.second_width);
      best = std::min(best, squared);
    }
    for (const auto& [pick, squared] : measured)
      if (squared <= farthest_equal(best, row)) return pick;
    return 0;
  }

  const NearestFactored& a_;
  const int64_t* members_;
  int64_t* nearest_;
  const std::vector<int64_t> picks_;
  const Packed packed_picks_;
};

}  // namespace

void nearest_factored(const NearestFactored& a) {
  const int64_t grain = 1 + kGrain / (1 + a.most * (a.rows.width + a.rows.dimensions));
  for (int64_t set = 0; set < a.sets; ++set) {
    const Nearest nearest(a, set);
    parallel_for(0, a.count, std::max<int64_t>(grain, kRows),
                 [&](int64_t first, int64_t last) { nearest.find(first, last); });
  }
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
