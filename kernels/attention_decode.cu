// Paged attention of sequences with one new token, split over the keys; the last block of a sequence joins the splits.
//
// Grid (splits, kv_heads * head tiles, decodes), 4 warps. Up to 8 query heads of one KV head are the columns of the products
//   S^T (keys x heads) = K Q^T        O^T (dims x heads) = V^T P^T
// so one read of K and V serves the group. The warps take tiles of 16 or 32 keys in turn, each with its own softmax state.
// K and V go from global memory to mma fragments without shared memory and without barriers, in 16-byte loads
// (g = lane / 4, t = lane % 4):
//   K: a lane takes dims 32c + 8t .. +8 of keys g and g+8; four lanes read 64 contiguous bytes. The order of the dims within a
//      product does not matter as long as Q, loaded in the same way, has the same.
//   V: a lane takes dims 64s + 8g .. +8 of keys 2t, 2t+1, 2t+8, 2t+9; byte permutes pair the keys. Rows g and g+8 of product
//      i stand for dims 8g+2i and 8g+2i+1.
// Bytes: K and V once per head tile, Q and O once, and with splits 8 * (head_dim + 2) floats per block, twice.
// Bound by memory: about 11 warp instructions per 16 bytes a lane at head_dim 64.
// Keys outside [first, stop) may be NaN: their scores become -inf and their V rows zero.
#include "attention.cuh"
#include "mma.cuh"

constexpr int kWarps = 4;
constexpr int kHeads = 8;

template <int D>
struct Shape {
  static constexpr int kTiles = D <= 96 ? 2 : 1;  // of 16 keys, per step of a warp
  static constexpr int kKeys = 16 * kTiles;
  static constexpr int kRuns = 2 * kTiles;
  static constexpr int kChunks = D / 32;     // of K: 16 bytes a lane and key
  static constexpr int kSlabs = D / 64;      // of V: 16 bytes a lane and key
  static constexpr bool kHalf = D % 64 != 0;  // and 8 bytes more
  static constexpr int kOut = D / 16;
  // K of the next tile is loaded while this one is worked on, where registers allow.
  static constexpr bool kAhead = D <= 128;
  // Heads 2t and 2t+1 are neighbours in one row, padded so that the lanes of a store meet 32 banks.
  static constexpr int kPairStride = 2 * D + 2;
  static constexpr int kPartial = kHeads * (D + 2);
};

// The keys of one block, and where its sequence stands.
struct Range {
  uint32_t first, begin, stop;  // first: of the window; [begin, stop): of this block, begin a multiple of 8
  uint32_t parts;               // blocks that have keys

  __device__ __forceinline__ Range(uint32_t position, uint32_t window, uint32_t splits, uint32_t split, uint32_t grain) {
    const uint32_t end = position + 1;
    first = end > window ? end - window : 0;
    const uint32_t base = first & ~7u;
    const uint32_t chunk = ((end - base + splits - 1) / splits + grain - 1) / grain * grain;
    parts = (end - base + chunk - 1) / chunk;
    begin = base + split * chunk;
    stop = min(begin + chunk, end);
  }
};

// One warp's online softmax over its tiles.
template <typename F, int D>
struct Warp {
  using S = Shape<D>;
  uint4 q[S::kChunks];
  uint4 k[S::kRuns][S::kChunks];
  uint4 v[S::kSlabs][2 * S::kRuns];
  uint2 v_half[2 * S::kRuns];
  uint32_t units[S::kRuns];  // of the tile in k
  float out[S::kOut][4];
  float max[2], sum[2];  // of heads 2t and 2t+1

  __device__ __forceinline__ Warp() {
#pragma unroll
    for (int i = 0; i < S::kOut; i++) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0.0f;
    max[0] = max[1] = kNoMax;
    sum[0] = sum[1] = 0.0f;
  }

  __device__ __forceinline__ void load_q(uint64_t row, uint32_t lane, bool exists) {
#pragma unroll
    for (int c = 0; c < S::kChunks; c++) {
      const uint4* from = reinterpret_cast<const uint4*>(row + (32 * c + 8 * (lane & 3)) * 2);
      q[c] = exists ? __ldg(from) : make_uint4(0, 0, 0, 0);
    }
  }

