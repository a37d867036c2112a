#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/coverage.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

constexpr int kTogether = 2;  // candidates

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
    Estimate found[kTogether];
    for (int64_t j = begin; j < end;) {
      const int64_t set = j / a.block;
      const float *similarity = a.similarity + j * a.rows, *covered = coverage.data() + set * a.rows;
      const bool several = j + kTogether <= std::min(end, (set + 1) * a.block);
      const auto estimate = several ? estimate_gains<kTogether, false> : estimate_gains<1, false>;
      estimate(similarity, covered, a.rows, 0.0f, found);
      for (int c = 0; c < (several ? kTogether : 1); ++c, ++j)
        a.gains[j] = found[c].gain * (1.0 + 2.0 * kEstimateError);
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
