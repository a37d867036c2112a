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

// What the rows of one set are seen along.
struct Directions {
  std::vector<float> first, second;  // directions of [1; y]: of 1, and packed of y
  std::vector<float> along;          // of products, packed

  Directions(const FactoredCoordinates& a, int64_t set) : first(a.outer), second(a.outer * a.second_width) {
    for (int64_t o = 0; o < a.outer; ++o) {
      const float* direction = a.second_along + (set * a.outer + o) * (1 + a.second_width);
      first[o] = direction[0];
      std::copy_n(direction + 1, a.second_width, second.begin() + o * a.second_width);
    }
    second = packed<float, kColumns>(second.data(), a.outer, a.second_width);
    const int64_t numbers = a.width * a.outer;
    along = packed<float, kColumns>(a.along + set * a.directions * numbers, a.directions, numbers);
  }
};

}  // namespace

void factored_coordinates(const FactoredCoordinates& a) {
  std::vector<Directions> directions;
  for (int64_t set = 0; set < a.sets; ++set) directions.emplace_back(a, set);
  const int64_t numbers = a.width * a.outer;
  for_row_ranges(a.sets, a.rows, a.second_width + numbers, [&](int64_t set, int64_t first, int64_t last) {
    const Directions& seen = directions[set];
    std::vector<float> tail(kRows * a.second_width, 0.0f), products(kRows * numbers, 0.0f);
    std::vector<float> second(a.outer * kRows);
    for (int64_t row = first; row < last; row += kRows) {
      const int64_t count = std::min<int64_t>(kRows, last - row);
      const float *x = a.features + (set * a.rows + row) * a.width,
                  *y = a.second + (set * a.rows + row) * a.second_width;
      if (count < kRows) {
        std::copy_n(y, count * a.second_width, tail.begin());
        y = tail.data();
      }
      multiply_all<kRows, kColumns>(y, count, seen.second.data(), a.outer, a.second_width, second.data(),
                                    kRows);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t k = 0; k < a.width; ++k)
          for (int64_t o = 0; o < a.outer; ++o)
            products[i * numbers + k * a.outer + o] =
                x[i * a.width + k] * (seen.first[o] + second[o * kRows + i]);
      multiply_all<kRows, kColumns>(products.data(), count, seen.along.data(), a.directions, numbers,
                                    a.out + set * a.directions * a.rows + row, a.rows);
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
