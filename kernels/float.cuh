// Compute types: F16 and BF16 as template arguments, pairs packed in 32-bit words (low half first).
// brings: F16, BF16, float_fits, exp2_approx, kAllLanes
#pragma once
#include <cuda_fp16.h>
#include <stdint.h>

constexpr uint32_t kAllLanes = 0xffffffffu;

struct F16 {
  static constexpr float kMax = 65504.0f;
  static __device__ __forceinline__ uint32_t pack(float lo, float hi) {
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
  }
  static __device__ __forceinline__ float2 unpack(uint32_t v) {
    return __half22float2(*reinterpret_cast<const __half2*>(&v));
  }
};

struct BF16 {
  static constexpr float kMax = 3.38953139e38f;
  static __device__ __forceinline__ uint32_t pack(float lo, float hi) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
  }
  static __device__ __forceinline__ float2 unpack(uint32_t v) {
    return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u));
  }
};

// False for NaN, infinities and what the compute type cannot hold.
template <typename F>
__device__ __forceinline__ bool float_fits(float v) {
  return fabsf(v) <= F::kMax;
}

// 2^x; 0 for -inf. Subnormal results are flushed to zero.
__device__ __forceinline__ float exp2_approx(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
