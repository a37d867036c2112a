#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <vector>

#include "cpu/lanes.h"
#include "cpu/pairs.h"
#include "cpu/parallel.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int64_t kRows = 16, kColumns = 64;  // a piece stays in registers and the nearest cache
constexpr int64_t kFew = 16;                  // of so many pairs, one may be measured by itself
constexpr float kLargest = std::numeric_limits<float>::max();

struct Pair {
  int64_t candidate, row;  // both count over all sets
};

class Tile {
 public:
  explicit Tile(const EuclideanTile& args)
      : a_(args),
        limit_(static_cast<float>(a_.error * a_.error)),
        norms_(a_.sets * a_.columns),
        lengths_(norms_) {
    for (int64_t set = 0; set < a_.sets; ++set)
      for (int64_t t = 0; t < a_.columns; ++t) {
        const double norm = a_.norms[set * a_.rows + a_.first + t];
        norms_[set * a_.columns + t] = static_cast<float>(norm);
        lengths_[set * a_.columns + t] = static_cast<float>(std::sqrt(norm));
      }
  }

  void run() {
    const int64_t groups = (a_.block + kRows - 1) / kRows;
    parallel_for(0, a_.sets * groups, 1 + kGrain / (kRows * a_.columns + 1), [&](int64_t begin, int64_t end) {
      std::vector<Pair> near;
      for (int64_t g = begin; g < end; ++g) bands(g / groups, g % groups * kRows, near);
      const std::lock_guard<std::mutex> lock(mutex_);
      near_.insert(near_.end(), near.begin(), near.end());
    });
    const int64_t count = static_cast<int64_t>(near_.size());
    *a_.left = count > a_.sets * a_.block * a_.columns / kFew + a_.rows ? count : 0;
    if (*a_.left > 0) return;
    parallel_for(0, count, 1 + kGrain / (a_.width + a_.second_width), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) measure(near_[p]);
    });
  }

 private:
  int64_t position(int64_t candidate) const { return a_.positions[candidate]; }

  float* row_of(int64_t candidate) const {
    const int64_t set = candidate / a_.block;
    return a_.out + (a_.mirror ? set * a_.rows + position(candidate) : candidate) * a_.rows;
  }

  float* mirrored(int64_t set, int64_t row) const { return a_.out + (set * a_.rows + row) * a_.rows; }

  // The similarities of some candidates of one set.
  void bands(int64_t set, int64_t top, std::vector<Pair>& near) const {
    const int64_t count = std::min(kRows, a_.block - top);
    for (int64_t first = 0; first < a_.columns; first += kColumns)
      piece(set, set * a_.block + top, count, first, std::min(kColumns, a_.columns - first), near);
  }

  void piece(int64_t set, int64_t top, int64_t count, int64_t first, int64_t width,
             std::vector<Pair>& near) const {
    float values[kRows][kColumns];
    int64_t skipped[kRows];
    const int64_t start = a_.first + first;
    for (int64_t b = 0; b < count; ++b) {
      const int64_t candidate = top + b;
      // Of a whole matrix one triangle is computed.
      skipped[b] = a_.mirror ? std::clamp<int64_t>(position(candidate) - start, 0, width) : 0;
      if (skipped[b] == width) continue;
      similarities(set, candidate, first, width, skipped[b], values[b], near);
      std::copy(values[b] + skipped[b], values[b] + width, row_of(candidate) + start + skipped[b]);
    }
    if (!a_.mirror) return;
    const int64_t p = position(top);  // and those that follow
    for (int64_t t = 0; t < width; ++t) {
      float* column = mirrored(set, start + t) + p;
      const int64_t before = std::clamp<int64_t>(start + t - p, 0, count);
      for (int64_t b = 0; b < before; ++b) column[b] = values[b][t];
    }
  }

  void similarities(int64_t set, int64_t candidate, int64_t first, int64_t width, int64_t skipped,
                    float (&out)[kColumns], std::vector<Pair>& near) const {
    const double own = a_.norms[set * a_.rows + position(candidate)];
    const float norm = static_cast<float>(own);
    const float length = static_cast<float>(1.000001 * a_.relative * std::sqrt(own));
    const float* norms = norms_.data() + set * a_.columns + first;
    const float* lengths = lengths_.data() + set * a_.columns + first;
    const float* products = a_.products + candidate * a_.columns + first;
    const float* factors = a_.factors + candidate * a_.columns + first;
    const float absolute = static_cast<float>(a_.absolute), half = 0.5f * static_cast<float>(a_.error);
    const float slope = static_cast<float>(0.50001 / a_.error);
    float squared[kColumns] = {};
    int32_t flags[kColumns];
    int32_t any = 0;
    for (int64_t t = 0; t < width; ++t) {
      const float sum = norm + norms[t];
      squared[t] = sum - 2.0f * (products[t] * (1.0f + factors[t]));
      // What it may be off by: see the declaration.
      const float off = length * lengths[t] + (kSums * sum + absolute);
      const float least = slope * off + half;
      const int32_t lost = std::fabs(squared[t]) <= kLargest ? 0 : 1;
      const int32_t unsure = off <= limit_ ? 0 : 1, close = squared[t] > least * least ? 0 : 1;
      flags[t] = lost | (unsure & close);
      any |= flags[t];
    }
    const Floats parameter = static_cast<float>(a_.parameter) + Floats{};
    for (int t = 0; t < kColumns; t += kFloats) store(out + t, parameter - root(load(squared + t)));
    for (int64_t t = skipped; any != 0 && t < width; ++t)
      if (flags[t] != 0) near.push_back({candidate, set * a_.rows + a_.first + first + t});
  }

  void measure(const Pair& pair) const {
    const int64_t set = pair.candidate / a_.block, p = set * a_.rows + position(pair.candidate), r = pair.row;
    const double product =
        gradient_product(a_.features + r * a_.width, a_.features + p * a_.width, a_.width,
                         a_.second + r * a_.second_width, a_.second + p * a_.second_width, a_.second_width);
    const double distance = std::sqrt(squared_distance(product, a_.norms[r] + a_.norms[p]));
    const float value = static_cast<float>(a_.parameter - distance);
    row_of(pair.candidate)[r - set * a_.rows] = value;
    if (a_.mirror) mirrored(set, r - set * a_.rows)[position(pair.candidate)] = value;
  }

  static constexpr float kSums = 5.0f / (1 << 24);

  const EuclideanTile& a_;
  const float limit_;         // below it the root of an error is less than `error`
  std::vector<float> norms_;  // of the columns
  std::vector<float> lengths_;
  std::mutex mutex_;
  std::vector<Pair> near_;  // pairs to be measured in double
};

}  // namespace

void euclidean_tile(const EuclideanTile& a) { Tile(a).run(); }

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
