#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/choice.h"
#include "cpu/parallel.h"
#include "cpu/rows.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int64_t kChunk = 256;     // rows whose bounds share a maximum
constexpr double kRounding = 1e-9;  // of lengths, relative, and far more than that

// The inner product of two rows of whole numbers.
int32_t dot_codes(const int8_t* x, const int16_t* y, int64_t width) {
  int32_t sum = 0;
  for (int64_t k = 0; k < width; ++k) sum += static_cast<int16_t>(x[k]) * y[k];
  return sum;
}

// Herding of one ground set. Where it is the only one, threads share its rows.
class Greedy {
 public:
  Greedy(const Herding& args, int64_t set)
      : a_(args),
        first_(set * args.rows),
        floor_(args.floor[set]),
        mean_(args.mean + set * args.width),
        residual_(args.residual + set * args.width),
        picks_(args.picks + set * args.most),
        gains_(args.gains + set * args.most),
        scores_(args.scores + first_),
        residual_code_(args.codes == nullptr ? 0 : args.code_width),
        chunks_((args.rows + kChunk - 1) / kChunk) {}

  void run(int64_t budget) {
    for (int64_t t = 0; t < budget; ++t) {
      const int64_t pick = a_.codes == nullptr ? best_of_all() : best_of_contenders();
      if (pick < 0) break;
      take(t, pick);
    }
  }

 private:
  template <class Body>
  void in_parallel(int64_t count, const Body& body) const {
    const auto range = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(i);
    };
    a_.sets == 1 ? parallel_for(0, count, 256, range) : range(0, count);
  }

  bool open(int64_t i) const { return !a_.taken[first_ + i]; }

  double score(int64_t i) const {
    const int64_t at = first_ + i;
    return 2.0 * a_.scale[at] * dot(a_.features + at * a_.width, residual_, a_.width) - a_.norms[at];
  }

  // The best row, -1 where none is left.
  int64_t best_of_all() {
    in_parallel(a_.rows, [&](int64_t i) { scores_[i] = open(i) ? score(i) : kClosed; });
    return choose(scores_, nullptr, a_.rows, floor_).position;
  }

  // The same, from the scores of the rows that may be the best.
  int64_t best_of_contenders() {
    code_residual();
    const auto bound = [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) bound_rows(c);
    };
    const int64_t chunks = static_cast<int64_t>(chunks_.size());
    a_.sets == 1 ? parallel_for(0, chunks, 1, bound) : bound(0, chunks);
    double best = kClosed;
    for (const Bounds& chunk : chunks_) best = std::max(best, chunk.lower);
    const double threshold = best - tolerance_of(best, floor_);
    contenders_.clear();
    for (int64_t c = 0; c < chunks; ++c) {
      if (chunks_[c].upper == kClosed || chunks_[c].upper < threshold) continue;
      for (int64_t i = c * kChunk; i < std::min(a_.rows, (c + 1) * kChunk); ++i)
        if (scores_[i] > kClosed && scores_[i] >= threshold) contenders_.push_back(i);
    }
    const int64_t count = static_cast<int64_t>(contenders_.size());
    measured_.resize(contenders_.size());
    in_parallel(count, [&](int64_t c) { scores_[contenders_[c]] = measured_[c] = score(contenders_[c]); });
    const Choice choice = choose(measured_.data(), contenders_.data(), count, floor_);
    return choice.position < 0 ? -1 : contenders_[choice.position];
  }

  // residual = residual_step_ * residual_code_ + a rest.
  void code_residual() {
    double largest = 0.0, squares = 0.0, rest = 0.0;
    for (int64_t k = 0; k < a_.width; ++k) {
      largest = std::max(largest, std::fabs(residual_[k]));
      squares += residual_[k] * residual_[k];
    }
    const double most = static_cast<double>(most_code(a_.width));
    residual_step_ = largest / most;
    for (int64_t k = 0; k < a_.width; ++k) {
      const double whole = residual_step_ > 0.0 ? std::nearbyint(residual_[k] / residual_step_) : 0.0;
      residual_code_[k] = static_cast<int16_t>(std::clamp(whole, -most, most));
      const double left = residual_[k] - residual_step_ * residual_code_[k];
      rest += left * left;
    }
    residual_length_ = std::sqrt(squares) * (1 + kRounding);
    // With the rounding of all that follows.
    residual_rest_ = std::sqrt(rest) * (1 + kRounding) + kTie * residual_length_;
  }

  // Scores become upper bounds.
  void bound_rows(int64_t c) {
    Bounds bounds = {kClosed, kClosed};
    for (int64_t i = c * kChunk; i < std::min(a_.rows, (c + 1) * kChunk); ++i) {
      const int64_t at = first_ + i;
      scores_[i] = kClosed;
      if (!open(i)) continue;
      const int32_t product = dot_codes(a_.codes + at * a_.code_width, residual_code_.data(), a_.code_width);
      const double about = 2.0 * a_.step[at] * residual_step_ * product - a_.norms[at];
      const double error = 2.0 * (a_.slack[at] * (residual_length_ + residual_rest_) +
                                  std::sqrt(a_.norms[at]) * residual_rest_);
      scores_[i] = about + error;
      bounds = {std::max(bounds.upper, about + error), std::max(bounds.lower, about - error)};
    }
    chunks_[c] = bounds;
  }

  void take(int64_t t, int64_t pick) {
    const int64_t at = first_ + pick;
    const float* x = a_.features + at * a_.width;
    picks_[t] = pick;
    gains_[t] = scores_[pick];
    a_.taken[at] = 1;
    for (int64_t k = 0; k < a_.width; ++k)
      residual_[k] += mean_[k] - a_.scale[at] * static_cast<double>(x[k]);
  }

  struct Bounds {
    double upper, lower;  // the largest of the rows of a chunk
  };

  const Herding& a_;
  const int64_t first_;
  const double floor_;
  const double* mean_;
  double* residual_;
  int64_t* picks_;
  double* gains_;
  double* scores_;
  std::vector<int16_t> residual_code_;
  double residual_step_ = 0.0, residual_length_ = 0.0, residual_rest_ = 0.0;
  std::vector<Bounds> chunks_;
  std::vector<int64_t> contenders_;  // rows that may be the best,
  std::vector<double> measured_;     // and their scores
};

}  // namespace

void herding(const Herding& a) {
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) Greedy(a, g).run(a.budgets[g]);
  };
  a.sets == 1 ? run(0, 1) : parallel_for(0, a.sets, 1, run);  // threads share the rows, or the sets
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
