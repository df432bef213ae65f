// Weights in the order that tensor cores take them, dequantised in registers.
// brings: Weights<type>: Reader (addresses of a lane), Raw (one tile of a lane), codes, scales, affine; fragments
//
// A tile is 16 rows x 64 columns = the A operands of four m16n8k16 products ("steps"). Fragment row g is row 2g of the
// tile and fragment row g + 8 is row 2g + 1, so a pair of neighbouring rows (a RoPE pair, a gate and its up) meets in one
// thread of the result. Lane l = 4g + t holds, for step s, register j and half h, the weight at
//   row 2g + (j & 1), column 16 s + 8 (j >> 1) + 2t + h.
// Each lane's 32 weights lie together, so a tile of a 4-bit type is one 16-byte load of each lane, coalesced:
//
//   plane    bytes of a tile                         holds
//   quants   512 (4 bits), 1024 (8), 2048 (floats)   [vector][lane]: codes
//   high     128 (1 bit), 256 (2 bits)               [lane]: upper bits of the codes
//   scales   [g] x 8 or 16 bytes                     block scales of rows 2g and 2g + 1
//   supers   per 4 tiles: [g] x 32 or 4 bytes        superblock scales of rows 2g and 2g + 1
//
// src/launch/repack.rs is the writer; it adds no byte to a matrix of whole tiles.
#pragma once
#include "packed.cuh"
#include "params.h"

// Weights are read once a launch: they bypass L1.
__device__ __forceinline__ uint4 load_stream(const char* p) {
  uint4 v;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}
template <class T>
__device__ __forceinline__ T load_once(const char* p) {
  return __ldg(reinterpret_cast<const T*>(p));
}

// Right shift by a constant that may be negative.
__device__ __forceinline__ uint32_t shift_right(uint32_t v, int n) { return n >= 0 ? v >> n : v << -n; }

// Four registers of codes (code - kZero, exact) from a word of nibbles: nibble j of a half is register j's.
// With kBits more bits a code, word h holds those of register j at bit (j odd ? 8 : 0) + kBits * (first + j / 2) of each half.
template <class F, int kBits, int kZero>
__device__ __forceinline__ void nibbles(uint32_t u, uint32_t h, int first, uint32_t (&a)[4]) {
  constexpr uint32_t kOnes = (1u << kBits) - 1;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const bool odd = j & 1;
    const int field = (odd ? 8 : 0) + kBits * (first + j / 2);
    if constexpr (Pairs<F>::kMagicBits >= 10) {
      // Odd registers stay 4 bits up, times 16 in value, which saves their shift.
      const uint32_t v = j >= 2 ? u >> 8 : u;
      uint32_t w = odd ? lop_and_or<0x00f000f0>(v, Pairs<F>::kMagic) : lop_and_or<0x000f000f>(v, Pairs<F>::kMagic);
      if (kBits && odd) w = lop_and_or<kOnes * 0x01000100>(shift_right(h, field - 8), w);
      if (kBits && !odd) w = lop_and_or<kOnes * 0x00100010>(shift_right(h, field - 4), w);
      constexpr uint32_t kSixteenth = 0x2c002c00, kMinus = 0xd400 + 16 * kZero;  // -(64 + kZero)
      a[j] = odd ? Pairs<F>::fma(w, kSixteenth, kMinus << 16 | kMinus) : Pairs<F>::template minus<Pairs<F>::kBase + kZero>(w);
    } else {
      uint32_t w = lop_and_or<0x000f000f>(shift_right(u, 4 * j), Pairs<F>::kMagic);
      if (kBits) w = lop_and_or<kOnes * 0x00100010>(shift_right(h, field - 4), w);
      a[j] = Pairs<F>::template minus<Pairs<F>::kBase + kZero>(w);
    }
  }
}

// The two signed bytes of u (stored plus 128) that start at byte 2 kPair, exact.
template <class F, int kPair>
__device__ __forceinline__ uint32_t byte_pair(uint32_t u) {
  if constexpr (Pairs<F>::kMagicBits >= 10) {
    return Pairs<F>::template minus<Pairs<F>::kBase + 128>(byte_permute<kPair ? 0x4342 : 0x4140>(u, Pairs<F>::kMagic >> 8));
  } else {
    // 0x4b0000bb is the float 2^23 + bb.
    const float lo = __uint_as_float(byte_permute<kPair ? 0x7652 : 0x7650>(u, 0x4b000000)) - 8388736.0f;
    const float hi = __uint_as_float(byte_permute<kPair ? 0x7653 : 0x7651>(u, 0x4b000000)) - 8388736.0f;
    return F::pack(lo, hi);
  }
}

