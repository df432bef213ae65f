// K and V of tiles of 16 keys as operands of tensor cores, straight from the pages: attention_decode.cu.
// brings: Keys<F, D, kCodes>, Values<F, D, kCodes>
//
// Rows g and g + 8 of a product's K stand for keys 2g and 2g + 1 of the tile (g = lane / 4, t = lane % 4), so columns
// 2t, 2t + 1, 2t + 8, 2t + 9 of V for keys 4t, 4t + 2, 4t + 1, 4t + 3. Which dims meet in one product does not matter for K
// as long as Q has the same. All loads but those of scales are of 16 bytes:
//   K: a lane takes dims 32c + 8t .. +8 of its two keys; four lanes read 64 contiguous bytes.
//   V: a lane takes dims 64s + 8g .. +8 of its four keys. Rows g and g + 8 of product i stand for dims 8g + 2i and 8g + 2i + 1.
//      Where head_dim is not a multiple of 64, dims 64s + 4g .. +4 of the rest.
// kCodes: of elements with scales; int8 or fp8 is told at run time, since both are loaded alike.
#pragma once
#include "kv.cuh"
#include "mma.cuh"

template <int D>
struct TileShape {
  static constexpr int kTiles = D <= 96 ? 2 : 1;  // per step of a warp
  static constexpr int kChunks = D / 32;          // of K
  static constexpr int kSlabs = D / 64;           // of V
  static constexpr bool kHalf = D % 64 != 0;      // and half a slab
  static constexpr int kOut = D / 16;             // products of V
};

// N neighbouring words, in the widest loads that their alignment to N words allows.
template <int N>
__device__ __forceinline__ void load_words(uint32_t (&w)[N], uint64_t address) {
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int i = 0; i < N / 4; i++) {
      const uint4 v = __ldg(reinterpret_cast<const uint4*>(address) + i);
      w[4 * i] = v.x, w[4 * i + 1] = v.y, w[4 * i + 2] = v.z, w[4 * i + 3] = v.w;
    }
  } else if constexpr (N % 2 == 0) {
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
      const uint2 v = __ldg(reinterpret_cast<const uint2*>(address) + i);
      w[2 * i] = v.x, w[2 * i + 1] = v.y;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; i++) w[i] = __ldg(reinterpret_cast<const uint32_t*>(address) + i);
  }
}

// out += V^T P^T for the two dims of a product; k0 .. k3: of keys 4t .. 4t + 3, the two dims as a pair each.
template <typename F>
__device__ __forceinline__ void add_value_pairs(float (&out)[4], uint32_t k0, uint32_t k1, uint32_t k2, uint32_t k3,
                                                uint32_t b0, uint32_t b1) {
  mma_16x8x16<F>(out, __byte_perm(k0, k2, 0x5410), __byte_perm(k0, k2, 0x7632), __byte_perm(k1, k3, 0x5410),
                 __byte_perm(k1, k3, 0x7632), b0, b1);
}

template <typename F, int D, bool kCodes>
struct Keys;

template <typename F, int D>
struct Keys<F, D, false> {
  using S = TileShape<D>;
  static constexpr uint32_t kRunUnits = D;  // 16-byte units of 8 tokens
  uint4 k[S::kTiles][2][S::kChunks];

  // Where the lane begins in a run. `head`: of K in page 0.
  __device__ __forceinline__ static uint64_t lane_base(uint64_t head, uint32_t lane) {
    return head + lane / 4 % 4 * (4 * D) + lane % 4 * 16;
  }
  // `at`: the lane's base in the run of its keys.
  __device__ __forceinline__ void load(int i, uint64_t at, uint32_t) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
#pragma unroll
      for (int c = 0; c < S::kChunks; c++) k[i][r][c] = __ldg(reinterpret_cast<const uint4*>(at + r * (2 * D)) + 4 * c);
    }
  }
  // x[tile] = K Q^T: rows (keys) by columns (heads) 2t, 2t + 1.
  __device__ __forceinline__ void multiply(float (&x)[S::kTiles][4], const uint4 (&q)[S::kChunks], uint32_t) const {
#pragma unroll
    for (int i = 0; i < S::kTiles; i++) {
      x[i][0] = x[i][1] = x[i][2] = x[i][3] = 0.0f;
#pragma unroll
      for (int c = 0; c < S::kChunks; c++) {
        const uint4 a = k[i][0][c], b = k[i][1][c];
        mma_16x8x16<F>(x[i], a.x, b.x, a.y, b.y, q[c].x, q[c].y);
        mma_16x8x16<F>(x[i], a.z, b.z, a.w, b.w, q[c].z, q[c].w);
      }
    }
  }
};

