#include <algorithm>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/rows.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

void span(double* gram, int64_t rows, int64_t count, int64_t* out) {
  std::vector<double> taken(rows), column(rows);
  double most = 0.0;
  for (int64_t i = 0; i < rows; ++i) {
    taken[i] = dot(gram + i * rows, gram + i * rows, rows);
    most = std::max(most, gram[i * rows + i]);
  }
  const double least = kSpanned * std::max(most, 1e-300);
  const auto square = [&](int64_t i) { return std::max(gram[i * rows + i], least); };
  for (int64_t step = 0; step < count; ++step) {
    int64_t best = 0;
    for (int64_t i = 1; i < rows; ++i)
      if (taken[i] / square(i) > taken[best] / square(best)) best = i;
    out[step] = best;
    std::copy_n(gram + best * rows, rows, column.begin());
    const double own = square(best);
    for (int64_t i = 0; i < rows; ++i) {
      const double share = column[i] / own;
      double* row = gram + i * rows;
      for (int64_t j = 0; j < rows; ++j) row[j] -= share * column[j];
      taken[i] = dot(row, row, rows);
    }
  }
}

}  // namespace

void spanning(const Spanning& a) {
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g)
      span(a.gram + g * a.rows * a.rows, a.rows, a.count, a.out + g * a.count);
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
