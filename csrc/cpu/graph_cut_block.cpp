#include <algorithm>
#include <cmath>

#include "cpu/choice.h"
#include "cpu/parallel.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

template <typename T>
void pick_set(const GraphCutBlock& a, int64_t g) {
  const T* similarity = static_cast<const T*>(a.similarity) + g * a.block * a.block;
  double* values = a.values + g * a.block;
  const int64_t* row_ids = a.row_ids + g * a.block;
  int64_t* picks = a.picks + g * a.most;
  double squared_sum = 0.0;  // |sum of the picked rows|^2
  for (int64_t t = 0; t < a.budgets[g]; ++t) {
    double outside = a.outside[g];
    if (t > 0) {
      const double drift = a.penalty * a.reach[g] * std::sqrt(std::max(0.0, squared_sum));
      outside += std::min(static_cast<double>(t) * a.rise[g], drift);
    }
    const Choice choice = choose(values, row_ids, a.block, a.floor[g]);
    const int64_t p = choice.position;
    if (p < 0 || !wins(choice, row_ids[p], outside, a.outside_row[g])) break;
    const T* row = similarity + p * a.block;
    double cross = 0.0;
    for (int64_t u = 0; u < t; ++u) cross += static_cast<double>(row[picks[u]]);
    squared_sum += 2.0 * cross + static_cast<double>(row[p]);
    picks[t] = p;
    a.gains[g * a.most + t] = values[p];
    for (int64_t b = 0; b < a.block; ++b) values[b] -= a.penalty * static_cast<double>(row[b]);
    values[p] = kClosed;
  }
}

}  // namespace

void graph_cut_block(const GraphCutBlock& a) {
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g)
      a.similarity_double ? pick_set<double>(a, g) : pick_set<float>(a, g);
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
