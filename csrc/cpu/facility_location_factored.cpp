#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "cpu/choice.h"
#include "cpu/parallel.h"
#include "cpu/reduced_rows.h"
#include "cpu/row_boxes.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int64_t kAhead = 4;                       // pairs to be measured whose rows are asked for
constexpr int64_t kFew = 12;                        // coordinates that do for a sweep
constexpr size_t kSome = 32;                        // candidates that get a list together
constexpr double kRounding = 1e-12;                 // of sums in double
constexpr double kFloatRounding = 4.0 / (1 << 24);  // of at most three additions in float

using Packed = PackedRows<double>;
constexpr int kBlock = Packed::kBlock, kRows = Packed::kRows, kColumns = Packed::kColumns;

struct Nearby {
  int32_t row;
  float distance;  // a lower bound
};

using Entry = std::pair<int64_t, double>;  // row, exact similarity

// std::max takes references, and would keep a loop from vector operations.
inline double positive(double x) { return x > 0.0 ? x : 0.0; }

typedef float Floats __attribute__((vector_size(32), aligned(alignof(float))));
typedef int32_t Bits __attribute__((vector_size(32), aligned(alignof(float))));
constexpr int kFloats = 8;

// 0 in place of what is negative.
inline Floats positive(Floats x) {
  return reinterpret_cast<Floats>((x > Floats{}) & reinterpret_cast<Bits>(x));
}

inline Floats smaller(Floats x, Floats y) {
  const Bits first = x < y;
  return reinterpret_cast<Floats>((first & reinterpret_cast<Bits>(x)) | (~first & reinterpret_cast<Bits>(y)));
}

inline Floats root(Floats squared) {
  Floats x = positive(squared);
#if defined(__AVX2__)
  x = _mm256_sqrt_ps(x);
#else
  for (int l = 0; l < kFloats; ++l) x[l] = std::sqrt(x[l]);
#endif
  return x;
}

inline Floats load(const float* x) { return *reinterpret_cast<const Floats*>(x); }

inline void store(float* out, Floats x) { *reinterpret_cast<Floats*>(out) = x; }

inline void roots(const double* squared, double* out) {
  int t = 0;
#if defined(__AVX2__)
  const __m256d zero = _mm256_setzero_pd();
  for (; t < kColumns; t += 4)
    _mm256_storeu_pd(out + t, _mm256_sqrt_pd(_mm256_max_pd(_mm256_loadu_pd(squared + t), zero)));
#endif
  for (; t < kColumns; ++t) out[t] = std::sqrt(positive(squared[t]));
}

// A bit for each of kColumns numbers that are below their limit.
inline uint32_t below(const double* values, const double* limits) {
  uint32_t found = 0;
  int t = 0;
#if defined(__AVX2__)
  for (; t < kColumns; t += 4) {
    const __m256d less = _mm256_cmp_pd(_mm256_loadu_pd(values + t), _mm256_loadu_pd(limits + t), _CMP_LT_OQ);
    found |= static_cast<uint32_t>(_mm256_movemask_pd(less)) << t;
  }
#endif
  for (; t < kColumns; ++t) found |= static_cast<uint32_t>(values[t] < limits[t]) << t;
  return found;
}

// A sum of max(0, reach - distance) over a list, from which rows go that add nothing: reach only shrinks.
template <class List, class Excess>
double shrink(List& list, const Excess& excess_of) {
  double gain = 0.0;
  size_t kept = 0;
  for (const auto& entry : list) {
    const double excess = excess_of(entry);
    gain += positive(excess);
    list[kept] = entry;
    kept += excess > 0.0;
  }
  list.resize(kept);
  return gain;
}

