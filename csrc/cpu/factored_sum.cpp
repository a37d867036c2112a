#include <algorithm>

#include "cpu/lines.h"
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

void sum_chunk(const FactoredSum& a, int64_t first, int64_t last, int64_t columns, double* out) {
  const LineAligned<double> y(kRows * columns);
  for (int64_t start = first; start < last; start += kRows) {
    const int64_t count = std::min(kRows, last - start);
    std::fill_n(y.data(), kRows * columns, 0.0);
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
  const int64_t columns = 1 + a.second_width, padded = whole_vectors<double>(columns);
  const int64_t numbers = a.width * padded;
  const int64_t chunk = std::max(kChunkRows, (a.rows + kChunks - 1) / kChunks);
  const int64_t chunks = std::max<int64_t>(1, (a.rows + chunk - 1) / chunk);
  const LineAligned<double> partial(a.sets * chunks * numbers, 0.0);
  parallel_for(0, a.sets * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      const int64_t set = job / chunks, first = job % chunks * chunk;
      double* out = partial.data() + job * numbers;
      sum_chunk(a, set * a.rows + first, set * a.rows + std::min(a.rows, first + chunk), padded, out);
    }
  });
  for (int64_t k = 0; k < a.sets * a.width; ++k) {
    const double* sums = partial.data() + (k / a.width * chunks * a.width + k % a.width) * padded;
    double* out = a.out + k * columns;
    std::copy_n(sums, columns, out);
    for (int64_t c = 1; c < chunks; ++c)
      for (int64_t l = 0; l < columns; ++l) out[l] += sums[c * numbers + l];
  }
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
