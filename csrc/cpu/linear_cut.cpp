#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "cpu/choice.h"
#include "cpu/lanes.h"
#include "cpu/parallel.h"
#include "cpu/rows.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

void factored_project(const FactoredProject& a);

namespace {

constexpr int64_t kChunk = 128;           // rows that are bounded together,
constexpr int64_t kGroup = 32;            // with sums of so many in registers
constexpr int64_t kSumNumbers = 1 << 14;  // of a sum that is kept after every pick
constexpr int64_t kSums = 1 << 23;        // numbers of all of them
constexpr int64_t kPass = 340;            // picks, at most, between two times that all gains are taken afresh
constexpr int64_t kLeastPass = 16;
constexpr int64_t kFetched = 256;  // numbers of a row; the processor reads on by itself

// What the rounding of a sum over the coordinates in float can add to a bound, for rows and sums of length 1.
inline double rounding_of(const LinearCut& args) {
  return 2.0 * static_cast<double>(args.directions + 8) / (1 << 24) * args.penalty;
}

// The squared distance of two short vectors.
inline double squared_distance(const double* x, const double* y, int64_t width) {
  constexpr int kLanes = 8;
  double lanes[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes)
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] += (x[k + lane] - y[k + lane]) * (x[k + lane] - y[k + lane]);
  for (; k < width; ++k) lanes[0] += (x[k] - y[k]) * (x[k] - y[k]);
  double sum = 0.0;
  for (double lane : lanes) sum += lane;
  return sum;
}

// The same of long ones in float, at most 1e-6 of it off.
inline double squared_distance(const float* x, const float* y, int64_t width) {
  constexpr int64_t kSteps = 8;  // whose sums are small enough for float
  LaneSums lanes;
  int64_t k = 0;
  while (k + kFloats <= width) {
    Floats sums = {};
    for (int64_t step = 0; step < kSteps && k + kFloats <= width; ++step, k += kFloats) {
      const Floats apart = load(x + k) - load(y + k);
      sums += apart * apart;
    }
    lanes.add(sums);
  }
  double sum = lanes.total();
  for (; k < width; ++k) sum += static_cast<double>((x[k] - y[k]) * (x[k] - y[k]));
  return sum;
}

// The sum of the scaled picks, which gains are measured by, and how far it moved: sums of the first picks are
// kept in float, in a unit in which they are in range.
//
// Factored rows x (x) [1; y] sum to a width x (1 + second_width) matrix. Where that has more numbers than the
// picks have factors, products go through the picks one by one.
class PickSums {
 public:
  // `longest` is at least the length of every row.
  PickSums(const LinearCut& args, int64_t set, int64_t budget, double longest)
      : a_(args),
        features_(args.features + set * args.rows * args.width),
        second_(args.second == nullptr ? nullptr : args.second + set * args.rows * args.second_width),
        scale_(args.scale + set * args.rows),
        columns_(args.second == nullptr ? 1 : 1 + args.second_width),
        summed_(second_ == nullptr || (a_.width * columns_ <= kSumNumbers &&
                                       2 * a_.width * columns_ <= budget * (a_.width + a_.second_width))),
        numbers_(summed_ ? a_.width * columns_ : 0),
        budget_(summed_ ? std::max(kLeastPass, std::min(budget, kSums / numbers_))
                        : std::min(budget, kPass / 2)),
        unit_(std::max(longest, std::numeric_limits<double>::min()) * static_cast<double>(budget_)),
        sum_(numbers_, 0.0),
        kept_(new float[(budget_ + 1) * numbers_]),
        squared_{0.0} {
    std::fill_n(kept_.get(), numbers_, 0.0f);
  }

  // Whether products with the sum of many picks cost no more than those with few.
  bool summed() const { return summed_; }
  int64_t budget() const { return budget_; }

  double squared_length(int64_t row) const { return scale_[row] * scale_[row] * product(row, row); }

  void add(int64_t row) {
    if (summed_) {
      sum_up(row);
    } else {
      // The newest pick with the sum of those since every time.
      const double own = squared_length(row);
      double cross = 0.0;
      for (int64_t time = picks(); time >= 0; --time) {
        if (time < picks()) cross += scale_[row] * scale_[picks_[time]] * product(row, picks_[time]);
        squared_[time] += 2.0 * cross + own;
      }
      squared_.push_back(0.0);
    }
    picks_.push_back(row);
  }