  // `base`: K of the lane's first element in page 0.
  __device__ __forceinline__ void load_k(uint64_t base) {
#pragma unroll
    for (int r = 0; r < S::kRuns; r++) {
      const uint4* from = reinterpret_cast<const uint4*>(base + uint64_t(units[r]) * 16);
#pragma unroll
      for (int c = 0; c < S::kChunks; c++) k[r][c] = __ldg(from + 4 * c);
    }
  }

  // `base`: V of the lane's first element in page 0; `half`: of its last 4 dims where head_dim is not a multiple of 64.
  __device__ __forceinline__ void load_v(uint64_t base, uint64_t half) {
#pragma unroll
    for (int r = 0; r < S::kRuns; r++) {
#pragma unroll
      for (int odd = 0; odd < 2; odd++) {
        const uint64_t at = uint64_t(units[r]) * 16 + odd * (D * 2);
#pragma unroll
        for (int s = 0; s < S::kSlabs; s++) v[s][2 * r + odd] = __ldg(reinterpret_cast<const uint4*>(base + at) + 8 * s);
        if (S::kHalf) v_half[2 * r + odd] = __ldg(reinterpret_cast<const uint2*>(half + at));
      }
    }
  }

  // V rows of keys that do not count become zeros: 0 * NaN would be NaN.
  __device__ __forceinline__ void clear_v(uint32_t key, uint32_t first, uint32_t stop) {
#pragma unroll
    for (int i = 0; i < 2 * S::kRuns; i++) {
      const uint32_t at = key + 8 * (i / 2) + i % 2;
      if (at >= first && at < stop) continue;
#pragma unroll
      for (int s = 0; s < S::kSlabs; s++) v[s][i] = make_uint4(0, 0, 0, 0);
      v_half[i] = make_uint2(0, 0);
    }
  }

  // x[tile] = q k^T: rows (keys) g, g+8 by columns (heads) 2t, 2t+1.
  __device__ __forceinline__ void multiply_k(float (&x)[S::kTiles][4]) const {
#pragma unroll
    for (int i = 0; i < S::kTiles; i++) {
      x[i][0] = x[i][1] = x[i][2] = x[i][3] = 0.0f;
#pragma unroll
      for (int c = 0; c < S::kChunks; c++) {
        const uint4 a = k[2 * i][c], b = k[2 * i + 1][c];
        mma_16x8x16<F>(x[i], a.x, b.x, a.y, b.y, q[c].x, q[c].y);
        mma_16x8x16<F>(x[i], a.z, b.z, a.w, b.w, q[c].z, q[c].w);
      }
    }
  }

