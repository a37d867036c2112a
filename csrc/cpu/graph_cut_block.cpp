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
  for (int64_t t = 0; t < a.budgets[g]; ++t) {
    const Choice choice = choose(values, row_ids, a.block, a.floor[g]);
    const int64_t p = choice.position;
    if (p < 0 || !wins(choice, row_ids[p], a.outside[g], a.outside_row[g])) break;
    a.picks[g * a.most + t] = p;
    a.gains[g * a.most + t] = values[p];
    const T* row = similarity + p * a.block;
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