template <typename F, int D>
struct Keys<F, D, true> {
  using S = TileShape<D>;
  static constexpr uint32_t kRunUnits = D * 17 / 32;
  uint4 k[S::kTiles][S::kChunks];  // x, y: of the even key; z, w: of the odd one
  uint32_t scale[S::kTiles][S::kChunks];

  __device__ __forceinline__ static uint64_t lane_base(uint64_t head, uint32_t lane) {
    return head + lane / 4 % 4 * (2 * D) + lane % 4 * 16;
  }
  __device__ __forceinline__ void load(int i, uint64_t at, uint32_t lane) {
#pragma unroll
    for (int c = 0; c < S::kChunks; c++) k[i][c] = __ldg(reinterpret_cast<const uint4*>(at) + 4 * c);
    load_words(scale[i], at + 8 * D - lane / 4 % 4 * (2 * D - D / 8) - lane % 4 * 16);
  }
  __device__ __forceinline__ void multiply(float (&x)[S::kTiles][4], const uint4 (&q)[S::kChunks], uint32_t type) const {
    type == kKvFp8 ? multiply_codes<true>(x, q) : multiply_codes<false>(x, q);
  }
  template <bool kFp8>
  __device__ __forceinline__ void multiply_codes(float (&x)[S::kTiles][4], const uint4 (&q)[S::kChunks]) const {
#pragma unroll
    for (int i = 0; i < S::kTiles; i++) {
      x[i][0] = x[i][1] = x[i][2] = x[i][3] = 0.0f;
#pragma unroll
      for (int c = 0; c < S::kChunks; c++) {
        const Dequantiser<F, kFp8> both(scale[i][c]), even = both.splat_half(false), odd = both.splat_half(true);
        const uint4 w = k[i][c];
        mma_16x8x16<F>(x[i], even.template pair<0>(w.x), odd.template pair<0>(w.z), even.template pair<1>(w.x),
                       odd.template pair<1>(w.z), q[c].x, q[c].y);
        mma_16x8x16<F>(x[i], even.template pair<0>(w.y), odd.template pair<0>(w.w), even.template pair<1>(w.y),
                       odd.template pair<1>(w.w), q[c].z, q[c].w);
      }
    }
  }
};

template <typename F, int D, bool kCodes>
struct Values;

template <typename F, int D>
struct Values<F, D, false> {
  using S = TileShape<D>;
  static constexpr uint32_t kRunUnits = D;
  uint4 v[S::kTiles][S::kSlabs][4];
  uint2 rest[S::kTiles][4];

  __device__ __forceinline__ static uint64_t lane_base(uint64_t head, uint32_t lane) {
    return head + lane % 2 * (8 * D) + lane / 4 * 16;
  }
  __device__ __forceinline__ void load(int i, uint64_t at, uint32_t lane) {
#pragma unroll
    for (int key = 0; key < 4; key++, at += 2 * D) {
#pragma unroll
      for (int s = 0; s < S::kSlabs; s++) v[i][s][key] = __ldg(reinterpret_cast<const uint4*>(at) + 8 * s);
      if (S::kHalf) rest[i][key] = __ldg(reinterpret_cast<const uint2*>(at + S::kSlabs * 128 - lane / 4 * 8));
    }
  }
  // What key 4t + `key` of tile i holds becomes zero.
  __device__ __forceinline__ void clear(int i, int key) {
#pragma unroll
    for (int s = 0; s < S::kSlabs; s++) v[i][s][key] = make_uint4(0, 0, 0, 0);
    rest[i][key] = make_uint2(0, 0);
  }
  // out += V^T P^T for tile i; b0, b1: the weights.
  __device__ __forceinline__ void multiply(float (&out)[S::kOut][4], int i, uint32_t b0, uint32_t b1, uint32_t) const {
#pragma unroll
    for (int s = 0; s < S::kSlabs; s++) {
      const uint4(&w)[4] = v[i][s];
      add_value_pairs<F>(out[4 * s + 0], w[0].x, w[1].x, w[2].x, w[3].x, b0, b1);
      add_value_pairs<F>(out[4 * s + 1], w[0].y, w[1].y, w[2].y, w[3].y, b0, b1);
      add_value_pairs<F>(out[4 * s + 2], w[0].z, w[1].z, w[2].z, w[3].z, b0, b1);
      add_value_pairs<F>(out[4 * s + 3], w[0].w, w[1].w, w[2].w, w[3].w, b0, b1);
    }
    if (S::kHalf) {
      const uint2(&w)[4] = rest[i];
      add_value_pairs<F>(out[S::kOut - 2], w[0].x, w[1].x, w[2].x, w[3].x, b0, b1);
      add_value_pairs<F>(out[S::kOut - 1], w[0].y, w[1].y, w[2].y, w[3].y, b0, b1);
    }
  }
};

