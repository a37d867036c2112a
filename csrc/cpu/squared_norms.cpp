#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

void squared_norms(const SquaredNorms& args) {
  for_row_ranges(args.sets, args.rows, args.width, [&](int64_t set, int64_t first, int64_t last) {
    for (int64_t row = set * args.rows + first; row < set * args.rows + last; ++row) {
      const float* x = args.features + row * args.width;
      args.out[row] = dot(x, x, args.width);
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
