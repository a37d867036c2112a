#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "cpu/candidates.h"
#include "cpu/gain_sweep.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int64_t kAhead = 4;  // pairs to be measured whose rows are asked for
constexpr size_t kSome = 32;   // candidates that get a list together
constexpr double kRounding = GainSweep::kRounding;

using Packed = PackedRows<double>;
constexpr int kBlock = Packed::kBlock, kRows = Packed::kRows, kColumns = Packed::kColumns;
static_assert(kColumns == kCompared && kBlock == GainSweep::kBlock, "a box is compared at once");

struct Nearby {
  int32_t row;
  float distance;  // a lower bound
};

using Entry = std::pair<int64_t, double>;  // row, exact similarity

// A sum of max(0, reach - distance) over a list, from which rows go that add nothing: reach only shrinks.
template <class List, class Excess>
double shrink(List& list, const Excess& excess_of) {
  double gain = 0.0;
  size_t kept = 0;
  for (const auto& entry : list) {
    const double excess = excess_of(entry);
    gain += positive(excess);
    list[kept] = entry;
    kept += excess > 0.0;
  }
  list.resize(kept);
  return gain;
}

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
        packed_(rows_, order_),
        place_(args.count),
        reach_(packed_.blocks() * kBlock, kClosed),
        squares_(reach_.size(), -1.0),
        scratch_(new Nearby[kSome * reach_.size()]),
        boxes_(rows_, order_, kBlock),
        touched_(boxes_.count()),
        exact_(args.count),
        fresh_(args.count),
        near_(args.count),
        columns_(args.count) {
    for (int64_t p = 0; p < a_.count; ++p) place_[order_[p]] = p;
    for (int64_t i = 0; i < a_.count; ++i) set_reach(place_[i], a_.parameter - coverage_[i]);
    for (int64_t box = 0; box < boxes_.count(); ++box) boxes_.set_reach(box, reach_);
  }

  // Makes the picks. Returns false where it stopped before the end, because bounds tell too little.
  bool run() {
    sweep();
    for (int64_t j = 0; j < a_.count; ++j)
      if (bounds_[j] > kClosed) unlisted_.push_back(j);
    std::sort(unlisted_.begin(), unlisted_.end(),
              [&](int64_t x, int64_t y) { return bounds_[y] < bounds_[x]; });
    for (time_ = 0; time_ < a_.budgets[set_]; ++time_) {
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
    const auto gains =
        GainSweep(rows_, order_, boxes_, reach_).gains_at_most(a_.sets == 1 ? thread_count() : 1);
    for (int64_t j = 0; j < a_.count; ++j) bounds_[j] = std::min(bounds_[j], gains[place_[j]]);
  }

  // ---- the rows that a candidate may add to -------------------------------------------------------------

  // A list for each of some candidates.
  void list(const std::vector<int64_t>& candidates) {
    const Packed packed(rows_, candidates);
    const int64_t count = static_cast<int64_t>(candidates.size()), groups = (count + kRows - 1) / kRows;
    const auto body = [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; ++group) list_group(packed, candidates, group * kRows);
    };
    if (a_.sets == 1)
      parallel_for(0, groups, 1, body);
    else
      body(0, groups);
    for (int64_t j : candidates) room_ -= static_cast<int64_t>(near_[j].size());
    counts_[0] += count;
  }

  // For kRows of them.
  void list_group(const Packed& packed, const std::vector<int64_t>& candidates, int64_t first) {
    constexpr float kDown = 1.0f - 2.0f / (1 << 24);  // for its rounding and that of this product
    const int count = static_cast<int>(std::min<int64_t>(kRows, candidates.size() - first));
    double lower[kRows][kColumns], gains[kRows][kColumns] = {};
    Nearby* ends[kRows];
    std::vector<uint8_t> near(boxes_.count());
    for (int i = 0; i < count; ++i) {
      ends[i] = starts(first + i);
      boxes_.mark(boxes_.of(candidates[first + i]), near);
    }
    for (int64_t box = 0; box < boxes_.count(); ++box) {
      if (!near[box]) continue;
      const int64_t column = box * kColumns;
      packed.lower_bounds(packed_, first, column, lower);
      for (int i = 0; i < count; ++i) {
        uint32_t bits = below(lower[i], &squares_[column]);
        if (bits == 0) continue;
        double distance[kColumns];
        roots(lower[i], distance);
        for (int t = 0; t < kColumns; ++t) gains[i][t] += positive(reach_[column + t] - distance[t]);
        for (; bits != 0; bits &= bits - 1) {
          const int t = __builtin_ctz(bits);
          *ends[i]++ = {static_cast<int32_t>(column + t), static_cast<float>(distance[t]) * kDown};
        }
      }
    }
    for (int i = 0; i < count; ++i) {
      const int64_t j = candidates[first + i];
      near_[j].assign(starts(first + i), ends[i]);
      const double gain = std::accumulate(gains[i], gains[i] + kColumns, 0.0);
      bounds_[j] = std::min(bounds_[j], gain * (1 + kRounding));
      fresh_[j] = time_;
    }
  }

  // Where the list of the candidate at a position among kSome is made.
  Nearby* starts(int64_t position) const { return scratch_.get() + position * reach_.size(); }

  void set_reach(int64_t place, double reach) {
    reach_[place] = reach;
    squares_[place] = reach > 0.0 ? reach * reach : -1.0;
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
        bounds_[j] = std::min(bounds_[j], gain_at_most(j));
      fresh_[j] = time_;
      heap_.push(j);
    }
    return taken;
  }

  // Some at a time: most of those that follow are soon asked for, too. Neighbours in the order have boxes in
  // common.
  void list_some() {
    const size_t end = std::min(unlisted_.size(), next_ + kSome);
    std::vector<int64_t> some(&unlisted_[next_], &unlisted_[0] + end);
    std::sort(some.begin(), some.end(), [&](int64_t i, int64_t j) { return place_[i] < place_[j]; });
    list(some);
    for (int64_t j : some) heap_.push(j);
    next_ = end;
  }

  double gain_at_most(int64_t j) {
    ++counts_[0];
    return (1 + kRounding) * shrink(near_[j], [&](const Nearby& entry) {
             return reach_[entry.row] - static_cast<double>(entry.distance);
           });
  }

  double exact_gain(int64_t j) {
    ++counts_[0];
    return shrink(columns_[j], [&](const Entry& entry) { return entry.second - coverage_[entry.first]; });
  }

  // Replaces the list of a candidate by exact similarities.
  void measure(int64_t j) {
    std::vector<Entry>& column = columns_[j];
    for (const Nearby& entry : near_[j]) column.emplace_back(order_[entry.row], 0.0);
    std::vector<Nearby>().swap(near_[j]);
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
    if (a_.sets == 1 && count * width > 1 << 16)
      parallel_for(0, count, 1 + kGrain / (width + 1), body);
    else
      body(0, count);
    exact_[j] = 1;
    bounds_[j] = exact_gain(j);
    ++counts_[1];
    counts_[2] += count;
  }

  // Rows of a list are far apart in memory; behind the first lines the processor reads ahead by itself.
  void prefetch(int64_t row) const {
    constexpr int64_t kLine = 16, kLines = 4;
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
    std::vector<Nearby>().swap(near_[pick]);
  }

  const FacilityLocationFactored& a_;
  const int64_t set_;
  const ReducedRows rows_;
  double* coverage_;
  double* bounds_;
  const int64_t* row_ids_;
  int64_t* counts_;
  std::atomic<int64_t>& room_;
  const std::vector<int64_t> order_;   // of rows, like ones together
  const Packed packed_;                // all rows in this order
  std::vector<int64_t> place_;         // of a row in it
  std::vector<double> reach_;          // by place: how near a candidate must be to add to a row
  std::vector<double> squares_;        // of these, -1 where it is none
  std::unique_ptr<Nearby[]> scratch_;  // for kSome lists
  RowBoxes boxes_;                     // of kBlock rows each
  std::vector<uint8_t> touched_;       // boxes
  std::vector<uint8_t> exact_;
  std::vector<int64_t> fresh_;               // the pick at which a candidate was last evaluated
  std::vector<std::vector<Nearby>> near_;    // by place: what a candidate may add to, once it is listed
  std::vector<std::vector<Entry>> columns_;  // the same where similarities are exact
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
