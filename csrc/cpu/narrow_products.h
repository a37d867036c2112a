// Products of rows with a few others, whose sums stay in registers.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__FMA__)
#include <immintrin.h>
#endif

namespace fastcore::cpu {
namespace FASTCORE_ISA {

// `count` others (count, width) number by number, kTogether at a time, zeros where there are fewer.
template <typename T, int kTogether>
inline std::vector<T> packed(const float* others, int64_t count, int64_t width) {
  const int64_t groups = (count + kTogether - 1) / kTogether;
  std::vector<T> out(static_cast<size_t>(groups * width * kTogether), T(0));
  for (int64_t other = 0; other < count; ++other)
    for (int64_t k = 0; k < width; ++k)
      out[(other / kTogether * width + k) * kTogether + other % kTogether] = others[other * width + k];
  return out;
}

// Products of kRows rows (kRows, width) with kTogether packed others.
template <typename T, int kRows, int kTogether>
inline void multiply(const T* rows, const T* others, int64_t width, T (&out)[kRows][kTogether]) {
  typedef T Lanes __attribute__((vector_size(32), aligned(alignof(T))));  // arrays would live in memory
  constexpr int kVectors = kTogether * sizeof(T) / sizeof(Lanes);
  Lanes sums[kRows][kVectors] = {};
  for (int64_t k = 0; k < width; ++k) {
    const Lanes* other = reinterpret_cast<const Lanes*>(others + k * kTogether);
    for (int i = 0; i < kRows; ++i)
      for (int v = 0; v < kVectors; ++v) sums[i][v] += rows[i * width + k] * other[v];
  }
  std::memcpy(out, sums, sizeof(sums));
}

// Products of the first `count` of kRows rows with `all` packed others: those with one other side by side,
// `stride` numbers before those with the next.
template <int kRows, int kTogether>
inline void multiply_all(const float* rows, int64_t count, const float* others, int64_t all, int64_t width,
                         float* out, int64_t stride) {
  for (int64_t other = 0; other < all; other += kTogether) {
    float products[kRows][kTogether];
    multiply(rows, others + other * width, width, products);
    for (int64_t c = 0; c < std::min<int64_t>(kTogether, all - other); ++c)
      for (int64_t i = 0; i < count; ++i) out[(other + c) * stride + i] = products[i][c];
  }
}

// The same as `multiply` for bounds that stay inside an op: fused where that is to be had, which rounds
// differently from one instruction set to another.
template <int kRows, int kTogether>
inline void multiply_for_bounds(const float* rows, const float* others, int64_t width,
                                float (&out)[kRows][kTogether]) {
#if defined(__FMA__)
  constexpr int kVectors = kTogether * sizeof(float) / sizeof(__m256);
  __m256 sums[kRows][kVectors] = {};
  for (int64_t k = 0; k < width; ++k)
    for (int v = 0; v < kVectors; ++v) {
      const __m256 other = _mm256_loadu_ps(others + (k * kVectors + v) * 8);
      for (int i = 0; i < kRows; ++i)
        sums[i][v] = _mm256_fmadd_ps(_mm256_set1_ps(rows[i * width + k]), other, sums[i][v]);
    }
  std::memcpy(out, sums, sizeof(sums));
#else
  multiply(rows, others, width, out);
#endif
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