template <typename F, int D>
struct Values<F, D, true> {
  using S = TileShape<D>;
  static constexpr uint32_t kRunUnits = D * 17 / 32;
  static constexpr int kScales = S::kSlabs + S::kHalf;  // groups of 32 dims that the lane has dims of
  uint4 v[S::kTiles][S::kSlabs][2];  // of keys 4t, 4t + 1 and 4t + 2, 4t + 3: x, y of the even one; z, w of the odd one
  uint32_t rest[S::kTiles][4];
  uint32_t scale[S::kTiles][kScales][2];

  __device__ __forceinline__ static uint64_t lane_base(uint64_t head, uint32_t lane) {
    return head + lane % 2 * (4 * D) + lane / 4 * 16;
  }
  __device__ __forceinline__ void load(int i, uint64_t at, uint32_t lane) {
    const uint32_t g = lane / 4;
    const uint64_t scales = at + 8 * D - lane % 2 * (4 * D - D / 4) - g * 16 + g / 4 * 4;
#pragma unroll
    for (int pair = 0; pair < 2; pair++) {
#pragma unroll
      for (int s = 0; s < S::kSlabs; s++) {
        v[i][s][pair] = __ldg(reinterpret_cast<const uint4*>(at + pair * (2 * D)) + 8 * s);
        scale[i][s][pair] = __ldg(reinterpret_cast<const uint32_t*>(scales + pair * (D / 8)) + 2 * s);
      }
      if (S::kHalf) {
        const uint32_t* from = reinterpret_cast<const uint32_t*>(at + pair * (2 * D) + S::kSlabs * 128 - (g + 1) / 2 * 16 + g % 2 * 4);
        rest[i][2 * pair] = __ldg(from);
        rest[i][2 * pair + 1] = __ldg(from + 2);
        scale[i][kScales - 1][pair] = __ldg(reinterpret_cast<const uint32_t*>(scales + pair * (D / 8) - g / 4 * 4) + 2 * S::kSlabs);
      }
    }
  }
  // Codes are never NaN: it is the scale that must not be.
  __device__ __forceinline__ void clear(int i, int key) {
#pragma unroll
    for (int s = 0; s < kScales; s++) scale[i][s][key / 2] &= key % 2 ? 0x0000ffff : 0xffff0000;
  }
  __device__ __forceinline__ void multiply(float (&out)[S::kOut][4], int i, uint32_t b0, uint32_t b1, uint32_t type) const {
    type == kKvFp8 ? multiply_codes<true>(out, i, b0, b1) : multiply_codes<false>(out, i, b0, b1);
  }
  template <bool kFp8>
  __device__ __forceinline__ void multiply_codes(float (&out)[S::kOut][4], int i, uint32_t b0, uint32_t b1) const {
#pragma unroll
    for (int s = 0; s < kScales; s++) {
      const uint32_t first = scale[i][s][0], second = scale[i][s][1];
      // Of keys 4t and 4t + 2, and of keys 4t + 1 and 4t + 3.
      const Dequantiser<F, kFp8> even(__byte_perm(first, second, 0x5410)), odd(__byte_perm(first, second, 0x7632));
      if (s < S::kSlabs) {
        const uint4 a = v[i][s < S::kSlabs ? s : 0][0], b = v[i][s < S::kSlabs ? s : 0][1];
        add_four<kFp8>(out[4 * s], out[4 * s + 1], a.x, b.x, a.z, b.z, even, odd, b0, b1);
        add_four<kFp8>(out[4 * s + 2], out[4 * s + 3], a.y, b.y, a.w, b.w, even, odd, b0, b1);
      } else {
        const uint32_t(&w)[4] = rest[i];
        add_four<kFp8>(out[S::kOut - 2], out[S::kOut - 1], w[0], w[2], w[1], w[3], even, odd, b0, b1);
      }
    }
  }
  // Four dims, a byte of each key: two products.
  template <bool kFp8>
  __device__ __forceinline__ static void add_four(float (&out0)[4], float (&out1)[4], uint32_t k0, uint32_t k2, uint32_t k1,
                                                  uint32_t k3, const Dequantiser<F, kFp8>& even,
                                                  const Dequantiser<F, kFp8>& odd, uint32_t b0, uint32_t b1) {
    const uint32_t even01 = __byte_perm(k0, k2, 0x5140), odd01 = __byte_perm(k1, k3, 0x5140);
    mma_16x8x16<F>(out0, even.template pair<0>(even01), even.template pair<1>(even01), odd.template pair<0>(odd01),
                   odd.template pair<1>(odd01), b0, b1);
    const uint32_t even23 = __byte_perm(k0, k2, 0x7362), odd23 = __byte_perm(k1, k3, 0x7362);
    mma_16x8x16<F>(out1, even.template pair<0>(even23), even.template pair<1>(even23), odd.template pair<0>(odd23),
                   odd.template pair<1>(odd23), b0, b1);
  }
};