// The lazy greedy of one ground set.
class Greedy {
 public:
  Greedy(const FacilityLocationFactored& args, int64_t set, std::atomic<int64_t>& room)
      : a_(args),
        set_(set),
        rows_(of_set(args.rows, set, args.count)),
        coverage_(args.coverage + set * args.count),
        bounds_(args.bounds + set * args.count),
        row_ids_(args.row_ids + set * args.count),
        counts_(args.counts + 3 * set),
        room_(room),
        order_(alike()),
        packed_(rows_, order_),
        place_(args.count),
        reach_(packed_.blocks() * kBlock, kClosed),
        squares_(reach_.size(), -1.0),
        scratch_(new Nearby[kSome * reach_.size()]),
        boxes_(rows_, order_, kBlock),
        touched_(boxes_.count()),
        exact_(args.count),
        fresh_(args.count),
        near_(args.count),
        columns_(args.count) {
    for (int64_t p = 0; p < a_.count; ++p) place_[order_[p]] = p;
    for (int64_t i = 0; i < a_.count; ++i) set_reach(place_[i], a_.parameter - coverage_[i]);
    for (int64_t box = 0; box < boxes_.count(); ++box) boxes_.set_reach(box, reach_);
  }

  // Makes the picks. Returns false where it stopped before the end, because bounds tell too little.
  bool run() {
    sweep();
    for (int64_t j = 0; j < a_.count; ++j)
      if (bounds_[j] > kClosed) unlisted_.push_back(j);
    std::sort(unlisted_.begin(), unlisted_.end(), [&](int64_t x, int64_t y) { return by_bound_(y, x); });
    for (time_ = 0; time_ < a_.budgets[set_]; ++time_) {
      const std::vector<int64_t> contenders = take_contenders();
      if (stopped()) return false;
      if (contenders.empty()) break;
      const int64_t pick = winner(contenders);
      for (int64_t j : contenders)
        if (j != pick) push(j);
      a_.picks[set_ * a_.most + time_] = pick;
      a_.gains[set_ * a_.most + time_] = bounds_[pick];
      fold(pick);
      bounds_[pick] = kClosed;
    }
    return true;
  }

 private:
  // ---- bounds on all gains, from all pairs --------------------------------------------------------------

