// The gain of one facility-location candidate over all rows.
#pragma once
#include <cstdint>

namespace fastcore::cpu {
namespace FASTCORE_ISA {

struct Coverage {
  double gain;     // sum of max(0, similarity - coverage)
  int64_t active;  // rows with similarity > coverage - margin
};

template <bool kCount>
inline Coverage coverage_sum(const float* similarity, const double* coverage, int64_t rows, double margin) {
  constexpr int kLanes = 16;
  double gain[kLanes] = {};
  double active[kLanes] = {};
  const auto add = [&](int64_t i, int lane) {
    const double excess = static_cast<double>(similarity[i]) - coverage[i];
    gain[lane] += excess > 0.0 ? excess : 0.0;
    if (kCount) active[lane] += excess > -margin ? 1.0 : 0.0;
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

// The same with active = 0 where similarities are exact and nobody asks for the count.
inline Coverage coverage_gain(const float* similarity, const double* coverage, int64_t rows, double margin) {
  return margin > 0.0 ? coverage_sum<true>(similarity, coverage, rows, margin)
                      : coverage_sum<false>(similarity, coverage, rows, margin);
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
