#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

typedef double Lanes __attribute__((vector_size(32), aligned(8)));  // loops over arrays would live in memory
constexpr int kRows = 6;                                            // rows and
constexpr int kOthers = 8;                                          // others whose products stay in registers
constexpr int kVectors = kOthers * sizeof(double) / sizeof(Lanes);

// The others number by number, kOthers at a time, zeros where there are fewer.
std::vector<double> packed(const float* others, int64_t count, int64_t width) {
  const int64_t groups = (count + kOthers - 1) / kOthers;
  std::vector<double> out(static_cast<size_t>(groups * width * kOthers), 0.0);
  for (int64_t other = 0; other < count; ++other)
    for (int64_t k = 0; k < width; ++k)
      out[(other / kOthers * width + k) * kOthers + other % kOthers] = others[other * width + k];
  return out;
}

// Products of kRows rows (kRows, width) with kOthers others.
inline void multiply(const double* rows, const double* others, int64_t width, double (&out)[kRows][kOthers]) {
  Lanes sums[kRows][kVectors] = {};
  for (int64_t k = 0; k < width; ++k) {
    const Lanes* other = reinterpret_cast<const Lanes*>(others + k * kOthers);
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < kVectors; ++v) sums[i][v] += rows[i * width + k] * other[v];
  }
  std::memcpy(out, sums, sizeof(sums));
}

}  // namespace

// A general product of matrices wants a copy of all rows in double, and is slow on narrow ones.
void factored_columns(const FactoredColumns& a) {
  std::vector<std::vector<double>> first_packed, second_packed;
  for (int64_t g = 0; g < a.sets; ++g) {
    first_packed.push_back(packed(a.others + g * a.columns * a.width, a.columns, a.width));
    second_packed.push_back(
        packed(a.other_second + g * a.columns * a.second_width, a.columns, a.second_width));
  }
  const int64_t cost = (a.width + a.second_width) * std::max<int64_t>(1, a.columns / kOthers);
  for_row_ranges(a.sets, a.rows, cost, [&](int64_t set, int64_t first, int64_t last) {
    std::vector<double> x(static_cast<size_t>(kRows * a.width), 0.0);
    std::vector<double> y(static_cast<size_t>(kRows * a.second_width), 0.0);
    for (int64_t start = first; start < last; start += kRows) {
      const int64_t row = set * a.rows + start, count = std::min<int64_t>(kRows, last - start);
      std::copy_n(a.features + row * a.width, count * a.width, x.begin());
      std::copy_n(a.second + row * a.second_width, count * a.second_width, y.begin());
      for (int64_t other = 0; other < a.columns; other += kOthers) {
        double ours[kRows][kOthers], theirs[kRows][kOthers];
        multiply(x.data(), first_packed[set].data() + other * a.width, a.width, ours);
        multiply(y.data(), second_packed[set].data() + other * a.second_width, a.second_width, theirs);
        for (int64_t i = 0; i < count; ++i)
          for (int64_t c = 0; c < std::min<int64_t>(kOthers, a.columns - other); ++c)
            a.out[(row + i) * a.columns + other + c] = ours[i][c] * (1.0 + theirs[i][c]);
      }
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
