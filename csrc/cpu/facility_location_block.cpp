#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "cpu/active_rows.h"
#include "cpu/candidates.h"
#include "cpu/coverage.h"
#include "cpu/pairs.h"
#include "cpu/parallel.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

// The lazy greedy of one ground set.
class Greedy {
 public:
  Greedy(const FacilityLocationBlock& args, int64_t set)
      : a_(args),
        set_(set),
        similarity_(args.similarity + set * args.block * args.rows),
        coverage_(args.coverage + set * args.rows),
        bounds_(args.bounds + set * args.block),
        row_ids_(args.row_ids + set * args.block),
        covered_(coverage_, coverage_ + args.rows),
        lower_(args.block),
        fresh_(args.block, -1),
        active_(args.block),
        listed_(args.block),
        columns_(args.block) {
    for (int64_t i = 0; i < a_.rows; ++i)
      if (coverage_[i] < -kClosed) largest_ = std::max(largest_, std::fabs(coverage_[i]));
    for (int64_t j = 0; j < a_.block; ++j)
      if (bounds_[j] > kClosed) heap_.push(j);
  }

  void run() {
    for (time_ = 0; time_ < a_.budgets[set_] && !heap_.empty(); ++time_) {
      const std::vector<int64_t> contenders = take_contenders();
      measure_exactly(contenders);
      const int64_t pick = winner(contenders);
      for (int64_t j : contenders)
        if (j != pick) heap_.push(j);
      if (pick < 0) break;
      a_.picks[set_ * a_.most + time_] = pick;
      a_.gains[set_ * a_.most + time_] = bounds_[pick];
      fold(pick);
      bounds_[pick] = kClosed;
    }
  }

 private:
  using Entry = std::pair<int64_t, double>;  // row, exact similarity

  bool exact_input() const { return a_.features == nullptr; }

  double tolerance(double best) const { return tolerance_of(best, a_.floor[set_]); }

  // Takes from the heap every candidate that may be the best, all freshly evaluated.
  std::vector<int64_t> take_contenders() {
    size_t several = a_.sets == 1 ? 2 * static_cast<size_t>(thread_count()) : 1;
    std::vector<int64_t> taken, stale;
    double best_lower = kClosed;
    const auto reachable = [&](int64_t j) { return bounds_[j] >= best_lower - tolerance(best_lower); };
    while (!heap_.empty() && (taken.empty() || reachable(heap_.best()))) {
      stale.clear();
      while (!heap_.empty() && stale.size() < several && (taken.empty() || reachable(heap_.best()))) {
        const int64_t j = heap_.pop();
        if (bounds_[j] <= 0.0) lower_[j] = bounds_[j], fresh_[j] = time_;  // it is 0 for good
        if (fresh_[j] < time_) {
          stale.push_back(j);
        } else {
          taken.push_back(j);
          best_lower = std::max(best_lower, lower_[j]);
        }
      }
      evaluate(stale);
      for (int64_t j : stale) heap_.push(j);
      if (a_.sets == 1) several = std::min<size_t>(2 * several, 64);
    }
    const auto beaten = std::partition(taken.begin(), taken.end(), reachable);
    for (auto j = beaten; j != taken.end(); ++j) heap_.push(*j);
    taken.erase(beaten, taken.end());
    return taken;
  }

  void evaluate(const std::vector<int64_t>& candidates) {
    const int64_t count = static_cast<int64_t>(candidates.size());
    const auto body = [&](int64_t begin, int64_t end) {
      const std::unique_ptr<ActiveRow[]> scratch(new ActiveRow[most_active() + kGroup]);
      for (int64_t c = begin; c < end; ++c) evaluate(candidates[c], scratch.get());
    };
    int64_t work = 0;
    for (int64_t j : candidates) work += listed_[j] ? static_cast<int64_t>(active_[j].size()) : a_.rows;
    if (a_.sets == 1 && count > 1 && work > 1 << 14)
      parallel_for(0, count, 1, body);
    else
      body(0, count);
    a_.evaluations[2 * set_] += count;
  }

  // Longer lists save little. All together take half a byte for each similarity, at most.
  int64_t most_active() const { return a_.rows / 16; }

  void evaluate(int64_t j, ActiveRow* scratch) {
    if (!listed_[j]) {
      const int64_t count = list_active(similarity_ + j * a_.rows, covered_.data(), a_.rows,
                                        static_cast<float>(row_error()), most_active(), scratch);
      if (count < 0) return estimate(j);
      active_[j].assign(scratch, scratch + count);
      listed_[j] = true;
    }
    const Estimate found = gain_of_active(active_[j], coverage_, a_.error);
    record(j, found.gain,
           exact_input() ? 0.0 : static_cast<double>(found.active) * a_.error + kTie * found.gain);
  }

  // In float a row errs by the error of its similarity and by the rounding of its coverage.
  double row_error() const { return a_.error + 2 * largest_ / (1 << 24); }

  void estimate(int64_t j) {
    const double each = exact_input() ? 0.0 : row_error();  // a coverage made of floats is not rounded
    const auto estimated = exact_input() ? estimate_gains<1, false> : estimate_gains<1, true>;
    Estimate found;
    estimated(similarity_ + j * a_.rows, covered_.data(), a_.rows, static_cast<float>(each), &found);
    record(j, found.gain, static_cast<double>(found.active) * each + kEstimateError * found.gain);
  }

