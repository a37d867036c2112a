#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

void project(const Project& args) {
  for_row_ranges(args.sets, args.rows, args.width, [&](int64_t set, int64_t first, int64_t last) {
    const double* direction = args.direction + set * args.width;
    for (int64_t row = set * args.rows + first; row < set * args.rows + last; ++row)
      args.out[row] = dot(args.features + row * args.width, direction, args.width);
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
