#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "cpu/reduced_rows.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr float kFar = std::numeric_limits<float>::infinity();
constexpr float kUp = 1.0f + 1.0f / (1 << 22);  // for the rounding of a limit
constexpr int64_t kFew = 16;                    // coordinates that do
constexpr int kRows = PackedRows::kRows, kColumns = PackedRows::kColumns;
static_assert(kColumns == kCompared, "columns are compared together");

// The picks of one set, and the rows that look for the nearest one.
class Nearest {
 public:
  Nearest(const NearestFactored& args, int64_t set)
      : a_(args),
        members_(args.members + set * args.count),
        nearest_(args.nearest + set * args.count),
        picks_(args.picks + set * args.most,
               std::find(args.picks + set * args.most, args.picks + (set + 1) * args.most, -1)),
        packed_picks_(args.rows, picks_, kFew) {}

  // For the members first .. last - 1.
  void find(int64_t first, int64_t last) const {
    std::vector<int64_t> order(members_ + first, members_ + last);
    for (int64_t& row : order) row = std::max<int64_t>(row, 0);
    const PackedRows ours(a_.rows, order, kFew);
    const int64_t columns = packed_picks_.blocks() * PackedRows::kBlock;
    std::vector<float> lower(kRows * columns);
    std::vector<std::pair<int64_t, double>> measured;
    for (int64_t start = first; start < last; start += kRows) {
      for (int64_t column = 0; column < columns; column += kColumns) {
        float low[kRows][kColumns];
        ours.lower_bounds(packed_picks_, start - first, column, low);
        for (int i = 0; i < kRows; ++i) std::copy_n(low[i], kColumns, &lower[i * columns + column]);
      }
      for (int64_t i = 0; i < std::min<int64_t>(kRows, last - start); ++i) {
        float* bounds = &lower[i * columns];
        std::fill(bounds + picks(), bounds + columns, kFar);
        const int64_t row = members_[start + i];
        nearest_[start + i] = row < 0 || picks_.empty() ? 0 : choose(row, bounds, columns, measured);
      }
    }
  }

 private:
  int64_t picks() const { return static_cast<int64_t>(picks_.size()); }

  double farthest_equal(double best, int64_t row) const {
    return best + kTie * std::fabs(best) + a_.blur[row];
  }

  double squared(int64_t row, int64_t position) const {
    const int64_t j = picks_[position];
    const double product = product_with(a_.rows, row, a_.rows.features + j * a_.rows.width,
                                        a_.rows.second + j * a_.rows.second_width);
    return a_.rows.norms[row] + a_.rows.norms[j] - 2.0 * product;
  }

  // The pick with the smallest lower bound is measured first: it leaves few others.
  int64_t choose(int64_t row, const float* lower, int64_t columns,
                 std::vector<std::pair<int64_t, double>>& measured) const {
    float least[kColumns];
    std::fill_n(least, kColumns, kFar);
    for (int64_t column = 0; column < columns; column += kColumns)
      for (int t = 0; t < kColumns; ++t)
        least[t] = lower[column + t] < least[t] ? lower[column + t] : least[t];
    double best = squared(row, position_of(lower, columns, *std::min_element(least, least + kColumns)));
    measured.clear();
    for (int64_t column = 0; column < columns; column += kColumns) {
      const float limit = static_cast<float>(farthest_equal(best, row)) * kUp;
      for (uint32_t bits = at_most(lower + column, std::max(limit, 0.0f)); bits != 0; bits &= bits - 1) {
        const int64_t p = column + __builtin_ctz(bits);
        measured.emplace_back(p, squared(row, p));
        best = std::min(best, measured.back().second);
      }
    }
    for (const auto& [pick, distance] : measured)
      if (distance <= farthest_equal(best, row)) return pick;
    return 0;
  }

  static int64_t position_of(const float* values, int64_t count, float value) {
    for (int64_t column = 0; column < count; column += kColumns) {
      const uint32_t bits = at_most(values + column, value);
      if (bits != 0) return column + __builtin_ctz(bits);
    }
    return 0;
  }

  const NearestFactored& a_;
  const int64_t* members_;
  int64_t* nearest_;
  const std::vector<int64_t> picks_;
  const PackedRows packed_picks_;
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