// Scale of block `high` of a pair of f16 block scales, twice.
template <class F>
__device__ __forceinline__ uint32_t block_scale(uint32_t pair, bool high) {
  const uint32_t v = Pairs<F>::from_half2(pair);
  return high ? splat<true>(v) : splat<false>(v);
}
__device__ __forceinline__ float half_of(uint32_t pair, bool high) {
  const float2 f = F16::unpack(pair);
  return high ? f.y : f.x;
}

// Where a lane finds its part of tile i of each plane; unused planes are never read.
template <int kQuants, int kHigh, int kScales, int kSupers>
struct LanePlanes {
  const char *quants, *high, *scales, *supers;
  __device__ LanePlanes(const MatrixParams& m, uint32_t lane)
      : quants(reinterpret_cast<const char*>(m.quants) + lane * 16),
        high(reinterpret_cast<const char*>(m.high) + lane * (kHigh / 32)),
        scales(reinterpret_cast<const char*>(m.scales) + lane / 4 * (kScales / 8)),
        supers(reinterpret_cast<const char*>(m.supers) + lane / 4 * (kSupers / 8)) {}
  __device__ const char* quants_of(uint32_t i) const { return quants + uint64_t(i) * kQuants; }
  __device__ const char* high_of(uint32_t i) const { return high + uint64_t(i) * kHigh; }
  __device__ const char* scales_of(uint32_t i) const { return scales + uint64_t(i) * kScales; }
  __device__ const char* supers_of(uint32_t i) const { return supers + uint64_t(i / 4) * kSupers; }
};

// A type of weights: code * scale, plus a minimum where kMinima. With kCodes false the registers are the weights.
//   codes    the codes of a step, exact in the compute type
//   scales   scale (and minimum) of the even and the odd rows of a step, as pairs of the compute type
//   affine   (scale, minimum) of one row of a step, exact
template <WeightType kType>
struct Weights;

template <>
struct Weights<kFloat> {
  using Reader = LanePlanes<2048, 0, 0, 0>;
  static constexpr int kPrefetch = 2;
  static constexpr bool kCodes = false, kMinima = false;
  struct Raw {
    uint4 q[4];
    __device__ void load(const Reader& r, uint32_t i) {
      for (int s = 0; s < 4; ++s) q[s] = load_stream(r.quants_of(i) + s * 512);
    }
  };
  template <class F>
  static __device__ void codes(const Raw& r, int s, uint32_t (&a)[4]) {
    a[0] = r.q[s].x, a[1] = r.q[s].y, a[2] = r.q[s].z, a[3] = r.q[s].w;
  }
  static __device__ float2 affine(const Raw&, int, bool) { return make_float2(1, 0); }
};

// Types with an f16 scale for each block of 32 in `d`: (block 0, block 1) of row 2g in x, of row 2g + 1 in y.
struct BlockScaled {
  static constexpr bool kCodes = true, kMinima = false;
  template <class F, class Raw>
  static __device__ void scales(const Raw& r, int s, uint32_t (&d)[2], uint32_t (&)[2]) {
    d[0] = block_scale<F>(r.d.x, s >= 2);
    d[1] = block_scale<F>(r.d.y, s >= 2);
  }
  template <class Raw>
  static __device__ float2 affine(const Raw& r, int s, bool odd) {
    return make_float2(half_of(odd ? r.d.y : r.d.x, s >= 2), 0);
  }
};

template <>
struct Weights<kQ8_0> : BlockScaled {
  using Reader = LanePlanes<1024, 0, 64, 0>;
  static constexpr int kPrefetch = 3;
  struct Raw {
    uint4 q[2];
    uint2 d;
    __device__ void load(const Reader& r, uint32_t i) {
      for (int v = 0; v < 2; ++v) q[v] = load_stream(r.quants_of(i) + v * 512);
      d = load_once<uint2>(r.scales_of(i));
    }
  };
  template <class F>
  static __device__ void codes(const Raw& r, int s, uint32_t (&a)[4]) {
    const uint4 v = r.q[s / 2];
    const uint32_t u0 = s & 1 ? v.z : v.x, u1 = s & 1 ? v.w : v.y;
    a[0] = byte_pair<F, 0>(u0), a[1] = byte_pair<F, 1>(u0);
    a[2] = byte_pair<F, 0>(u1), a[3] = byte_pair<F, 1>(u1);
  }
};

