// Matching pursuit, four kernels a step: the choice of the row that enters (one block of threads a set), the
// products of all rows with it if it is new (a warp a row), the weights (one block of threads a set), and the
// correlations of all rows (a thread a row).
//
// The host queues as many steps as it was asked for; a set that has ended, ends again.
#pragma once
#include "choice.cuh"

namespace fastcore::cuda {

// What the kernels of a step leave each other, all (sets) or (sets, capacity).
struct PursuitStep {
  int64_t* fresh;     // the pick that needs its column, or -1
  int64_t* entering;  // the pick that enters the active set, or -1
  double* solution;   // (sets, capacity)
  double* factors;    // (sets, capacity)
};

constexpr double kTiny = 2.2250738585072014e-308;  // weight of a row that is about to enter

// The choice among `count` pairs of value(i) and row(i), which every thread gets. No row may occur twice.
template <int threads, class Value, class Row>
__device__ Choice choose_from(int64_t count, double floor, Value value, Row row) {
  double best = kClosed;
  for (int64_t i = threadIdx.x; i < count; i += threads) best = Max()(best, value(i));
  best = block_reduce<threads>(best, Max());
  if (best == kClosed) return {best, 0.0, kNoRow, -1, best};
  const double tolerance = tolerance_of(best, floor);
  Place place = {kNoRow, -1};
  for (int64_t i = threadIdx.x; i < count; i += threads) {
    if (value(i) >= best - tolerance) place = Min()(place, Place{row(i), i});
  }
  place = block_reduce<threads>(place, Min());
  return {best, tolerance, place.row, place.position, value(place.position)};
}

template <int threads, class Term>
__device__ double block_sum(int64_t count, Term term) {
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += threads) sum += term(i);
  return block_reduce<threads>(sum, Sum());
}

// Number of picks so far.
template <int threads>
__device__ int64_t count_picks(const int64_t* picks, int64_t capacity) {
  int64_t end = capacity;
  for (int64_t t = threadIdx.x; t < capacity; t += threads) {
    if (picks[t] < 0) end = Min()(end, t);
  }
  return block_reduce<threads>(end, Min());
}

template <int threads>
__global__ void __launch_bounds__(threads, 1) pursuit_choose_kernel(MatchingPursuit args, PursuitStep step) {
  const int64_t set = blockIdx.x;
  const MatchingPursuit::Limits limits = args.limits[set];
  const double* __restrict__ target = args.target + set * args.rows;
  const double* __restrict__ c = args.correlations + set * args.rows;
  const double* __restrict__ weights = args.weights + set * args.capacity;
  uint8_t* taken = args.taken + set * args.rows;
  int64_t* picks = args.picks + set * args.capacity;
  const int64_t count = count_picks<threads>(picks, args.capacity);

  const auto waiting = [=](int64_t t) {
    const double value = c[picks[t]];
    return weights[t] > 0 || value <= limits.least ? kClosed : value;
  };
  const auto row_of = [=](int64_t t) { return picks[t]; };
  int64_t fresh = -1;
  int64_t entering = choose_from<threads>(count, limits.floor, waiting, row_of).position;
  if (entering < 0 && count < Min()(args.budgets[set], args.capacity)) {
    const double explained = block_sum<threads>(
        count, [=](int64_t t) { return weights[t] * (target[picks[t]] + limits.ridge * weights[t]); });
    const auto open = [=](int64_t i) { return taken[i] ? kClosed : c[i]; };
    const auto itself = [](int64_t i) { return i; };
    const Choice pick = choose_from<threads>(args.rows, limits.floor, open, itself);
    const bool ends = pick.position < 0 || pick.best <= limits.threshold || explained >= limits.enough;
    if (!ends) {
      fresh = count;
      entering = pick.value > limits.least ? count : -1;
      __syncthreads();  // all have read `taken`
      if (threadIdx.x == 0) {
        picks[count] = pick.position;
        args.gains[set * args.capacity + count] = pick.value;
        taken[pick.position] = 1;
      }
    }
  }
  if (threadIdx.x == 0) {
    step.fresh[set] = fresh;
    step.entering[set] = entering;
    if (fresh >= 0 || entering >= 0) ++args.made[set];
  }
}

