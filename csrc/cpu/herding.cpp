#include "cpu/choice.h"
#include "cpu/parallel.h"
#include "cpu/rows.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

void score_rows(const Herding& a, int64_t g, int64_t begin, int64_t end) {
  const double* residual = a.residual + g * a.width;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t at = g * a.rows + i;
    const float* x = a.features + at * a.width;
    a.scores[at] = a.taken[at] ? kClosed : 2.0 * a.scale[at] * dot(x, residual, a.width) - a.norms[at];
  }
}

// False where no row is left.
bool pick_one(const Herding& a, int64_t g, int64_t t) {
  const Choice choice = choose(a.scores + g * a.rows, nullptr, a.rows, a.floor[g]);
  if (choice.position < 0) return false;
  const int64_t at = g * a.rows + choice.position;
  const float* x = a.features + at * a.width;
  a.picks[g * a.most + t] = choice.position;
  a.gains[g * a.most + t] = a.scores[at];
  a.taken[at] = 1;
  for (int64_t k = 0; k < a.width; ++k)
    a.residual[g * a.width + k] += a.mean[g * a.width + k] - a.scale[at] * static_cast<double>(x[k]);
  return true;
}

}  // namespace

void herding(const Herding& a) {
  if (a.sets == 1) {  // threads share the rows
    for (int64_t t = 0; t < a.budgets[0]; ++t) {
      parallel_for(0, a.rows, 256, [&](int64_t begin, int64_t end) { score_rows(a, 0, begin, end); });
      if (!pick_one(a, 0, t)) break;
    }
    return;
  }
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {  // threads share the sets
    for (int64_t g = begin; g < end; ++g)
      for (int64_t t = 0; t < a.budgets[g]; ++t) {
        score_rows(a, g, 0, a.rows);
        if (!pick_one(a, g, t)) break;
      }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
