#include <algorithm>
#include <vector>

#include "cpu/choice.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

double gain(const FacilityLocationSparse& a, int64_t j) {
  double sum = 0.0;
  for (int64_t e = a.offsets[j]; e < a.offsets[j + 1]; ++e)
    sum += std::max(0.0, static_cast<double>(a.values[e]) - a.coverage[a.indices[e]]);
  return sum;
}

}  // namespace

void facility_location_sparse(const FacilityLocationSparse& a) {
  const auto smaller = [&](int64_t x, int64_t y) { return a.bounds[x] < a.bounds[y]; };
  std::vector<int64_t> heap, tied;
  std::vector<int64_t> fresh(a.candidates, -1);
  for (int64_t j = 0; j < a.candidates; ++j)
    if (a.bounds[j] > kClosed) heap.push_back(j);
  std::make_heap(heap.begin(), heap.end(), smaller);
  const auto pop = [&] {
    std::pop_heap(heap.begin(), heap.end(), smaller);
    const int64_t j = heap.back();
    heap.pop_back();
    return j;
  };
  const auto push = [&](int64_t j) {
    heap.push_back(j);
    std::push_heap(heap.begin(), heap.end(), smaller);
  };
  *a.evaluations = 0;
  for (int64_t t = 0; t < a.budget && !heap.empty(); ++t) {
    // Evaluate from the top until everything that is left lies below the best fresh gain.
    tied.clear();
    double best = kClosed;
    const auto slack = [&] { return tolerance_of(best, a.floor); };
    while (!heap.empty() && (tied.empty() || a.bounds[heap.front()] >= best - slack())) {
      const int64_t j = pop();
      if (fresh[j] == t) {
        tied.push_back(j);
        best = std::max(best, a.bounds[j]);
      } else {
        a.bounds[j] = gain(a, j);
        fresh[j] = t;
        ++*a.evaluations;
        push(j);
      }
    }
    const int64_t pick = *std::min_element(tied.begin(), tied.end());
    for (int64_t j : tied)
      if (j != pick) push(j);
    a.picks[t] = pick;
    a.gains[t] = a.bounds[pick];
    for (int64_t e = a.offsets[pick]; e < a.offsets[pick + 1]; ++e) {
      double& covered = a.coverage[a.indices[e]];
      covered = std::max(covered, static_cast<double>(a.values[e]));
    }
    a.bounds[pick] = kClosed;
  }
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
