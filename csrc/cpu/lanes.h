// Vectors of eight floats, and comparisons of sixteen numbers. std::max and std::sqrt would keep loops from
// vector operations: the one takes references, the other may set errno.
#pragma once
#include <cmath>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace fastcore::cpu {
namespace FASTCORE_ISA {

typedef float Floats __attribute__((vector_size(32), aligned(alignof(float))));
typedef int32_t FloatBits __attribute__((vector_size(32), aligned(alignof(float))));
constexpr int kFloats = 8;
constexpr int kCompared = 16;  // numbers

inline Floats load(const float* x) { return *reinterpret_cast<const Floats*>(x); }

inline void store(float* out, Floats x) { *reinterpret_cast<Floats*>(out) = x; }

// 0 in place of what is negative.
inline double positive(double x) { return x > 0.0 ? x : 0.0; }

inline Floats positive(Floats x) {
  return reinterpret_cast<Floats>((x > Floats{}) & reinterpret_cast<FloatBits>(x));
}

inline Floats smaller(Floats x, Floats y) {
  const FloatBits first = x < y, left = reinterpret_cast<FloatBits>(x);
  return reinterpret_cast<Floats>((first & left) | (~first & reinterpret_cast<FloatBits>(y)));
}

// Roots of numbers, 0 of negative ones.
inline Floats root(Floats squared) {
  Floats x = positive(squared);
#if defined(__AVX2__)
  x = _mm256_sqrt_ps(x);
#else
  for (int l = 0; l < kFloats; ++l) x[l] = std::sqrt(x[l]);
#endif
  return x;
}

inline void roots(const double (&squared)[kCompared], double (&out)[kCompared]) {
  int t = 0;
#if defined(__AVX2__)
  const __m256d zero = _mm256_setzero_pd();
  for (; t < kCompared; t += 4)
    _mm256_storeu_pd(out + t, _mm256_sqrt_pd(_mm256_max_pd(_mm256_loadu_pd(squared + t), zero)));
#endif
  for (; t < kCompared; ++t) out[t] = std::sqrt(positive(squared[t]));
}

// A bit for each of kCompared numbers that is at most `limit`.
inline uint32_t at_most(const float* values, float limit) {
  uint32_t found = 0;
  int t = 0;
#if defined(__AVX2__)
  for (; t < kCompared; t += 8) {
    const __m256 less = _mm256_cmp_ps(_mm256_loadu_ps(values + t), _mm256_set1_ps(limit), _CMP_LE_OQ);
    found |= static_cast<uint32_t>(_mm256_movemask_ps(less)) << t;
  }
#endif
  for (; t < kCompared; ++t) found |= static_cast<uint32_t>(values[t] <= limit) << t;
  return found;
}

// The same for those that are below a limit of their own.
inline uint32_t below(const double* values, const double* limits) {
  uint32_t found = 0;
  int t = 0;
#if defined(__AVX2__)
  for (; t < kCompared; t += 4) {
    const __m256d less = _mm256_cmp_pd(_mm256_loadu_pd(values + t), _mm256_loadu_pd(limits + t), _CMP_LT_OQ);
    found |= static_cast<uint32_t>(_mm256_movemask_pd(less)) << t;
  }
#endif
  for (; t < kCompared; ++t) found |= static_cast<uint32_t>(values[t] < limits[t]) << t;
  return found;
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
