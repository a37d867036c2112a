// Sums over float rows in double, one number per row.
#pragma once
#include <algorithm>
#include <cstdint>

#include "cpu/parallel.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

constexpr int kLanes = 8;  // sums kept apart, so that the compiler may use vectors without reordering
constexpr int kRows = 4;   // rows read together: hides the latency of the additions
constexpr int64_t kGrain = 1 << 15;  // numbers a thread should have to read at least

// out[r] = sum_k term(x[r][k], k) for R rows. The order of the sum is the same for every R and every row, so
// equal rows have equal sums to the last bit.
template <int R, class Term>
inline void sum_rows(const float* x, int64_t width, const Term& term, double* out) {
  double sums[R][kLanes] = {};
  const int64_t whole = width - width % kLanes;
  for (int64_t k = 0; k < whole; k += kLanes) {
    for (int r = 0; r < R; ++r) {
      for (int lane = 0; lane < kLanes; ++lane) {
        sums[r][lane] += term(static_cast<double>(x[r * width + k + lane]), k + lane);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int64_t k = whole; k < width; ++k) {
      sums[r][k - whole] += term(static_cast<double>(x[r * width + k]), k);
    }
    const double* s = sums[r];
    out[r] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
  }
}

// The same for rows [first, last) of one ground set.
template <class Term>
inline void sum_rows(const float* x, int64_t first, int64_t last, int64_t width, const Term& term,
                     double* out) {
  int64_t i = first;
  for (; i + kRows <= last; i += kRows) sum_rows<kRows>(x + i * width, width, term, out + i);
  for (; i < last; ++i) sum_rows<1>(x + i * width, width, term, out + i);
}

// Calls body(set, first row, last row) over all rows of all ground sets, in parallel.
template <class Body>
inline void for_row_ranges(int64_t sets, int64_t rows, int64_t width, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width));
  parallel_for(0, sets * rows, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t set = begin / rows, last = std::min(end, (set + 1) * rows);
      body(set, begin - set * rows, last - set * rows);
      begin = last;
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
