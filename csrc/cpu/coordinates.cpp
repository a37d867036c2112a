#include <algorithm>
#include <vector>

#include "cpu/narrow_products.h"
#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int kRows = 12;    // rows and
constexpr int kColumns = 8;  // directions whose sums stay in registers

}  // namespace

// A general product of matrices spends most of its time on so few columns in copies.
void coordinates(const Coordinates& a) {
  std::vector<std::vector<float>> along;
  for (int64_t g = 0; g < a.sets; ++g)
    along.push_back(packed<float, kColumns>(a.along + g * a.directions * a.width, a.directions, a.width));
  for_row_ranges(a.sets, a.rows, a.width, [&](int64_t set, int64_t first, int64_t last) {
    std::vector<float> tail(static_cast<size_t>(kRows * a.width), 0.0f);
    for (int64_t row = first; row < last; row += kRows) {
      const int64_t count = std::min<int64_t>(kRows, last - row);
      const float* x = a.features + (set * a.rows + row) * a.width;
      if (count < kRows) {
        std::copy_n(x, count * a.width, tail.begin());
        x = tail.data();
      }
      multiply_all<kRows, kColumns>(x, count, along[set].data(), a.directions, a.width,
                                    a.out + set * a.directions * a.rows + row, a.rows);
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