__device__ __forceinline__ uint32_t word(const uint4& v, int s) { return s == 0 ? v.x : s == 1 ? v.y : s == 2 ? v.z : v.w; }

template <>
struct Weights<kQ4_0> : BlockScaled {
  using Reader = LanePlanes<512, 0, 64, 0>;
  static constexpr int kPrefetch = 4;
  struct Raw {
    uint4 q;
    uint2 d;
    __device__ void load(const Reader& r, uint32_t i) {
      q = load_stream(r.quants_of(i));
      d = load_once<uint2>(r.scales_of(i));
    }
  };
  template <class F>
  static __device__ void codes(const Raw& r, int s, uint32_t (&a)[4]) {
    nibbles<F, 0, 8>(word(r.q, s), 0, 0, a);
  }
};

template <>
struct Weights<kQ4_1> {
  using Reader = LanePlanes<512, 0, 128, 0>;
  static constexpr int kPrefetch = 4;
  static constexpr bool kCodes = true, kMinima = true;
  struct Raw {
    uint4 q;
    uint4 dm;  // (scale, minimum) of row 2g block 0, block 1, row 2g + 1 block 0, block 1
    __device__ void load(const Reader& r, uint32_t i) {
      q = load_stream(r.quants_of(i));
      dm = load_once<uint4>(r.scales_of(i));
    }
  };
  template <class F>
  static __device__ void codes(const Raw& r, int s, uint32_t (&a)[4]) {
    nibbles<F, 0, 0>(word(r.q, s), 0, 0, a);
  }
  template <class F>
  static __device__ void scales(const Raw& r, int s, uint32_t (&d)[2], uint32_t (&m)[2]) {
    for (int row = 0; row < 2; ++row) {
      const uint32_t pair = Pairs<F>::from_half2(word(r.dm, 2 * row + s / 2));
      d[row] = splat<false>(pair);
      m[row] = splat<true>(pair);
    }
  }
  static __device__ float2 affine(const Raw& r, int s, bool odd) { return F16::unpack(word(r.dm, 2 * odd + s / 2)); }
};

template <>
struct Weights<kQ5_0> : BlockScaled {
  using Reader = LanePlanes<512, 128, 64, 0>;
  static constexpr int kPrefetch = 4;
  struct Raw {
    uint4 q;
    uint32_t h;
    uint2 d;
    __device__ void load(const Reader& r, uint32_t i) {
      q = load_stream(r.quants_of(i));
      h = load_once<uint32_t>(r.high_of(i));
      d = load_once<uint2>(r.scales_of(i));
    }
  };
  template <class F>
  static __device__ void codes(const Raw& r, int s, uint32_t (&a)[4]) {
    nibbles<F, 1, 16>(word(r.q, s), r.h, 2 * s, a);
  }
};

