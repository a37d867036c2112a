#include <algorithm>
#include <cmath>

#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

void deepfool_step(const DeepfoolStep& args) {
  for_row_ranges(1, args.rows, args.pixels, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const float* normal = args.normals + row * args.pixels;
      const double squares = dot(normal, normal, args.pixels);
      const double value = std::fabs(args.values[row]);
      if (!std::isfinite(squares + value)) {
        args.nearest[row] = NAN;
      } else if (squares > 0.0) {
        const double distance = value / std::sqrt(squares);
        if (!(distance < args.nearest[row] * (1.0 - kTie))) continue;
        args.nearest[row] = distance;
        // The normal is in cache now.
        const double scale = std::max(value, args.least) / squares;
        float* step = args.step + row * args.pixels;
        for (int64_t k = 0; k < args.pixels; ++k) step[k] = static_cast<float>(scale * normal[k]);
      }
    }
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
