#include <algorithm>

#include "cpu/lines.h"
#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int kRows = 4;        // that take their products with
constexpr int kDirections = 2;  // rows of the direction together
constexpr int kDoubles = 4;     // in a register; loops over arrays would live in memory
typedef double Lanes __attribute__((vector_size(kDoubles * sizeof(double)), aligned(8)));

// Products of kRows rows y (kRows, width) with `count` rows z (count, width): a multiple of kDoubles, filled
// with zeros.
template <int count>
inline void products(const double* y, const double* z, int64_t width, double (*out)[kRows]) {
  Lanes sums[count][kRows] = {};
  for (int64_t l = 0; l < width; l += kDoubles)
    for (int i = 0; i < kRows; ++i) {
      const Lanes& own = *reinterpret_cast<const Lanes*>(y + i * width + l);
      for (int d = 0; d < count; ++d) sums[d][i] += own * *reinterpret_cast<const Lanes*>(z + d * width + l);
    }
  for (int d = 0; d < count; ++d)
    for (int i = 0; i < kRows; ++i)
      out[d][i] = (sums[d][i][0] + sums[d][i][1]) + (sums[d][i][2] + sums[d][i][3]);
}

}  // namespace

void factored_project(const FactoredProject& a) {
  const int64_t columns = 1 + a.second_width, padded = whole_vectors<double>(columns);
  const LineAligned<double> directions(a.sets * a.width * padded, 0.0);
  for (int64_t k = 0; k < a.sets * a.width; ++k)
    std::copy_n(a.direction + k * columns, columns, directions.data() + k * padded);
  for_row_ranges(a.sets, a.rows, a.width * columns, [&](int64_t set, int64_t first, int64_t last) {
    const LineAligned<double> y(kRows * padded, 0.0);
    for (int64_t start = first; start < last; start += kRows) {
      const int64_t row = set * a.rows + start, count = std::min<int64_t>(kRows, last - start);
      for (int64_t i = 0; i < count; ++i) {
        y[i * padded] = 1.0;
        std::copy_n(a.second + (row + i) * a.second_width, a.second_width, y.data() + i * padded + 1);
      }
      double totals[kRows] = {};
      for (int64_t k = 0; k < a.width; k += kDirections) {
        const int64_t together = std::min<int64_t>(kDirections, a.width - k);
        const double* direction = directions.data() + (set * a.width + k) * padded;
        double found[kDirections][kRows];
        if (together == kDirections) {
          products<kDirections>(y.data(), direction, padded, found);
        } else {
          products<1>(y.data(), direction, padded, found);
        }
        for (int64_t d = 0; d < together; ++d)
          for (int64_t i = 0; i < count; ++i)
            totals[i] += static_cast<double>(a.features[(row + i) * a.width + k + d]) * found[d][i];
      }
      std::copy_n(totals, count, a.out + row);
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
