#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/choice.h"
#include "cpu/parallel.h"
#include "cpu/rows.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int64_t kChunk = 64;     // rows that are bounded together
constexpr int64_t kFetched = 256;  // numbers of a row; the processor reads on by itself

// The sum of the scaled picks: what a gain is measured by.
//
// Factored rows x (x) [1; y] sum to a width x (1 + second_width) matrix. Where that has more numbers than the
// picks have factors, a product goes through the picks one by one.
class PickSum {
 public:
  PickSum(const LinearCut& args, int64_t set)
      : a_(args),
        features_(args.features + set * args.rows * args.width),
        second_(args.second == nullptr ? nullptr : args.second + set * args.rows * args.second_width),
        scale_(args.scale + set * args.rows),
        columns_(args.second == nullptr ? 1 : 1 + args.second_width),
        summed_(second_ == nullptr ||
                2 * a_.width * columns_ <= a_.budgets[set] * (a_.width + a_.second_width)),
        sum_(summed_ ? a_.width * columns_ : 0, 0.0) {}

  // Product of two scaled rows, in double, and in float where that takes a third of the time; then it may be
  // off by `error`.
  double product(int64_t row, int64_t other) const {
    double product = dot(x(row), x(other), a_.width);
    if (second_ != nullptr) product *= 1.0 + dot(y(row), y(other), a_.second_width);
    return scale_[row] * scale_[other] * product;
  }
  double quick_product(int64_t row, int64_t other, double lengths, double& error) const {
    if (second_ != nullptr) return product(row, other);
    const double scales = scale_[row] * scale_[other];
    error += float_dot_error(a_.width) * lengths + float_dot_underflow(a_.width) * scales;
    return scales * float_dot(x(row), x(other), a_.width);
  }

  void add(int64_t row) {
    picks_.push_back(row);
    if (!summed_) return;
    for (int64_t k = 0; k < a_.width; ++k) {
      const double factor = scale_[row] * static_cast<double>(x(row)[k]);
      double* sum = sum_.data() + k * columns_;
      sum[0] += factor;
      for (int64_t l = 1; l < columns_; ++l) sum[l] += factor * static_cast<double>(y(row)[l - 1]);
    }
  }

  // Product of the scaled row with the sum.
  double with(int64_t row) const {
    double total = 0.0;
    if (second_ == nullptr) {
      total = dot(x(row), sum_.data(), a_.width);
    } else if (summed_) {
      for (int64_t k = 0; k < a_.width; ++k) {
        const double* sum = sum_.data() + k * columns_;
        total += static_cast<double>(x(row)[k]) * (sum[0] + dot(y(row), sum + 1, a_.second_width));
      }
    } else {
      for (int64_t pick : picks_) total += product(row, pick);
      return total;
    }
    return scale_[row] * total;
  }

  // Starts to read a row that will be needed soon.
  void fetch(int64_t row) const {
    for (int64_t k = 0; k < std::min(a_.width, kFetched); k += 16) __builtin_prefetch(x(row) + k);
    if (second_ == nullptr) return;
    for (int64_t k = 0; k < std::min(a_.second_width, kFetched); k += 16) __builtin_prefetch(y(row) + k);
  }

 private:
  const float* x(int64_t row) const { return features_ + row * a_.width; }
  const float* y(int64_t row) const { return second_ + row * a_.second_width; }

  const LinearCut& a_;
  const float* features_;
  const float* second_;
  const double* scale_;
  const int64_t columns_;
  const bool summed_;
  std::vector<double> sum_;
  std::vector<int64_t> picks_;
};

// How far the sum of the picks has moved since the start and since every earlier pick.
class Drift {
 public:
  Drift(const LinearCut& args) : a_(args), sums_(args.directions, 0.0), squared_{0.0}, rest_{0.0} {}

  int64_t picks() const { return static_cast<int64_t>(lengths_.size()); }
  // Coordinates of the sum of the first `time` picks.
  const double* sum(int64_t time) const { return sums_.data() + time * a_.directions; }
  const double* sum() const { return sum(picks()); }
  // At least the length that the picks since `time` have apart from the directions.
  double rest(int64_t time) const { return rest_[time]; }
  double rest_before(int64_t time) const { return rest_then_[time]; }  // since the start, at that time
  double lengths() const { return total_; }                            // of all picks, added up

