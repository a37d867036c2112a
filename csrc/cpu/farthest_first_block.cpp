#include "cpu/choice.h"
#include "cpu/parallel.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

template <typename T>
void lower(double* nearest, const T* distances, int64_t count) {
  for (int64_t b = 0; b < count; ++b) {
    const double d = static_cast<double>(distances[b]);
    nearest[b] = d < nearest[b] ? d : nearest[b];
  }
}

template <typename T>
void pick_set(const FarthestFirstBlock& a, int64_t g) {
  const T* distances = static_cast<const T*>(a.distances) + g * a.block * a.block;
  double* nearest = a.nearest + g * a.block;
  const int64_t* row_ids = a.row_ids + g * a.block;
  for (int64_t t = 0; t < a.budgets[g]; ++t) {
    const Choice choice = choose(nearest, row_ids, a.block, 0.0);
    if (choice.position < 0) break;
    if (!wins(choice, row_ids[choice.position], a.outside[g], a.outside_row[g])) break;
    a.picks[g * a.most + t] = choice.position;
    a.gains[g * a.most + t] = nearest[choice.position];
    lower(nearest, distances + choice.position * a.block, a.block);
    nearest[choice.position] = kClosed;
  }
}

}  // namespace

void farthest_first_block(const FarthestFirstBlock& a) {
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) a.distances_double ? pick_set<double>(a, g) : pick_set<float>(a, g);
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