  // Takes the scores (exponents of two) into the state; they become weights.
  __device__ __forceinline__ void accept(float (&x)[S::kTiles][4]) {
    float next[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float top = fmaxf(x[0][h], x[0][h + 2]);
#pragma unroll
      for (int i = 1; i < S::kTiles; i++) top = fmaxf(top, fmaxf(x[i][h], x[i][h + 2]));
#pragma unroll
      for (int lanes = 4; lanes < 32; lanes *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, lanes));
      next[h] = rounded_max(max[h], top);
    }
    if (__any_sync(kAllLanes, next[0] != max[0] || next[1] != max[1])) rescale(next);
#pragma unroll
    for (int i = 0; i < S::kTiles; i++) {
#pragma unroll
      for (int j = 0; j < 4; j++) {
        x[i][j] = exp2_approx(x[i][j] - max[j & 1]);
        sum[j & 1] += x[i][j];
      }
    }
  }

  // Moves the state to larger maxima.
  __device__ __forceinline__ void rescale(const float (&next)[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const float factor = exp2_approx(max[h] - next[h]);
      max[h] = next[h];
      sum[h] *= factor;
#pragma unroll
      for (int i = 0; i < S::kOut; i++) {
        out[i][h] *= factor;
        out[i][h + 2] *= factor;
      }
    }
  }

  __device__ __forceinline__ void multiply_v(const float (&p)[S::kTiles][4]) {
#pragma unroll
    for (int i = 0; i < S::kTiles; i++) {
      const uint32_t b0 = movmatrix_trans(F::pack(p[i][0], p[i][1]));
      const uint32_t b1 = movmatrix_trans(F::pack(p[i][2], p[i][3]));
#pragma unroll
      for (int s = 0; s < S::kSlabs; s++) {
        const uint4(&w)[2 * S::kRuns] = v[s];
        add(out[4 * s + 0], w[4 * i].x, w[4 * i + 1].x, w[4 * i + 2].x, w[4 * i + 3].x, b0, b1);
        add(out[4 * s + 1], w[4 * i].y, w[4 * i + 1].y, w[4 * i + 2].y, w[4 * i + 3].y, b0, b1);
        add(out[4 * s + 2], w[4 * i].z, w[4 * i + 1].z, w[4 * i + 2].z, w[4 * i + 3].z, b0, b1);
        add(out[4 * s + 3], w[4 * i].w, w[4 * i + 1].w, w[4 * i + 2].w, w[4 * i + 3].w, b0, b1);
      }
      if (S::kHalf) {
        const uint2(&w)[2 * S::kRuns] = v_half;
        add(out[S::kOut - 2], w[4 * i].x, w[4 * i + 1].x, w[4 * i + 2].x, w[4 * i + 3].x, b0, b1);
        add(out[S::kOut - 1], w[4 * i].y, w[4 * i + 1].y, w[4 * i + 2].y, w[4 * i + 3].y, b0, b1);
      }
    }
  }

  // k0 .. k3: the same two dims of keys 2t, 2t+1, 2t+8, 2t+9.
  __device__ __forceinline__ void add(float (&o)[4], uint32_t k0, uint32_t k1, uint32_t k2, uint32_t k3, uint32_t b0,
                                      uint32_t b1) {
    mma_16x8x16<F>(o, __byte_perm(k0, k1, 0x5410), __byte_perm(k0, k1, 0x7632), __byte_perm(k2, k3, 0x5410),
                   __byte_perm(k2, k3, 0x7632), b0, b1);
  }

  // First of the two dims that out[i] holds.
  __device__ __forceinline__ static int dim(int i, uint32_t g) {
    return i < 4 * S::kSlabs ? 64 * (i / 4) + 8 * g + 2 * (i % 4) : 64 * S::kSlabs + 4 * g + 2 * (i % 4);
  }
};

// Takes every kWarps-th tile of the range into the state of `w`.
template <typename F, int D>
__device__ __forceinline__ void attend(Warp<F, D>& w, const AttentionDecodeParams& p, const Range& range, const Pages& pages,
                                       uint32_t kv_head, uint32_t warp, uint32_t lane) {
  using S = Shape<D>;
  constexpr uint32_t kLook = 32 / S::kRuns;  // tiles whose page offsets the lanes of a warp hold
  const uint32_t g = lane / 4, t = lane % 4;
  const uint64_t keys = p.kv.base[0] + uint64_t(kv_head) * p.kv.head_bytes[0];
  const uint64_t values = p.kv.base[1] + uint64_t(kv_head) * p.kv.head_bytes[1] + 2 * t * D * 2;
  const uint64_t k_lane = keys + (g * D + 8 * t) * 2, v_lane = values + 8 * g * 2;
  const uint64_t v_half = values + (64 * S::kSlabs + 4 * g) * 2;
  const uint32_t last_run = (range.stop - 1) & ~7u;
  const Scores scores(p.scale, p.softcap);
  uint32_t held = 0;
  auto locate = [&](uint32_t step, uint32_t key) {
    if (step % kLook == 0) {
      const uint32_t ahead = key + lane / S::kRuns * (kWarps * S::kKeys) + lane % S::kRuns * 8;
      held = pages.unit(min(ahead, last_run));
    }
#pragma unroll
    for (int r = 0; r < S::kRuns; r++) w.units[r] = __shfl_sync(kAllLanes, held, step % kLook * S::kRuns + r);
  };

  uint32_t key = range.begin + warp * S::kKeys;
  if (key >= range.stop) return;
  locate(0, key);
  w.load_k(k_lane);
  for (uint32_t step = 1;; step++) {
    float x[S::kTiles][4];
    if (S::kAhead) w.load_v(v_lane, v_half);
    w.multiply_k(x);
    if (!S::kAhead) w.load_v(v_lane, v_half);
    const uint32_t next = key + kWarps * S::kKeys;
    if (S::kAhead && next < range.stop) {
      locate(step, next);
      w.load_k(k_lane);
    }
    scores.apply(x);
    if (key < range.first || key + S::kKeys > range.stop) {
#pragma unroll
      for (int i = 0; i < S::kTiles * 4; i++) {
        const uint32_t at = key + 16 * (i / 4) + g + (i & 2) * 4;
        if (at < range.first || at >= range.stop) x[i / 4][i % 4] = -INFINITY;
      }
      w.clear_v(key + 2 * t, range.first, range.stop);
    }
    w.accept(x);
    w.multiply_v(x);
    if (next >= range.stop) return;
    if (!S::kAhead) {
      locate(step, next);
      w.load_k(k_lane);
    }
    key = next;
  }
}

