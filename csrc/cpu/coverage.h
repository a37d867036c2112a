// The gain of one facility-location candidate over all rows.
#pragma once
#include <algorithm>
#include <cstdint>

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// The processor reads ahead by itself only as far as the end of a page of 4 kB; this goes on across it.
constexpr int kAhead = 1024;

inline double coverage_gain(const float* similarity, const double* coverage, int64_t rows) {
  constexpr int kLanes = 16;
  double gain[kLanes] = {};
  const auto add = [&](int64_t i, int lane) {
    const double excess = static_cast<double>(similarity[i]) - coverage[i];
    gain[lane] += excess > 0.0 ? excess : 0.0;
  };
  int64_t i = 0;
  for (; i + kLanes <= rows; i += kLanes) {
    __builtin_prefetch(similarity + i + kAhead);
    for (int lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (int lane = 0; i < rows; ++i, ++lane) add(i, lane);
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int lane = 0; lane < step; ++lane) gain[lane] += gain[lane + step];
  return gain[0];
}

struct Estimate {
  double gain;     // sum of max(0, similarity - coverage)
  int64_t active;  // rows with similarity > coverage - margin, where they are counted
};

// The same in float, twice as fast, with gains that err by at most kEstimateError of themselves: lanes take
// 16 additions before they are added up in double. Of kCandidates together, whose similarities lie row by
// row: two read memory faster than one.
constexpr double kEstimateError = 20.0 / (1 << 24);

template <int kCandidates, bool kCount>
inline void estimate_gains(const float* similarity, const float* coverage, int64_t rows, float margin,
                           Estimate* out) {
  constexpr int kLanes = 32 / kCandidates;
  constexpr int64_t kRun = 16 * kLanes;
  double gain[kCandidates] = {}, active[kCandidates] = {};
  const float* column[kCandidates];
  for (int c = 0; c < kCandidates; ++c) column[c] = similarity + c * rows;
  for (int64_t start = 0; start < rows; start += kRun) {
    float gains[kCandidates][kLanes] = {};
    float actives[kCandidates][kLanes] = {};
    const auto add = [&](int64_t i, int lane) {
      for (int c = 0; c < kCandidates; ++c) {
        const float excess = column[c][i] - coverage[i];
        gains[c][lane] += excess > 0.0f ? excess : 0.0f;
        if (kCount) actives[c][lane] += excess > -margin ? 1.0f : 0.0f;
      }
    };
    const int64_t stop = std::min(rows, start + kRun);
    int64_t i = start;
    for (; i + kLanes <= stop; i += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
    for (int lane = 0; i < stop; ++i, ++lane) add(i, lane);
    for (int c = 0; c < kCandidates; ++c)
      for (int lane = 0; lane < kLanes; ++lane) {
        gain[c] += static_cast<double>(gains[c][lane]);
        if (kCount) active[c] += static_cast<double>(actives[c][lane]);
      }
  }
  for (int c = 0; c < kCandidates; ++c) out[c] = {gain[c], static_cast<int64_t>(active[c])};
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
