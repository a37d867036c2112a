#include <algorithm>
#include <vector>

#include "cpu/narrow_products.h"
#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int kRows = 6;    // rows and
constexpr int kOthers = 8;  // others whose products stay in registers

}  // namespace

// A general product of matrices wants a copy of all rows in double, and is slow on narrow ones.
void factored_columns(const FactoredColumns& a) {
  std::vector<std::vector<double>> first_packed, second_packed;
  for (int64_t g = 0; g < a.sets; ++g) {
    first_packed.push_back(packed<double, kOthers>(a.others + g * a.columns * a.width, a.columns, a.width));
    second_packed.push_back(
        packed<double, kOthers>(a.other_second + g * a.columns * a.second_width, a.columns, a.second_width));
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
