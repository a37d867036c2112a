// What two rows have to do with each other, exactly: in double, from their products.
#pragma once
#include <cstdint>

#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// The inner product of gradients x (1, y) and x' (1, y'), flattened.
template <typename S, typename T>
inline double gradient_product(const S* x, const T* x_other, int64_t width, const S* y, const T* y_other,
                               int64_t second_width) {
  return dot(x, x_other, width) * (1.0 + dot(y, y_other, second_width));
}

// The squared distance of rows with this product, and with this sum of their squared norms; 0 where it is
// rounding.
inline double squared_distance(double product, double norms) {
  const double squared = norms - 2.0 * product;
  return squared < kSame * norms ? 0.0 : squared;
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
