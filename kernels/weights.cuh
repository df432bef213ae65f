// Weights in the order that tensor cores take them, dequantised in registers.
// brings: Weights<type>: Reader (addresses of a lane), Raw (one tile of a lane), codes, affine, prepare, halves; Fragments<F, W>
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

__device__ __forceinline__ float half_of(uint32_t pair, bool high) {
  const float2 f = F16::unpack(pair);
  return high ? f.y : f.x;
}

// Where a lane finds its part of each plane, from some tile on.
template <int kQuants, int kHigh, int kScales, int kSupers>
struct LanePlanes {
  const char *quants, *high, *scales, *supers;
  uint32_t index;  // of the tile
  __device__ LanePlanes(const MatrixParams& m, uint32_t lane, uint32_t tile)
      : quants(reinterpret_cast<const char*>(m.quants) + lane * 16),
        high(reinterpret_cast<const char*>(m.high) + lane * (kHigh / 32)),
        scales(reinterpret_cast<const char*>(m.scales) + lane / 4 * (kScales / 8)),
        supers(reinterpret_cast<const char*>(m.supers) + lane / 4 * (kSupers / 8)),
        index(0) {
    advance(tile);
  }
  __device__ void advance(uint32_t tiles) {
    quants += uint64_t(tiles) * kQuants;
    high += uint64_t(tiles) * kHigh;
    scales += uint64_t(tiles) * kScales;
    index += tiles;
  }
  __device__ const char* supers_of(int ahead) const { return supers + uint64_t((index + ahead) / 4) * kSupers; }
  // The parts of the tile `ahead` of this one.
  __device__ uint4 quants_at(int ahead, int vector) const {
    return __ldcs(reinterpret_cast<const uint4*>(quants + ahead * kQuants + vector * 512));
  }
  template <class T>
  __device__ T high_at(int ahead) const {
    return load_once<T>(high + ahead * kHigh);
  }
  template <class T>
  __device__ T scales_at(int ahead) const {
    return load_once<T>(scales + ahead * kScales);
  }
};

// A type of weights: code * scale + minimum. With kCodes false the registers are the weights.
//   codes     the codes of a step, exact in the compute type
//   affine    (scale, minimum) of the even or the odd rows of a step, in f32
//   prepare   what the steps of a tile share; halves: the weights of a step in f16
struct Nothing {};
template <WeightType kType>
struct Weights;

template <>
struct Weights<kFloat> {
  using Reader = LanePlanes<2048, 0, 0, 0>;
  static constexpr int kPrefetch = 2;
  static constexpr bool kCodes = false;
  struct Raw {
    uint4 q[4];
    __device__ void load(const Reader& r, int ahead) {
      for (int s = 0; s < 4; ++s) q[s] = r.quants_at(ahead, s);
    }
  };
  template <class F>
  static __device__ void codes(const Raw& r, int s, uint32_t (&a)[4]) {
    a[0] = r.q[s].x, a[1] = r.q[s].y, a[2] = r.q[s].z, a[3] = r.q[s].w;
  }
  static __device__ float2 affine(const Raw&, int, bool) { return make_float2(1, 0); }
  using Prepared = Nothing;
  static __device__ Prepared prepare(const Raw&) { return {}; }
  static __device__ void halves(const Raw& r, const Prepared&, int s, uint32_t (&a)[4]) { codes<F16>(r, s, a); }
};

// Registers of a step in f16 times the scales of the even and the odd rows.
__device__ __forceinline__ void multiply(uint32_t (&a)[4], uint32_t even, uint32_t odd) {
#pragma unroll
  for (int j = 0; j < 4; ++j) a[j] = Pairs<F16>::mul(a[j], j & 1 ? odd : even);
}

// Types with an f16 scale for each block of 32 in `d`: (block 0, block 1) of row 2g in x, of row 2g + 1 in y.
template <class Type>
struct BlockScaled {
  static constexpr bool kCodes = true;
  using Prepared = Nothing;
  template <class Raw>
  static __device__ Prepared prepare(const Raw&) {
    return {};
  }
  template <class Raw>
  static __device__ void halves(const Raw& r, const Prepared&, int s, uint32_t (&a)[4]) {
    Type::template codes<F16>(r, s, a);
    multiply(a, splat(r.d.x, s >= 2), splat(r.d.y, s >= 2));
  }
  template <class Raw>
  static __device__ float2 affine(const Raw& r, int s, bool odd) {
    return make_float2(half_of(odd ? r.d.y : r.d.x, s >= 2), 0);
  }
};

