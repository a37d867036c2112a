// Arguments of every native op, shared by the CPU kernels, the CUDA kernels and the torch glue.
//
// Raw pointers and sizes only: no torch header, no CUDA header, no Python.
//
// Common words
//   sets    number of ground sets treated side by side (classes, or 1)
//   rows    rows of one ground set, padded to the longest set of the batch
//   block   candidates of one pass
//   most    columns of the outputs: the largest budget of the batch, at most `block`
// Every array is dense in its last dimension. Where a `*_stride` is given it is the distance, in
// elements, between two ground sets; otherwise the array is contiguous.
//
// The rule of choice, the same on every backend: let best be the largest value. Candidates with
// value >= best - (kTie * |best| + floor) are tied, and the tied candidate with the lowest row
// number is picked; an infinite best is tied with its equals only. Sums are taken in double, whose
// rounding (1e-15) is far inside kTie, so the order of a sum never decides a pick. A value of -inf
// marks padding or a row already picked.
//
// A pass ends when the budget is spent, when no candidate is left, or when a candidate that is not
// in the block could win: `outside` is an upper bound on all of those, `outside_row` the lowest row
// number among the ones that reach it. With tolerance = kTie * |best| + floor and r the row number
// of the tied candidate, the pick is taken if and only if
//   best - tolerance > outside,  or  best + tolerance >= outside and r < outside_row.
#pragma once
#include <cstdint>

