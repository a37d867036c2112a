#include <algorithm>
#include <vector>

#include "cpu/maxima.h"
#include "cpu/parallel.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

double gain(const FacilityLocationSparse& a, int64_t j) {
  const int64_t last = a.offsets[j + 1];
  double lane[4] = {};
  int64_t e = a.offsets[j];
  const auto excess = [&](int64_t at) {
    return std::max(0.0, static_cast<double>(a.values[at]) - a.coverage[a.indices[at]]);
  };
  for (; e + 4 <= last; e += 4)
    for (int l = 0; l < 4; ++l) lane[l] += excess(e + l);
  for (; e < last; ++e) lane[0] += excess(e);
  return (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

void pick_set(const FacilityLocationSparse& a, int64_t g) {
  constexpr int64_t kGrain = 256;
  const int64_t first = a.starts[g], count = a.starts[g + 1] - first;
  if (a.budgets[g] <= 0 || count == 0) return;
  double* const bounds = a.bounds + first;
  std::vector<int64_t> fresh(count, -1);  // the pick before which a gain was taken
  parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j)
      if (bounds[j] == -kClosed) bounds[j] = gain(a, first + j), fresh[j] = 0;
  });
  int64_t evaluations = std::count(fresh.begin(), fresh.end(), 0);
  Maxima maxima(bounds, count);
  for (int64_t t = 0; t < a.budgets[g] && maxima.largest() > kClosed; ++t) {
    const auto known = [&](int64_t j) { return fresh[j] == t || bounds[j] <= 0.0; };
    int64_t pick;
    while (true) {
      const double top = maxima.largest();
      // No row before this one can be tied with the best, whatever that is.
      pick = maxima.first_from(top - tolerance_of(top, a.floor[g]));
      int64_t unknown = pick;
      if (known(pick) && bounds[pick] < top) unknown = maxima.first_from(top);
      if (known(unknown)) break;
      bounds[unknown] = gain(a, first + unknown);
      fresh[unknown] = t;
      maxima.change(unknown, bounds[unknown]);
      ++evaluations;
    }
    a.picks[g * a.most + t] = first + pick;
    a.gains[g * a.most + t] = bounds[pick];
    for (int64_t e = a.offsets[first + pick]; e < a.offsets[first + pick + 1]; ++e) {
      double& covered = a.coverage[a.indices[e]];
      covered = std::max(covered, static_cast<double>(a.values[e]));
    }
    bounds[pick] = kClosed;
    maxima.change(pick, kClosed);
  }
  a.evaluations[g] = evaluations;
}

}  // namespace

void facility_location_sparse(const FacilityLocationSparse& a) {
  if (a.sets == 1) return pick_set(a, 0);
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) pick_set(a, g);
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