template <>
struct Weights<kQ8_0> : BlockScaled<Weights<kQ8_0>> {
  using Reader = LanePlanes<1024, 0, 64, 0>;
  static constexpr int kPrefetch = 3;
  struct Raw {
    uint4 q[2];
    uint2 d;
    __device__ void load(const Reader& r, int ahead) {
      for (int v = 0; v < 2; ++v) q[v] = r.quants_at(ahead, v);
      d = r.template scales_at<uint2>(ahead);
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
struct Weights<kQ4_0> : BlockScaled<Weights<kQ4_0>> {
  using Reader = LanePlanes<512, 0, 64, 0>;
  static constexpr int kPrefetch = 4;
  struct Raw {
    uint4 q;
    uint2 d;
    __device__ void load(const Reader& r, int ahead) {
      q = r.quants_at(ahead, 0);
      d = r.template scales_at<uint2>(ahead);
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
  static constexpr bool kCodes = true;
  struct Raw {
    uint4 q;
    uint4 dm;  // (scale, minimum) of row 2g block 0, block 1, row 2g + 1 block 0, block 1
    __device__ void load(const Reader& r, int ahead) {
      q = r.quants_at(ahead, 0);
      dm = r.template scales_at<uint4>(ahead);
    }
  };
  template <class F>
  static __device__ void codes(const Raw& r, int s, uint32_t (&a)[4]) {
    nibbles<F, 0, 0>(word(r.q, s), 0, 0, a);
  }
  using Prepared = Nothing;
  static __device__ Prepared prepare(const Raw&) { return {}; }
  static __device__ void halves(const Raw& r, const Prepared&, int s, uint32_t (&a)[4]) {
    codes<F16>(r, s, a);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t pair = word(r.dm, 2 * (j & 1) + s / 2);
      a[j] = Pairs<F16>::fma(a[j], splat(pair, false), splat(pair, true));
    }
  }
  static __device__ float2 affine(const Raw& r, int s, bool odd) { return F16::unpack(word(r.dm, 2 * odd + s / 2)); }
};

template <>
struct Weights<kQ5_0> : BlockScaled<Weights<kQ5_0>> {
  using Reader = LanePlanes<512, 128, 64, 0>;
  static constexpr int kPrefetch = 4;
  struct Raw {
    uint4 q;
    uint32_t h;
    uint2 d;
    __device__ void load(const Reader& r, int ahead) {
      q = r.quants_at(ahead, 0);
      h = r.template high_at<uint32_t>(ahead);
      d = r.template scales_at<uint2>(ahead);
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
  static constexpr bool kCodes = true;
  struct Raw {
    uint4 q;
    uint4 super[2];  // rows 2g, 2g + 1: (scale, scale of minima) f16, then 24 bits a tile: 2 scales, 2 minima of 6 bits
    uint32_t tile;   // in its superblock
    __device__ void load(const Reader& r, int ahead) {
      q = r.quants_at(ahead, 0);
      for (int row = 0; row < 2; ++row) super[row] = load_once<uint4>(r.supers_of(ahead) + row * 16);
      tile = (r.index + ahead) % 4;
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
  // Of rows 2g and 2g + 1; pairs are (block 0, block 1).
  struct Prepared {
    uint32_t times[2], plus[2];  // code * 6-bit scale, exact, from a nibble under its magic
    uint32_t minimum[2], rest[2];  // rounded and what the rounding left, both negated
  };
  // Two neighbouring 6-bit fields as a pair of numbers.
  static __device__ uint32_t two_fields(uint32_t bits) {
    return Pairs<F16>::minus<1024>(lop_and_or<0x3f0000>(bits << 10, lop_and_or<0x3f>(bits, Pairs<F16>::kMagic)));
  }
  static __device__ Prepared prepare(const Raw& r) {
    using P = Pairs<F16>;
    Prepared p;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const uint32_t bits = r.fields(row), scales = two_fields(bits), minima = two_fields(bits >> 12);
      // Nibbles of odd rows stand 4 bits up; the products stay below 2048, the others are powers of two times 6 bits.
      p.times[row] = row ? P::mul(scales, 0x2c002c00) : scales;            // 1/16
      p.plus[row] = P::mul(scales, row ? 0xd400d400 : 0xe400e400);         // -64, -1024
      const uint32_t super = splat(r.super[row].x ^ 0x80000000, true);
      p.minimum[row] = P::mul(minima, super);
      p.rest[row] = P::fma(minima, super, p.minimum[row] ^ 0x80008000);
    }
    return p;
  }
  // code * scale * d - minimum with two roundings at the size of the result.
  static __device__ void halves(const Raw& r, const Prepared& p, int s, uint32_t (&a)[4]) {
    using P = Pairs<F16>;
    const uint32_t u = word(r.q, s);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int row = j & 1;
      const uint32_t v = j >= 2 ? u >> 8 : u;
      const uint32_t nibble = row ? lop_and_or<0x00f000f0>(v, P::kMagic) : lop_and_or<0x000f000f>(v, P::kMagic);
      const uint32_t product = P::fma(nibble, splat(p.times[row], s >= 2), splat(p.plus[row], s >= 2));
      const uint32_t weight = P::fma(product, splat(r.super[row].x, false), splat(p.minimum[row], s >= 2));
      a[j] = P::add(weight, splat(p.rest[row], s >= 2));
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
  static constexpr bool kCodes = true;
  struct Raw {
    uint4 q;
    uint2 h;
    uint2 bytes;     // rows 2g, 2g + 1: a signed scale (plus 128) for each step
    uint32_t super;  // f16 scale of rows 2g and 2g + 1
    __device__ void load(const Reader& r, int ahead) {
      q = r.quants_at(ahead, 0);
      h = r.template high_at<uint2>(ahead);
      bytes = r.template scales_at<uint2>(ahead);
      super = load_once<uint32_t>(r.supers_of(ahead));
    }
  };
  template <class F>
  static __device__ void codes(const Raw& r, int s, uint32_t (&a)[4]) {
    nibbles<F, 2, 32>(word(r.q, s), s < 2 ? r.h.x : r.h.y, 2 * (s & 1), a);
  }
  // Scales of steps (0, 1) and (2, 3) of rows 2g and 2g + 1.
  struct Prepared {
    uint32_t scales[2][2];
  };
  static __device__ Prepared prepare(const Raw& r) {
    Prepared p;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const uint32_t bytes = row ? r.bytes.y : r.bytes.x, super = splat(r.super, row);
      p.scales[row][0] = Pairs<F16>::mul(byte_pair<F16, 0>(bytes), super);
      p.scales[row][1] = Pairs<F16>::mul(byte_pair<F16, 1>(bytes), super);
    }
    return p;
  }
  static __device__ void halves(const Raw& r, const Prepared& p, int s, uint32_t (&a)[4]) {
    codes<F16>(r, s, a);
    multiply(a, splat(p.scales[0][s / 2], s & 1), splat(p.scales[1][s / 2], s & 1));
  }
  static __device__ float2 affine(const Raw& r, int s, bool odd) {
    const int byte = (odd ? r.bytes.y : r.bytes.x) >> (8 * s) & 255;
    return make_float2(half_of(r.super, odd) * (byte - 128), 0);
  }
};

// The A operands of a tile: weights rounded to the compute type; even rows in registers 0 and 2, odd rows in 1 and 3.
template <class F, class W>
struct Fragments;

template <class W>
struct Fragments<F16, W> {
  typename W::Prepared prepared;
  __device__ void prepare(const typename W::Raw& raw) { prepared = W::prepare(raw); }
  __device__ void step(const typename W::Raw& raw, int s, uint32_t (&a)[4]) const { W::halves(raw, prepared, s, a); }
};

// Scales and minima have too many bits for bfloat16: in f32.
template <class W>
struct Fragments<BF16, W> {
  __device__ void prepare(const typename W::Raw&) {}
  __device__ void step(const typename W::Raw& raw, int s, uint32_t (&a)[4]) const {
    W::template codes<BF16>(raw, s, a);
    if constexpr (W::kCodes) {
      const float2 even = W::affine(raw, s, false), odd = W::affine(raw, s, true);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 code = BF16::unpack(a[j]), affine = j & 1 ? odd : even;
        a[j] = BF16::pack(fmaf(code.x, affine.x, affine.y), fmaf(code.y, affine.x, affine.y));
      }
    }
  }
};