  // Adds a pick with these coordinates; `product(u)` is its product with pick u, off by at most `error`.
  template <class Product>
  void add(const float* coordinates, double own, const Product& product) {
    const int64_t made = picks();
    const double length = std::sqrt(own);
    rest_then_.push_back(rest_[0]);
    for (int64_t c = 0; c < a_.directions; ++c)
      sums_.push_back(sum(made)[c] + static_cast<double>(coordinates[c * a_.rows]));
    const double* now = sums_.data() + (made + 1) * a_.directions;
    double cross = 0.0, error = 0.0, lengths = length;
    for (int64_t time = made; time >= 0; --time) {
      if (time < made) {
        cross += product(time, length * lengths_[time], error);
        lengths += lengths_[time];
      }
      squared_[time] += 2.0 * (cross + error) + own;
      double along = 0.0;
      const double* then = sum(time);
      for (int64_t c = 0; c < a_.directions; ++c) along += (now[c] - then[c]) * (now[c] - then[c]);
      rest_[time] = std::sqrt(std::max(0.0, squared_[time] - along) + a_.error * lengths * lengths);
    }
    lengths_.push_back(length);
    total_ += length;
    squared_.push_back(0.0);
    rest_.push_back(0.0);
  }

 private:
  const LinearCut& a_;
  std::vector<double> sums_;       // (picks + 1, directions)
  std::vector<double> lengths_;    // of the scaled picks
  std::vector<double> squared_;    // lengths of the picks since every time, added up
  std::vector<double> rest_;       // of the picks since every time until now
  std::vector<double> rest_then_;  // of the picks from the start until every time
  double total_ = 0.0;
};

// The lazy greedy of one ground set.
//
// Rows that were not measured since the start are bounded by one formula, chunk by chunk; the few that were
// are kept in a list with the time of their measurement.
class Greedy {
 public:
  Greedy(const LinearCut& args, int64_t set)
      : a_(args),
        set_(set),
        coordinates_(args.coordinates + set * (args.directions + 1) * args.rows),
        apart_(coordinates_ + args.directions * args.rows),
        first_(args.values + set * args.rows),
        picks_(args, set),
        drift_(args),
        unmeasured_(first_, first_ + args.rows),
        bound_(args.rows),
        weights_(args.directions + 1, 0.0f) {
    for (int64_t start = 0; start < a_.rows; start += kChunk) {
      Chunk chunk = {INFINITY, -INFINITY, 0.0, 0.0};
      for (int64_t row = start; row < std::min(a_.rows, start + kChunk); ++row) {
        const double along = coordinates_[row];
        double across = 0.0;
        for (int64_t c = 1; c < a_.directions; ++c)
          across += static_cast<double>(coordinates_[c * a_.rows + row]) * coordinates_[c * a_.rows + row];
        chunk.least_along = std::min(chunk.least_along, along);
        chunk.most_along = std::max(chunk.most_along, along);
        chunk.most_across = std::max(chunk.most_across, std::sqrt(across));
        chunk.most_apart = std::max(chunk.most_apart, static_cast<double>(apart_[row]));
      }
      chunks_.push_back(chunk);
      bound_rows(chunks_.size() - 1);
    }
  }

  void run() {
    for (int64_t t = 0; t < a_.budgets[set_]; ++t) {
      if (a_.evaluations[set_] > a_.rows / 4) break;
      const Measured pick = t == 0 ? first_pick() : next_pick(t);
      if (pick.row < 0) break;
      a_.picks[set_ * a_.most + t] = pick.row;
      a_.gains[set_ * a_.most + t] = pick.gain;
      add(pick.row);
    }
  }

 private:
  struct Measured {
    int64_t row;
    double gain;
    int64_t time;  // picks made when it was measured
    double taken;  // along the directions by the picks before that
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

  int64_t stop_of(size_t chunk) const {
    return std::min(a_.rows, (static_cast<int64_t>(chunk) + 1) * kChunk);
  }

  double measure(int64_t row) const { return first_[row] - a_.penalty * picks_.with(row); }

