// Arithmetic on pairs of the compute type in one register: what dequantisation is made of.
// brings: lop_and_or, byte_permute, splat, Pairs<F>
#pragma once
#include "float.cuh"

// (a & kMask) | c
template <uint32_t kMask>
__device__ __forceinline__ uint32_t lop_and_or(uint32_t a, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "n"(kMask), "r"(c));
  return d;
}

template <uint32_t kSelector>
__device__ __forceinline__ uint32_t byte_permute(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "n"(kSelector));
  return d;
}

// The low or the high half of a pair, twice.
template <bool kHigh>
__device__ __forceinline__ uint32_t splat(uint32_t pair) {
  return byte_permute<kHigh ? 0x3232 : 0x1010>(pair, 0);
}

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
  // v - kOffset, exact for v near it.
  template <int kOffset>
  static __device__ __forceinline__ uint32_t minus(uint32_t v) {
    static_assert(kOffset >= 1024 && kOffset < 2048, "one binade");
    constexpr uint32_t kHalf = 0x6400 + (kOffset - 1024);
    uint32_t d;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(v), "r"(kHalf << 16 | kHalf));
    return d;
  }
  // A pair of f16 in the compute type.
  static __device__ __forceinline__ uint32_t from_half2(uint32_t pair) { return pair; }
  // A pair of small integers times the f16 in the low or high half of d.
  template <bool kHigh>
  static __device__ __forceinline__ uint32_t times_half(uint32_t v, uint32_t d) {
    return mul(v, splat<kHigh>(d));
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
  static __device__ __forceinline__ uint32_t mul(uint32_t a, uint32_t b) { return fma(a, b, 0x80008000); }
  template <int kOffset>
  static __device__ __forceinline__ uint32_t minus(uint32_t v) {
    static_assert(kOffset >= 128 && kOffset < 256, "one binade");
    constexpr uint32_t kHalf = 0xc300 + (kOffset - 128);
    return fma(v, 0x3f803f80, kHalf << 16 | kHalf);
  }
  static __device__ __forceinline__ uint32_t from_half2(uint32_t pair) {
    const float2 f = F16::unpack(pair);
    return BF16::pack(f.x, f.y);
  }
  template <bool kHigh>
  static __device__ __forceinline__ uint32_t times_half(uint32_t v, uint32_t d) {
    const float2 f = BF16::unpack(v), s = F16::unpack(d);
    const float scale = kHigh ? s.y : s.x;
    return BF16::pack(f.x * scale, f.y * scale);
  }
};
