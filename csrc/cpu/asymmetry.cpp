#include <algorithm>
#include <atomic>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "cpu/parallel.h"
#include "kernels.h"

namespace fastcore::cpu {
namespace FASTCORE_ISA {
namespace {

constexpr int64_t kTile = 512;  // of this side two tiles fit the cache, and few pages are open at a time
constexpr int64_t kSmall = 8;   // of this side a transpose fits the registers

// A difference of two numbers that are not finite is NaN.
inline bool differ(float x, float y) { return x - y != 0.0f; }

// How many entries of the block at (i, j) differ from their mirror images, or are not finite.
int64_t small_differences(const float* matrix, int64_t n, int64_t i, int64_t j) {
  const float* here = matrix + i * n + j;
  const float* there = matrix + j * n + i;
#if defined(__AVX2__)
  // A transpose in registers: pairs of rows, pairs of pairs, halves.
  __m256 pair[8], four[8];
  for (int c = 0; c < 8; c += 2) {
    const __m256 even = _mm256_loadu_ps(there + c * n), odd = _mm256_loadu_ps(there + (c + 1) * n);
    pair[c] = _mm256_unpacklo_ps(even, odd), pair[c + 1] = _mm256_unpackhi_ps(even, odd);
  }
  for (int c = 0; c < 8; c += 4)
    for (int h = 0; h < 2; ++h) {
      four[c + 2 * h] = _mm256_shuffle_ps(pair[c + h], pair[c + 2 + h], _MM_SHUFFLE(1, 0, 1, 0));
      four[c + 2 * h + 1] = _mm256_shuffle_ps(pair[c + h], pair[c + 2 + h], _MM_SHUFFLE(3, 2, 3, 2));
    }
  int found = 0;
  const auto differences = [&](const float* row, __m256 mirrored) {
    const __m256 difference = _mm256_sub_ps(_mm256_loadu_ps(row), mirrored);
    return _mm256_movemask_ps(_mm256_cmp_ps(difference, _mm256_setzero_ps(), _CMP_NEQ_UQ));
  };
  for (int r = 0; r < 4; ++r) {
    const __m256 low = _mm256_permute2f128_ps(four[r], four[r + 4], 0x20);
    const __m256 high = _mm256_permute2f128_ps(four[r], four[r + 4], 0x31);
    found += __builtin_popcount(differences(here + r * n, low) << 8 | differences(here + (r + 4) * n, high));
  }
#else
  float mirrored[kSmall][kSmall];
  for (int64_t c = 0; c < kSmall; ++c)
    for (int64_t r = 0; r < kSmall; ++r) mirrored[r][c] = there[c * n + r];
  int found = 0;
  for (int64_t r = 0; r < kSmall; ++r)
    for (int64_t c = 0; c < kSmall; ++c) found += differ(here[r * n + c], mirrored[r][c]);
#endif
  return found;
}

int64_t tile_differences(const float* matrix, int64_t n, int64_t first, int64_t second) {
  const int64_t i_stop = std::min(n, first + kTile), j_stop = std::min(n, second + kTile);
  int64_t found = 0;
  for (int64_t i = first; i < i_stop; i += kSmall)
    for (int64_t j = second; j < j_stop; j += kSmall) {
      if (i + kSmall <= i_stop && j + kSmall <= j_stop) {
        found += small_differences(matrix, n, i, j);
        continue;
      }
      for (int64_t r = i; r < std::min(i_stop, i + kSmall); ++r)
        for (int64_t c = j; c < std::min(j_stop, j + kSmall); ++c)
          found += differ(matrix[r * n + c], matrix[c * n + r]);
    }
  return found;
}

}  // namespace

void asymmetry(const Asymmetry& a) {
  const int64_t tiles = (a.rows + kTile - 1) / kTile;
  std::vector<std::atomic<int64_t>> found(a.sets);
  // One item for each pair of tiles, the ones below the diagonal left out: they are the mirror images.
  parallel_for(0, a.sets * tiles * tiles, 1 + (1 << 16) / (a.rows * a.rows + 1),
               [&](int64_t begin, int64_t end) {
                 for (int64_t item = begin; item < end; ++item) {
                   const int64_t set = item / (tiles * tiles), i = item / tiles % tiles, j = item % tiles;
                   // Rows take turns from both ends, so that every stretch of items has as many pairs to look
                   // at.
                   const int64_t row = i % 2 == 0 ? i / 2 : tiles - 1 - i / 2;
                   if (j < row) continue;
                   const int64_t here =
                       tile_differences(a.matrix + set * a.rows * a.rows, a.rows, row * kTile, j * kTile);
                   found[set] += j > row ? 2 * here : here;
                 }
               });
  for (int64_t g = 0; g < a.sets; ++g) a.out[g] = found[g];
}

}  // namespace FASTCORE_ISA
}  // namespace fastcore::cpu
