#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "cpu/candidates.h"
#include "cpu/gain_sweep.h"
#include "cpu/near_rows.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr double kLoose = 0.01;  // of the largest gain, by which bounds may be too large
constexpr double kRounding = GainSweep::kRounding;
constexpr int64_t kAhead = 2;  // pairs to be measured whose rows are asked for

constexpr int kBlock = NearRows::kBlock;
static_assert(kBlock == GainSweep::kBlock, "boxes are of as many rows");

using Entry = std::pair<int64_t, double>;  // row, exact similarity

// The lazy greedy of one ground set.
class Greedy {
 public:
  Greedy(const FacilityLocationFactored& args, int64_t set, std::atomic<int64_t>& room)
      : a_(args),
        set_(set),
        rows_(of_set(args.rows, set, args.count)),
        coverage_(args.coverage + set * args.count),
        bounds_(args.bounds + set * args.count),
        row_ids_(args.row_ids + set * args.count),
        counts_(args.counts + 3 * set),
        room_(room),
        order_(alike()),
        place_(args.count),
        boxes_(rows_, order_, kBlock),
        reach_(boxes_.count() * kBlock, kClosed),
        sweep_(rows_, order_, boxes_),
        near_(rows_, order_, boxes_),
        touched_(boxes_.count()),
        exact_(args.count),
        fresh_(args.count),
        columns_(args.count) {
    for (int64_t p = 0; p < a_.count; ++p) place_[order_[p]] = p;
    for (int64_t i = 0; i < a_.count; ++i) set_reach(place_[i], a_.parameter - coverage_[i]);
    for (int64_t box = 0; box < boxes_.count(); ++box) boxes_.set_reach(box, reach_);
  }

  // Makes the picks. Returns false where it stopped before the end, because bounds tell too little.
  bool run() {
    uncovered_ =
        std::all_of(coverage_, coverage_ + a_.count, [](double x) { return x <= 0.0 || std::isinf(x); });
    if (uncovered_ && a_.budgets[set_] > 1)
      sweep_ahead();
    else
      sweep();
    for (time_ = 0; time_ < a_.budgets[set_]; ++time_) {
      if (time_ == 1 && uncovered_) behind_first_pick();
      const std::vector<int64_t> contenders = take_contenders();
      if (stopped()) return false;
      if (contenders.empty()) break;
      const int64_t pick = choose_among(contenders, bounds_, row_ids_, a_.floor[set_]).position;
      for (int64_t j : contenders)
        if (j != pick) heap_.push(j);
      a_.picks[set_ * a_.most + time_] = pick;
      a_.gains[set_ * a_.most + time_] = bounds_[pick];
      fold(pick);
      bounds_[pick] = kClosed;
    }
    return true;
  }

 private:
  // ---- bounds on all gains, from all pairs --------------------------------------------------------------