template <int threads>
__global__ void __launch_bounds__(threads) pursuit_column_kernel(MatchingPursuit args, PursuitStep step) {
  constexpr int kWarps = threads / kLanes;
  const int64_t rows = args.sets * args.rows;
  for (int64_t r = int64_t(blockIdx.x) * kWarps + warp_id(); r < rows; r += int64_t(gridDim.x) * kWarps) {
    const int64_t set = r / args.rows, t = step.fresh[set];
    if (t < 0) continue;
    const int64_t pick = set * args.rows + args.picks[set * args.capacity + t];
    const float* __restrict__ x = args.delta + r * args.classes, * __restrict__ y = args.h + r * args.width;
    const float* __restrict__ x_pick = args.delta + pick * args.classes;
    const float* __restrict__ y_pick = args.h + pick * args.width;
    const double along = warp_sum(args.classes, [=](int64_t k) { return double(x[k]) * double(x_pick[k]); });
    const double across = warp_sum(args.width, [=](int64_t k) { return double(y[k]) * double(y_pick[k]); });
    if (lane_id() == 0) {
      args.columns[(set * args.capacity + t) * args.rows + r % args.rows] = along * (1.0 + across);
    }
  }
}

// The active set of one ground set, in the hands of one block of threads. Entry u of `solution`, of `weights`
// and of every row of the whitener belongs to thread u % threads; the others read it after a barrier.
template <int threads>
struct ActiveSet {
  const MatchingPursuit& args;
  int64_t set, count, active;
  double *weights, *whitener, *solution, *factors;

  __device__ double* row(int64_t r) const { return whitener + r * args.capacity; }

  // factors[r] = row r of the whitener times x, r < active.
  __device__ void project(const double* x) const {
    for (int64_t r = warp_id(); r < active; r += threads / kLanes) {
      const double* entries = row(r);
      const double sum = warp_sum(count, [=](int64_t u) { return entries[u] * x[u]; });
      if (lane_id() == 0) factors[r] = sum;
    }
    __syncthreads();
  }

  __device__ double sum_of_squares() const {
    return block_sum<threads>(active, [f = factors](int64_t r) { return f[r] * f[r]; });
  }

  // sum over r < rows of factors[r] * whitener[r][u]
  __device__ double combine(int64_t rows, int64_t u) const {
    double sum = 0.0;
#pragma unroll 4
    for (int64_t r = 0; r < rows; ++r) sum += factors[r] * whitener[r * args.capacity + u];
    return sum;
  }

  // One more row of the whitener, and the solution without regard to signs.
  __device__ void append(int64_t t) {
    const int64_t* picks = args.picks + set * args.capacity;
    const double* products = args.columns + (set * args.capacity + t) * args.rows;
    const double ridge = args.limits[set].ridge;
    double* entries = row(active);
    for (int64_t u = threadIdx.x; u < count; u += threads) entries[u] = products[picks[u]];
    __syncthreads();
    project(entries);
    const double explained = sum_of_squares();
    const double root = sqrt(Max()(entries[t] + ridge - explained, ridge));  // less is rounding
    __syncthreads();                                                         // all have read entries[t]
    const double* correlations = args.correlations + set * args.rows;
    for (int64_t u = threadIdx.x; u < count; u += threads) {
      entries[u] = u == t ? 1.0 / root : -combine(active, u) / root;
      // What the correlations of active rows lack to ridge * weight is rounding, and is put right on the way.
      solution[u] = correlations[picks[u]] - ridge * weights[u];
    }
    ++active;
    __syncthreads();
    project(solution);
    for (int64_t u = threadIdx.x; u < count; u += threads) {
      solution[u] = weights[u] + combine(active, u);
      if (u == t) weights[u] = kTiny;
    }
    __syncthreads();
  }

