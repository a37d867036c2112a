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
class Directions {
 public:
  Directions(const FactoredCoordinates& a, int64_t set)
      : second_(a.outer * a.second_width),
        first_(a.outer),
        along_(packed<float, kColumns>(a.along + set * a.directions * a.width * a.outer, a.directions,
                                       a.width * a.outer)) {
    for (int64_t o = 0; o < a.outer; ++o) {
      const float* direction = a.second_along + (set * a.outer + o) * (1 + a.second_width);
      first_[o] = direction[0];
      std::copy_n(direction + 1, a.second_width, second_.begin() + o * a.second_width);
    }
    second_ = packed<float, kColumns>(second_.data(), a.outer, a.second_width);
  }

  // Coordinates of kRows rows [1; y] along the directions of second factors, kRows x outer.
  void of_second(const FactoredCoordinates& a, const float* y, float* out) const {
    for (int64_t group = 0; group < a.outer; group += kColumns) {
      float sums[kRows][kColumns];
      multiply(y, second_.data() + group * a.second_width, a.second_width, sums);
      for (int i = 0; i < kRows; ++i)
        for (int64_t c = 0; c < std::min<int64_t>(kColumns, a.outer - group); ++c)
          out[i * a.outer + group + c] = first_[group + c] + sums[i][c];
    }
  }

  // Coordinates of kRows products along all directions: the first `count` rows to out, a.rows numbers apart.
  void of_products(const FactoredCoordinates& a, const float* products, int64_t count, float* out) const {
    const int64_t numbers = a.width * a.outer;
    for (int64_t group = 0; group < a.directions; group += kColumns) {
      float sums[kRows][kColumns];
      multiply(products, along_.data() + group * numbers, numbers, sums);
      for (int64_t c = 0; c < std::min<int64_t>(kColumns, a.directions - group); ++c)
        for (int64_t i = 0; i < count; ++i) out[(group + c) * a.rows + i] = sums[i][c];
    }
  }

 private:
  std::vector<float> second_, first_, along_;
};

}  // namespace

void factored_coordinates(const FactoredCoordinates& a) {
  std::vector<Directions> directions;
  for (int64_t set = 0; set < a.sets; ++set) directions.emplace_back(a, set);
  const int64_t numbers = a.width * a.outer;
  for_row_ranges(a.sets, a.rows, a.second_width + numbers, [&](int64_t set, int64_t first, int64_t last) {
    std::vector<float> tail(kRows * a.second_width, 0.0f), second(kRows * a.outer);
    std::vector<float> products(kRows * numbers, 0.0f);
    for (int64_t row = first; row < last; row += kRows) {
      const int64_t count = std::min<int64_t>(kRows, last - row);
      const float *x = a.features + (set * a.rows + row) * a.width,
                  *y = a.second + (set * a.rows + row) * a.second_width;
      if (count < kRows) {
        std::copy_n(y, count * a.second_width, tail.begin());
        y = tail.data();
      }
      directions[set].of_second(a, y, second.data());
      for (int64_t i = 0; i < count; ++i)
        for (int64_t k = 0; k < a.width; ++k)
          for (int64_t o = 0; o < a.outer; ++o)
            products[i * numbers + k * a.outer + o] = x[i * a.width + k] * second[i * a.outer + o];
      directions[set].of_products(a, products.data(), count, a.out + set * a.directions * a.rows + row);
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
