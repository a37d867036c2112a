// What gains of graph cut are measured by: the sum of the picks, and how far it moved.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/lanes.h"
#include "cpu/lines.h"
#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

constexpr int64_t kSumNumbers = 1 << 14;  // of a sum that is kept after every pick
constexpr int64_t kSums = 1 << 23;        // numbers of all of them
constexpr int64_t kPass = 340;            // picks, at most, between two times that all gains are taken afresh
constexpr int64_t kLeastPass = 16;

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

// The sum of the scaled picks, which gains are measured by, and how far it moved in this pass: sums after
// every pick of a pass are kept in float, in a unit in which they are in range.
//
// Factored rows x (x) [y; 1] sum to a width x (second_width + 1) matrix. Where that has more numbers than the
// picks have factors, products go through the picks one by one.
class PickSums {
 public:
  // A product, and how far it may be off.
  struct Product {
    double value, error;
  };

  // `longest` is at least the length of every row.
  PickSums(const LinearCut& args, int64_t set, double longest)
      : a_(args),
        features_(args.features + set * args.rows * args.width),
        second_(args.second == nullptr ? nullptr : args.second + set * args.rows * args.second_width),
        scale_(args.scale + set * args.rows),
        columns_(args.second == nullptr ? 1 : whole_vectors<float>(args.second_width + 1)),
        summed_(args.second == nullptr || sums_pay(args, set)),
        numbers_(summed_ ? a_.width * columns_ : 0),
        pass_(summed_ ? std::max(kLeastPass, std::min({args.budgets[set], kPass, kSums / numbers_}))
                      : std::min(args.budgets[set], kPass / 2)),
        unit_(std::max(longest, std::numeric_limits<double>::min()) *
              static_cast<double>(args.budgets[set] + 1)),
        sum_(numbers_, 0.0),
        factors_(columns_, 0.0),
        kept_((pass_ + 1) * numbers_) {
    if (second_ != nullptr) factors_[a_.second_width] = 1.0;
    start();
  }

  // Whether products with the sum of many picks cost no more than those with few.
  bool summed() const { return summed_; }
  int64_t pass() const { return pass_; }                                 // picks, at most
  int64_t picks() const { return static_cast<int64_t>(picks_.size()); }  // of this pass

  // A new pass.
  void start() {
    picks_.clear();
    squared_.assign(1, 0.0);
    for (int64_t k = 0; k < numbers_; ++k) kept_[k] = static_cast<float>(sum_[k] / unit_);
  }

