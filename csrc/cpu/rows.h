// Inner products of rows in double, and loops over rows.
#pragma once
#include <algorithm>
#include <cstdint>

#include "cpu/parallel.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// Sums kept apart, so that the compiler may use vectors without reordering; this many hide the latency of the
// additions and keep enough reads of memory in flight. Several rows together were slower.
constexpr int kLanes = 32;
constexpr int kNarrow = 4;           // for rows that do not fill the others
constexpr int64_t kGrain = 1 << 15;  // numbers a thread should have to read at least

// The inner product of two rows in double; fewer lanes suit narrow rows. Its order depends on the width and
// the lanes alone, so equal rows have equal products to the last bit, wherever they lie in memory.
template <int count = kLanes, typename S, typename T>
inline double dot(const S* x, const T* y, int64_t width) {
  if (count > kNarrow && width < count) return dot<std::min(count, kNarrow)>(x, y, width);
  double lanes[count] = {};
  const int64_t whole = width - width % count;
  for (int64_t k = 0; k < whole; k += count)
    for (int lane = 0; lane < count; ++lane)
      lanes[lane] += static_cast<double>(x[k + lane]) * static_cast<double>(y[k + lane]);
  for (int64_t k = whole; k < width; ++k)
    lanes[k - whole] += static_cast<double>(x[k]) * static_cast<double>(y[k]);
  for (int step = count / 2; step > 0; step /= 2)
    for (int lane = 0; lane < step; ++lane) lanes[lane] += lanes[lane + step];
  return lanes[0];
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
