#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/choice.h"
#include "cpu/parallel.h"
#include "cpu/rows.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int64_t kChunk = 64;     // rows whose bounds share a maximum
constexpr int64_t kFetched = 256;  // numbers of a row; the processor reads on by itself
constexpr int kLanes = 8;

// The lazy greedy of one ground set.
//
// Rows that were not measured since the start are bounded by one formula, in order, chunk by chunk; the few
// that were are kept in a list with the time of their measurement.
class Greedy {
 public:
  Greedy(const LinearCut& args, int64_t set)
      : a_(args),
        set_(set),
        features_(args.features + set * args.rows * args.width),
        scale_(args.scale + set * args.rows),
        along_(args.along + set * args.rows),
        apart_(args.apart + set * args.rows),
        first_(args.values + set * args.rows),
        unmeasured_(first_, first_ + args.rows),
        bound_(args.rows),
        sum_(args.width, 0.0) {
    for (int64_t start = 0; start < a_.rows; start += kChunk) {
      const int64_t stop = std::min(a_.rows, start + kChunk);
      const auto [least, most] = std::minmax_element(along_ + start, along_ + stop);
      chunks_.push_back({*least, *most, *std::max_element(apart_ + start, apart_ + stop)});
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
  };

  const float* features(int64_t row) const { return features_ + row * a_.width; }

  // What the picks since `time` take off the gain of a row, at least.
  double taken(int64_t row, int64_t time) const {
    return a_.penalty * (along_[row] * drift_along_[time] - apart_[row] * drift_apart_[time]);
  }

  // Starts to read a row that will be measured soon.
  void fetch(int64_t row) const {
    const float* x = features(row);
    for (int64_t k = 0; k < std::min(a_.width, kFetched); k += 16) __builtin_prefetch(x + k);
  }

  double measure(int64_t row) const {
    return first_[row] - a_.penalty * scale_[row] * dot(features(row), sum_.data(), a_.width);
  }

  Measured first_pick() const {
    const Choice choice = choose(first_, nullptr, a_.rows, a_.floor[set_]);
    return {choice.position, choice.position < 0 ? kClosed : first_[choice.position], 0};
  }

  // The best row after t picks, ties to the lowest.
  Measured next_pick(int64_t t) {
    std::vector<double> bounds(measured_.size());
    for (size_t e = 0; e < bounds.size(); ++e)
      bounds[e] = measured_[e].gain - taken(measured_[e].row, measured_[e].time);

    // One measured gain near the top, then everything whose bound reaches the best measured gain.
    double best = kClosed;
    const auto reaches = [&](double bound) { return bound >= best - tolerance_of(best, a_.floor[set_]); };
    const auto update = [&](size_t e) {
      measured_[e] = {measured_[e].row, measure(measured_[e].row), t};
      best = std::max(best, measured_[e].gain);
    };
    const auto top = std::max_element(bounds.begin(), bounds.end());
    const size_t chunk = best_chunk();
    const size_t earlier = bounds.size();
    if (earlier > 0 && *top >= chunks_[chunk].best) {
      update(static_cast<size_t>(top - bounds.begin()));
    } else if (chunks_[chunk].best > kClosed) {
      const auto first = bound_.begin();
      const int64_t start = static_cast<int64_t>(chunk) * kChunk;
      move(std::max_element(first + start, first + stop_of(chunk)) - first, t);
      update(measured_.size() - 1);
    } else {
      return {-1, kClosed, t};
    }
    rivals_.clear();
    for (size_t c = 0; c < chunks_.size(); ++c) {
      if (!reaches(now(chunks_[c]))) continue;
      bound_rows(c);
      for (int64_t row = static_cast<int64_t>(c) * kChunk; row < stop_of(c); ++row)
        if (bound_[row] > kClosed && reaches(bound_[row])) fetch(row), rivals_.push_back(row);
    }
    for (size_t e = 0; e < earlier; ++e)
      if (measured_[e].time < t && reaches(bounds[e])) fetch(measured_[e].row);
    for (int64_t row : rivals_) {
      if (!reaches(bound_[row])) continue;
      move(row, t);
      update(measured_.size() - 1);
    }
    for (size_t e = 0; e < earlier; ++e)
      if (measured_[e].time < t && reaches(bounds[e])) update(e);

    Measured pick = {-1, kClosed, t};
    for (const Measured& m : measured_) {
      if (m.time < t) continue;
      ++a_.evaluations[set_];
      if (reaches(m.gain) && (pick.row < 0 || m.row < pick.row)) pick = m;
    }
    return pick;
  }

  // Bounds of neighbouring rows, which are looked at only when one of them could matter.
  struct Chunk {
    double least_along, most_along, most_apart;
    double best = kClosed;            // largest bound of its unmeasured rows when they were bounded last
    double along = 0.0, apart = 0.0;  // the drift at that time
  };

  int64_t stop_of(size_t chunk) const {
    return std::min(a_.rows, (static_cast<int64_t>(chunk) + 1) * kChunk);
  }

  // No unmeasured row of the chunk has a larger bound now.
  double now(const Chunk& chunk) const {
    if (chunk.best == kClosed) return kClosed;
    const double along = drift_along_[0] - chunk.along, apart = drift_apart_[0] - chunk.apart;
    const double least = along >= 0.0 ? chunk.least_along : chunk.most_along;
    const double taken = a_.penalty * (least * along - chunk.most_apart * std::max(0.0, apart));
    const double rounding = kTie * (std::fabs(chunk.best) + std::fabs(taken)) + a_.floor[set_];
    return chunk.best - taken + rounding;
  }

  // The chunk that has the row with the largest bound, brought up to date.
  size_t best_chunk() {
    std::vector<double> bounds(chunks_.size());
    for (size_t c = 0; c < bounds.size(); ++c) bounds[c] = now(chunks_[c]);
    size_t fresh = bounds.size();  // the chunk that was bounded last
    while (true) {
      const size_t c = static_cast<size_t>(std::max_element(bounds.begin(), bounds.end()) - bounds.begin());
      if (c == fresh) return c;
      bound_rows(c);
      bounds[c] = chunks_[c].best;
      fresh = c;
    }
  }

  void bound_rows(size_t c) {
    const double along = a_.penalty * drift_along_[0], apart = a_.penalty * drift_apart_[0];
    double best[kLanes];
    for (double& lane : best) lane = kClosed;
    const int64_t stop = stop_of(c);
    int64_t row = static_cast<int64_t>(c) * kChunk;
    for (; row + kLanes <= stop; row += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) {
        const int64_t i = row + lane;
        const double bound = unmeasured_[i] - (along_[i] * along - apart_[i] * apart);
        bound_[i] = bound;
        best[lane] = bound > best[lane] ? bound : best[lane];
      }
    for (int lane = 0; row < stop; ++row, ++lane) {
      bound_[row] = unmeasured_[row] - (along_[row] * along - apart_[row] * apart);
      best[lane] = std::max(best[lane], bound_[row]);
    }
    chunks_[c].best = *std::max_element(best, best + kLanes);
    chunks_[c].along = drift_along_[0], chunks_[c].apart = drift_apart_[0];
  }

  // Moves a row to the list of the measured.
  void move(int64_t row, int64_t time) {
    unmeasured_[row] = bound_[row] = kClosed;
    measured_.push_back({row, kClosed, time});
  }

  // Adds a pick to the sum, and its part along and apart from the axis to the drift since every earlier pick.
  void add(int64_t pick) {
    const float* x = features(pick);
    for (int64_t k = 0; k < a_.width; ++k) sum_[k] += scale_[pick] * static_cast<double>(x[k]);
    const double own = scale_[pick] * scale_[pick] * dot(x, x, a_.width);
    const double length = std::sqrt(own);
    // Of the picks since `time`: product with their sum, and the sums of their lengths and scales, which say
    // how far that product may be off in float. It only bounds, and in float it takes a third of the time.
    double cross = 0.0, lengths = 0.0, scales = 0.0;
    const int64_t made = static_cast<int64_t>(picks_.size());
    for (int64_t time = made; time >= 0; --time) {
      if (time < made) {
        const int64_t earlier = picks_[time];
        cross += scale_[pick] * scale_[earlier] * float_dot(x, features(earlier), a_.width);
        lengths += lengths_[time], scales += scale_[earlier];
      }
      const double error = float_dot_error(a_.width) * length * lengths +
                           float_dot_underflow(a_.width) * scale_[pick] * scales;
      squared_[time] += 2.0 * (cross + error) + own;
      drift_along_[time] += along_[pick];
      // A little more than the square of the rest, for rounding.
      const double rest = squared_[time] * (1 + 1e-9) - drift_along_[time] * drift_along_[time];
      drift_apart_[time] = std::sqrt(std::max(0.0, rest));
    }
    picks_.push_back(pick);
    lengths_.push_back(length);
    squared_.push_back(0.0);
    drift_along_.push_back(0.0);
    drift_apart_.push_back(0.0);
    unmeasured_[pick] = kClosed;
    for (size_t e = 0; e < measured_.size(); ++e)
      if (measured_[e].row == pick) {
        measured_[e] = measured_.back();
        measured_.pop_back();
        break;
      }
  }

  const LinearCut& a_;
  const int64_t set_;
  const float* features_;
  const double* scale_;
  const double* along_;
  const double* apart_;
  const double* first_;             // gains at the start
  std::vector<double> unmeasured_;  // the same, -inf for rows measured since or picked
  std::vector<double> bound_;       // upper bounds of the unmeasured when their chunk was bounded last
  std::vector<Chunk> chunks_;
  std::vector<Measured> measured_;
  std::vector<int64_t> rivals_;  // unmeasured rows whose bounds reach the best
  std::vector<double> sum_;      // of the scaled picks
  std::vector<int64_t> picks_;
  std::vector<double> lengths_;  // of the scaled picks
  // Of the sum of the picks since every time: squared length, part along the axis, length of the rest.
  std::vector<double> squared_{0.0}, drift_along_{0.0}, drift_apart_{0.0};
};

}  // namespace

void linear_cut(const LinearCut& a) {
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) Greedy(a, g).run();
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
