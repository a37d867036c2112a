#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

void project(const Project& args) {
  for_row_ranges(args.sets, args.rows, args.width, [&](int64_t set, int64_t first, int64_t last) {
    const double* direction = args.direction + set * args.width;
    sum_rows(
        args.features + set * args.rows * args.width, first, last, args.width,
        [direction](double value, int64_t k) { return value * direction[k]; }, args.out + set * args.rows);
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