// The warps' states as one, in shared memory.
template <int D>
struct Joined {
  float out[kWarps][kHeads / 2 * Shape<D>::kPairStride];
  float max[kWarps][kHeads], sum[kWarps][kHeads];
  uint32_t ticket;

  // All warps; afterwards `out` is on the scale of the common maximum.
  template <typename F>
  __device__ __forceinline__ void put(Warp<F, D>& w, uint32_t warp, uint32_t lane) {
    using S = Shape<D>;
    const uint32_t g = lane / 4, t = lane % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
      for (int lanes = 4; lanes < 32; lanes *= 2) w.sum[h] += __shfl_xor_sync(kAllLanes, w.sum[h], lanes);
      if (g == 0) {
        max[warp][2 * t + h] = w.max[h];
        sum[warp][2 * t + h] = w.sum[h];
      }
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const float factor = exp2_approx(w.max[h] - top(2 * t + h));
#pragma unroll
      for (int i = 0; i < S::kOut; i++) {
        float2* to = reinterpret_cast<float2*>(&out[warp][at(2 * t + h, w.dim(i, g))]);
        *to = make_float2(w.out[i][h] * factor, w.out[i][h + 2] * factor);
      }
    }
    __syncthreads();
  }

  __device__ __forceinline__ static uint32_t at(uint32_t head, uint32_t dim) {
    return head / 2 * Shape<D>::kPairStride + head % 2 * D + dim;
  }
  __device__ __forceinline__ float top(uint32_t head) const {
    return fmaxf(fmaxf(max[0][head], max[1][head]), fmaxf(max[2][head], max[3][head]));
  }
  // Sum of the weights, on the scale of the common maximum.
  __device__ __forceinline__ float weight(uint32_t head) const {
    float s = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; w++) s += sum[w][head] * exp2_approx(max[w][head] - top(head));
    return s;
  }
  __device__ __forceinline__ float2 value(uint32_t head, uint32_t dim) const {
    float2 s = make_float2(0.0f, 0.0f);
#pragma unroll
    for (int w = 0; w < kWarps; w++) {
      const float2 v = *reinterpret_cast<const float2*>(&out[w][at(head, dim)]);
      s.x += v.x;
      s.y += v.y;
    }
    return s;
  }
};

// The last block to arrive joins the partial results of all splits of its heads, in the order of the splits.
template <typename F, int D>
__device__ __forceinline__ void join_splits(const float* partials, uint32_t parts, uint32_t heads, uint32_t* out) {
  for (uint32_t i = threadIdx.x; i < heads * D / 2; i += 32 * kWarps) {
    const uint32_t head = i / (D / 2), pair = i % (D / 2);
    const float2* from = reinterpret_cast<const float2*>(partials + head * (D + 2));
    float max = kNoMax, sum = 0.0f;
    float2 acc = make_float2(0.0f, 0.0f);
    for (uint32_t part = 0; part < parts; part++, from += Shape<D>::kPartial / 2) {
      const float2 v = __ldcg(from + pair), state = __ldcg(from + D / 2);
      const float top = fmaxf(max, state.x), a = exp2_approx(max - top), b = exp2_approx(state.x - top);
      acc = make_float2(acc.x * a + v.x * b, acc.y * a + v.y * b);
      sum = sum * a + state.y * b;
      max = top;
    }
    out[i] = F::pack(acc.x / sum, acc.y / sum);
  }
}