  // Rows behind each other that their boxes tell apart from others: by the largest number of x, then by
  // length.
  std::vector<int64_t> alike() const {
    std::vector<int64_t> order(a_.count), first(a_.count);
    std::iota(order.begin(), order.end(), 0);
    for (int64_t i = 0; i < a_.count; ++i) {
      const float* x = rows_.features + i * rows_.width;
      first[i] =
          std::max_element(x, x + rows_.width, [](float a, float b) { return std::fabs(a) < std::fabs(b); }) -
          x;
    }
    std::sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
      return first[i] != first[j] ? first[i] < first[j] : rows_.norms[i] < rows_.norms[j];
    });
    return order;
  }

  // A gain is the sum of all reaches less that of the smaller of reach and distance: what is summed in float
  // is small where gains are large. Each pair of rows is looked at once, for both of them.
  void sweep() {
    const PackedRows<float> packed(rows_, order_, kFew);
    std::vector<float> reach(reach_.size());
    std::vector<double> reached(packed.blocks());
    double total = 0.0;
    for (size_t p = 0; p < reach.size(); ++p) {
      reach[p] = static_cast<float>(positive(reach_[p]) * (1 - 1.0 / (1 << 23)));
      reached[p / kBlock] += static_cast<double>(reach[p]);
      total += positive(reach_[p]);
    }
    const int64_t threads = a_.sets == 1 ? thread_count() : 1;
    std::vector<std::vector<double>> sums(threads, std::vector<double>(reach.size()));
    parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t thread = begin; thread < end; ++thread)
        for (int64_t block = thread; block < packed.blocks(); block += threads)
          add_distances(packed, reach, reached, block, sums[thread].data());
    });
    for (int64_t j = 0; j < a_.count; ++j) {
      double distances = 0.0;
      for (const auto& sum : sums) distances += sum[place_[j]];
      bounds_[j] = std::min(bounds_[j], total - distances * (1 - kFloatRounding) + kRounding * total);
    }
  }

  // The pairs of a block with itself and those before it. Blocks that are out of reach are not looked at.
  void add_distances(const PackedRows<float>& packed, const std::vector<float>& reach,
                     const std::vector<double>& reached, int64_t block, double* sums) const {
    const int64_t first = block * kBlock;
    std::vector<uint8_t> near(packed.blocks());
    boxes_.mark(boxes_.around(block), near);
    double ours[kBlock][kFloats] = {}, out_of_reach = 0.0;
    for (int64_t other = 0; other <= block; ++other) {
      double* theirs = sums + other * kBlock;
      const double sign = other < block ? 1.0 : 0.0;
      if (!near[other]) {
        out_of_reach += reached[other];
        for (int t = 0; t < kBlock; ++t) theirs[t] += sign * reached[block];
        continue;
      }
      float lower[kRows][kColumns], row_sums[kBlock][kFloats], column_sums[kColumns];
      for (int64_t row = 0; row < kBlock; row += kRows) {
        packed.lower_bounds(packed, first + row, other * kBlock, lower);
        for (int t = 0; t < kColumns; t += kFloats) {
          const Floats reaches = load(&reach[other * kBlock + t]);
          Floats column = {};
          for (int i = 0; i < kRows; ++i) {
            const Floats distance = root(load(lower[i] + t));
            const Floats ahead = t == 0 ? Floats{} : load(row_sums[row + i]);
            store(row_sums[row + i], ahead + smaller(reaches, distance));
            column += smaller(reach[first + row + i] + Floats{}, distance);
          }
          store(column_sums + t, column);
        }
        for (int t = 0; t < kColumns; ++t) theirs[t] += sign * static_cast<double>(column_sums[t]);
      }
      for (int i = 0; i < kBlock; ++i)
        for (int l = 0; l < kFloats; ++l) ours[i][l] += static_cast<double>(row_sums[i][l]);
    }
    for (int i = 0; i < kBlock; ++i)
      sums[first + i] += std::accumulate(ours[i], ours[i] + kFloats, out_of_reach);
  }

  // ---- the rows that a candidate may add to -------------------------------------------------------------

  // A list for each of some candidates.
  void list(const std::vector<int64_t>& candidates) {
    const Packed packed(rows_, candidates);
    const int64_t count = static_cast<int64_t>(candidates.size()), groups = (count + kRows - 1) / kRows;
    const auto body = [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; ++group) list_group(packed, candidates, group * kRows);
    };
    if (a_.sets == 1)
      parallel_for(0, groups, 1, body);
    else
      body(0, groups);
    for (int64_t j : candidates) room_ -= static_cast<int64_t>(near_[j].size());
    counts_[0] += count;
  }

  // For kRows of them.
  void list_group(const Packed& packed, const std::vector<int64_t>& candidates, int64_t first) {
    constexpr float kDown = 1.0f - 2.0f / (1 << 24);  // for its rounding and that of this product
    const int count = static_cast<int>(std::min<int64_t>(kRows, candidates.size() - first));
    double lower[kRows][kColumns], gains[kRows][kColumns] = {};
    Nearby* ends[kRows];
    std::vector<uint8_t> near(boxes_.count());
    for (int i = 0; i < count; ++i) {
      ends[i] = starts(first + i);
      boxes_.mark(boxes_.of(candidates[first + i]), near);
    }
    for (int64_t box = 0; box < boxes_.count(); ++box) {
      if (!near[box]) continue;
      const int64_t column = box * kColumns;
      packed.lower_bounds(packed_, first, column, lower);
      for (int i = 0; i < count; ++i) {
        uint32_t bits = below(lower[i], &squares_[column]);
        if (bits == 0) continue;
        double distance[kColumns];
        roots(lower[i], distance);
        for (int t = 0; t < kColumns; ++t) gains[i][t] += positive(reach_[column + t] - distance[t]);
        for (; bits != 0; bits &= bits - 1) {
          const int t = __builtin_ctz(bits);
          *ends[i]++ = {static_cast<int32_t>(column + t), static_cast<float>(distance[t]) * kDown};
        }
      }
    }
    for (int i = 0; i < count; ++i) {
      const int64_t j = candidates[first + i];
      near_[j].assign(starts(first + i), ends[i]);
      const double gain = std::accumulate(gains[i], gains[i] + kColumns, 0.0);
      bounds_[j] = std::min(bounds_[j], gain * (1 + kRounding));
      fresh_[j] = time_;
    }
  }

  // Where the list of the candidate at a position among kSome is made.
  Nearby* starts(int64_t position) const { return scratch_.get() + position * reach_.size(); }

  void set_reach(int64_t place, double reach) {
    reach_[place] = reach;
    squares_[place] = reach > 0.0 ? reach * reach : -1.0;
  }

  // ---- the greedy ---------------------------------------------------------------------------------------

  bool stopped() const { return counts_[2] > a_.pairs || room_ < 0; }

  double tolerance(double best) const { return tolerance_of(best, a_.floor[set_]); }

  void push(int64_t j) {
    heap_.push_back(j);
    std::push_heap(heap_.begin(), heap_.end(), by_bound_);
  }

  int64_t pop() {
    std::pop_heap(heap_.begin(), heap_.end(), by_bound_);
    const int64_t j = heap_.back();
    heap_.pop_back();
    return j;
  }

  // Takes from the heap every candidate that may be the best, all with their exact gains.
  std::vector<int64_t> take_contenders() {
    std::vector<int64_t> taken;
    double best = kClosed;
    while (!stopped()) {
      const double top = heap_.empty() ? kClosed : bounds_[heap_.front()];
      const double least = taken.empty() ? kClosed : best - tolerance(best);
      if (next_ < unlisted_.size() && bounds_[unlisted_[next_]] >= std::max(top, least)) {
        list_some();
        continue;
      }
      if (heap_.empty() || top < least) break;
      const int64_t j = pop();
      if (bounds_[j] <= 0.0 || (exact_[j] && fresh_[j] == time_)) {  // a gain of 0 stays one
        taken.push_back(j);
        best = std::max(best, bounds_[j]);
        continue;
      }
      if (exact_[j])
        bounds_[j] = exact_gain(j);
      else if (fresh_[j] == time_)
        measure(j);
      else
        bounds_[j] = std::min(bounds_[j], gain_at_most(j));
      fresh_[j] = time_;
      push(j);
    }
    return taken;
  }

  // Some at a time: most of those that follow are soon asked for, too. Neighbours in the order have boxes in
  // common.
  void list_some() {
    const size_t end = std::min(unlisted_.size(), next_ + kSome);
    std::vector<int64_t> some(&unlisted_[next_], &unlisted_[0] + end);
    std::sort(some.begin(), some.end(), [&](int64_t i, int64_t j) { return place_[i] < place_[j]; });
    list(some);
    for (int64_t j : some) push(j);
    next_ = end;
  }

  double gain_at_most(int64_t j) {
    ++counts_[0];
    return (1 + kRounding) * shrink(near_[j], [&](const Nearby& entry) {
             return reach_[entry.row] - static_cast<double>(entry.distance);
           });
  }

  double exact_gain(int64_t j) {
    ++counts_[0];
    return shrink(columns_[j], [&](const Entry& entry) { return entry.second - coverage_[entry.first]; });
  }

  // Replaces the list of a candidate by exact similarities.
  void measure(int64_t j) {
    std::vector<Entry>& column = columns_[j];
    for (const Nearby& entry : near_[j]) column.emplace_back(order_[entry.row], 0.0);
    std::vector<Nearby>().swap(near_[j]);
    const std::vector<double> x(&rows_.features[j * rows_.width], &rows_.features[(j + 1) * rows_.width]);
    const std::vector<double> y(&rows_.second[j * rows_.second_width],
                                &rows_.second[(j + 1) * rows_.second_width]);
    const auto body = [&](int64_t begin, int64_t end) {
      for (int64_t e = begin; e < end; ++e) {
        prefetch(column[std::min(e + kAhead, end - 1)].first);
        column[e].second =
            a_.parameter - std::sqrt(exact_squared(rows_, column[e].first, j, x.data(), y.data()));
      }
    };
    const int64_t count = static_cast<int64_t>(column.size()), width = rows_.width + rows_.second_width;
    if (a_.sets == 1 && count * width > 1 << 16)
      parallel_for(0, count, 1 + kGrain / (width + 1), body);
    else
      body(0, count);
    exact_[j] = 1;
    bounds_[j] = exact_gain(j);
    ++counts_[1];
    counts_[2] += count;
  }

  // Rows of a list are far apart in memory; behind the first lines the processor reads ahead by itself.
  void prefetch(int64_t row) const {
    constexpr int64_t kLine = 16, kLines = 4;
    const float* second = rows_.second + row * rows_.second_width;
    __builtin_prefetch(rows_.features + row * rows_.width);
    for (int64_t k = 0; k < std::min(rows_.second_width, kLine * kLines); k += kLine)
      __builtin_prefetch(second + k);
  }

  // The best contender, ties to the lowest row.
  int64_t winner(const std::vector<int64_t>& contenders) const {
    double best = kClosed;
    for (int64_t j : contenders) best = std::max(best, bounds_[j]);
    int64_t pick = -1;
    for (int64_t j : contenders)
      if (bounds_[j] >= best - tolerance(best) && (pick < 0 || row_ids_[j] < row_ids_[pick])) pick = j;
    return pick;
  }

  void fold(int64_t pick) {
    for (const auto& [row, similarity] : columns_[pick]) {
      if (similarity <= coverage_[row]) continue;
      coverage_[row] = similarity;
      set_reach(place_[row], a_.parameter - similarity);
      touched_[place_[row] / kBlock] = 1;
    }
    for (size_t box = 0; box < touched_.size(); ++box)
      if (touched_[box]) boxes_.set_reach(box, reach_), touched_[box] = 0;
    std::vector<Entry>().swap(columns_[pick]);
    std::vector<Nearby>().swap(near_[pick]);
  }

  struct ByBound {
    const double* bounds;
    bool operator()(int64_t x, int64_t y) const { return bounds[x] < bounds[y]; }
  };

  const FacilityLocationFactored& a_;
  const int64_t set_;
  const ReducedRows rows_;
  double* coverage_;
  double* bounds_;
  const int64_t* row_ids_;
  int64_t* counts_;
  std::atomic<int64_t>& room_;
  const std::vector<int64_t> order_;   // of rows, like ones together
  const Packed packed_;                // all rows in this order
  std::vector<int64_t> place_;         // of a row in it
  std::vector<double> reach_;          // by place: how near a candidate must be to add to a row
  std::vector<double> squares_;        // of these, -1 where it is none
  std::unique_ptr<Nearby[]> scratch_;  // for kSome lists
  RowBoxes boxes_;                     // of kBlock rows each
  std::vector<uint8_t> touched_;       // boxes
  std::vector<uint8_t> exact_;
  std::vector<int64_t> fresh_;               // the pick at which a candidate was last evaluated
  std::vector<std::vector<Nearby>> near_;    // by place: what a candidate may add to, once it is listed
  std::vector<std::vector<Entry>> columns_;  // the same where similarities are exact
  std::vector<int64_t> unlisted_;            // open candidates without a list, largest bound first, from
  size_t next_ = 0;                          // here on
  std::vector<int64_t> heap_;                // those with one, largest bound first
  int64_t time_ = 0;
  ByBound by_bound_{bounds_};
};

}  // namespace

void facility_location_factored(const FacilityLocationFactored& a) {
  std::atomic<int64_t> room(a.room);
  std::atomic<bool> done(true);
  const auto body = [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g)
      if (!Greedy(a, g, room).run()) done = false;
  };
  if (a.sets == 1)
    body(0, 1);
  else
    parallel_for(0, a.sets, 1, body);
  *a.done = done ? 1 : 0;
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
