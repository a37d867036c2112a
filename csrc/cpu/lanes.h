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
inline FloatBits load(const int32_t* x) { return *reinterpret_cast<const FloatBits*>(x); }

inline void store(float* out, Floats x) { *reinterpret_cast<Floats*>(out) = x; }

// The numbers of a table at some places.
inline Floats gather(const float* table, FloatBits at) {
#if defined(__AVX2__)
  return _mm256_i32gather_ps(table, reinterpret_cast<__m256i>(at), sizeof(float));
#else
  Floats x;
  for (int l = 0; l < kFloats; ++l) x[l] = table[at[l]];
  return x;
#endif
}

// A bit for each lane in which x is larger than y.
inline uint32_t above(Floats x, Floats y) {
#if defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(x, y, _CMP_GT_OQ)));
#else
  uint32_t found = 0;
  for (int l = 0; l < kFloats; ++l) found |= static_cast<uint32_t>(x[l] > y[l]) << l;
  return found;
#endif
}

#if defined(__AVX2__)
// For every set of lanes, these lanes in order.
struct Packing {
  int32_t lanes[1 << kFloats][kFloats] = {};
  constexpr Packing() {
    for (int bits = 0; bits < 1 << kFloats; ++bits)
      for (int lane = 0, next = 0; lane < kFloats; ++lane)
        if (bits >> lane & 1) lanes[bits][next++] = lane;
  }
};
inline constexpr Packing kPacking;
#endif

// Writes the lanes whose bits are set one after the other; there must be room for kFloats.
template <class Lanes, class Number>
inline void pack(uint32_t bits, Lanes x, Number* out) {
#if defined(__AVX2__)
  const __m256i lanes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kPacking.lanes[bits]));
  const __m256i packed = _mm256_permutevar8x32_epi32(reinterpret_cast<__m256i>(x), lanes);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), packed);
#else
  for (int l = 0; l < kFloats; ++l)
    if (bits >> l & 1) *out++ = x[l];
#endif
}

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

// A sum in double for every lane.
struct LaneSums {
  typedef double Half __attribute__((vector_size(32)));
  Half low = {}, high = {};

  void add(Floats x) {
#if defined(__AVX2__)
    const __m256 lanes = reinterpret_cast<__m256>(x);
    low += reinterpret_cast<Half>(_mm256_cvtps_pd(_mm256_castps256_ps128(lanes)));
    high += reinterpret_cast<Half>(_mm256_cvtps_pd(_mm256_extractf128_ps(lanes, 1)));
#else
    for (int l = 0; l < kFloats / 2; ++l) {
      low[l] += static_cast<double>(x[l]);
      high[l] += static_cast<double>(x[l + kFloats / 2]);
    }
#endif
  }
  void add(const double* x) {
    for (int l = 0; l < kFloats / 2; ++l) low[l] += x[l], high[l] += x[l + kFloats / 2];
  }
  double total() const {
    const Half sum = low + high;
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
};

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

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
