#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/choice.h"
#include "cpu/parallel.h"
#include "cpu/rows.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr double kTiny = std::numeric_limits<double>::min();
constexpr int64_t kTile = 2048;  // rows whose correlations stay in the cache while columns stream by
constexpr int kColumns = 8;      // that stream by at once: the sum is read and written once for all
constexpr int kNarrow = 8;       // lanes for as few numbers as there are classes

void add(double* sum, double factor, const double* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] += factor * x[i];
}

// One ground set.
class Pursuit {
 public:
  Pursuit(const MatchingPursuit& args, int64_t g)
      : a(args),
        limits(args.limits[g]),
        delta(args.delta + g * a.rows * a.classes),
        h(args.h + g * a.rows * a.width),
        target(args.target + g * a.rows),
        taken(args.taken + g * a.rows),
        correlations(args.correlations + g * a.rows),
        columns(args.columns + g * a.capacity * a.rows),
        whitener(args.whitener + g * a.capacity * a.capacity),
        picks(args.picks + g * a.capacity),
        gains(args.gains + g * a.capacity),
        weights(args.weights + g * a.capacity),
        budget(args.budgets[g]),
        open(a.rows),
        solution(a.capacity),
        values(a.capacity) {
    while (count < a.capacity && picks[count] >= 0) active += weights[count++] > 0;
    for (int64_t i = 0; i < a.rows; ++i) open[i] = taken[i] ? kClosed : correlations[i];
  }

  // False where there is nothing left to do.
  bool step() {
    int64_t t = waiting();
    if (t < 0) {
      if (!pick()) return false;
      t = count - 1;
    }
    if (correlations[picks[t]] > limits.least) {
      enter(t);
      correlate();
    }
    return true;
  }

 private:
  // The picked row outside the active set that has to come back, -1 for none.
  int64_t waiting() {
    for (int64_t t = 0; t < count; ++t) {
      const double value = correlations[picks[t]];
      values[t] = weights[t] > 0 || value <= limits.least ? kClosed : value;
    }
    return choose(values.data(), picks, count, limits.floor).position;
  }

  bool pick() {
    if (count >= budget || explained() >= limits.enough) return false;
    const Choice choice = choose(open.data(), nullptr, a.rows, limits.floor);
    const int64_t p = choice.position;
    if (p < 0 || choice.best <= limits.threshold) return false;
    picks[count] = p;
    gains[count] = correlations[p];
    taken[p] = 1;
    open[p] = kClosed;
    column(count++);
    return true;
  }

  double explained() const {
    double sum = 0.0;
    for (int64_t t = 0; t < count; ++t) sum += weights[t] * (target[picks[t]] + limits.ridge * weights[t]);
    return sum;
  }

