#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

typedef float Lanes __attribute__((vector_size(32), aligned(4)));  // loops over arrays would live in memory
constexpr int kRows = 12;                                          // rows and
constexpr int kColumns = 8;                                        // directions whose sums stay in registers
static_assert(sizeof(Lanes) == kColumns * sizeof(float), "one vector holds the sums of a row");

// Coordinates of kRows rows; `packed` holds the directions number by number, kColumns at a time.
inline void multiply(const float* x, const float* packed, int64_t width, float (&out)[kRows][kColumns]) {
  Lanes sums[kRows] = {};
  for (int64_t k = 0; k < width; ++k) {
    const Lanes along = *reinterpret_cast<const Lanes*>(packed + k * kColumns);
    for (int i = 0; i < kRows; ++i) sums[i] += x[i * width + k] * along;
  }
  std::memcpy(out, sums, sizeof(sums));
}

}  // namespace

// A general product of matrices spends most of its time on a width of 16 in copies.
void coordinates(const Coordinates& a) {
  const int64_t groups = (a.directions + kColumns - 1) / kColumns;
  std::vector<float> packed(static_cast<size_t>(a.sets * groups * a.width * kColumns), 0.0f);
  for (int64_t g = 0; g < a.sets; ++g)
    for (int64_t c = 0; c < a.directions; ++c)
      for (int64_t k = 0; k < a.width; ++k)
        packed[((g * groups + c / kColumns) * a.width + k) * kColumns + c % kColumns] =
            a.along[(g * a.directions + c) * a.width + k];
  for_row_ranges(a.sets, a.rows, a.width, [&](int64_t set, int64_t first, int64_t last) {
    std::vector<float> tail(static_cast<size_t>(kRows * a.width), 0.0f);
    for (int64_t row = first; row < last; row += kRows) {
      const int64_t count = std::min<int64_t>(kRows, last - row);
      const float* x = a.features + (set * a.rows + row) * a.width;
      if (count < kRows) {
        std::copy_n(x, count * a.width, tail.begin());
        x = tail.data();
      }
      for (int64_t group = 0; group < groups; ++group) {
        float sums[kRows][kColumns];
        multiply(x, packed.data() + (set * groups + group) * a.width * kColumns, a.width, sums);
        const int64_t columns = std::min<int64_t>(kColumns, a.directions - group * kColumns);
        for (int64_t c = 0; c < columns; ++c)
          for (int64_t i = 0; i < count; ++i)
            a.out[(set * a.directions + group * kColumns + c) * a.rows + row + i] = sums[i][c];
      }
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