  // The first weight to become 0 on the way to the solution, or -1; the weights go there.
  __device__ int64_t advance() {
    const auto ratio = [this](int64_t u) {
      const double w = weights[u], s = solution[u];
      return w > 0 && s <= 0 ? -w / (w - s) : kClosed;
    };
    const auto itself = [](int64_t u) { return u; };
    const Choice first = choose_from<threads>(count, 0.0, ratio, itself);
    __syncthreads();  // all have read the weights
    for (int64_t u = threadIdx.x; u < count; u += threads) {
      if (first.position < 0) {
        weights[u] = solution[u];
      } else if (weights[u] > 0) {
        weights[u] =
            u == first.position ? 0.0 : Max()(weights[u] - first.best * (solution[u] - weights[u]), kTiny);
      }
    }
    return first.position;
  }

  // Takes pick q out: a reflection of the rows of the whitener leaves entries of q in the last row alone, and
  // that row goes.
  __device__ void remove(int64_t q) {
    for (int64_t r = threadIdx.x; r < active; r += threads) factors[r] = row(r)[q];
    __syncthreads();
    const double square = sum_of_squares();
    const double last = factors[active - 1];
    const double entry = copysign(sqrt(square), -last);
    const double factor = 1.0 / (square - entry * last);  // 2 / |normal|^2
    const double weight = solution[q] / entry;
    __syncthreads();  // all have read the last factor and the solution
    if (threadIdx.x == 0) factors[active - 1] = last - entry;
    __syncthreads();
    for (int64_t u = threadIdx.x; u < count; u += threads) {
      const double sum = factor * combine(active, u);
      for (int64_t r = 0; r < active; ++r) row(r)[u] = u == q ? 0.0 : row(r)[u] - factors[r] * sum;
      solution[u] = u == q ? 0.0 : solution[u] - weight * row(active - 1)[u];
    }
    --active;
    __syncthreads();
  }
};

template <int threads>
__global__ void __launch_bounds__(threads, 1) pursuit_weigh_kernel(MatchingPursuit args, PursuitStep step) {
  const int64_t set = blockIdx.x, at = set * args.capacity;
  if (step.entering[set] < 0) return;
  const int64_t count = count_picks<threads>(args.picks + at, args.capacity);
  double *weights = args.weights + at, *whitener = args.whitener + at * args.capacity;
  const double active = block_sum<threads>(count, [=](int64_t t) { return weights[t] > 0 ? 1.0 : 0.0; });
  double *solution = step.solution + at, *factors = step.factors + at;
  ActiveSet<threads> rows{args, set, count, int64_t(active), weights, whitener, solution, factors};
  rows.append(step.entering[set]);
  for (int64_t q = rows.advance(); q >= 0; q = rows.advance()) rows.remove(q);
}

template <int threads>
__global__ void __launch_bounds__(threads) pursuit_correlate_kernel(MatchingPursuit args, PursuitStep step) {
  const int64_t rows = args.sets * args.rows;
  for (int64_t r = int64_t(blockIdx.x) * threads + threadIdx.x; r < rows; r += int64_t(gridDim.x) * threads) {
    const int64_t set = r / args.rows;
    if (step.entering[set] < 0) continue;
    const int64_t* __restrict__ picks = args.picks + set * args.capacity;
    const double* __restrict__ weights = args.weights + set * args.capacity;
    const double* __restrict__ column = args.columns + set * args.capacity * args.rows + r % args.rows;
    double sum = args.target[r];
    for (int64_t t = 0; t < args.capacity && picks[t] >= 0; ++t) {
      if (weights[t] > 0) sum -= weights[t] * column[t * args.rows];
    }
    args.correlations[r] = sum;
  }
}

}  // namespace fastcore::cuda