  // Product of the scaled row with the sum of all picks.
  double with(int64_t row) const {
    double total = 0.0;
    if (!summed_) {
      for (int64_t pick : picks_) total += scale_[pick] * product(row, pick);
      return scale_[row] * total;
    }
    if (second_ == nullptr) return scale_[row] * dot(x(row), sum_.data(), a_.width);
    for (int64_t k = 0; k < a_.width; ++k) {
      const double* along = sum_.data() + k * columns_;
      total += static_cast<double>(x(row)[k]) * (along[0] + dot(y(row), along + 1, a_.second_width));
    }
    return scale_[row] * total;
  }

  // Products of all scaled rows with it, in parallel where there is one set.
  void with_all(double* out) const {
    if (second_ != nullptr) {
      FactoredProject args = {};
      args.features = features_, args.second = second_, args.direction = sum_.data(), args.out = out;
      args.sets = 1, args.rows = a_.rows, args.width = a_.width, args.second_width = a_.second_width;
      factored_project(args);
    } else {
      for_row_ranges(1, a_.rows, a_.width, [&](int64_t, int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) out[row] = dot(x(row), sum_.data(), a_.width);
      });
    }
    for (int64_t row = 0; row < a_.rows; ++row) out[row] *= scale_[row];
  }

  // At least the squared length of the sum of the picks since `time`; `lengths` is the sum of those of all.
  double moved(int64_t time, double lengths) const {
    if (!summed_) return squared_[time];
    const double squared = squared_distance(kept(picks()), kept(time), numbers_);
    const double length = unit_ * std::sqrt(squared * (1 + 1e-6)) + kKeptRounding * (lengths + 1e-30 * unit_);
    return length * length;
  }

  // Starts to read a row that will be needed soon.
  void fetch(int64_t row) const {
    for (int64_t k = 0; k < std::min(a_.width, kFetched); k += 16) __builtin_prefetch(x(row) + k);
    if (second_ == nullptr) return;
    for (int64_t k = 0; k < std::min(a_.second_width, kFetched); k += 16) __builtin_prefetch(y(row) + k);
  }

 private:
  static constexpr double kKeptRounding = 1.0 / (1 << 22);  // of two sums in float

  // The sum with one more row.
  void sum_up(int64_t row) {
    double* __restrict sum = sum_.data();
    float* __restrict keep = kept_.get() + (picks() + 1) * numbers_;
    const double scale = scale_[row], share = 1.0 / unit_;
    const float *delta = x(row), *h = y(row);
    if (second_ == nullptr) {
      for (int64_t k = 0; k < a_.width; ++k) sum[k] += scale * static_cast<double>(delta[k]);
    } else {
      for (int64_t k = 0; k < a_.width; ++k) {
        const double factor = scale * static_cast<double>(delta[k]);
        double* __restrict along = sum + k * columns_;
        along[0] += factor;
        for (int64_t l = 1; l < columns_; ++l) along[l] += factor * static_cast<double>(h[l - 1]);
      }
    }
    for (int64_t k = 0; k < numbers_; ++k) keep[k] = static_cast<float>(share * sum[k]);
  }

  int64_t picks() const { return static_cast<int64_t>(picks_.size()); }
  const float* kept(int64_t time) const { return kept_.get() + time * numbers_; }  // sum of the first picks
  const float* x(int64_t row) const { return features_ + row * a_.width; }
  const float* y(int64_t row) const { return second_ + row * a_.second_width; }
  double product(int64_t row, int64_t other) const {
    const double product = dot(x(row), x(other), a_.width);
    return second_ == nullptr ? product : product * (1.0 + dot(y(row), y(other), a_.second_width));
  }

  const LinearCut& a_;
  const float* features_;
  const float* second_;
  const double* scale_;
  const int64_t columns_;
  const bool summed_;
  const int64_t numbers_;          // of a sum
  const int64_t budget_;           // picks that there is room for
  const double unit_;              // of what is kept
  std::vector<double> sum_;        // of all picks
  std::unique_ptr<float[]> kept_;  // (budget + 1, numbers): the sum after every pick
  std::vector<double> squared_;    // of the picks since every time, where they are not summed
  std::vector<int64_t> picks_;
};

