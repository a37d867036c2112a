// The rows that a facility-location candidate still adds to. They only become fewer as the coverage grows, so
// later evaluations go through them alone: a few numbers instead of a whole column.
#pragma once
#include <cstdint>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "cpu/coverage.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {

struct ActiveRow {
  int32_t row;
  float similarity;
};

constexpr int kGroup = 64;  // rows that are looked at together

// A bit for each of kGroup rows: similarity > coverage - margin.
inline uint64_t active_bits(const float* similarity, const float* coverage, float margin) {
#if defined(__AVX2__)
  const __m256 limit = _mm256_set1_ps(-margin);
  uint64_t found = 0;
  for (int l = 0; l < kGroup; l += 8) {
    const __m256 excess = _mm256_sub_ps(_mm256_loadu_ps(similarity + l), _mm256_loadu_ps(coverage + l));
    const int bits = _mm256_movemask_ps(_mm256_cmp_ps(excess, limit, _CMP_GT_OQ));
    found |= static_cast<uint64_t>(static_cast<uint32_t>(bits)) << l;
  }
#else
  uint64_t found = 0;
  for (int l = 0; l < kGroup; ++l) found |= static_cast<uint64_t>(similarity[l] - coverage[l] > -margin) << l;
#endif
  return found;
}

// Writes the rows with similarity > coverage - margin to `out`, which has room for limit + kGroup.
// Returns how many, or -1 as soon as there are more than `limit`.
inline int64_t list_active(const float* similarity, const float* coverage, int64_t rows, float margin,
                           int64_t limit, ActiveRow* out) {
  int64_t count = 0, i = 0;
  for (; i + kGroup <= rows; i += kGroup) {
    for (int l = 0; l < kGroup; l += 16) __builtin_prefetch(similarity + i + kAhead + l);
    for (uint64_t bits = active_bits(similarity + i, coverage + i, margin); bits != 0; bits &= bits - 1) {
      const int64_t row = i + __builtin_ctzll(bits);
      out[count++] = {static_cast<int32_t>(row), similarity[row]};
    }
    if (count > limit) return -1;
  }
  for (; i < rows; ++i)
    if (similarity[i] - coverage[i] > -margin) out[count++] = {static_cast<int32_t>(i), similarity[i]};
  return count > limit ? -1 : count;
}

// The gain and the number of active rows, in double; rows that are active no more leave the list.
inline Estimate gain_of_active(std::vector<ActiveRow>& list, const double* coverage, double margin) {
  double gain[4] = {};
  ActiveRow* const entries = list.data();
  const size_t count = list.size();
  size_t kept = 0, e = 0;
  const auto add = [&](size_t at, double& lane) {
    const ActiveRow entry = entries[at];
    const double excess = static_cast<double>(entry.similarity) - coverage[entry.row];
    lane += excess > 0.0 ? excess : 0.0;
    entries[kept] = entry;
    kept += excess > -margin;
  };
  for (; e + 4 <= count; e += 4)
    for (int lane = 0; lane < 4; ++lane) add(e + lane, gain[lane]);
  for (; e < count; ++e) add(e, gain[0]);
  list.resize(kept);
  return {(gain[0] + gain[1]) + (gain[2] + gain[3]), static_cast<int64_t>(kept)};
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
