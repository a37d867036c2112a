// The gain of one facility-location candidate over all rows.
#pragma once
#include <algorithm>
#include <cstdint>

namespace fastcore::cpu {
namespace FASTCORE_ISA {

struct Coverage {
  double gain;     // sum of max(0, similarity - coverage)
  int64_t active;  // rows with similarity > coverage - margin
};

inline Coverage coverage_gain(const float* similarity, const double* coverage, int64_t rows, double margin) {
  constexpr int kLanes = 16;
  double gain[kLanes] = {};
  double active[kLanes] = {};
  const auto add = [&](int64_t i, int lane) {
    const double excess = static_cast<double>(similarity[i]) - coverage[i];
    gain[lane] += excess > 0.0 ? excess : 0.0;
    active[lane] += excess > -margin ? 1.0 : 0.0;
  };
  int64_t i = 0;
  for (; i + kLanes <= rows; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  for (int lane = 0; i < rows; ++i, ++lane) add(i, lane);
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int lane = 0; lane < step; ++lane) {
      gain[lane] += gain[lane + step];
      active[lane] += active[lane + step];
    }
  return {gain[0], static_cast<int64_t>(active[0])};
}

// The same in float for R candidates together, twice as fast, with gains that err by at most kEstimateError
// of themselves: lanes take 16 additions before they are added up in double. Two candidates together keep
// more memory reads in flight; their sums are those of one.
constexpr double kEstimateError = 20.0 / (1 << 24);

template <bool kCount, int R>
inline void estimate_gains(const float* const (&similarity)[R], const float* coverage, int64_t rows,
                           float margin, Coverage (&out)[R]) {
  constexpr int kLanes = 32;
  constexpr int64_t kRun = 16 * kLanes;
  double gain[R] = {}, active[R] = {};
  for (int64_t start = 0; start < rows; start += kRun) {
    float gains[R][kLanes] = {};
    float actives[R][kLanes] = {};
    const auto add = [&](int r, int64_t i, int lane) {
      const float excess = similarity[r][i] - coverage[i];
      gains[r][lane] += excess > 0.0f ? excess : 0.0f;
      if (kCount) actives[r][lane] += excess > -margin ? 1.0f : 0.0f;
    };
    const int64_t stop = std::min(rows, start + kRun);
    int64_t i = start;
    for (; i + kLanes <= stop; i += kLanes)
      for (int r = 0; r < R; ++r)
        for (int lane = 0; lane < kLanes; ++lane) add(r, i + lane, lane);
    for (int lane = 0; i < stop; ++i, ++lane)
      for (int r = 0; r < R; ++r) add(r, i, lane);
    for (int r = 0; r < R; ++r)
      for (int lane = 0; lane < kLanes; ++lane) {
        gain[r] += static_cast<double>(gains[r][lane]);
        if (kCount) active[r] += static_cast<double>(actives[r][lane]);
      }
  }
  for (int r = 0; r < R; ++r) out[r] = {gain[r], static_cast<int64_t>(active[r])};
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