  // Takes in a row. Returns its squared length.
  double add(int64_t row) {
    const double own = scale_[row] * scale_[row] * product(row, row);
    lengths_ += std::sqrt(own);
    picks_.push_back(row);
    if (summed_) {
      sum_up(row);
    } else {
      // The newest pick with the sum of those since every time.
      double cross = 0.0;
      for (int64_t time = picks() - 1; time >= 0; --time) {
        if (time < picks() - 1) cross += scale_[row] * scale_[picks_[time]] * product(row, picks_[time]);
        squared_[time] += 2.0 * cross + own;
      }
      squared_.push_back(0.0);
    }
    return own;
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
      total +=
          static_cast<double>(x(row)[k]) * (dot(y(row), along, a_.second_width) + along[a_.second_width]);
    }
    return scale_[row] * total;
  }

  // About the same for a row that is at most `length` long: in float, where that is faster. Every number is
  // rounded, and so are its product with another and the sums: width of first factors, kBlock / kFloats of
  // vectors.
  Product about(int64_t row, double length) const {
    if (!summed_ || scale_[row] > kLargestScale) return {with(row), 0.0};
    const double roundings = second_ == nullptr ? 16.0 : static_cast<double>(24 + a_.width);
    const double error = roundings / (1 << 24) * length * lengths_ + kLeast * unit_;
    if (second_ == nullptr) return {unit_ * scale_[row] * about_features(x(row)), error};
    return {unit_ * about_factors(x(row), y(row), scale_[row]), error};
  }

  // At least the squared length of the sum of the picks since `time`.
  double moved(int64_t time) const {
    if (!summed_) return squared_[time];
    const double squared = squared_distance(newest(), kept(time), numbers_);
    const double length = unit_ * (std::sqrt(squared * (1 + 1e-6)) + 1e-30) + kKeptRounding * lengths_;
    return length * length;
  }

 private:
  static constexpr double kKeptRounding = 1.0 / (1 << 22);  // of two sums in float
  static constexpr double kLargestScale = 1e15;  // beyond it numbers too small for float would count
  static constexpr double kLeast = 1e-22;        // of the unit, is the most that they can amount to
  static constexpr int64_t kBlock = 64;          // numbers whose products are summed in float

  bool sums_pay(const LinearCut& args, int64_t set) const {
    const int64_t numbers = args.width * columns_, picks = std::min(args.budgets[set], kPass);
    return numbers <= kSumNumbers && 2 * numbers <= picks * (args.width + args.second_width);
  }

  // The sum with one more row, kept in float behind the others.
  void sum_up(int64_t row) {
    double* __restrict sum = sum_.data();
    float* __restrict keep = kept_.data() + picks() * numbers_;
    const double scale = scale_[row], share = 1.0 / unit_;
    const double* factors = factors_.data();
    const auto add = [&](int64_t at, double value) {
      sum[at] += value;
      keep[at] = static_cast<float>(share * sum[at]);
    };
    const float* delta = x(row);
    if (second_ == nullptr) {
      for (int64_t k = 0; k < a_.width; ++k) add(k, scale * static_cast<double>(delta[k]));
      return;
    }
    std::copy_n(y(row), a_.second_width, factors_.data());
    for (int64_t k = 0; k < a_.width; ++k) {
      const double factor = scale * static_cast<double>(delta[k]);
      for (int64_t l = 0; l < columns_; ++l) add(k * columns_ + l, factor * factors[l]);
    }
  }

  // The products of numbers with the newest sum that was kept.
  double about_features(const float* x) const {
    const float* sum = newest();
    LaneSums lanes;
    int64_t k = 0;
    for (; k + kBlock <= a_.width; k += kBlock) {
      Floats sums = {};
      for (int64_t l = k; l < k + kBlock; l += kFloats) sums += load(x + l) * load(sum + l);
      lanes.add(sums);
    }
    double total = lanes.total();
    for (; k < a_.width; ++k) total += static_cast<double>(x[k]) * static_cast<double>(sum[k]);
    return total;
  }

  double about_factors(const float* x, const float* y, double scale) const {
    constexpr int kVectors = kBlock / kFloats;
    double total = 0.0;
    for (int64_t k = 0; k < a_.width; ++k)
      total += scale * x[k] * static_cast<double>(newest()[k * columns_ + a_.second_width]);
    LaneSums lanes;
    int64_t l = 0;
    for (; l + kBlock <= a_.second_width; l += kBlock) {
      Floats along[kVectors] = {}, sums = {};
      for (int64_t k = 0; k < a_.width; ++k) {
        const float factor = static_cast<float>(scale * x[k]);
        const float* sum = newest() + k * columns_ + l;
        for (int v = 0; v < kVectors; ++v) along[v] += factor * load(sum + v * kFloats);
      }
      for (int v = 0; v < kVectors; ++v) sums += along[v] * load(y + l + v * kFloats);
      lanes.add(sums);
    }
    for (; l < a_.second_width; ++l) {
      double along = 0.0;
      for (int64_t k = 0; k < a_.width; ++k)
        along += scale * x[k] * static_cast<double>(newest()[k * columns_ + l]);
      total += along * static_cast<double>(y[l]);
    }
    return total + lanes.total();
  }

  // The sum at a time of the pass.
  const float* kept(int64_t time) const { return kept_.data() + time * numbers_; }
  const float* newest() const { return kept(picks()); }
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
  const int64_t columns_;  // of a sum, with zeros at their end
  const bool summed_;
  const int64_t numbers_;        // of a sum
  const int64_t pass_;           // picks that there is room for
  const double unit_;            // of what is kept
  double lengths_ = 0.0;         // of all picks, added up
  LineAligned<double> sum_;      // of all picks
  LineAligned<double> factors_;  // [y; 1] of a pick
  LineAligned<float> kept_;      // (pass + 1, numbers): the sum after every pick
  std::vector<double> squared_;  // of the picks since every time, where they are not summed
  std::vector<int64_t> picks_;   // of this pass
};

// How far the sum of the picks has moved since the start of a pass and since every pick in it: its
// coordinates, and what is left. The rest is taken from the sums when it is asked for; by then, each pick
// adds its own at most.
class Drift {
 public:
  Drift(const LinearCut& args)
      : a_(args), sums_(args.directions, 0.0), lengths_{0.0}, rests_{0.0}, since_(1) {}

  int64_t picks() const { return static_cast<int64_t>(lengths_.size()) - 1; }
  // Coordinates of the sum of the first `time` picks.
  const double* sum(int64_t time) const { return sums_.data() + time * a_.directions; }
  const double* sum() const { return sum(picks()); }
  double lengths() const { return lengths_.back(); }  // of the picks, added up
  // At least the rest of the sum of the picks since `time`.
  double rest(int64_t time) const { return since_[time].rest + rests_.back() - rests_[since_[time].taken]; }
  double rest_before(int64_t time) const { return first_rests_[time]; }  // of the first picks

  bool settled(int64_t time) const { return since_[time].taken == picks(); }
  void settle(int64_t time, const PickSums& sums) {
    const double along = squared_distance(sum(), sum(time), a_.directions);
    const double length = lengths_.back() - lengths_[time];
    const double rest = std::sqrt(std::max(0.0, sums.moved(time) - along) + a_.error * length * length);
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

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
