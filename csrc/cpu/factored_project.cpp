#include <algorithm>
#include <vector>

#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int kRows = 4;     // that take their products with the direction together
constexpr int kDoubles = 4;  // in a register; loops over arrays would live in memory
typedef double Lanes __attribute__((vector_size(kDoubles * sizeof(double)), aligned(8)));

// Products of kRows rows y (kRows, width) with z (width): a multiple of kDoubles, filled with zeros.
inline void products(const double* y, const double* z, int64_t width, double (&out)[kRows]) {
  Lanes a = {}, b = {}, c = {}, d = {};
  // By reference: how vectors are returned differs between instruction sets.
  const auto at = [](const double* x) -> const Lanes& { return *reinterpret_cast<const Lanes*>(x); };
  for (int64_t l = 0; l < width; l += kDoubles) {
    const Lanes other = at(z + l);
    a += at(y + l) * other, b += at(y + width + l) * other;
    c += at(y + 2 * width + l) * other, d += at(y + 3 * width + l) * other;
  }
  const auto sum = [](const Lanes& x) { return (x[0] + x[1]) + (x[2] + x[3]); };
  out[0] = sum(a), out[1] = sum(b), out[2] = sum(c), out[3] = sum(d);
}

}  // namespace

void factored_project(const FactoredProject& a) {
  const int64_t columns = 1 + a.second_width;
  const int64_t padded = (columns + kDoubles - 1) / kDoubles * kDoubles;
  std::vector<double> directions(static_cast<size_t>(a.sets * a.width * padded), 0.0);
  for (int64_t k = 0; k < a.sets * a.width; ++k)
    std::copy_n(a.direction + k * columns, columns, directions.data() + k * padded);
  for_row_ranges(a.sets, a.rows, a.width * columns, [&](int64_t set, int64_t first, int64_t last) {
    std::vector<double> y(static_cast<size_t>(kRows * padded), 0.0);
    for (int64_t start = first; start < last; start += kRows) {
      const int64_t row = set * a.rows + start, count = std::min<int64_t>(kRows, last - start);
      for (int64_t i = 0; i < count; ++i) {
        y[i * padded] = 1.0;
        std::copy_n(a.second + (row + i) * a.second_width, a.second_width, y.begin() + i * padded + 1);
      }
      double totals[kRows] = {};
      for (int64_t k = 0; k < a.width; ++k) {
        double found[kRows];
        products(y.data(), directions.data() + (set * a.width + k) * padded, padded, found);
        for (int64_t i = 0; i < count; ++i)
          totals[i] += static_cast<double>(a.features[(row + i) * a.width + k]) * found[i];
      }
      std::copy_n(totals, count, a.out + row);
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