  // What all picks take off the gain of measured row e along the directions.
  double taken(size_t e) const {
    const float* row = measured_coordinates_.data() + e * (a_.directions + 1);
    return a_.penalty * dot<8>(row, drift_.sum(), a_.directions);
  }

  double bound_of(size_t e) const {
    const Measured& m = measured_[e];
    const double apart = measured_coordinates_[(e + 1) * (a_.directions + 1) - 1];
    return m.gain - (taken(e) - m.taken) + a_.penalty * apart * drift_.rest(m.time);
  }

  Measured first_pick() const {
    const Choice choice = choose(first_, nullptr, a_.rows, a_.floor[set_]);
    return {choice.position, choice.position < 0 ? kClosed : first_[choice.position], 0, 0.0};
  }

  // The best row after t picks, ties to the lowest.
  Measured next_pick(int64_t t) {
    std::vector<double> bounds(measured_.size());
    for (size_t e = 0; e < bounds.size(); ++e) bounds[e] = bound_of(e);

    // One measured gain near the top, then everything whose bound reaches the best measured gain.
    double best = kClosed;
    const auto reaches = [&](double bound) { return bound >= best - tolerance_of(best, a_.floor[set_]); };
    const auto update = [&](size_t e) {
      measured_[e] = {measured_[e].row, measure(measured_[e].row), t, taken(e)};
      best = std::max(best, measured_[e].gain);
    };
    const auto top = std::max_element(bounds.begin(), bounds.end());
    const size_t chunk = best_chunk();
    const size_t earlier = bounds.size();
    if (earlier > 0 && *top >= now_[chunk]) {
      update(static_cast<size_t>(top - bounds.begin()));
    } else if (now_[chunk] > kClosed) {
      const auto first = bound_.begin();
      const int64_t start = static_cast<int64_t>(chunk) * kChunk;
      move(std::max_element(first + start, first + stop_of(chunk)) - first);
      update(measured_.size() - 1);
    } else {
      return {-1, kClosed, t, 0.0};
    }
    rivals_.clear();
    for (size_t c = 0; c < chunks_.size(); ++c) {
      if (!reaches(now_[c])) continue;
      if (chunks_[c].time < t) bound_rows(c);
      for (int64_t row = static_cast<int64_t>(c) * kChunk; row < stop_of(c); ++row)
        if (bound_[row] > kClosed && reaches(bound_[row])) picks_.fetch(row), rivals_.push_back(row);
    }
    for (size_t e = 0; e < earlier; ++e)
      if (measured_[e].time < t && reaches(bounds[e])) picks_.fetch(measured_[e].row);
    for (int64_t row : rivals_) {
      if (!reaches(bound_[row])) continue;
      move(row);
      update(measured_.size() - 1);
    }
    for (size_t e = 0; e < earlier; ++e)
      if (measured_[e].time < t && reaches(bounds[e])) update(e);

    Measured pick = {-1, kClosed, t, 0.0};
    for (const Measured& m : measured_) {
      if (m.time < t) continue;
      ++a_.evaluations[set_];
      if (reaches(m.gain) && (pick.row < 0 || m.row < pick.row)) pick = m;
    }
    return pick;
  }

  // The chunk that has the row with the largest bound, brought up to date; bounds on all chunks in now_.
  size_t best_chunk() {
    const int64_t made = drift_.picks();
    std::vector<Change> changes(made + 1);
    for (int64_t time = 0; time <= made; ++time) {
      const double *now = drift_.sum(), *then = drift_.sum(time);
      double across = 0.0;
      for (int64_t c = 1; c < a_.directions; ++c) across += (now[c] - then[c]) * (now[c] - then[c]);
      const double rest = drift_.rest(0) - (time < made ? drift_.rest_before(time) : drift_.rest(0));
      changes[time] = {now[0] - then[0], std::sqrt(across), std::max(0.0, rest)};
    }
    now_.resize(chunks_.size());
    for (size_t c = 0; c < chunks_.size(); ++c) now_[c] = now(chunks_[c], changes[chunks_[c].time]);
    while (true) {
      const size_t c = static_cast<size_t>(std::max_element(now_.begin(), now_.end()) - now_.begin());
      if (chunks_[c].time == made) return c;
      bound_rows(c);
      now_[c] = chunks_[c].best;
    }
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
    const double rounding =
        2.0 * static_cast<double>(a_.directions + 8) / (1 << 24) * a_.penalty * longest * drift_.lengths();
    return chunk.best - taken + rounding + kTie * std::fabs(chunk.best) + a_.floor[set_];
  }