  void record(int64_t j, double gain, double slack) {
    bounds_[j] = std::min(bounds_[j], gain + slack);  // exact in an earlier pass, perhaps
    lower_[j] = gain - slack;
    fresh_[j] = time_;
  }

  // Replaces the bounds of the contenders by exact gains, and keeps their exact similarities.
  void measure_exactly(const std::vector<int64_t>& contenders) {
    a_.evaluations[2 * set_ + 1] += static_cast<int64_t>(contenders.size());
    for (int64_t j : contenders) {
      if (bounds_[j] <= 0.0 || bounds_[j] <= lower_[j]) continue;  // exact as it is
      if (exact_input()) {
        bounds_[j] = lower_[j] = coverage_gain(similarity_ + j * a_.rows, coverage_, a_.rows);
        continue;
      }
      std::vector<Entry>& column = columns_[j];
      column.clear();
      const float* s = similarity_ + j * a_.rows;
      for (const ActiveRow& e : active_[j]) column.emplace_back(e.row, 0.0);
      for (int64_t i = 0; i < a_.rows && !listed_[j]; ++i)
        if (static_cast<double>(s[i]) > coverage_[i] - a_.error) column.emplace_back(i, 0.0);
      const auto body = [&](int64_t begin, int64_t end) {
        for (int64_t e = begin; e < end; ++e) column[e].second = exact_similarity(column[e].first, j);
      };
      const int64_t count = static_cast<int64_t>(column.size());
      const int64_t width = a_.width + a_.second_width;
      if (a_.sets == 1 && count * width > 1 << 15)
        parallel_for(0, count, 1 + (1 << 14) / (width + 1), body);
      else
        body(0, count);
      double gain = 0.0;
      for (const Entry& e : column) gain += std::max(0.0, e.second - coverage_[e.first]);
      bounds_[j] = lower_[j] = gain;
    }
  }

  double exact_similarity(int64_t i, int64_t j) const {
    const int64_t first = set_ * a_.rows;
    const int64_t p = first + a_.positions[set_ * a_.block + j], r = first + i;
    double product = dot(a_.features + r * a_.width, a_.features + p * a_.width, a_.width);
    if (a_.second != nullptr)
      product *= 1.0 + dot(a_.second + r * a_.second_width, a_.second + p * a_.second_width, a_.second_width);
    if (a_.metric == Metric::kDot) return product;
    if (a_.metric == Metric::kCosine) return 0.5 + 0.5 * product * a_.scale[r] * a_.scale[p];
    const double squared = squared_distance(product, a_.norms[r] + a_.norms[p]);
    return a_.metric == Metric::kEuclidean ? a_.parameter - std::sqrt(squared)
                                           : std::exp(-a_.parameter * squared);
  }

  // The best contender, ties to the lowest row; -1 where a row outside the block could be better.
  int64_t winner(const std::vector<int64_t>& contenders) const {
    const Choice found = choose_among(contenders, bounds_, row_ids_, a_.floor[set_]);
    if (found.position < 0) return -1;
    const int64_t row = row_ids_[found.position];
    return wins(found, row, a_.outside[set_], a_.outside_row[set_]) ? found.position : -1;
  }

  void fold(int64_t pick) {
    if (!exact_input()) {
      for (const Entry& e : columns_[pick]) cover(e.first, e.second);
    } else if (listed_[pick]) {
      for (const ActiveRow& e : active_[pick]) cover(e.row, static_cast<double>(e.similarity));
    } else {
      const float* s = similarity_ + pick * a_.rows;
      for (int64_t i = 0; i < a_.rows; ++i) cover(i, static_cast<double>(s[i]));
    }
    std::vector<Entry>().swap(columns_[pick]);
    std::vector<ActiveRow>().swap(active_[pick]);
  }

  void cover(int64_t i, double similarity) {
    if (similarity <= coverage_[i]) return;
    coverage_[i] = similarity;
    covered_[i] = static_cast<float>(similarity);
    largest_ = std::max(largest_, std::fabs(similarity));
  }

  const FacilityLocationBlock& a_;
  const int64_t set_;
  const float* similarity_;
  double* coverage_;
  double* bounds_;
  const int64_t* row_ids_;
  std::vector<float> covered_;                  // the coverage, rounded
  double largest_ = 0.0;                        // its largest absolute value
  std::vector<double> lower_;                   // lower bound on the gain, where fresh
  std::vector<int64_t> fresh_;                  // the pick at which a candidate was last evaluated
  std::vector<std::vector<ActiveRow>> active_;  // of candidates that were listed
  std::vector<uint8_t> listed_;
  std::vector<std::vector<Entry>> columns_;  // exact similarities of the contenders
  int64_t time_ = 0;
  Candidates heap_{bounds_};
};

}  // namespace

void facility_location_block(const FacilityLocationBlock& a) {
  if (a.sets == 1) return Greedy(a, 0).run();
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) Greedy(a, g).run();
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
