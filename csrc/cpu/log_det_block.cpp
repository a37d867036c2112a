#include <cmath>

#include "cpu/choice.h"
#include "cpu/parallel.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

void pick_set(const LogDetBlock& a, int64_t g) {
  const int64_t n = a.block;
  const double* schur = a.schur + g * n * n;
  double* pivots = a.pivots + g * n;
  const int64_t* row_ids = a.row_ids + g * n;
  double* factor = a.factor + g * a.most * n;
  for (int64_t t = 0; t < a.budgets[g]; ++t) {
    const Choice choice = choose(pivots, row_ids, n, a.floor[g]);
    const int64_t p = choice.position;
    if (p < 0 || choice.best <= a.floor[g]) break;
    if (!wins(choice, row_ids[p], a.outside[g], a.outside_row[g])) break;
    a.picks[g * a.most + t] = p;
    a.gains[g * a.most + t] = pivots[p];
    const double root = std::sqrt(pivots[p]);
    double* row = factor + t * n;
    for (int64_t b = 0; b < n; ++b) row[b] = schur[p * n + b];
    for (int64_t u = 0; u < t; ++u) {
      const double* earlier = factor + u * n;
      const double weight = earlier[p];
      for (int64_t b = 0; b < n; ++b) row[b] -= weight * earlier[b];
    }
    for (int64_t b = 0; b < n; ++b) row[b] /= root;
    row[p] = root;
    for (int64_t b = 0; b < n; ++b) pivots[b] -= row[b] * row[b];
    pivots[p] = kClosed;
  }
}

}  // namespace

void log_det_block(const LogDetBlock& a) {
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) pick_set(a, g);
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
