// Gradients, x (1, y) flattened, and bounds on their squared distances from a few coordinates of y.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/narrow_products.h"
#include "cpu/pairs.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// Those of one set.
inline ReducedRows of_set(ReducedRows rows, int64_t set, int64_t count) {
  const int64_t first = set * count;
  rows.features += first * rows.width;
  rows.second += first * rows.second_width;
  rows.reduced += first * rows.dimensions;
  rows.left_out += first;
  rows.norms += first;
  return rows;
}

// The inner product of row i and x (1, y), in double.
template <class Row>
inline double product_with(const ReducedRows& rows, int64_t i, const Row* x, const Row* y) {
  return gradient_product(rows.features + i * rows.width, x, rows.width, rows.second + i * rows.second_width,
                          y, rows.second_width);
}

// Rows in an order of their own, packed for bounds on the distances of all pairs: see ReducedRows.
class PackedRows {
 public:
  static constexpr int kRows = 4, kColumns = 16;  // pairs whose products stay in registers
  static constexpr int kBlock = kColumns;         // rows are padded to a multiple of it

  // With the first `most` coordinates at most: what is in the others is left out, too.
  PackedRows(const ReducedRows& rows, const std::vector<int64_t>& order, int64_t most = 1 << 30)
      : width_(rows.width),
        dimensions_(std::min(most, rows.dimensions)),
        blocks_((static_cast<int64_t>(order.size()) + kBlock - 1) / kBlock),
        absolute_(1.000001 * rows.absolute),
        x_(blocks_ * kBlock * width_),
        y_(blocks_ * kBlock * dimensions_),
        in_double_(blocks_ * kBlock),
        in_float_(blocks_ * kBlock),
        left_out_(blocks_ * kBlock) {
    for (size_t p = 0; p < order.size(); ++p) {
      const int64_t row = order[p];
      std::copy_n(rows.features + row * width_, width_, &x_[p * width_]);
      const float* reduced = rows.reduced + row * rows.dimensions;
      std::copy_n(reduced, dimensions_, &y_[p * dimensions_]);
      const double rest = dot(reduced + dimensions_, reduced + dimensions_, rows.dimensions - dimensions_);
      const double left_out = static_cast<double>(rows.left_out[row]);
      in_double_.set(p, rows.norms[row], rows.relative);
      in_float_.set(p, rows.norms[row], rows.relative);
      left_out_[p] = static_cast<float>(std::sqrt(left_out * left_out + rest) * 1.000001);
    }
    x_groups_ = packed<float, kColumns>(x_.data(), blocks_ * kBlock, width_);
    y_groups_ = packed<float, kColumns>(y_.data(), blocks_ * kBlock, dimensions_);
  }

  int64_t blocks() const { return blocks_; }

  // Lower bounds on the squared distances of kRows rows from `row` on and of kColumns of `others` from
  // `column` on; they may be negative. Roots in Real are lower bounds on the distances. In float twice as
  // many are computed a cycle, a little looser.
  template <typename Real>
  void lower_bounds(const PackedRows& others, int64_t row, int64_t column,
                    Real (&lower)[kRows][kColumns]) const {
    float x[kRows][kColumns], y[kRows][kColumns];
    multiply_for_bounds(&x_[row * width_], &others.x_groups_[column * width_], width_, x);
    multiply_for_bounds(&y_[row * dimensions_], &others.y_groups_[column * dimensions_], dimensions_, y);
    const Real absolute = static_cast<Real>(absolute_);
    const Real* norms = &others.sizes<Real>().norms[column];
    const Real* lengths = &others.sizes<Real>().lengths[column];
    const float* left_out = &others.left_out_[column];
    for (int i = 0; i < kRows; ++i) {
      const Real norm = sizes<Real>().norms[row + i], length = sizes<Real>().lengths[row + i];
      const float left = left_out_[row + i];
      for (int t = 0; t < kColumns; ++t) {
        const Real twice = 2 * static_cast<Real>(x[i][t]);
        const Real off =
            std::fabs(twice) * static_cast<Real>(left * left_out[t]) + (length * lengths[t] + absolute);
        lower[i][t] = (norm + norms[t]) * (1 - kSlack<Real>)-twice * (1 + static_cast<Real>(y[i][t])) - off;
      }
    }
  }

 private:
  template <typename Real>
  struct Sizes {
    std::vector<Real> norms, lengths;  // lengths: times the root of `relative`

    explicit Sizes(int64_t rows) : norms(rows), lengths(rows) {}

    void set(size_t p, double norm, double relative) {
      norms[p] = static_cast<Real>(norm);
      lengths[p] = static_cast<Real>(std::sqrt(relative * norm) * 1.000001);
    }
  };

  template <typename Real>
  const Sizes<Real>& sizes() const {
    if constexpr (sizeof(Real) == sizeof(double))
      return in_double_;
    else
      return in_float_;
  }

  // A share of |g_i|^2 + |g_j|^2. In double, what squared_distance takes for 0 must not have a larger bound.
  // In float, the operations on them and on the product and the root round by 13 units of it; `off` is for
  // its own.
  template <typename Real>
  static constexpr Real kSlack = sizeof(Real) == sizeof(double) ? Real(3 * kSame) : Real(14.0 / (1 << 24));

  int64_t width_, dimensions_, blocks_;
  double absolute_;
  std::vector<float> x_, y_;                // row by row
  std::vector<float> x_groups_, y_groups_;  // number by number, kColumns rows at a time
  Sizes<double> in_double_;
  Sizes<float> in_float_;
  std::vector<float> left_out_;
};

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