// How far the sum of the picks has moved since the start and since every earlier pick: its coordinates, and
// what is left. The rest is taken from the sums when it is asked for; by then, each pick adds its own at
// most.
class Drift {
 public:
  Drift(const LinearCut& args)
      : a_(args), sums_(args.directions, 0.0), lengths_{0.0}, rests_{0.0}, since_(1) {}

  int64_t picks() const { return static_cast<int64_t>(lengths_.size()) - 1; }
  // Coordinates of the sum of the first `time` picks.
  const double* sum(int64_t time) const { return sums_.data() + time * a_.directions; }
  const double* sum() const { return sum(picks()); }
  double lengths() const { return lengths_.back(); }  // of all picks, added up
  // At least the rest of the sum of the picks since `time`.
  double rest(int64_t time) const { return since_[time].rest + rests_.back() - rests_[since_[time].taken]; }
  double rest_before(int64_t time) const { return first_rests_[time]; }  // of the first picks

  bool settled(int64_t time) const { return since_[time].taken == picks(); }
  void settle(int64_t time, const PickSums& sums) {
    const double along = squared_distance(sum(), sum(time), a_.directions);
    const double length = lengths_.back() - lengths_[time];
    const double rest =
        std::sqrt(std::max(0.0, sums.moved(time, lengths_.back()) - along) + a_.error * length * length);
    since_[time] = {rest + kSumRounding * lengths_.back(), picks()};
  }

  // Takes in the newest of the picks.
  void add(const float* coordinates, double squared, const PickSums& sums) {
    const double* before = sum();
    std::vector<double> now(before, before + a_.directions);
    for (int64_t c = 0; c < a_.directions; ++c) now[c] += static_cast<double>(coordinates[c * a_.rows]);
    sums_.insert(sums_.end(), now.begin(), now.end());
    lengths_.push_back(lengths_.back() + std::sqrt(squared));
    rests_.push_back(rests_.back() + static_cast<double>(coordinates[a_.directions * a_.rows]));
    first_rests_.push_back(since_[0].rest);
    since_.push_back({0.0, picks()});
    settle(0, sums);
  }

 private:
  static constexpr double kSumRounding = 1.0 / (1LL << 46);

  struct Since {
    double rest = 0.0;  // of the picks since a time until
    int64_t taken = 0;  // so many were made
  };

  const LinearCut& a_;
  std::vector<double> sums_;         // (picks + 1, directions)
  std::vector<double> lengths_;      // (picks + 1) of the first picks, added up
  std::vector<double> rests_;        // (picks + 1) the same of their rests
  std::vector<double> first_rests_;  // of the sum of the first picks
  std::vector<Since> since_;         // (picks + 1)
};

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

// Rows whose gains were measured since the start, in no order.
class MeasuredRows {
 public:
  struct Row {
    int64_t row;
    double gain;
    int64_t time;   // picks made when it was measured
    double taken;   // along the directions by the picks before that
    double apart;   // length apart from the directions
    double length;  // of the row, at least
  };

  MeasuredRows(const LinearCut& args) : a_(args) {}

  size_t size() const { return rows_.size(); }
  const Row& operator[](size_t e) const { return rows_[e]; }

