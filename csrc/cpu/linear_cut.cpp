#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/choice.h"
#include "cpu/parallel.h"
#include "cpu/pick_sums.h"
#include "cpu/rows.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int64_t kChunk = 128;  // rows that are bounded together,
constexpr int64_t kGroup = 32;   // with sums of so many in registers

// What the rounding of a sum over the coordinates in float can add to a bound, for rows and sums of length 1.
inline double rounding_of(const LinearCut& args) {
  return 2.0 * static_cast<double>(args.directions + 8) / (1 << 24) * args.penalty;
}

// The position of the largest of some numbers, the first of equal ones; 0 where all are -inf.
inline size_t largest(const double* values, size_t count) {
  const double most = largest_of(values, static_cast<int64_t>(count));
  return static_cast<size_t>(std::find(values, values + count, most) - values);
}

// The rows whose values are not -inf, about in descending order: in buckets of near values.
std::vector<int64_t> descending(const double* values, int64_t rows) {
  constexpr int64_t kBuckets = 1024;
  double least = INFINITY, most = kClosed;
  for (int64_t row = 0; row < rows; ++row)
    if (values[row] > kClosed) least = std::min(least, values[row]), most = std::max(most, values[row]);
  const double scale = most > least ? (kBuckets - 1) / (most - least) : 0.0;
  const auto bucket = [&](int64_t row) { return static_cast<int64_t>((most - values[row]) * scale); };
  std::vector<int64_t> ends(kBuckets + 1, 0);
  for (int64_t row = 0; row < rows; ++row)
    if (values[row] > kClosed) ++ends[bucket(row) + 1];
  for (int64_t b = 0; b < kBuckets; ++b) ends[b + 1] += ends[b];
  std::vector<int64_t> order(ends[kBuckets]);
  for (int64_t row = 0; row < rows; ++row)
    if (values[row] > kClosed) order[ends[bucket(row)]++] = row;
  return order;
}

// Rows whose gains were measured since the start of a pass, in no order.
class MeasuredRows {
 public:
  struct Row {
    int64_t row;
    double gain;    // at most
    int64_t time;   // picks made when it was measured
    double taken;   // along the directions by the picks before that
    double apart;   // length apart from the directions
    double length;  // of the row, at least
  };

  MeasuredRows(const LinearCut& args) : a_(args) {}

  size_t size() const { return rows_.size(); }
  const Row& operator[](size_t e) const { return rows_[e]; }

  // Takes in a row with its coordinates, `stride` numbers from one to the next, and its length.
  void add(int64_t row, const float* coordinates, int64_t stride, double length) {
    if (rows_.size() == capacity_) grow();
    for (int64_t c = 0; c <= a_.directions; ++c)
      coordinates_[c * capacity_ + rows_.size()] = coordinates[c * stride];
    rows_.push_back({row, kClosed, 0, 0.0, coordinates[a_.directions * stride], length});
  }

  void measured(size_t e, double gain, const Drift& drift) {
    double taken = 0.0;
    for (int64_t c = 0; c < a_.directions; ++c) taken += coordinates_[c * capacity_ + e] * drift.sum()[c];
    rows_[e].gain = gain, rows_[e].time = drift.picks(), rows_[e].taken = a_.penalty * taken;
  }

  // Upper bounds on the gains now; a unit along direction c takes weight * weights[c] off.
  const std::vector<double>& bound(const Drift& drift, double weight, const float* weights) {
    bounds_.resize(rows_.size());
    along_.resize(rows_.size());
    const double rounding = rounding_of(a_) * drift.lengths();
    for (size_t start = 0; start < rows_.size(); start += kGroup) {
      float taken[kGroup] = {};  // beyond the last row these are sums of numbers that nothing reads
      for (int64_t c = 0; c < a_.directions; ++c)
        for (int64_t l = 0; l < kGroup; ++l) taken[l] += weights[c] * coordinates_[c * capacity_ + start + l];
      for (size_t e = start; e < std::min(rows_.size(), start + kGroup); ++e) {
        const Row& row = rows_[e];
        along_[e] =
            row.gain + row.taken - weight * static_cast<double>(taken[e - start]) + rounding * row.length;
        bounds_[e] = bound_of(e, drift);
      }
    }
    return bounds_;
  }

  void set_gain(size_t e, double gain) { rows_[e].gain = gain; }

  // Makes the bound of one row as tight as it gets.
  void settle(size_t e, Drift& drift, const PickSums& sums) {
    drift.settle(rows_[e].time, sums);
    bounds_[e] = bound_of(e, drift);
  }

  void remove(int64_t row) {
    for (size_t e = 0; e < rows_.size(); ++e) {
      if (rows_[e].row != row) continue;
      for (int64_t c = 0; c <= a_.directions; ++c)
        coordinates_[c * capacity_ + e] = coordinates_[c * capacity_ + rows_.size() - 1];
      rows_[e] = rows_.back();
      return rows_.pop_back();
    }
  }