template <>
struct Weights<kQ4_K> {
  using Reader = LanePlanes<512, 0, 0, 256>;
  static constexpr int kPrefetch = 3;
  static constexpr bool kCodes = true, kMinima = true;
  struct Raw {
    uint4 q;
    uint4 super[2];  // rows 2g, 2g + 1: (scale, scale of minima) f16, then 24 bits a tile: 2 scales, 2 minima of 6 bits
    uint32_t tile;   // in its superblock
    __device__ void load(const Reader& r, uint32_t i) {
      q = load_stream(r.quants_of(i));
      for (int row = 0; row < 2; ++row) super[row] = load_once<uint4>(r.supers_of(i) + row * 16);
      tile = i % 4;
    }
    __device__ uint32_t fields(int row) const {
      const uint4& v = super[row];
      const uint32_t low = tile < 2 ? v.y : tile == 2 ? v.z : v.w, next = tile < 2 ? v.z : v.w;
      return __funnelshift_r(low, next, 24 * tile);
    }
  };
  template <class F>
  static __device__ void codes(const Raw& r, int s, uint32_t (&a)[4]) {
    nibbles<F, 0, 0>(word(r.q, s), 0, 0, a);
  }
  // Two neighbouring 6-bit fields as a pair of numbers.
  template <class F>
  static __device__ uint32_t two_fields(uint32_t bits) {
    return Pairs<F>::template minus<Pairs<F>::kBase>(
        lop_and_or<0x3f0000>(bits << 10, lop_and_or<0x3f>(bits, Pairs<F>::kMagic)));
  }
  template <class F>
  static __device__ void scales(const Raw& r, int s, uint32_t (&d)[2], uint32_t (&m)[2]) {
    for (int row = 0; row < 2; ++row) {
      const uint32_t bits = r.fields(row), super = r.super[row].x ^ 0x80000000;  // minima are subtracted
      const uint32_t scale = Pairs<F>::template times_half<false>(two_fields<F>(bits), super);
      const uint32_t minimum = Pairs<F>::template times_half<true>(two_fields<F>(bits >> 12), super);
      d[row] = s < 2 ? splat<false>(scale) : splat<true>(scale);
      m[row] = s < 2 ? splat<false>(minimum) : splat<true>(minimum);
    }
  }
  static __device__ float2 affine(const Raw& r, int s, bool odd) {
    const uint32_t bits = r.fields(odd) >> (s < 2 ? 0 : 6);
    const float2 super = F16::unpack(odd ? r.super[1].x : r.super[0].x);
    return make_float2(super.x * (bits & 63), -super.y * (bits >> 12 & 63));
  }
};

template <>
struct Weights<kQ6_K> {
  using Reader = LanePlanes<512, 256, 64, 32>;
  static constexpr int kPrefetch = 3;
  static constexpr bool kCodes = true, kMinima = false;
  struct Raw {
    uint4 q;
    uint2 h;
    uint2 bytes;     // rows 2g, 2g + 1: a signed scale (plus 128) for each step
    uint32_t super;  // f16 scale of rows 2g and 2g + 1
    __device__ void load(const Reader& r, uint32_t i) {
      q = load_stream(r.quants_of(i));
      h = load_once<uint2>(r.high_of(i));
      bytes = load_once<uint2>(r.scales_of(i));
      super = load_once<uint32_t>(r.supers_of(i));
    }
  };
  template <class F>
  static __device__ void codes(const Raw& r, int s, uint32_t (&a)[4]) {
    nibbles<F, 2, 32>(word(r.q, s), s < 2 ? r.h.x : r.h.y, 2 * (s & 1), a);
  }
  template <class F>
  static __device__ uint32_t two_bytes(uint32_t bytes, int s) {
    return s < 2 ? byte_pair<F, 0>(bytes) : byte_pair<F, 1>(bytes);
  }
  template <class F>
  static __device__ void scales(const Raw& r, int s, uint32_t (&d)[2], uint32_t (&)[2]) {
    d[0] = Pairs<F>::template times_half<false>(two_bytes<F>(r.bytes.x, s), r.super);
    d[1] = Pairs<F>::template times_half<true>(two_bytes<F>(r.bytes.y, s), r.super);
    for (int row = 0; row < 2; ++row) d[row] = s & 1 ? splat<true>(d[row]) : splat<false>(d[row]);
  }
  static __device__ float2 affine(const Raw& r, int s, bool odd) {
    const int byte = (odd ? r.bytes.y : r.bytes.x) >> (8 * s) & 255;
    return make_float2(half_of(r.super, odd) * (byte - 128), 0);
  }
};

// The A operand of a step: weights in the compute type; even rows in registers 0 and 2, odd rows in 1 and 3.
template <class F, class W>
__device__ __forceinline__ void fragments(const typename W::Raw& raw, int s, uint32_t (&a)[4]) {
  W::template codes<F>(raw, s, a);
  if constexpr (W::kCodes) {
    uint32_t d[2], m[2];
    W::template scales<F>(raw, s, d, m);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if constexpr (W::kMinima) {
        a[j] = Pairs<F>::fma(a[j], d[j & 1], m[j & 1]);
      } else {
        a[j] = Pairs<F>::mul(a[j], d[j & 1]);
      }
    }
  }
}