  void add(int64_t row, const float* coordinates) {
    if (rows_.size() == capacity_) grow();
    double squared = 0.0;
    for (int64_t c = 0; c <= a_.directions; ++c) {
      const float value = coordinates[c * a_.rows + row];
      coordinates_[c * capacity_ + rows_.size()] = value;
      squared += static_cast<double>(value) * static_cast<double>(value);
    }
    const double apart = coordinates[a_.directions * a_.rows + row];
    rows_.push_back({row, kClosed, 0, 0.0, apart, std::sqrt(squared)});
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

  // The bound of one row, as tight as it gets.
  double settle(size_t e, Drift& drift, const PickSums& sums) {
    if (!drift.settled(rows_[e].time)) drift.settle(rows_[e].time, sums);
    return bounds_[e] = bound_of(e, drift);
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

// The lazy greedy of one ground set.
//
// Rows that were not measured since the start are bounded by one formula, chunk by chunk, in the order of
// their gains at the start: most chunks never matter. The few that were are kept in a list with the time of
// their measurement.
class Greedy {
 public:
  Greedy(const LinearCut& args, int64_t set, int64_t made)
      : a_(args),
        set_(set),
        made_(made),
        coordinates_(args.coordinates + set * (args.directions + 1) * args.rows),
        first_(args.values + set * args.rows),
        picks_(args, set, std::min(args.budgets[set] - made, kPass), longest()),
        drift_(args),
        weights_(args.directions + 1, 0.0f),
        order_(descending(first_, args.rows)),
        measured_(args) {
    const size_t places = (order_.size() + kChunk - 1) / kChunk * kChunk;
    unmeasured_.assign(places, kClosed);
    bound_.assign(places, kClosed);
    columns_.assign(places * (a_.directions + 1), 0.0f);
    for (size_t start = 0; start < order_.size(); start += kChunk) {
      Chunk chunk = {INFINITY, -INFINITY, 0.0, 0.0};
      for (size_t place = start; place < std::min(order_.size(), start + kChunk); ++place) {
        const int64_t row = order_[place];
        unmeasured_[place] = first_[row];
        float* column = columns_.data() + start * (a_.directions + 1) + (place - start);
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

  // Makes picks until all gains should be taken afresh. Returns how many.
  int64_t run() {
    const int64_t budget = std::min(a_.budgets[set_] - made_, picks_.budget());
    const int64_t before = a_.evaluations[set_], most = picks_.summed() ? a_.rows : a_.rows / 2;
    for (int64_t t = 0; t < budget; ++t) {
      if (a_.evaluations[set_] - before > most) break;
      const Pick pick = t == 0 ? first_pick() : next_pick(t);
      if (pick.row < 0) break;
      a_.picks[set_ * a_.most + made_ + t] = pick.row;
      a_.gains[set_ * a_.most + made_ + t] = pick.gain;
      add(pick.row);
    }
    return drift_.picks();
  }

  // Takes the gains of all rows afresh, for the picks to come. Returns false where that is better done
  // elsewhere, by products of matrices.
  bool renew() {
    if (!picks_.summed()) return false;
    double* values = a_.values + set_ * a_.rows;
    std::vector<double> products(a_.rows);
    picks_.with_all(products.data());
    for (int64_t row = 0; row < a_.rows; ++row) values[row] -= a_.penalty * products[row];
    for (int64_t t = 0; t < drift_.picks(); ++t) values[a_.picks[set_ * a_.most + made_ + t]] = kClosed;
    return true;
  }

 private:
  struct Pick {
    int64_t row;  // -1 where no row is open
    double gain;
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

  double measure(int64_t row) const { return first_[row] - a_.penalty * picks_.with(row); }

  Pick first_pick() const {
    const Choice choice = choose(first_, nullptr, a_.rows, a_.floor[set_]);
    return {choice.position, choice.position < 0 ? kClosed : first_[choice.position]};
  }

  // The best row after t picks, ties to the lowest.
  Pick next_pick(int64_t t) {
    const std::vector<double>& bounds = measured_.bound(drift_, weight_, weights_.data());

    // One measured gain near the top, then everything whose bound reaches the best measured gain.
    double best = kClosed, reached = kClosed;
    const auto update = [&](size_t e) {
      measured_.measured(e, measure(measured_[e].row), drift_);
      fresh_.push_back(e);
      if (measured_[e].gain <= best) return;
      best = measured_[e].gain;
      reached = best - tolerance_of(best, a_.floor[set_]);
    };
    fresh_.clear();
    const size_t chunk = best_chunk();
    const size_t earlier = bounds.size();
    size_t top = earlier;
    while (earlier > 0) {
      top = largest(bounds.data(), earlier);
      if (bounds[top] < now_[chunk] || drift_.settled(measured_[top].time)) break;
      measured_.settle(top, drift_, picks_);
    }
    if (earlier > 0 && bounds[top] >= now_[chunk]) {
      update(top);
    } else if (now_[chunk] > kClosed) {
      const size_t first = chunk * kChunk;
      move(first + largest(bound_.data() + first, kChunk));
      update(measured_.size() - 1);
    } else {
      return {-1, kClosed};
    }
    rivals_.clear();
    for (size_t c = 0; c < chunks_.size(); ++c) {
      if (now_[c] < reached) continue;
      if (chunks_[c].time < t) bound_rows(c);
      for (size_t place = c * kChunk; place < (c + 1) * kChunk; ++place)
        if (bound_[place] > kClosed && bound_[place] >= reached)
          picks_.fetch(order_[place]), rivals_.push_back(place);
    }
    stale_.clear();
    for (size_t e = 0; e < earlier; ++e)
      if (bounds[e] >= reached && measured_[e].time < t && measured_.settle(e, drift_, picks_) >= reached)
        picks_.fetch(measured_[e].row), stale_.push_back(e);
    for (size_t place : rivals_) {
      if (bound_[place] < reached) continue;
      move(place);
      update(measured_.size() - 1);
    }
    for (size_t e : stale_)
      if (bounds[e] >= reached) update(e);

    Pick pick = {-1, kClosed};
    for (size_t e : fresh_) {
      const auto& row = measured_[e];
      if (row.gain >= reached && (pick.row < 0 || row.row < pick.row)) pick = {row.row, row.gain};
    }
    a_.evaluations[set_] += static_cast<int64_t>(fresh_.size());
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

  // At least the length of every scaled row.
  double longest() const {
    std::vector<double> squared(a_.rows, 0.0);
    for (int64_t c = 0; c <= a_.directions; ++c)
      for (int64_t row = 0; row < a_.rows; ++row) {
        const double value = static_cast<double>(coordinates_[c * a_.rows + row]);
        squared[row] += value * value;
      }
    return 1.01 * std::sqrt(largest_of(squared.data(), a_.rows));
  }

  // Moves a row to the list of the measured; it must be measured next.
  void move(size_t place) {
    unmeasured_[place] = bound_[place] = kClosed;
    measured_.add(order_[place], coordinates_);
  }

  void add(int64_t pick) {
    picks_.add(pick);
    drift_.add(coordinates_ + pick, picks_.squared_length(pick), picks_);
    // Shares of the largest, so that none leaves the range of a float.
    weight_ = a_.penalty *
              std::max(drift_.rest(0), std::fabs(*std::max_element(
                                           drift_.sum(), drift_.sum() + a_.directions,
                                           [](double x, double y) { return std::fabs(x) < std::fabs(y); })));
    const double share = weight_ > 0.0 ? a_.penalty / weight_ : 0.0;
    for (int64_t c = 0; c < a_.directions; ++c) weights_[c] = static_cast<float>(share * drift_.sum()[c]);
    weights_[a_.directions] = -static_cast<float>(share * drift_.rest(0));
    if (drift_.picks() > 1) return measured_.remove(pick);
    const auto place = std::find(order_.begin(), order_.end(), pick) - order_.begin();
    unmeasured_[place] = bound_[place] = kClosed;  // the first pick is not measured
  }

  const LinearCut& a_;
  const int64_t set_, made_;  // picks in earlier passes
  const float* coordinates_;
  const double* first_;  // gains at the start
  PickSums picks_;
  Drift drift_;
  std::vector<float> weights_;      // what a unit along every direction, and apart, takes off a bound,
  double weight_ = 0.0;             // divided by this
  std::vector<int64_t> order_;      // rows by place
  std::vector<double> unmeasured_;  // gains at the start, -inf for rows measured since or picked
  std::vector<double> bound_;       // upper bounds of the unmeasured when their chunk was bounded last
  std::vector<float> columns_;      // (chunks, directions + 1, kChunk) coordinates
  std::vector<Chunk> chunks_;
  std::vector<double> now_;  // upper bounds of the chunks
  MeasuredRows measured_;
  std::vector<Change> changes_;  // since every time
  std::vector<size_t> rivals_;   // places of unmeasured rows whose bounds reach the best
  std::vector<size_t> stale_, fresh_;
};

}  // namespace

void linear_cut(const LinearCut& a) {
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) {
      for (int64_t made = 0; made < a.budgets[g];) {
        Greedy greedy(a, g, made);
        const int64_t count = greedy.run();
        made += count;
        if (count == 0 || made == a.budgets[g] || !greedy.renew()) break;
      }
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
