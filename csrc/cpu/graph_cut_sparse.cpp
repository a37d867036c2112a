#include "cpu/maxima.h"
#include "cpu/parallel.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

void pick_set(const GraphCutSparse& a, int64_t g) {
  const int64_t first = a.starts[g], count = a.starts[g + 1] - first;
  if (a.budgets[g] <= 0 || count == 0) return;
  Maxima maxima(a.values + first, count);
  for (int64_t t = 0; t < a.budgets[g]; ++t) {
    const double top = maxima.largest();
    if (top == kClosed) break;
    const int64_t pick = first + maxima.first_from(top - tolerance_of(top, a.floor[g]));
    a.picks[g * a.most + t] = pick;
    a.gains[g * a.most + t] = a.values[pick];
    const auto change = [&](int64_t row, double value) {
      a.values[row] = value;
      maxima.change(row - first, value);
    };
    change(pick, kClosed);  // and it stays so below
    for (int64_t e = a.offsets[pick]; e < a.offsets[pick + 1]; ++e)
      change(a.indices[e], a.values[a.indices[e]] - a.penalty * a.weights[e]);
  }
}

}  // namespace

void graph_cut_sparse(const GraphCutSparse& a) {
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) pick_set(a, g);
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