 private:
  void grow() {
    const size_t capacity = std::max<size_t>(4 * kGroup, 2 * capacity_);
    std::vector<float> grown((a_.directions + 1) * capacity, 0.0f);
    for (int64_t c = 0; c <= a_.directions; ++c)
      std::copy_n(coordinates_.data() + c * capacity_, rows_.size(), grown.data() + c * capacity);
    coordinates_.swap(grown);
    capacity_ = capacity;
  }

  double bound_of(size_t e, const Drift& drift) const {
    return along_[e] + a_.penalty * rows_[e].apart * drift.rest(rows_[e].time);
  }

  const LinearCut& a_;
  std::vector<Row> rows_;
  std::vector<double> along_, bounds_;  // bounds without, and with, what the rest of the picks may add
  std::vector<float> coordinates_;      // (directions + 1, capacity)
  size_t capacity_ = 0;
};

// A pass of the lazy greedy over one ground set, from bounds on the gains of all rows.
//
// Rows that were not measured in it are bounded by one formula, chunk by chunk, in the order of their bounds
// at its start: most chunks never matter. The few that were are kept in a list with the time of their
// measurement.
class Pass {
 public:
  Pass(const LinearCut& args, int64_t set, const std::vector<double>& start,
       const std::vector<double>& lengths, PickSums& picks)
      : a_(args),
        set_(set),
        coordinates_(args.coordinates + set * (args.directions + 1) * args.rows),
        first_(args.values + set * args.rows),
        lengths_(lengths),
        picks_(picks),
        drift_(args),
        weights_(args.directions + 1, 0.0f),
        order_(descending(start.data(), args.rows)),
        measured_(args) {
    const size_t places = (order_.size() + kChunk - 1) / kChunk * kChunk;
    unmeasured_.assign(places, kClosed);
    bound_.assign(places, kClosed);
    columns_.assign(places * (a_.directions + 1), 0.0f);
    for (size_t begin = 0; begin < order_.size(); begin += kChunk) {
      Chunk chunk = {INFINITY, -INFINITY, 0.0, 0.0};
      for (size_t place = begin; place < std::min(order_.size(), begin + kChunk); ++place) {
        const int64_t row = order_[place];
        unmeasured_[place] = start[row];
        float* column = columns_.data() + begin * (a_.directions + 1) + (place - begin);
        double across = 0.0;
        for (int64_t c = 0; c <= a_.directions; ++c) {
          const float value = column[c * kChunk] = coordinates_[c * a_.rows + row];
          if (c > 0 && c < a_.directions) across += static_cast<double>(value) * static_cast<double>(value);
        }
        chunk.least_along = std::min(chunk.least_along, static_cast<double>(column[0]));
        chunk.most_along = std::max(chunk.most_along, static_cast<double>(column[0]));
        chunk.most_across = std::max(chunk.most_across, std::sqrt(across));
        chunk.most_apart = std::max(chunk.most_apart, static_cast<double>(column[a_.directions * kChunk]));
      }
      chunks_.push_back(chunk);
      bound_rows(chunks_.size() - 1);
    }
  }

  // Makes picks, behind those `made` before, until all gains should be taken afresh. Returns how many.
  int64_t run(int64_t made) {
    const int64_t budget = std::min(a_.budgets[set_] - made, picks_.pass());
    const int64_t before = a_.evaluations[set_], most = picks_.summed() ? a_.rows : a_.rows / 2;
    for (int64_t t = 0; t < budget && !order_.empty(); ++t) {
      if (t > 0 && a_.evaluations[set_] - before > most) break;
      const Pick pick = next_pick(t);
      if (pick.row < 0) break;
      a_.picks[set_ * a_.most + made + t] = pick.row;
      a_.gains[set_ * a_.most + made + t] = pick.gain;
      add(pick.row);
    }
    return drift_.picks();
  }

 private:
  struct Pick {
    int64_t row;  // -1 where no row is open
    double gain;
  };

  // A row that was measured for the next pick, and what its gain is at least.
  struct Fresh {
    size_t e;
    double least;
  };

  // Neighbouring rows, which are bounded again only when one of them could matter.
  struct Chunk {
    double least_along, most_along;  // along the first direction
    double most_across, most_apart;  // along all others, and apart from all
    double best = kClosed;           // largest bound of its unmeasured rows when they were bounded last
    int64_t time = 0;                // picks made by then
  };

  // How the sum of the picks changed since a time: along the first direction, the others, apart.
  struct Change {
    double along, across, apart;
  };

