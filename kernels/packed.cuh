// Arithmetic on pairs of the compute type in one register: what dequantisation is made of.
// brings: unroll, pinned, lop_and_or, splat, Pairs<F>, byte_pair
#pragma once
#include <utility>

#include "float.cuh"

template <int kValue>
struct Constant {
  __device__ constexpr operator int() const { return kValue; }
};
template <class Function, int... kIndex>
__device__ __forceinline__ void unroll_indices(Function f, std::integer_sequence<int, kIndex...>) {
  (f(Constant<kIndex>()), ...);
}
// f(0), ..., f(kCount - 1) with constants, so that they can be offsets within instructions.
template <int kCount, class Function>
__device__ __forceinline__ void unroll(Function f) {
  unroll_indices(f, std::make_integer_sequence<int, kCount>());
}

// v, of which the compiler forgets how it was made, so that it keeps it instead of making it anew at each use.
__device__ __forceinline__ uint32_t pinned(uint32_t v) {
  asm volatile("" : "+r"(v));
  return v;
}

// (a & kMask) | c
template <uint32_t kMask>
__device__ __forceinline__ uint32_t lop_and_or(uint32_t a, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "n"(kMask), "r"(c));
  return d;
}

// The low or the high half of a pair, twice.
__device__ __forceinline__ uint32_t splat(uint32_t pair, bool high) { return __byte_perm(pair, 0, high ? 0x3232 : 0x1010); }

// An integer below 1 << kMagicBits, OR-ed into a half of kMagic, makes the number kBase + integer.
template <class F>
struct Pairs;

template <>
struct Pairs<F16> {
  static constexpr uint32_t kMagic = 0x64006400, kMagicBits = 10;
  static constexpr int kBase = 1024;

  static __device__ __forceinline__ uint32_t fma(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  static __device__ __forceinline__ uint32_t mul(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
  }
  static __device__ __forceinline__ uint32_t add(uint32_t a, uint32_t b) {
    uint32_t d;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
  }
  // v - kOffset, exact for v near it.
  template <int kOffset>
  static __device__ __forceinline__ uint32_t minus(uint32_t v) {
    static_assert(kOffset >= 1024 && kOffset < 2048, "one binade");
    constexpr uint32_t kHalf = 0x6400 + (kOffset - 1024);
    uint32_t d;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(v), "r"(kHalf << 16 | kHalf));
    return d;
  }
};

// Only fused multiply-add exists for pairs of bfloat16 on compute_80.
template <>
struct Pairs<BF16> {
  static constexpr uint32_t kMagic = 0x43004300, kMagicBits = 7;
  static constexpr int kBase = 128;

  static __device__ __forceinline__ uint32_t fma(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }
  template <int kOffset>
  static __device__ __forceinline__ uint32_t minus(uint32_t v) {
    static_assert(kOffset >= 128 && kOffset < 256, "one binade");
    constexpr uint32_t kHalf = 0xc300 + (kOffset - 128);
    return fma(v, 0x3f803f80, kHalf << 16 | kHalf);
  }
};

// The two signed bytes of u (stored plus 128) that start at byte 2 kPair, exact.
template <class F, int kPair>
__device__ __forceinline__ uint32_t byte_pair(uint32_t u) {
  if constexpr (Pairs<F>::kMagicBits >= 10) {
    return Pairs<F>::template minus<Pairs<F>::kBase + 128>(__byte_perm(u, Pairs<F>::kMagic >> 8, kPair ? 0x4342 : 0x4140));
  } else {
    // 0x4b0000bb is the float 2^23 + bb.
    const float lo = __uint_as_float(__byte_perm(u, 0x4b000000, kPair ? 0x7652 : 0x7650)) - 8388736.0f;
    const float hi = __uint_as_float(__byte_perm(u, 0x4b000000, kPair ? 0x7653 : 0x7651)) - 8388736.0f;
    return F::pack(lo, hi);
  }
}
