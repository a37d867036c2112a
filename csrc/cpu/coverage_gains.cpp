#include <cmath>
#include <vector>

#include "cpu/coverage.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// The largest float that is not above.
static float rounded_down(double value) {
  const float near = static_cast<float>(value);
  return static_cast<double>(near) > value ? std::nextafter(near, -INFINITY) : near;
}

// In float, because memory is the limit then; a lower coverage and a share of the gain make up for rounding.
void coverage_gains(const CoverageGains& a) {
  std::vector<float> coverage(static_cast<size_t>(a.sets * a.rows));
  for (int64_t i = 0; i < a.sets * a.rows; ++i) coverage[i] = rounded_down(a.coverage[i]);
  const int64_t grain = 1 + (1 << 16) / (a.rows + 1);
  parallel_for(0, a.sets * a.block, grain, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const float* covered = coverage.data() + j / a.block * a.rows;
      const Estimate found = estimate_gain<false>(a.similarity + j * a.rows, covered, a.rows, 0.0f);
      a.gains[j] = found.gain * (1.0 + 2.0 * kEstimateError);
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
