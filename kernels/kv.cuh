// What quantised K and V are in a page (src/backend/kv.rs has the layout), and codes from numbers and back.
// brings: kScaleDims, kv_code_at, kv_scale_at, KvScale, kv_codes, kv_elements, Eight, EightCodes, Dequantiser<F, kFp8>
//
// An element is code * scale, rounded to the compute type: what attention computes with is what pages of the compute type
// with these values would give. Scales have 7 significant bits, so that the products of a dequantisation below are exact.
#pragma once
#include "packed.cuh"
#include "params.h"

constexpr uint32_t kScaleDims = 32;

// Bytes from a head's start in a page to an element, and to the scale of its 32 dims.
__device__ __forceinline__ uint32_t kv_code_at(uint32_t token, uint32_t dim, uint32_t head_dim) {
  return token / 8 * (head_dim * 17 / 2) + token % 8 / 2 * (2 * head_dim) + dim / 8 * 16 + token % 2 * 8 + dim % 8;
}
__device__ __forceinline__ uint32_t kv_scale_at(uint32_t token, uint32_t dim, uint32_t head_dim) {
  return token / 8 * (head_dim * 17 / 2) + head_dim * 8 + token % 8 / 2 * (head_dim / 8) + dim / kScaleDims * 4 + token % 2 * 2;
}

// The scale of 32 elements of which `top` is the largest: rounded up to 7 bits.
struct KvScale {
  uint32_t bits;  // f16
  float inverse;  // 0 for a scale of 0
  __device__ __forceinline__ KvScale(float top, uint32_t type) {
    const float scale = top * (type == kKvFp8 ? 1.0f / 448.0f : 1.0f / 127.0f);
    bits = (__half_as_ushort(__float2half_rn(scale)) + 15) & 0xfff0;
    const float rounded = __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
    inverse = rounded > 0.0f ? __frcp_rn(rounded) : 0.0f;
  }
  __device__ __forceinline__ bool fits() const { return bits < 0x7c00; }
};

// -127 to 127, stored plus 128.
__device__ __forceinline__ uint32_t int8_code(float y) { return min(max(__float2int_rn(y), -127), 127) + 128; }

// e4m3, to nearest even; what is beyond 448 becomes 448.
__device__ __forceinline__ uint32_t e4m3_code(float y) {
  const float size = fminf(fabsf(y), 448.0f);
  const uint32_t bits = __float_as_uint(size);
  // Three bits of the mantissa stay; the exponent's bias goes from 127 to 7.
  const uint32_t normal = ((bits + 0x7ffff + (bits >> 20 & 1)) >> 20) - (120 << 3);
  const uint32_t code = size < 0.015625f ? __float2uint_rn(size * 512.0f) : normal;
  return code | (__float_as_uint(y) >> 24 & 0x80);
}

// Four codes, one a byte.
__device__ __forceinline__ uint32_t kv_codes(float4 v, float inverse, uint32_t type) {
  const float y[4] = {v.x * inverse, v.y * inverse, v.z * inverse, v.w * inverse};
  uint32_t codes = 0;
#pragma unroll
  for (int i = 0; i < 4; i++) codes |= (type == kKvFp8 ? e4m3_code(y[i]) : int8_code(y[i])) << (8 * i);
  return codes;
}

// The two e4m3 codes in the upper bytes of x's halves, as f16: 1/256 of their value, exact, subnormals too.
__device__ __forceinline__ uint32_t e4m3_to_f16(uint32_t x) { return lop_and_or<0x80008000>(x, x >> 1 & 0x3f803f80); }

// Their elements, before they are rounded to the compute type; exact.
__device__ __forceinline__ float4 kv_elements(uint32_t codes, float scale, uint32_t type) {
  if (type == kKvFp8) {
    const float2 a = F16::unpack(e4m3_to_f16(__byte_perm(codes, 0, 0x1404)));
    const float2 b = F16::unpack(e4m3_to_f16(__byte_perm(codes, 0, 0x3424)));
    scale *= 256.0f;
    return make_float4(a.x * scale, a.y * scale, b.x * scale, b.y * scale);
  }
  // 0x4b0000bb is the float 2^23 + bb.
  const auto code = [&](uint32_t selector) {
    return (__uint_as_float(__byte_perm(codes, 0x4b000000, selector)) - 8388736.0f) * scale;
  };
  return make_float4(code(0x7650), code(0x7651), code(0x7652), code(0x7653));
}

// Eight elements of a head.
struct Eight {
  float v[8];

  template <typename F>
  __device__ __forceinline__ static Eight of(uint4 raw) {
    const float2 a = F::unpack(raw.x), b = F::unpack(raw.y), c = F::unpack(raw.z), d = F::unpack(raw.w);
    return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
  }
  template <typename F>
  __device__ __forceinline__ static Eight load(uint64_t address) {
    return of<F>(*reinterpret_cast<const uint4*>(address));
  }
  template <typename F>
  __device__ __forceinline__ uint4 packed() const {
    return make_uint4(F::pack(v[0], v[1]), F::pack(v[2], v[3]), F::pack(v[4], v[5]), F::pack(v[6], v[7]));
  }
  template <typename F>
  __device__ __forceinline__ void store(uint64_t address) const {
    *reinterpret_cast<uint4*>(address) = packed<F>();
  }
};

