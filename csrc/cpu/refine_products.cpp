#include <limits>

#include "cpu/parallel.h"
#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

float float_dot(const float* x, const float* y, int64_t width) {
  float lanes[kLanes] = {};
  const int64_t whole = width - width % kLanes;
  for (int64_t k = 0; k < whole; k += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += x[k + lane] * y[k + lane];
  for (int64_t k = whole; k < width; ++k) lanes[k - whole] += x[k] * y[k];
  for (int step = kLanes / 2; step > 0; step /= 2)
    for (int lane = 0; lane < step; ++lane) lanes[lane] += lanes[lane + step];
  return lanes[0];
}

}  // namespace

void refine_products(const RefineProducts& a) {
  const int64_t grain = 1 + (1 << 14) / (a.rows + 1);
  parallel_for(0, a.sets * a.block, grain, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const int64_t set = j / a.block;
      const float* features = a.features + set * a.rows * a.width;
      const float* candidate = features + a.positions[j] * a.width;
      const float* least = a.least + set * a.rows;
      float* products = a.products + j * a.rows;
      int64_t count = 0;
      for (int64_t i = 0; i < a.rows; ++i) {
        const bool beaten = products[i] <= least[i];
        products[i] = beaten ? -std::numeric_limits<float>::infinity()
                             : float_dot(features + i * a.width, candidate, a.width);
        count += !beaten;
      }
      a.counts[j] = count;
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