  // The best row after t picks, ties to the lowest: one measured gain near the top, then everything whose
  // bound reaches the best of the measured.
  Pick next_pick(int64_t t) {
    fresh_.clear();
    reached_ = kClosed;
    const std::vector<double>& bounds = measured_.bound(drift_, weight_, weights_.data());
    const size_t earlier = bounds.size();
    if (!measure_top(bounds)) return {-1, kClosed};
    for (size_t c = 0; c < chunks_.size(); ++c) {
      if (now_[c] < reached_) continue;
      if (chunks_[c].time < t) bound_rows(c);
      for (size_t place = c * kChunk; place < (c + 1) * kChunk; ++place)
        if (bound_[place] > kClosed && bound_[place] >= reached_) move(place), measure(measured_.size() - 1);
    }
    for (size_t e = 0; e < earlier; ++e)
      if (bounds[e] >= reached_ && measured_[e].time < t) measure(e);
    a_.evaluations[set_] += static_cast<int64_t>(fresh_.size());
    return best_of_fresh();
  }

  // Measures the row with the largest bound. Returns false where no row is open.
  bool measure_top(const std::vector<double>& bounds) {
    const size_t chunk = best_chunk();
    size_t top = 0;
    while (!bounds.empty()) {
      top = largest(bounds.data(), bounds.size());
      if (bounds[top] < now_[chunk] || drift_.settled(measured_[top].time)) break;
      measured_.settle(top, drift_, picks_);
    }
    if (!bounds.empty() && bounds[top] >= now_[chunk]) {
      measure(top);
      return true;
    }
    if (now_[chunk] == kClosed) return false;
    move(chunk * kChunk + largest(bound_.data() + chunk * kChunk, kChunk));
    measure(measured_.size() - 1);
    return true;
  }

  void measure(size_t e) {
    const int64_t row = measured_[e].row;
    const PickSums::Product taken = picks_.about(row, lengths_[row]);
    const double gain = first_[row] - a_.penalty * taken.value, error = a_.penalty * taken.error;
    measured_.measured(e, gain + error, drift_);
    fresh_.push_back({e, gain - error});
    reach(gain - error);
  }

  // The best gain is at least this, or tied with it.
  void reach(double gain) { reached_ = std::max(reached_, gain - tolerance_of(gain, a_.floor[set_])); }

  // The best of the rows that were measured just now: exactly, where there may be a better one.
  Pick best_of_fresh() {
    contenders_.clear();
    for (const Fresh& fresh : fresh_) {
      const auto& row = measured_[fresh.e];
      if (row.gain < reached_) continue;
      if (fresh.least < row.gain)
        measured_.set_gain(fresh.e, first_[row.row] - a_.penalty * picks_.with(row.row));
      reach(row.gain);
      contenders_.push_back({row.row, row.gain});
    }
    Pick pick = {-1, kClosed};
    for (const Pick& other : contenders_)
      if (other.gain >= reached_ && (pick.row < 0 || other.row < pick.row)) pick = other;
    return pick;
  }

  // The chunk that has the row with the largest bound, brought up to date; bounds on all chunks in now_.
  size_t best_chunk() {
    const int64_t made = drift_.picks();
    changes_.assign(made + 1, {0.0, -1.0, 0.0});
    now_.resize(chunks_.size());
    for (size_t c = 0; c < chunks_.size(); ++c) {
      Change& change = changes_[chunks_[c].time];
      if (change.across < 0.0) change = change_since(chunks_[c].time);
      now_[c] = now(chunks_[c], change);
    }
    while (true) {
      const size_t c = largest(now_.data(), now_.size());
      if (chunks_[c].time == made) return c;
      bound_rows(c);
      now_[c] = chunks_[c].best;
    }
  }

  Change change_since(int64_t time) const {
    const double *now = drift_.sum(), *then = drift_.sum(time);
    const double across = squared_distance(now + 1, then + 1, a_.directions - 1);
    const double before = time < drift_.picks() ? drift_.rest_before(time) : drift_.rest(0);
    return {now[0] - then[0], std::sqrt(across), std::max(0.0, drift_.rest(0) - before)};
  }

  // No unmeasured row of the chunk has a larger bound now.
  double now(const Chunk& chunk, const Change& change) const {
    if (chunk.best == kClosed || chunk.time == drift_.picks()) return chunk.best;
    const double least = change.along >= 0.0 ? chunk.least_along : chunk.most_along;
    const double taken = a_.penalty * (least * change.along - chunk.most_across * change.across -
                                       chunk.most_apart * change.apart);
    // The bounds of rows are summed in float.
    const double longest = std::max(std::fabs(chunk.least_along), std::fabs(chunk.most_along)) +
                           chunk.most_across + chunk.most_apart;
    const double rounding = rounding_of(a_) * longest * drift_.lengths();
    return chunk.best - taken + rounding + kTie * std::fabs(chunk.best) + a_.floor[set_];
  }