  void bound_rows(size_t c) {
    const int64_t start = static_cast<int64_t>(c) * kChunk, stop = stop_of(c);
    float taken[kChunk] = {};
    double best = kClosed;
    if (stop - start == kChunk) {
      for (int64_t d = 0; d <= a_.directions; ++d) {
        const float* column = coordinates_ + d * a_.rows + start;
        for (int64_t i = 0; i < kChunk; ++i) taken[i] += weights_[d] * column[i];
      }
    } else {
      for (int64_t d = 0; d <= a_.directions; ++d)
        for (int64_t i = 0; i < stop - start; ++i)
          taken[i] += weights_[d] * coordinates_[d * a_.rows + start + i];
    }
    for (int64_t i = 0; i < stop - start; ++i) {
      bound_[start + i] = unmeasured_[start + i] - weight_ * static_cast<double>(taken[i]);
      best = std::max(best, bound_[start + i]);
    }
    chunks_[c].best = best, chunks_[c].time = drift_.picks();
  }

  // Moves a row to the list of the measured; it must be measured next.
  void move(int64_t row) {
    unmeasured_[row] = bound_[row] = kClosed;
    measured_.push_back({row, kClosed, 0, 0.0});
    for (int64_t c = 0; c <= a_.directions; ++c)
      measured_coordinates_.push_back(coordinates_[c * a_.rows + row]);
  }

  void add(int64_t pick) {
    const auto product = [&](int64_t u, double lengths, double& error) {
      return picks_.quick_product(pick, a_.picks[set_ * a_.most + u], lengths, error);
    };
    drift_.add(coordinates_ + pick, picks_.product(pick, pick), product);
    picks_.add(pick);
    // Shares of the largest, so that none leaves the range of a float.
    weight_ = a_.penalty *
              std::max(drift_.rest(0), std::fabs(*std::max_element(
                                           drift_.sum(), drift_.sum() + a_.directions,
                                           [](double x, double y) { return std::fabs(x) < std::fabs(y); })));
    const double share = weight_ > 0.0 ? a_.penalty / weight_ : 0.0;
    for (int64_t c = 0; c < a_.directions; ++c) weights_[c] = static_cast<float>(share * drift_.sum()[c]);
    weights_[a_.directions] = -static_cast<float>(share * drift_.rest(0));
    unmeasured_[pick] = kClosed;
    for (size_t e = 0; e < measured_.size(); ++e)
      if (measured_[e].row == pick) return erase(e);
  }

  void erase(size_t e) {
    const auto last = measured_coordinates_.end() - (a_.directions + 1);
    std::copy(last, measured_coordinates_.end(), measured_coordinates_.begin() + e * (a_.directions + 1));
    measured_coordinates_.resize(measured_coordinates_.size() - (a_.directions + 1));
    measured_[e] = measured_.back();
    measured_.pop_back();
  }

  const LinearCut& a_;
  const int64_t set_;
  const float* coordinates_;
  const float* apart_;
  const double* first_;  // gains at the start
  PickSum picks_;
  Drift drift_;
  std::vector<double> unmeasured_;  // gains at the start, -inf for rows measured since or picked
  std::vector<double> bound_;       // upper bounds of the unmeasured when their chunk was bounded last
  std::vector<float> weights_;      // what a unit along every direction, and apart, takes off a bound,
  double weight_ = 0.0;             // divided by this
  std::vector<Chunk> chunks_;
  std::vector<double> now_;  // upper bounds of the chunks
  std::vector<Measured> measured_;
  std::vector<float> measured_coordinates_;  // of each, directions + 1 numbers
  std::vector<int64_t> rivals_;              // unmeasured rows whose bounds reach the best
};

}  // namespace

void linear_cut(const LinearCut& a) {
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) Greedy(a, g).run();
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
