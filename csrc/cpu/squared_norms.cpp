#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

void squared_norms(const SquaredNorms& args) {
  for_row_ranges(args.sets, args.rows, args.width, [&](int64_t set, int64_t first, int64_t last) {
    sum_rows(
        args.features + set * args.rows * args.width, first, last, args.width,
        [](double value, int64_t) { return value * value; }, args.out + set * args.rows);
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