  void column(int64_t t) {
    const float *x = delta + picks[t] * a.classes, *y = h + picks[t] * a.width;
    const std::vector<double> delta_t(x, x + a.classes), h_t(y, y + a.width);
    double* out = columns + t * a.rows;
    const int64_t grain = std::max<int64_t>(1, kGrain / (a.classes + a.width));
    parallel_for(0, a.rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        out[i] = dot<kNarrow>(delta + i * a.classes, delta_t.data(), a.classes) *
                 (1.0 + dot(h + i * a.width, h_t.data(), a.width));
    });
  }

  // Adds pick t to the active set, and lets go of those whose weight would turn negative.
  void enter(int64_t t) {
    append(t);
    while (true) {
      int64_t q = -1;
      double least = 0.0;
      for (int64_t u = 0; u < count; ++u) {
        if (weights[u] <= 0 || solution[u] > 0) continue;
        const double ratio = weights[u] / (weights[u] - solution[u]);
        if (q < 0 || ratio < least) q = u, least = ratio;
      }
      if (q < 0) break;
      for (int64_t u = 0; u < count; ++u)
        if (weights[u] > 0) weights[u] = std::max(weights[u] + least * (solution[u] - weights[u]), kTiny);
      weights[q] = 0.0;
      remove(q);
    }
    for (int64_t u = 0; u < count; ++u) weights[u] = solution[u];
  }

  // One more row of the whitener, and the solution without regard to signs.
  void append(int64_t t) {
    const double* products = columns + t * a.rows;
    for (int64_t u = 0; u < count; ++u) values[u] = products[picks[u]];
    double pivot = values[t] + limits.ridge;
    double* row = whitener + active * a.capacity;
    for (int64_t u = 0; u < count; ++u) row[u] = 0.0;
    for (int64_t r = 0; r < active; ++r) {
      const double* earlier = whitener + r * a.capacity;
      const double entry = dot(earlier, values.data(), count);
      pivot -= entry * entry;
      add(row, -entry, earlier, count);
    }
    const double root = std::sqrt(std::max(pivot, limits.ridge));  // less is rounding
    for (int64_t u = 0; u < count; ++u) row[u] /= root;
    row[t] = 1.0 / root;
    ++active;
    // What the correlations of active rows lack to ridge * weight is rounding, and is put right on the way.
    for (int64_t u = 0; u < count; ++u) {
      values[u] = correlations[picks[u]] - limits.ridge * weights[u];
      solution[u] = weights[u];
    }
    for (int64_t r = 0; r < active; ++r) {
      const double* entries = whitener + r * a.capacity;
      add(solution.data(), dot(entries, values.data(), count), entries, count);
    }
    weights[t] = kTiny;
  }

  // Takes pick q out of the active set: a reflection of the rows of the whitener leaves entries of q in
  // the last row alone, and that row goes.
  void remove(int64_t q) {
    --active;
    double* last = whitener + active * a.capacity;
    std::vector<double> normal(active + 1);
    for (int64_t r = 0; r <= active; ++r) normal[r] = whitener[r * a.capacity + q];
    double square = 0.0;
    for (double v : normal) square += v * v;
    const double entry = std::copysign(std::sqrt(square), -normal[active]);
    const double factor = 1.0 / (square - entry * normal[active]);  // 2 / |normal|^2
    normal[active] -= entry;
    std::fill_n(values.begin(), count, 0.0);
    for (int64_t r = 0; r <= active; ++r)
      add(values.data(), factor * normal[r], whitener + r * a.capacity, count);
    for (int64_t r = 0; r <= active; ++r) {
      add(whitener + r * a.capacity, -normal[r], values.data(), count);
      whitener[r * a.capacity + q] = 0.0;
    }
    add(solution.data(), -solution[q] / entry, last, count);
    solution[q] = 0.0;
  }

  // All correlations from the columns of the active rows: nothing builds up from step to step.
  void correlate() {
    std::vector<int64_t> on;
    for (int64_t t = 0; t < count; ++t)
      if (weights[t] > 0) on.push_back(t);
    const int64_t grain = std::max<int64_t>(256, kGrain / std::max<int64_t>(1, active));
    parallel_for(0, a.rows, grain, [&](int64_t begin, int64_t end) {
      for (; begin < end; begin += kTile) correlate_rows(on, begin, std::min(end, begin + kTile));
    });
  }

  void correlate_rows(const std::vector<int64_t>& on, int64_t begin, int64_t end) {
    double* c = correlations + begin;
    const int64_t rows = end - begin;
    std::copy(target + begin, target + end, c);
    size_t u = 0;
    for (; u + kColumns <= on.size(); u += kColumns) {
      const double* x[kColumns];
      double w[kColumns];
      for (int l = 0; l < kColumns; ++l) {
        x[l] = columns + on[u + l] * a.rows + begin;
        w[l] = weights[on[u + l]];
      }
      for (int64_t i = 0; i < rows; ++i) {
        double sum = 0.0;
        for (int l = 0; l < kColumns; l += 2) sum += w[l] * x[l][i] + w[l + 1] * x[l + 1][i];
        c[i] -= sum;
      }
    }
    for (; u < on.size(); ++u) add(c, -weights[on[u]], columns + on[u] * a.rows + begin, rows);
    for (int64_t i = 0; i < rows; ++i) open[begin + i] = taken[begin + i] ? kClosed : c[i];
  }

  const MatchingPursuit& a;
  const MatchingPursuit::Limits& limits;
  const float *delta, *h;
  const double* target;
  uint8_t* taken;
  double *correlations, *columns, *whitener;
  int64_t* picks;
  double *gains, *weights;
  int64_t budget, count = 0, active = 0;
  std::vector<double> open;              // correlations of the rows that can be picked
  std::vector<double> solution, values;  // one number a pick
};

void pursue(const MatchingPursuit& a, int64_t g) {
  Pursuit set(a, g);
  while (a.made[g] < a.steps && set.step()) ++a.made[g];
}

}  // namespace

void matching_pursuit(const MatchingPursuit& a) {
  if (a.sets == 1) return pursue(a, 0);                         // threads share the rows
  parallel_for(0, a.sets, 1, [&](int64_t begin, int64_t end) {  // threads share the sets
    for (int64_t g = begin; g < end; ++g) pursue(a, g);
  });
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
