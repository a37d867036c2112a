// Inner products in double. The lanes are explicit: the sum depends on the values alone, never on where
// a row lies in memory, so equal rows give equal sums.
#pragma once
#include <cstdint>

namespace fastcore::cpu {
namespace FASTCORE_ISA {

template <typename T>
inline double dot(const float* x, const T* y, int64_t width) {
  constexpr int kLanes = 16;
  double lane[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes)
    for (int l = 0; l < kLanes; ++l) lane[l] += static_cast<double>(x[k + l]) * static_cast<double>(y[k + l]);
  double rest = 0.0;
  for (; k < width; ++k) rest += static_cast<double>(x[k]) * static_cast<double>(y[k]);
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int l = 0; l < step; ++l) lane[l] += lane[l + step];
  return lane[0] + rest;
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
