#include "cpu/coverage.h"
#include "cpu/parallel.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

void coverage_gains(const CoverageGains& a) {
  const int64_t grain = 1 + (1 << 16) / (a.rows + 1);
  parallel_for(0, a.sets * a.block, grain, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const double* coverage = a.coverage + j / a.block * a.rows;
      const Coverage c = coverage_gain(a.similarity + j * a.rows, coverage, a.rows, a.margin);
      a.gains[j] = c.gain;
      a.active[j] = c.active;
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
