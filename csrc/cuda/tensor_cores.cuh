// Products of small matrices by tensor cores, and copies into shared memory that go on beside other work.
//
// Cards have the instructions from compute capability 8.0 on. Elsewhere portable twins stand for them, with
// the same numbers in the same registers of the same lanes, so that the stand-in runs the kernels as they
// are.
#pragma once
#include <cstring>

#include "reduce.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define FASTCORE_TENSOR_CORES
#endif

namespace fastcore::cuda {

// A word is 4 bytes. `dot(a, b, sum)` adds the products of the numbers in two words to a sum.

// One float32, of which 10 bits behind the first are read.
struct Tf32 {
  __device__ static float value(int32_t word) {
    float value;
    word &= ~0x1FFF;
    memcpy(&value, &word, sizeof value);
    return value;
  }
  __device__ static float dot(int32_t a, int32_t b, float sum) { return sum + value(a) * value(b); }
};

// Two float16, the first of them in the lower half.
struct Half {
  __device__ static float value(int32_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 0x3FF;
    const float size =
        exponent == 0 ? ldexpf(float(fraction), -24) : ldexpf(float(1024 + fraction), exponent - 25);
    return bits & 0x8000 ? -size : size;
  }
  __device__ static float dot(int32_t a, int32_t b, float sum) {
    sum += value(a & 0xFFFF) * value(b & 0xFFFF);
    return sum + value(a >> 16 & 0xFFFF) * value(b >> 16 & 0xFFFF);
  }
};

// Adds to `sum`, 16 x 8 numbers, the product of `a`, 16 rows of 8 words, and `b`, 8 columns of 8 words. All
// lanes of a warp take part. With group = lane / 4 and member = lane % 4, a lane holds these:
// - of a (row, word): (group, member), (group + 8, member), (group, member + 4), (group + 8, member + 4);
// - of b (word, column): (member, group), (member + 4, group);
// - of sum (row, column): (group, 2 member), (group, 2 member + 1), and both in row group + 8.
// These are the layouts of mma.m16n8k8 for tf32 and of mma.m16n8k16 for f16 (PTX ISA, "Matrix fragments").
template <class Number, int threads>
__device__ inline void multiply_add(float (&sum)[4], const int32_t (&a)[4], const int32_t (&b)[2]);

#ifdef FASTCORE_TENSOR_CORES

#define FASTCORE_MULTIPLY_ADD(shape, types)                                 \
  asm volatile("mma.sync.aligned." shape ".row.col.f32." types              \
               ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])     \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

template <class Number, int threads>
__device__ inline void multiply_add(float (&sum)[4], const int32_t (&a)[4], const int32_t (&b)[2]) {
  if constexpr (std::is_same_v<Number, Half>) {
    FASTCORE_MULTIPLY_ADD("m16n8k16", "f16.f16");
  } else {
    FASTCORE_MULTIPLY_ADD("m16n8k8", "tf32.tf32");
  }
}

// Copies 16 bytes into shared memory, or zeros where `inside` is false; they are there once waited for.
__device__ inline void copy_later(int4* to, const int4* from, bool inside) {
  const unsigned place = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
}

// Ends a group of copies of this thread.
__device__ inline void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all groups of this thread but the last `but`.
template <int but>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(but) : "memory");
}

#else

template <class Number, int threads>
__device__ inline void multiply_add(float (&sum)[4], const int32_t (&a)[4], const int32_t (&b)[2]) {
  constexpr int kWords = 6;
  FASTCORE_SHARED(int32_t, boards, threads* kWords);
  int32_t* const board = boards + warp_id() * kLanes * kWords;
  for (int i = 0; i < 4; ++i) board[lane_id() * kWords + i] = a[i];
  for (int i = 0; i < 2; ++i) board[lane_id() * kWords + 4 + i] = b[i];
  __syncwarp();
  const int group = lane_id() / 4, member = lane_id() % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int column = 2 * member + i % 2;
#pragma unroll 1
    for (int word = 0; word < 8; ++word) {
      const int32_t left = board[(group * 4 + word % 4) * kWords + i / 2 + word / 4 * 2];
      const int32_t right = board[(column * 4 + word % 4) * kWords + 4 + word / 4];
      sum[i] = Number::dot(left, right, sum[i]);
    }
  }
  __syncwarp();  // before the next product is written
}

#ifdef FASTCORE_SIMT
__device__ inline void copy_later(int4* to, const int4* from, bool inside) {
  simt::copy_later(to, inside ? from : nullptr, sizeof(int4));
}
__device__ inline void close_copies() { simt::close_copies(); }
template <int but>
__device__ inline void wait_for_copies() {
  simt::wait_for_copies(but);
}
#else
__device__ inline void copy_later(int4* to, const int4* from, bool inside) {
  *to = inside ? *from : int4{0, 0, 0, 0};
}
__device__ inline void close_copies() {}
template <int but>
__device__ inline void wait_for_copies() {}
#endif

#endif

}  // namespace fastcore::cuda
