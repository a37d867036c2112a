#include <algorithm>
#include <vector>

#include "cpu/parallel.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

// The rows of a set are cut into chunks that do not depend on the number of threads; each has its own partial
// sum and these are added in order, so the result is the same for any number of threads.
constexpr int64_t kChunks = 8;  // at most, per set
constexpr int64_t kChunkRows = 256;
constexpr int64_t kRows = 4;  // whose second factors are added together

void sum_chunk(const FactoredSum& a, int64_t first, int64_t last, double* out) {
  const int64_t columns = 1 + a.second_width;
  std::vector<double> y(static_cast<size_t>(kRows * columns));
  for (int64_t start = first; start < last; start += kRows) {
    const int64_t count = std::min(kRows, last - start);
    std::fill(y.begin(), y.end(), 0.0);
    for (int64_t i = 0; i < count; ++i) {
      const double weight = a.weights[start + i];
      const float* second = a.second + (start + i) * a.second_width;
      y[i * columns] = weight;
      for (int64_t l = 0; l < a.second_width; ++l)
        y[i * columns + 1 + l] = weight * static_cast<double>(second[l]);
    }
    for (int64_t k = 0; k < a.width; ++k) {
      double x[kRows] = {};
      for (int64_t i = 0; i < count; ++i) x[i] = a.features[(start + i) * a.width + k];
      const double *y0 = y.data(), *y1 = y0 + columns, *y2 = y1 + columns, *y3 = y2 + columns;
      double* sums = out + k * columns;
#pragma omp simd
      for (int64_t l = 0; l < columns; ++l)
        sums[l] += (x[0] * y0[l] + x[1] * y1[l]) + (x[2] * y2[l] + x[3] * y3[l]);
    }
  }
}

}  // namespace

void factored_sum(const FactoredSum& a) {
  const int64_t numbers = a.width * (1 + a.second_width);
  const int64_t chunk = std::max(kChunkRows, (a.rows + kChunks - 1) / kChunks);
  const int64_t chunks = std::max<int64_t>(1, (a.rows + chunk - 1) / chunk);
  std::vector<double> partial(static_cast<size_t>(a.sets * chunks * numbers), 0.0);
  parallel_for(0, a.sets * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      const int64_t set = job / chunks, first = job % chunks * chunk;
      sum_chunk(a, set * a.rows + first, set * a.rows + std::min(a.rows, first + chunk),
                partial.data() + job * numbers);
    }
  });
  for (int64_t set = 0; set < a.sets; ++set) {
    double* out = a.out + set * numbers;
    std::copy_n(partial.data() + set * chunks * numbers, numbers, out);
    for (int64_t c = 1; c < chunks; ++c)
      for (int64_t k = 0; k < numbers; ++k) out[k] += partial[(set * chunks + c) * numbers + k];
  }
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
