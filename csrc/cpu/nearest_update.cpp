#include <algorithm>
#include <cmath>

#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

// The two smallest distances of a row to new picks, and the first pick that has the smallest.
struct TwoNearest {
  float nearest = INFINITY;
  float second = INFINITY;
  int32_t pick = -1;

  void add(float distance, int32_t p) {
    if (distance < nearest || (distance == nearest && p < pick)) {
      second = nearest;
      nearest = distance;
      pick = p;
    } else {
      second = std::min(second, distance);
    }
  }
};

constexpr int32_t kPickLanes = 8;

// Lane l sees the picks l, l + kPickLanes, ...; selections instead of branches let the compiler use vectors.
TwoNearest two_nearest(const float* products, float row_norm, const float* pick_norms, int32_t picks) {
  float nearest[kPickLanes], second[kPickLanes];
  int32_t pick[kPickLanes];
  std::fill_n(nearest, kPickLanes, INFINITY);
  std::fill_n(second, kPickLanes, INFINITY);
  std::fill_n(pick, kPickLanes, -1);
  const auto distance = [&](int32_t p) {
    const float d = row_norm + pick_norms[p] - 2.0f * products[p];
    return d < 0.0f ? 0.0f : d;
  };
  const int32_t whole = picks - picks % kPickLanes;
  for (int32_t p = 0; p < whole; p += kPickLanes) {
    for (int32_t l = 0; l < kPickLanes; ++l) {
      const float d = distance(p + l);
      const bool closer = d < nearest[l];
      const float other = closer ? nearest[l] : d;
      second[l] = other < second[l] ? other : second[l];
      pick[l] = closer ? p + l : pick[l];
      nearest[l] = closer ? d : nearest[l];
    }
  }
  TwoNearest found;
  for (int32_t l = 0; l < kPickLanes; ++l) {
    found.add(nearest[l], pick[l]);
    found.second = std::min(found.second, second[l]);
  }
  for (int32_t p = whole; p < picks; ++p) found.add(distance(p), p);
  return found;
}

}  // namespace

void nearest_update(const NearestUpdate& args) {
  const int64_t picks = args.picks;
  for_row_ranges(args.sets, args.rows, picks, [&](int64_t set, int64_t first, int64_t last) {
    const float* pick_norms = args.pick_norms + set * picks;
    for (int64_t i = first; i < last; ++i) {
      const int64_t at = set * args.state_stride + i;
      const float* products = args.products + (set * args.rows + i) * picks;
      const TwoNearest found =
          two_nearest(products, args.row_norms[at], pick_norms, static_cast<int32_t>(picks));
      if (found.nearest < args.nearest[at]) {
        args.second[at] = std::min(args.nearest[at], found.second);
        args.nearest[at] = found.nearest;
        args.owner[at] = args.offset + found.pick;
      } else {
        args.second[at] = std::min(args.second[at], found.nearest);
      }
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