// The lanes of a warp that hold 32 dims with this one: four neighbours.
__device__ __forceinline__ uint32_t scale_lanes() { return 0xfu << (threadIdx.x & 28); }

// Codes of eight dims.
struct EightCodes {
  KvScale scale;
  uint2 codes;

  __device__ __forceinline__ EightCodes(const Eight& x, uint32_t type)
      : scale(top(x), type),
        codes(make_uint2(kv_codes(make_float4(x.v[0], x.v[1], x.v[2], x.v[3]), scale.inverse, type),
                         kv_codes(make_float4(x.v[4], x.v[5], x.v[6], x.v[7]), scale.inverse, type))) {}

  // The largest of 32 dims.
  __device__ __forceinline__ static float top(const Eight& x) {
    float top = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) top = fmaxf(top, fabsf(x.v[i]));
    top = fmaxf(top, __shfl_xor_sync(scale_lanes(), top, 1));
    return fmaxf(top, __shfl_xor_sync(scale_lanes(), top, 2));
  }

  // `head`: of the page; dims `first` and on of its token `offset`.
  __device__ __forceinline__ void store(uint64_t head, uint32_t offset, uint32_t first, uint32_t dims) const {
    *reinterpret_cast<uint2*>(head + kv_code_at(offset, first, dims)) = codes;
    if (first % kScaleDims == 0) *reinterpret_cast<uint16_t*>(head + kv_scale_at(offset, first, dims)) = uint16_t(scale.bits);
  }
};

// Elements from codes. Constructed of two scales (f16); `pair` takes the codes in bytes 2 kPair and 2 kPair + 1 of u to the
// elements of the first and the second, divided by kUnit.
template <typename F, bool kFp8>
struct Dequantiser;

template <>
struct Dequantiser<F16, false> {
  static constexpr float kUnit = 16.0f;  // keeps `offset` in range
  uint32_t scale, offset;
  __device__ __forceinline__ Dequantiser(uint32_t scales)
      : scale(Pairs<F16>::mul(scales, 0x2c002c00)), offset(Pairs<F16>::mul(scales, 0xd480d480)) {}  // 1/16 and -72
  // (1152 + code) * scale / 16 - 72 * scale, rounded once.
  template <int kPair>
  __device__ __forceinline__ uint32_t pair(uint32_t u) const {
    return Pairs<F16>::fma(__byte_perm(u, 0x64646464, kPair ? 0x4342 : 0x4140), scale, offset);
  }
  __device__ __forceinline__ Dequantiser splat_half(bool high) const {
    Dequantiser d = *this;
    d.scale = splat(scale, high);
    d.offset = splat(offset, high);
    return d;
  }
};

template <>
struct Dequantiser<F16, true> {
  static constexpr float kUnit = 1.0f;
  uint32_t scale;
  __device__ __forceinline__ Dequantiser(uint32_t scales) : scale(Pairs<F16>::mul(scales, 0x5c005c00)) {}  // 256
  template <int kPair>
  __device__ __forceinline__ uint32_t pair(uint32_t u) const {
    return Pairs<F16>::mul(e4m3_to_f16(__byte_perm(u, 0, kPair ? 0x3424 : 0x1404)), scale);
  }
  __device__ __forceinline__ Dequantiser splat_half(bool high) const {
    Dequantiser d = *this;
    d.scale = splat(scale, high);
    return d;
  }
};

// In bfloat16 codes and scales are exact, and the product is rounded once. -0 is what changes no product that it is added to.
template <bool kFp8>
struct Dequantiser<BF16, kFp8> {
  static constexpr float kUnit = 1.0f;
  uint32_t scale;
  __device__ __forceinline__ Dequantiser(uint32_t scales) {
    const float2 s = F16::unpack(scales);
    scale = BF16::pack(s.x, s.y);
  }
  template <int kPair>
  __device__ __forceinline__ uint32_t pair(uint32_t u) const {
    uint32_t code;
    if (kFp8) {
      const uint32_t x = __byte_perm(u, 0, kPair ? 0x3424 : 0x1404);
      const uint32_t small = lop_and_or<0x80008000>(x, x >> 4 & 0x07f007f0);  // 2^-120 of the code
      code = Pairs<BF16>::fma(small, 0x7b807b80, 0x80008000);
    } else {
      code = byte_pair<BF16, kPair>(u);
    }
    return Pairs<BF16>::fma(code, scale, 0x80008000);
  }
  __device__ __forceinline__ Dequantiser splat_half(bool high) const {
    Dequantiser d = *this;
    d.scale = splat(scale, high);
    return d;
  }
};

// What elements of this type are divided by.
template <typename F>
__device__ __forceinline__ float kv_unit(uint32_t type) {
  return type == kKvInt8 ? Dequantiser<F, false>::kUnit : 1.0f;
}