  // Rows behind each other that their boxes tell apart from others: by the largest number of x, then by
  // length.
  std::vector<int64_t> alike() const {
    std::vector<int64_t> order(a_.count), first(a_.count);
    std::iota(order.begin(), order.end(), 0);
    for (int64_t i = 0; i < a_.count; ++i) {
      const float* x = rows_.features + i * rows_.width;
      first[i] =
          std::max_element(x, x + rows_.width, [](float a, float b) { return std::fabs(a) < std::fabs(b); }) -
          x;
    }
    std::sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
      return first[i] != first[j] ? first[i] < first[j] : rows_.norms[i] < rows_.norms[j];
    });
    return order;
  }

  void sweep() {
    lower_bounds_to(sweep_.gains_at_most(reach_, threads()));
    sort_candidates();
  }

  // The first pick changes every gain, and all by much. Where nothing is covered, one sweep bounds the gains
  // before it and those behind it, which would be known if some row was picked that is about the best.
  void sweep_ahead() {
    const std::vector<float> sums = sweep_.distances_to_some();
    int64_t likely = -1;
    for (int64_t j = 0; j < a_.count; ++j)
      if (bounds_[j] > kClosed && (likely < 0 || sums[place_[j]] < sums[place_[likely]])) likely = j;
    if (likely < 0) return;
    measure(likely);
    likely_reach_ = reach_;
    for (const auto& [row, similarity] : columns_[likely])
      likely_reach_[place_[row]] = std::min(reach_[place_[row]], a_.parameter - similarity);
    auto [gains, later] = sweep_.gains_at_most(reach_, likely_reach_, threads());
    lower_bounds_to(gains);
    later_ = std::move(later);
    sort_candidates();
  }

  // If another row was picked, gains are larger by what reaches are at most.
  void behind_first_pick() {
    uncovered_ = false;
    double most = 0.0, larger = 0.0;
    for (size_t p = 0; p < reach_.size(); ++p) larger += positive(reach_[p] - positive(likely_reach_[p]));
    larger *= 1 + kRounding;
    for (int64_t j = 0; j < a_.count; ++j)
      if (bounds_[j] > kClosed) most = std::max(most, later_[place_[j]]);
    if (larger > kLoose * most) return sweep();
    for (double& gain : later_) gain += larger;
    lower_bounds_to(later_);
    sort_candidates();
  }

  int64_t threads() const { return a_.sets == 1 ? thread_count() : 1; }

  // Gains are by place.
  void lower_bounds_to(const std::vector<double>& gains) {
    for (int64_t j = 0; j < a_.count; ++j) bounds_[j] = std::min(bounds_[j], gains[place_[j]]);
  }

  // Behind changes of their bounds.
  void sort_candidates() {
    heap_.clear();
    unlisted_.clear();
    next_ = 0;
    for (int64_t j = 0; j < a_.count; ++j) {
      if (bounds_[j] == kClosed) continue;
      if (exact_[j] || near_.listed(j))
        heap_.push(j);
      else
        unlisted_.push_back(j);
    }
    std::sort(unlisted_.begin(), unlisted_.end(),
              [&](int64_t x, int64_t y) { return bounds_[y] < bounds_[x]; });
  }

  void set_reach(int64_t place, double reach) {
    reach_[place] = reach;
    near_.set_reach(place, reach);
  }

  // ---- the greedy ---------------------------------------------------------------------------------------

  bool stopped() const { return counts_[2] > a_.pairs || room_ < 0; }

  double tolerance(double best) const { return tolerance_of(best, a_.floor[set_]); }

  // Takes from the heap every candidate that may be the best, all with their exact gains.
  std::vector<int64_t> take_contenders() {
    std::vector<int64_t> taken;
    double best = kClosed;
    while (!stopped()) {
      const double top = heap_.empty() ? kClosed : bounds_[heap_.best()];
      const double least = taken.empty() ? kClosed : best - tolerance(best);
      if (next_ < unlisted_.size() && bounds_[unlisted_[next_]] >= std::max(top, least)) {
        list_some();
        continue;
      }
      if (heap_.empty() || top < least) break;
      const int64_t j = heap_.pop();
      if (!heap_.empty()) near_.prefetch(heap_.best());
      if (bounds_[j] <= 0.0 || (exact_[j] && fresh_[j] == time_)) {  // a gain of 0 stays one
        taken.push_back(j);
        best = std::max(best, bounds_[j]);
        continue;
      }
      if (exact_[j])
        bounds_[j] = exact_gain(j);
      else if (fresh_[j] == time_)
        measure(j);
      else
        ++counts_[0], bounds_[j] = std::min(bounds_[j], near_.gain_at_most(j));
      fresh_[j] = time_;
      heap_.push(j);
    }
    return taken;
  }

  // Some at a time: most of those that follow are soon asked for, too. Neighbours in the order have boxes in
  // common.
  void list_some() {
    const size_t end = std::min(unlisted_.size(), next_ + NearRows::kTogether);
    std::vector<int64_t> some(&unlisted_[next_], &unlisted_[0] + end);
    std::sort(some.begin(), some.end(), [&](int64_t i, int64_t j) { return place_[i] < place_[j]; });
    const bool in_parallel = a_.sets == 1;
    const std::vector<double> gains =
        uncovered_ ? near_.gains_at_most(some, reach_, in_parallel) : near_.list(some, in_parallel);
    for (size_t i = 0; i < some.size(); ++i) {
      const int64_t j = some[i];
      bounds_[j] = std::min(bounds_[j], gains[i]);
      fresh_[j] = time_;
      room_ -= near_.size(j);
      heap_.push(j);
    }
    counts_[0] += static_cast<int64_t>(some.size());
    next_ = end;
  }

  double exact_gain(int64_t j) {
    ++counts_[0];
    std::vector<Entry>& column = columns_[j];
    double gain = 0.0;
    size_t kept = 0;
    for (const Entry& entry : column) {
      const double excess = entry.second - coverage_[entry.first];
      gain += positive(excess);
      column[kept] = entry;
      kept += excess > 0.0;
    }
    column.resize(kept);
    return gain;
  }

  // Replaces the list of a candidate by exact similarities; without one, all rows are within reach.
  void measure(int64_t j) {
    std::vector<Entry>& column = columns_[j];
    if (near_.listed(j)) {
      column.reserve(near_.size(j));
      near_.take(j, [&](int64_t place) { column.emplace_back(order_[place], 0.0); });
    } else {
      for (int64_t i = 0; i < a_.count; ++i)
        if (reach_[place_[i]] > 0.0) column.emplace_back(i, 0.0);
    }
    const std::vector<double> x(&rows_.features[j * rows_.width], &rows_.features[(j + 1) * rows_.width]);
    const std::vector<double> y(&rows_.second[j * rows_.second_width],
                                &rows_.second[(j + 1) * rows_.second_width]);
    const auto body = [&](int64_t begin, int64_t end) {
      for (int64_t e = begin; e < end; ++e) {
        prefetch(column[std::min(e + kAhead, end - 1)].first);
        const int64_t i = column[e].first;
        const double product = product_with(rows_, i, x.data(), y.data());
        column[e].second =
            a_.parameter - std::sqrt(squared_distance(product, rows_.norms[i] + rows_.norms[j]));
      }
    };
    const int64_t count = static_cast<int64_t>(column.size()), width = rows_.width + rows_.second_width;
    if (a_.sets == 1 && count * width > kGrain / 2)
      parallel_for(0, count, 1 + kGrain / 4 / (width + 1), body);
    else
      body(0, count);
    exact_[j] = 1;
    bounds_[j] = exact_gain(j);
    ++counts_[1];
    counts_[2] += count;
  }

  // Rows of a list are far apart in memory.
  void prefetch(int64_t row) const {
    constexpr int64_t kLine = 16, kLines = 32;
    const float* second = rows_.second + row * rows_.second_width;
    __builtin_prefetch(rows_.features + row * rows_.width);
    for (int64_t k = 0; k < std::min(rows_.second_width, kLine * kLines); k += kLine)
      __builtin_prefetch(second + k);
  }

  void fold(int64_t pick) {
    for (const auto& [row, similarity] : columns_[pick]) {
      if (similarity <= coverage_[row]) continue;
      coverage_[row] = similarity;
      set_reach(place_[row], a_.parameter - similarity);
      touched_[place_[row] / kBlock] = 1;
    }
    for (size_t box = 0; box < touched_.size(); ++box)
      if (touched_[box]) boxes_.set_reach(box, reach_), touched_[box] = 0;
    std::vector<Entry>().swap(columns_[pick]);
    near_.drop(pick);
  }

  const FacilityLocationFactored& a_;
  const int64_t set_;
  const ReducedRows rows_;
  double* coverage_;
  double* bounds_;
  const int64_t* row_ids_;
  int64_t* counts_;
  std::atomic<int64_t>& room_;
  const std::vector<int64_t> order_;  // of rows, like ones together
  std::vector<int64_t> place_;        // of a row in it
  RowBoxes boxes_;                    // of kBlock rows each
  std::vector<double> reach_;         // by place: how near a candidate must be to add to a row
  GainSweep sweep_;
  NearRows near_;
  bool uncovered_ = false;            // nothing is: all rows are within reach of all candidates
  std::vector<double> likely_reach_;  // by place, behind a likely first pick,
  std::vector<double> later_;         // and bounds on gains then
  std::vector<uint8_t> touched_;      // boxes
  std::vector<uint8_t> exact_;
  std::vector<int64_t> fresh_;               // the pick at which a candidate was last evaluated
  std::vector<std::vector<Entry>> columns_;  // what a candidate may add to, where similarities are exact
  std::vector<int64_t> unlisted_;            // open candidates without a list, largest bound first, from
  size_t next_ = 0;                          // here on
  int64_t time_ = 0;
  Candidates heap_{bounds_};  // those with one
};

}  // namespace

void facility_location_factored(const FacilityLocationFactored& a) {
  std::atomic<int64_t> room(a.room);
  std::atomic<bool> done(true);
  const auto body = [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g)
      if (!Greedy(a, g, room).run()) done = false;
  };
  if (a.sets == 1)
    body(0, 1);
  else
    parallel_for(0, a.sets, 1, body);
  *a.done = done ? 1 : 0;
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
