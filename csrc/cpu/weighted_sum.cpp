#include <algorithm>
#include <vector>

#include "cpu/parallel.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// The rows of a set are cut into chunks that do not depend on the number of threads; each has its own partial
// sum and these are added in order, so the result is the same for any number of threads.
constexpr int64_t kChunkRows = 256;  // at least
constexpr int64_t kChunks = 64;      // at most, per set
constexpr int64_t kColumns = 2048;   // sums that stay in the first-level cache

static void sum_chunk(const float* x, const double* weights, int64_t rows, int64_t width, double* out) {
  std::fill_n(out, width, 0.0);
  for (int64_t start = 0; start < width; start += kColumns) {
    const int64_t columns = std::min(kColumns, width - start);
    double* sums = out + start;
    for (int64_t i = 0; i < rows; ++i) {
      const float* x_row = x + i * width + start;
      const double weight = weights[i];
#pragma omp simd
      for (int64_t k = 0; k < columns; ++k) sums[k] += weight * x_row[k];
    }
  }
}

void weighted_sum(const WeightedSum& args) {
  const int64_t sets = args.sets, rows = args.rows, width = args.width;
  const int64_t chunk = std::max(kChunkRows, (rows + kChunks - 1) / kChunks);
  const int64_t chunks = std::max<int64_t>(1, (rows + chunk - 1) / chunk);
  std::vector<double> partial(static_cast<size_t>(sets * chunks * width));
  parallel_for(0, sets * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      const int64_t set = job / chunks, first = job % chunks * chunk;
      const int64_t row = set * rows + first;
      sum_chunk(args.features + row * width, args.weights + row, std::min(chunk, rows - first), width,
                partial.data() + job * width);
    }
  });
  for (int64_t set = 0; set < sets; ++set) {
    double* out = args.out + set * width;
    std::copy_n(partial.data() + set * chunks * width, width, out);
    for (int64_t c = 1; c < chunks; ++c) {
      const double* sums = partial.data() + (set * chunks + c) * width;
      for (int64_t k = 0; k < width; ++k) out[k] += sums[k];
    }
  }
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
