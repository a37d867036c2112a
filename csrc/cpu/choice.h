// The rule of choice of kernels.h for the CPU kernels.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

constexpr double kClosed = -std::numeric_limits<double>::infinity();

struct Choice {
  int64_t position;  // -1 where no candidate is open
  double best;
  double tolerance;
};

// How far below the best a value still counts as tied; an infinite best is tied with its equals only.
inline double tolerance_of(double best, double floor) {
  return std::isinf(best) ? 0.0 : kTie * std::fabs(best) + floor;
}

// The largest of `count` values, kClosed where there is none.
inline double largest_of(const double* values, int64_t count) {
  double lane[8];
  for (double& v : lane) v = kClosed;
  const int64_t rest = count % 8, whole = count - rest;
  for (int64_t i = 0; i < whole; i += 8)
    for (int l = 0; l < 8; ++l) lane[l] = values[i + l] > lane[l] ? values[i + l] : lane[l];
  double largest = kClosed;
  for (double v : lane) largest = v > largest ? v : largest;
  for (int64_t l = 0; l < rest; ++l) largest = values[whole + l] > largest ? values[whole + l] : largest;
  return largest;
}

// The best of `count` values, ties to the lowest row number (to the lowest position without row_ids).
inline Choice choose(const double* values, const int64_t* row_ids, int64_t count, double floor) {
  const double best = largest_of(values, count);
  if (best == kClosed) return {-1, best, 0.0};
  const double tolerance = tolerance_of(best, floor);
  const double tied = best - tolerance;
  int64_t position = -1;
  for (int64_t j = 0; j < count; ++j) {
    if (values[j] < tied) continue;
    if (position < 0) {
      position = j;
      if (row_ids == nullptr) break;
    } else if (row_ids[j] < row_ids[position]) {
      position = j;
    }
  }
  return {position, best, tolerance};
}

// Whether the choice, which has row number `row`, also beats everything outside the block.
inline bool wins(const Choice& choice, int64_t row, double outside, int64_t outside_row) {
  return choice.best - choice.tolerance > outside ||
         (choice.best + choice.tolerance >= outside && row < outside_row);
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