  void bound_rows(size_t c) {
    const float* columns = columns_.data() + c * kChunk * (a_.directions + 1);
    for (int64_t first = 0; first < kChunk; first += kGroup) {
      float taken[kGroup] = {};
      for (int64_t d = 0; d <= a_.directions; ++d)
        for (int64_t i = 0; i < kGroup; ++i) taken[i] += weights_[d] * columns[d * kChunk + first + i];
      double* bound = bound_.data() + c * kChunk + first;
      const double* unmeasured = unmeasured_.data() + c * kChunk + first;
      for (int64_t i = 0; i < kGroup; ++i) bound[i] = unmeasured[i] - weight_ * static_cast<double>(taken[i]);
    }
    chunks_[c].best = largest_of(bound_.data() + c * kChunk, kChunk), chunks_[c].time = drift_.picks();
  }

  // Moves a row to the list of the measured; it must be measured next.
  void move(size_t place) {
    unmeasured_[place] = bound_[place] = kClosed;
    const size_t chunk = place / kChunk, first = chunk * kChunk;
    const int64_t row = order_[place];
    measured_.add(row, columns_.data() + first * (a_.directions + 1) + (place - first), kChunk,
                  lengths_[row]);
  }

  void add(int64_t pick) {
    const double squared = picks_.add(pick);
    drift_.add(coordinates_ + pick, squared, picks_);
    // Shares of the largest, so that none leaves the range of a float.
    weight_ = a_.penalty *
              std::max(drift_.rest(0), std::fabs(*std::max_element(
                                           drift_.sum(), drift_.sum() + a_.directions,
                                           [](double x, double y) { return std::fabs(x) < std::fabs(y); })));
    const double share = weight_ > 0.0 ? a_.penalty / weight_ : 0.0;
    for (int64_t c = 0; c < a_.directions; ++c) weights_[c] = static_cast<float>(share * drift_.sum()[c]);
    weights_[a_.directions] = -static_cast<float>(share * drift_.rest(0));
    measured_.remove(pick);
  }

  const LinearCut& a_;
  const int64_t set_;
  const float* coordinates_;
  const double* first_;                 // gains before all picks
  const std::vector<double>& lengths_;  // of the rows, at least
  PickSums& picks_;
  Drift drift_;
  std::vector<float> weights_;      // what a unit along every direction, and apart, takes off a bound,
  double weight_ = 0.0;             // divided by this
  std::vector<int64_t> order_;      // rows by place
  std::vector<double> unmeasured_;  // bounds at the start, -inf for rows measured since or picked
  std::vector<double> bound_;       // upper bounds of the unmeasured when their chunk was bounded last
  std::vector<float> columns_;      // (chunks, directions + 1, kChunk) coordinates
  std::vector<Chunk> chunks_;
  std::vector<double> now_;  // upper bounds of the chunks
  MeasuredRows measured_;
  std::vector<Change> changes_;  // since every time
  std::vector<Fresh> fresh_;     // rows that were measured for the next pick
  double reached_ = kClosed;     // whose best gain reaches this
  std::vector<Pick> contenders_;
};

// At least the length of every scaled row of a set.
std::vector<double> lengths_of(const LinearCut& a, int64_t set) {
  std::vector<double> lengths(a.rows, 0.0);
  for (int64_t c = 0; c <= a.directions; ++c) {
    const float* coordinates = a.coordinates + (set * (a.directions + 1) + c) * a.rows;
    for (int64_t row = 0; row < a.rows; ++row)
      lengths[row] += static_cast<double>(coordinates[row]) * static_cast<double>(coordinates[row]);
  }
  for (double& length : lengths) length = 1.01 * std::sqrt(length);
  return lengths;
}

// All picks of one ground set. Behind every pass but the last, all gains are bounded afresh, where one
// product with the sum of the picks does it.
void cut(const LinearCut& a, int64_t set) {
  const double* first = a.values + set * a.rows;
  const std::vector<double> lengths = lengths_of(a, set);
  std::vector<double> bounds(first, first + a.rows);
  PickSums picks(a, set, largest_of(lengths.data(), a.rows));
  for (int64_t made = 0;;) {
    const int64_t count = Pass(a, set, bounds, lengths, picks).run(made);
    made += count;
    if (count == 0 || made == a.budgets[set] || !picks.summed()) return;
    for (int64_t t = made - count; t < made; ++t) bounds[a.picks[set * a.most + t]] = kClosed;
    const int64_t cost = a.width * (1 + a.second_width);
    for_row_ranges(1, a.rows, cost, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        if (bounds[row] == kClosed) continue;
        const PickSums::Product taken = picks.about(row, lengths[row]);
        bounds[row] = first[row] - a.penalty * (taken.value - taken.error);
      }
    });
    picks.start();
  }
}

}  // namespace

void linear_cut(const LinearCut& a) {
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) cut(a, g);
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