namespace fastcore {

constexpr double kTie = 1e-12;

// Squared distances from products, a + b - 2 dot, below this fraction of a + b are rounding: 0.
constexpr double kSame = 1e-13;

// ---- sums in double over float rows -------------------------------------------------------------

// out[g][i] = sum_k features[g][i][k] * direction[g][k]
struct Project {
  const float* features;    // (sets, rows, width)
  const double* direction;  // (sets, width)
  double* out;              // (sets, rows)
  int64_t sets, rows, width;
};

// out[g][c][i] = sum_k features[g][i][k] * along[g][c][k], summed in float (CPU only)
struct Coordinates {
  const float* features;  // (sets, rows, width)
  const float* along;     // (sets, directions, width)
  float* out;             // (sets, directions, rows)
  int64_t sets, rows, width, directions;
};

// The same of products of rows (CPU only): with z[o] = second_along[g][o] . [1; second[g][i]],
//   out[g][c][i] = sum_k,o along[g][c][k * outer + o] * features[g][i][k] * z[o], all in float.
struct FactoredCoordinates {
  const float* features;      // (sets, rows, width)
  const float* second;        // (sets, rows, second_width)
  const float* second_along;  // (sets, outer, 1 + second_width)
  const float* along;         // (sets, directions, width * outer)
  float* out;                 // (sets, directions, rows)
  int64_t sets, rows, width, second_width, outer, directions;
};

// out[g][i] = sum_k features[g][i][k]^2
struct SquaredNorms {
  const float* features;  // (sets, rows, width)
  double* out;            // (sets, rows)
  int64_t sets, rows, width;
};

// out[g][k] = sum_i weights[g][i] * features[g][i][k]
struct WeightedSum {
  const float* features;  // (sets, rows, width)
  const double* weights;  // (sets, rows)
  double* out;            // (sets, width)
  int64_t sets, rows, width;
};

// out[g][i][j] = <features[g][i], others[g][j]> (1 + <second[g][i], other_second[g][j]>) (CPU only)
struct FactoredColumns {
  const float* features;      // (sets, rows, width)
  const float* second;        // (sets, rows, second_width)
  const float* others;        // (sets, columns, width)
  const float* other_second;  // (sets, columns, second_width)
  double* out;                // (sets, rows, columns)
  int64_t sets, rows, columns, width, second_width;
};

// Rows features[g][i] (x) [1; second[g][i]]: out[g][i] = their product with direction[g] (CPU only)
struct FactoredProject {
  const float* features;    // (sets, rows, width)
  const float* second;      // (sets, rows, second_width)
  const double* direction;  // (sets, width, 1 + second_width)
  double* out;              // (sets, rows)
  int64_t sets, rows, width, second_width;
};

// out[g] = the sum of the same rows, times weights[g][i] (CPU only)
struct FactoredSum {
  const float* features;  // (sets, rows, width)
  const float* second;    // (sets, rows, second_width)
  const double* weights;  // (sets, rows)
  double* out;            // (sets, width, 1 + second_width)
  int64_t sets, rows, width, second_width;
};

// ---- farthest-first -----------------------------------------------------------------------------

// Folds `picks` new picks into the running nearest squared distances of `rows` rows:
//   d = max(0, row_norms[i] + pick_norms[p] - 2 * products[i][p])
// in ascending p: if d < nearest, second = nearest, nearest = d, owner = offset + p;
// else if d < second, second = d. A pick with norm +inf is padding and changes nothing.
struct NearestUpdate {
  const float* products;    // (sets, rows, picks)
  const float* row_norms;   // (sets, rows), stride state_stride
  const float* pick_norms;  // (sets, picks)
  float* nearest;           // (sets, rows), stride state_stride
  int64_t* owner;           // (sets, rows), stride state_stride
  float* second;            // (sets, rows), stride state_stride
  int64_t sets, rows, picks, state_stride, offset;
};

// Greedy farthest-first inside a block. After pick p every candidate b has
//   nearest[b] = min(nearest[b], distances[p][b]),   nearest[p] = -inf.
// floor is 0. gains[t] is nearest[p] at the moment of the pick.
struct FarthestFirstBlock {
  const void* distances;  // (sets, block, block), float or double: row p holds the distances to p
  bool distances_double;
  double* nearest;             // (sets, block), changed
  const int64_t* row_ids;      // (sets, block), the numbers that break ties
  const int64_t* budgets;      // (sets), picks at most
  const double* outside;       // (sets)
  const int64_t* outside_row;  // (sets)
  int64_t* picks;              // (sets, most), positions in the block, -1 after the last
  double* gains;               // (sets, most), 0 after the last
  int64_t sets, block, most;
};

// ---- graph cut ----------------------------------------------------------------------------------

// Greedy graph cut inside a block, for gains that do not grow outside it while picks are taken:
// similarities are not negative, or the block holds all rows. After pick p every candidate b has
//   values[b] -= penalty * similarity[p][b],   values[p] = -inf.
// gains[t] is values[p] at the moment of the pick.
struct GraphCutBlock {
  const void* similarity;  // (sets, block, block), float or double, symmetric
  bool similarity_double;
  double* values;              // (sets, block), changed
  const int64_t* row_ids;      // (sets, block)
  const int64_t* budgets;      // (sets)
  const double* outside;       // (sets)
  const int64_t* outside_row;  // (sets)
  const double* floor;         // (sets)
  double penalty;              // 2 * lambda
  int64_t* picks;              // (sets, most)
  double* gains;               // (sets, most)
  int64_t sets, block, most;
};

// Greedy graph cut over a sparse matrix: set g is the rows starts[g] .. starts[g + 1). Row j has the others
// indices[offsets[j] .. offsets[j + 1]), all of its own set and ascending, no two alike, and the symmetric
// similarities beside them. After pick p every one of its others b, but p itself, has
//   values[b] -= penalty * weight,   and values[p] = -inf.
// gains[t] is values[p] at the moment of the pick.
struct GraphCutSparse {
  const int64_t* offsets;  // (rows + 1)
  const int64_t* indices;  // (entries)
  const double* weights;   // (entries)
  double* values;          // (rows), changed; -inf for a row that cannot be picked
  const int64_t* starts;   // (sets + 1)
  const int64_t* budgets;  // (sets)
  const double* floor;     // (sets)
  double penalty;          // 2 * lambda
  int64_t* picks;          // (sets, most), row numbers
  double* gains;           // (sets, most)
  int64_t sets, rows, entries, most;
};

// Lazy greedy graph cut over all rows, for similarities that are inner products of scaled rows: with second,
// dot * (1 + dot of the second rows).
//
// With P the sum of the scaled picks of this call, the gain of row b is
//   values[b] (as given) - penalty * <scaled row b, P>.
// A gain that was measured after t1 picks bounds the gain now, without touching the row. coordinates[c][b]
// are the components of scaled row b along some directions, B x with I - B'B positive semidefinite, and
// coordinates[directions][b] is its length apart from them. With s the sum of the coordinates, L that of the
// lengths, of the picks since t1, and
//   rest^2 = |P - P(t1)|^2 - |s|^2 + error L^2:
//   gain <= measured - penalty * (sum_c coordinates[c][b] s[c] - coordinates[directions][b] * rest).
// For this, coordinates may be off by e |scaled row|, and lengths apart must be at least
//   sqrt(|scaled row|^2 - |its coordinates|^2 + error |scaled row|^2),  error >= 5 e + 2 (directions + 8)
//   2^-24,
// which also covers sums over the coordinates in float.
// Rows whose bound reaches the best measured gain are measured, all others keep their bound. A CPU measures
// in float where it can, and exactly what may then be the best. Once more than rows / 2 gains were measured,
// taking them all afresh is cheaper: the call ends before a pick. Where that is one product of every row with
// P, a CPU does so itself, behind `rows` measured gains, and goes on.
// values is scratch afterwards. gains[t] is the exact gain of pick t, evaluations counts measured gains.
struct LinearCut {
  const float* features;     // (sets, rows, width)
  const float* second;       // (sets, rows, second_width) or nullptr
  const double* scale;       // (sets, rows)
  const float* coordinates;  // (sets, directions + 1, rows)
  double* values;            // (sets, rows), changed; -inf for padding and picked rows
  const int64_t* budgets;    // (sets)
  const double* floor;       // (sets)
  double penalty;            // 2 * lambda, times the factor of the similarity
  double error;
  int64_t* picks;        // (sets, most)
  double* gains;         // (sets, most)
  int64_t* evaluations;  // (sets)
  int64_t sets, rows, width, second_width, directions, most;
};

// ---- log-determinant ----------------------------------------------------------------------------

// Pivoted Cholesky inside a block, left-looking. With c[t] the rows of the factor so far:
//   c[t][b] = (schur[p][b] - sum_{u<t} c[u][p] * c[u][b]) / sqrt(pivots[p]) for every candidate b,
//   c[t][p] = sqrt(pivots[p]);   pivots[b] -= c[t][b]^2;   pivots[p] = -inf.
// Entries of picked candidates other than p itself are computed like all others.
// A pass also ends when best <= floor. gains[t] is pivots[p] at the moment of the pick.
struct LogDetBlock {
  const double* schur;         // (sets, block, block), symmetric; its diagonal is not read
  double* pivots;              // (sets, block), changed
  const int64_t* row_ids;      // (sets, block)
  const int64_t* budgets;      // (sets)
  const double* outside;       // (sets)
  const int64_t* outside_row;  // (sets)
  const double* floor;         // (sets)
  int64_t* picks;              // (sets, most)
  double* gains;               // (sets, most)
  double* factor;              // (sets, most, block), 0 after the last pick
  int64_t sets, block, most;
};

// ---- herding ------------------------------------------------------------------------------------

// Herding over whole ground sets, again and again:
//   score[i] = 2 * scale[i] * (features[i] . residual) - norms[i];  pick the best row not taken;
//   residual[k] += mean[k] - scale[p] * features[p][k];   taken[p] = 1.
// gains[t] is the score of the pick. norms are those of the scaled rows.
//
// Without codes a pick takes one product of all rows with the residual. With them, scale[i] * features[i] is
// step[i] * codes[i] plus a rest of length slack[i] at most, and only the rows whose bounds
//   2 * step[i] * (codes[i] . residual) - norms[i] +- 2 * slack[i] * |residual|
// say that they may be the best are measured.
struct Herding {
  const float* features;   // (sets, rows, width)
  const int8_t* codes;     // (sets, rows, code_width) from -127 to 127, 0 beyond `width`; or nullptr
  const double* step;      // (sets, rows) or nullptr
  const double* slack;     // (sets, rows) or nullptr
  const double* scale;     // (sets, rows)
  const double* norms;     // (sets, rows)
  const double* mean;      // (sets, width)
  double* residual;        // (sets, width), changed
  uint8_t* taken;          // (sets, rows), changed; padding is taken from the start
  const int64_t* budgets;  // (sets)
  const double* floor;     // (sets)
  double* scores;          // (sets, rows), scratch
  int64_t* picks;          // (sets, most), positions in the set
  double* gains;           // (sets, most)
  int64_t sets, rows, width, code_width, most;
};

// Codes of a row are a multiple of this many bytes, so that rows start where 16 bytes are read at once.
constexpr int64_t kCodeAlignment = 16;
constexpr int64_t kMostCoded = 65536;  // columns

// The largest whole number that a number of the residual becomes: two digits of 8 bits, and products with
// `width` codes that stay below 2^31.
constexpr int64_t most_code(int64_t width) {
  const int64_t fits = (int64_t(1) << 30) / (127 * width);
  return fits < 16255 ? fits : 16255;
}

// ---- matching pursuit ---------------------------------------------------------------------------

// Orthogonal matching pursuit with non-negative weights over the rows g_i = delta_i (x) [1; h_i]:
//   <g_i, g_j> = (delta_i . delta_j) (1 + h_i . h_j),   target[i] = <g_i, b>.
// The weights w >= 0 of the picks minimise |b - sum w g|^2 + ridge |w|^2, and the correlations are
//   c[i] = <g_i, b - sum w g> = target[i] - sum_t weights[t] columns[t][i].
// One step: of the picked rows with weight 0 and c > least, by the rule of choice on c, one enters the
// active set. Where there is none, the best row not taken is picked, and enters if its c > least; the
// set ends instead if its budget is spent, if sum_t w (target + ridge w) >= enough, if no row is left or
// if the best c <= threshold. With a row the weights move from w >= 0 towards the solution s without
// signs, until the first one of them is 0; it leaves the active set, s is taken anew, and so on until
// s > 0. gains[t] is c of pick t at the moment of the pick.
struct MatchingPursuit {
  struct Limits {
    double ridge, threshold, least, floor, enough;
  };
  const float* delta;      // (sets, rows, classes)
  const float* h;          // (sets, rows, width)
  const double* target;    // (sets, rows)
  const Limits* limits;    // (sets)
  const int64_t* budgets;  // (sets), picks in total, at most `capacity`
  uint8_t* taken;          // (sets, rows), changed; padding is taken from the start
  double* correlations;    // (sets, rows), changed
  double* columns;         // (sets, capacity, rows), changed: products of all rows with pick t
  double* whitener;        // (sets, capacity, capacity), changed: the first rows, one for each active
                           // row, are W with W'W = inverse of (Gram matrix + ridge), 0 elsewhere
  int64_t* picks;          // (sets, capacity), changed, -1 after the last
  double* gains;           // (sets, capacity), changed
  double* weights;         // (sets, capacity), changed; active rows are those with a weight > 0
  int64_t* made;           // (sets): steps made
  int64_t sets, rows, classes, width, capacity, steps;
};

// ---- facility location --------------------------------------------------------------------------

// out[g] = number of entries (i, j) with matrix[g][i][j] != matrix[g][j][i] (CPU only)
struct Asymmetry {
  const float* matrix;  // (sets, rows, rows)
  int64_t* out;         // (sets)
  int64_t sets, rows;
};

// For every candidate j: gains[j] = sum_i max(0, similarity[j][i] - coverage[i]), or a little more than that.
struct CoverageGains {
  const float* similarity;  // (sets, block, rows)
  const double* coverage;   // (sets, rows); +inf for padding
  double* gains;            // (sets, block)
  int64_t sets, block, rows;
};

// For every candidate j: gains[j] = sum_i max(0, <features[i], candidates[j]> - coverage[i]), or a little
// more than that. Products are those of tensor cores, summed in float (CUDA only).
struct ProductGains {
  const void* features;    // (sets, rows, width) float16, or float32 with 10 bits behind the first
  const void* candidates;  // (sets, block, width) of the same type
  const double* coverage;  // (sets, rows); +inf for padding
  double* gains;           // (sets, block)
  int64_t sets, block, rows, width;
  bool half;  // float16
};

// What may matter of many inner products. Where products[j][i] > least[i], or is NaN, it becomes the inner
// product of the features of row i and of row positions[j], summed in float in an order that depends on the
// width alone; elsewhere -inf. counts[j] = number of those of candidate j.
struct RefineProducts {
  float* products;           // (sets, block, rows), changed
  const float* features;     // (sets, rows, width)
  const int64_t* positions;  // (sets, block), rows of the candidates
  const float* least;        // (sets, rows)
  int64_t* counts;           // (sets, block)
  int64_t sets, block, rows, width;
};

enum class Metric : int64_t { kPrecomputed = 0, kCosine = 1, kDot = 2, kEuclidean = 3, kRbf = 4 };

// Euclidean similarities of factored rows (CPU only), parameter - distance, from float32 products of the
// factors: products = <x_i, x_j>, factors = <y_i, y_j>, so that D = a + b - 2 products (1 + factors) is the
// squared distance. With L = |g_i||g_j|, products (1 + factors) is within relative / 2 * L + absolute / 2 of
// the truth; a, b, the sum and the difference round by 4 units of a + b at most. So D is within
//   e = relative * L + absolute + 5 * 2^-24 (a + b)
// and its root within `error` where e <= error^2, as |sqrt D - sqrt D'| <= sqrt |D - D'|, or where
// sqrt D > (e / error + error) / 2, as then (sqrt D - error)^2 <= D - e. The other pairs, and those that
// overflow, are computed in double from the factors, as for facility_location_block, unless they are more
// than a sixteenth of the tile and one for each row: then they are counted in `left`, and the tile is of no
// use. Candidate b is row positions[b] of its set; column t is row first + t. Its similarities go to row b of
// out; with mirror, positions are consecutive, out is the whole matrix, and a pair with i <= j goes to [i][j]
// and [j][i].
struct EuclideanTile {
  const float* products;     // (sets, block, columns)
  const float* factors;      // (sets, block, columns)
  const float* features;     // (sets, rows, width): x
  const float* second;       // (sets, rows, second_width): y
  const double* norms;       // (sets, rows): squared norms
  const int64_t* positions;  // (sets, block)
  float* out;                // (sets, block or rows, rows), changed
  int64_t first;
  bool mirror;
  double relative, absolute, error, parameter;
  int64_t* left;  // (1)
  int64_t sets, block, columns, rows, width, second_width;
};

// Lazy greedy inside a block, exact.
//
// similarity holds float columns whose distance to the exact similarity is at most `error`. The
// exact similarity of rows i and j is, in double from the features (dot = sum_k x_ik x_jk, with second
// times 1 + sum_k y_ik y_jk of its rows y; a, b = norms[i], norms[j], squared norms):
//   cosine     0.5 + 0.5 * dot * scale[i] * scale[j]        (scale: 1 / norm, 0 for a zero row)
//   dot        dot
//   euclidean  parameter - sqrt(D)
//   rbf        exp(-parameter * D),   D = a + b - 2 dot, taken as 0 where it is below kSame * (a + b)
// and for precomputed (features == nullptr, error == 0) the float itself. The exact gain of j is
//   sum over i of max(0, exact(i, j) - coverage[i]),
// where rows with similarity[j][i] <= coverage[i] - error contribute nothing and are skipped.
// bounds[j] is an upper bound on the gain of candidate j, -inf for padding and picked rows.
//
// Per pick: the candidate with the largest bound is evaluated (float sum; its bound becomes at most
// gain + active * error, its lower bound gain - active * error) until the top one is fresh. If its
// lower bound exceeds every other bound (and outside) by the tie tolerance it is the pick;
// otherwise the contenders are evaluated exactly, until all candidates within the tolerance of the
// best exact value are exact, and the lowest row among them is picked. The pick's exact
// similarities are folded: coverage[i] = max(coverage[i], exact(i, p)); its bound becomes -inf.
// gains[t] is the exact gain. evaluations counts float evaluations, refinements exact ones.
struct FacilityLocationBlock {
  const float* similarity;     // (sets, block, rows)
  const float* features;       // (sets, rows, width) or nullptr
  const double* scale;         // (sets, rows) or nullptr
  const double* norms;         // (sets, rows) or nullptr
  const float* second;         // (sets, rows, second_width) or nullptr
  const int64_t* positions;    // (sets, block): the candidate's place among the rows of its set
  double* coverage;            // (sets, rows), changed; +inf for padding
  double* bounds;              // (sets, block), changed
  const int64_t* row_ids;      // (sets, block)
  const int64_t* budgets;      // (sets)
  const double* outside;       // (sets)
  const int64_t* outside_row;  // (sets)
  const double* floor;         // (sets)
  double error;
  Metric metric;
  double parameter;
  int64_t* picks;        // (sets, most)
  double* gains;         // (sets, most)
  int64_t* evaluations;  // (sets, 2): float evaluations, exact evaluations
  int64_t sets, block, rows, width, second_width, most;
};

// Gradients of one set, row i being g_i = x_i (1, y_i) flattened, with <g_i, g_j> = <x_i, x_j> (1 + <y_i,
// y_j>), and a few coordinates z of y in a space of fewer dimensions (CPU only). What z leaves out of y has
// the length left_out, so that <y_i, y_j> is within left_out_i left_out_j of <z_i, z_j>. With w = <x_i, x_j>
// and all rounding, the squared distance of g_i and g_j is within
//   2 |w| left_out_i left_out_j + relative |g_i||g_j| + absolute
// of |g_i|^2 + |g_j|^2 - 2 w (1 + <z_i, z_j>), products in float and the rest in double. The exact one is
// computed in double from x and y, and is 0 where it is below kSame (|g_i|^2 + |g_j|^2).
struct ReducedRows {
  const float* features;  // (rows, width): x
  const float* second;    // (rows, second_width): y
  const float* reduced;   // (rows, dimensions): z
  const float* left_out;  // (rows)
  const double* norms;    // (rows): |g|^2
  double relative, absolute;
  int64_t width, second_width, dimensions;
};

// The greedy of facility_location_block under parameter - distance of such rows, all of which are candidates
// (CPU only). Bounds from the coordinates find the few pairs that need an exact distance. At the start, and
// behind a first pick before which nothing was covered, a sweep over all pairs brings the bounds up to date:
// bounds[j] is at most about
//   sum over i of max(0, parameter - coverage[i] - the lower bound on the distance of i and j).
// A candidate whose bound is the largest gets a list of the rows that it may add to, which only become fewer;
// if its bound stays the largest, these pairs are measured, and its gain is exact from then on. A set stops
// early, with the picks that it has, behind `pairs` measured pairs, or when the lists of all sets together
// have more than `room` entries of 8 bytes: then done is 0.
struct FacilityLocationFactored {
  ReducedRows rows;        // of all sets (sets, count, ...)
  double* coverage;        // (sets, count), changed; +inf for padding
  double* bounds;          // (sets, count), changed; -inf for padding and picked rows
  const int64_t* row_ids;  // (sets, count)
  const int64_t* budgets;  // (sets)
  const double* floor;     // (sets)
  double parameter;
  int64_t pairs, room;
  int64_t* picks;   // (sets, most)
  double* gains;    // (sets, most)
  int64_t* counts;  // (sets, 3): evaluations, candidates measured, pairs measured
  int64_t* done;    // (1)
  int64_t sets, count, most;
};

// The nearest pick of some such rows, set by set (CPU only): the first one whose squared distance is at most
// best (1 + kTie) + blur, that of the row. Exact ones are computed where bounds leave a choice.
struct NearestFactored {
  ReducedRows rows;        // all of them
  const int64_t* members;  // (sets, count): row numbers, -1 for padding
  const int64_t* picks;    // (sets, most): likewise, padding last
  const double* blur;      // (rows)
  int64_t* nearest;        // (sets, count): positions in picks, 0 for padding
  int64_t sets, count, most;
};

// The same greedy over a sparse matrix held column by column, all values exact: set g is the rows, and the
// candidates, starts[g] .. starts[g + 1). Candidate j has the rows indices[offsets[j] .. offsets[j + 1]), all
// of its own set and no two alike, with the values beside them. Its gain is
//   sum over these of max(0, value - coverage[row]).
// bounds[j] is an upper bound on it: +inf where nothing is known, -inf for a candidate that cannot be picked.
// A bound of 0 is exact as it is.
//
// Per pick, with top the largest bound: the lowest row whose bound reaches top - tolerance is the pick if its
// gain is known under the coverage of now, and the gain of one with the bound top as well; otherwise that
// gain is taken. So of many tied candidates one is evaluated, not all. evaluations counts gains taken.
struct FacilityLocationSparse {
  const int64_t* offsets;  // (rows + 1)
  const int64_t* indices;  // (entries)
  const float* values;     // (entries)
  double* coverage;        // (rows), changed
  double* bounds;          // (rows), changed
  const int64_t* starts;   // (sets + 1)
  const int64_t* budgets;  // (sets)
  const double* floor;     // (sets)
  int64_t* picks;          // (sets, most), row numbers
  double* gains;           // (sets, most)
  int64_t* evaluations;    // (sets)
  int64_t sets, rows, entries, most;
};

// ---- DeepFool -----------------------------------------------------------------------------------

// One candidate hyperplane a row, f(x) = 0 with normal w: w is the gradient of f = candidate logit -
// predicted logit. Its distance is |f| / |w|: +inf where w = 0, NaN where w or f is not finite. Where
//   distance < nearest * (1 - kTie):  nearest = distance,  step = max(|f|, least) / |w|^2 * w,
// so that a tie stays with the candidate that came first. A NaN distance makes nearest NaN, which it stays.
struct DeepfoolStep {
  const float* normals;  // (rows, pixels): w
  const double* values;  // (rows): f
  double* nearest;       // (rows), changed; +inf at first
  float* step;           // (rows, pixels), changed
  double least;          // of |f|
  int64_t rows, pixels;
};

}  // namespace fastcore