template <typename F, int D>
__device__ __forceinline__ void attention_decode(const AttentionDecodeParams& p) {
  using S = Shape<D>;
  __shared__ Joined<D> joined;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, seq = blockIdx.z;
  const uint32_t group = p.heads / p.kv.kv_heads, tiles = (group + kHeads - 1) / kHeads;
  const uint32_t kv_head = blockIdx.y / tiles, tile = blockIdx.y % tiles;
  const uint32_t head = kv_head * group + tile * kHeads, heads = min(kHeads, group - tile * kHeads);
  const uint32_t token = reinterpret_cast<const uint32_t*>(p.batch.query_start)[seq];
  const uint32_t position = reinterpret_cast<const uint32_t*>(p.batch.positions)[token];
  const Range range(position, p.window, p.splits, blockIdx.x, kWarps * S::kKeys);
  if (range.begin >= range.stop) return;

  const uint64_t row = (uint64_t(token) * p.heads + head) * D;
  const Pages pages(p.batch, p.kv, seq);
  Warp<F, D> w;
  w.load_q(p.q + (row + lane / 4 * D) * 2, lane, lane / 4 < heads);
  attend<F, D>(w, p, range, pages, kv_head, warp, lane);
  joined.put(w, warp, lane);

  uint32_t* out = reinterpret_cast<uint32_t*>(p.out + row * 2);
  if (range.parts == 1) {
    for (uint32_t i = threadIdx.x; i < heads * D / 2; i += 32 * kWarps) {
      const float2 v = joined.value(i / (D / 2), i % (D / 2) * 2);
      const float sum = joined.weight(i / (D / 2));
      out[i] = F::pack(v.x / sum, v.y / sum);
    }
    return;
  }
  const uint32_t work = seq * gridDim.y + blockIdx.y;
  float* partials = reinterpret_cast<float*>(p.partials) + uint64_t(work) * p.splits * S::kPartial;
  float2* mine = reinterpret_cast<float2*>(partials + blockIdx.x * S::kPartial);
  for (uint32_t i = threadIdx.x; i < heads * (D / 2 + 1); i += 32 * kWarps) {
    const uint32_t h = i / (D / 2 + 1), pair = i % (D / 2 + 1);
    mine[i] = pair < D / 2 ? joined.value(h, pair * 2) : make_float2(joined.top(h), joined.weight(h));
  }
  __threadfence();
  __syncthreads();
  // Counts to parts - 1 and back to zero, ready for the next launch.
  if (threadIdx.x == 0) joined.ticket = atomicInc(reinterpret_cast<uint32_t*>(p.counters) + work, range.parts - 1);
  __syncthreads();
  if (joined.ticket != range.parts - 1) return;
  __threadfence();
  join_splits<F, D>(partials, range.parts, heads, out);
}

#define INSTANCE(name, F, D)                                                                               \
  extern "C" __global__ void __launch_bounds__(32 * kWarps) name(const __grid_constant__ AttentionDecodeParams p) { \
    attention_decode<F, D>(p);                                                                             \
  }
INSTANCE(attention_decode_f16_d64, F16, 64)
INSTANCE(attention_decode_f16_d96, F16, 96)
INSTANCE(attention_decode_f16_d128, F16, 128)
INSTANCE(attention_decode_f16_d256, F16, 256)
INSTANCE(attention_decode_bf16_d64, BF16, 64)
INSTANCE(attention_decode_bf16_d96, BF16, 96)
INSTANCE(attention_decode_bf16_d128, BF16, 128)
INSTANCE(attention_decode_bf16_d256, BF16, 256)
