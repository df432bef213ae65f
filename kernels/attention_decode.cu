// Paged attention of sequences with one new token, split over the keys; the last block of a sequence joins the splits.
//
// Grid (splits, kv_heads * head tiles, decodes), 4 warps. Up to 8 query heads of one KV head are the columns of the products
//   S^T (keys x heads) = K Q^T        O^T (dims x heads) = V^T P^T
// so one read of K and V serves the group. The warps take tiles of 16 or 32 keys in turn, each with its own softmax state.
// K and V go from the pages to operands of tensor cores without shared memory and without barriers (fragments.cuh).
// Bytes: K and V once per head tile, Q and O once, and with splits 8 * (head_dim + 2) floats per block, twice.
// Bound by memory: about 11 warp instructions per 16 bytes a lane at head_dim 64, of pages with scales about 45.
// Keys outside [first, stop) may be NaN: their scores become -inf and their V rows zero.
#include "attention.cuh"
#include "fragments.cuh"

constexpr int kWarps = 4;
constexpr int kHeads = 8;

template <int D>
struct Shape : TileShape<D> {
  static constexpr int kKeys = 16 * TileShape<D>::kTiles;
  static constexpr int kRuns = 2 * TileShape<D>::kTiles;
  // K of the next tile is loaded while this one is worked on, where registers allow.
  static constexpr bool kAhead = D <= 128;
  // Heads 2t and 2t+1 are neighbours in one row, padded so that the lanes of a store meet 32 banks.
  static constexpr int kPairStride = 2 * D + 2;
  static constexpr int kPartial = kHeads * (D + 2);
  static constexpr int kBlocks = D == 64 || D == 128 ? 3 : 2;  // of an SM (resident_blocks in src/launch/attention.rs)
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

// One warp's online softmax over its tiles. KC, VC: K and V are codes with scales.
template <typename F, int D, bool KC, bool VC>
struct Warp {
  using S = Shape<D>;
  uint4 q[S::kChunks];
  Keys<F, D, KC> keys;
  Values<F, D, VC> values;
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

  // V of keys that do not count becomes zero: 0 * NaN would be NaN. `key`: the lane's first.
  __device__ __forceinline__ void clear_values(uint32_t key, uint32_t first, uint32_t stop) {
#pragma unroll
    for (int i = 0; i < 4 * S::kTiles; i++) {
      const uint32_t at = key + 16 * (i / 4) + i % 4;
      if (at < first || at >= stop) values.clear(i / 4, i % 4);
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

  __device__ __forceinline__ void multiply_values(const float (&p)[S::kTiles][4], uint32_t type) {
#pragma unroll
    for (int i = 0; i < S::kTiles; i++) {
      const uint32_t b0 = movmatrix_trans(F::pack(p[i][0], p[i][1]));
      const uint32_t b1 = movmatrix_trans(F::pack(p[i][2], p[i][3]));
      values.multiply(out, i, b0, b1, type);
    }
  }

  // First of the two dims that out[i] holds.
  __device__ __forceinline__ static int dim(int i, uint32_t g) {
    return i < 4 * S::kSlabs ? 64 * (i / 4) + 8 * g + 2 * (i % 4) : 64 * S::kSlabs + 4 * g + 2 * (i % 4);
  }
};

// The runs of a warp's tiles in the pages, in 16-byte units from page 0: 32 runs at a time, one a lane.
template <typename F, int D, bool KC, bool VC>
struct Runs {
  static constexpr int kRuns = Shape<D>::kRuns;
  static constexpr uint32_t kLook = 32 / kRuns;  // tiles that are looked up at once
  const Pages pages;
  const uint32_t last;
  uint32_t k = 0, v = 0;

  __device__ __forceinline__ Runs(const Pages& of, uint32_t stop) : pages(of), last((stop - 1) & ~7u) {}

  // `key`: first of the warp's tile number `step`.
  __device__ __forceinline__ void look(uint32_t step, uint32_t key, uint32_t lane) {
    if (step % kLook != 0) return;
    const uint32_t run = min(key + lane / kRuns * (kWarps * Shape<D>::kKeys) + lane % kRuns * 8, last);
    const uint32_t page = pages.page(run) * pages.page_units, before = pages.runs_before(run);
    k = page + before * Keys<F, D, KC>::kRunUnits;
    v = page + before * Values<F, D, VC>::kRunUnits;
  }
  __device__ __forceinline__ uint64_t key_bytes(uint32_t step, uint32_t run) const {
    return uint64_t(__shfl_sync(kAllLanes, k, step % kLook * kRuns + run)) * 16;
  }
  __device__ __forceinline__ uint64_t value_bytes(uint32_t step, uint32_t run) const {
    return uint64_t(__shfl_sync(kAllLanes, v, step % kLook * kRuns + run)) * 16;
  }
};

// Takes every kWarps-th tile of the range into the state of `w`.
template <typename F, int D, bool KC, bool VC>
__device__ __forceinline__ void attend(Warp<F, D, KC, VC>& w, const AttentionDecodeParams& p, const Range& range,
                                       const Pages& pages, uint32_t kv_head, uint32_t warp, uint32_t lane) {
  using S = Shape<D>;
  const uint32_t g = lane / 4, t = lane % 4;
  const uint64_t k_base = w.keys.lane_base(p.kv.base[0] + uint64_t(kv_head) * p.kv.head_bytes[0], lane);
  const uint64_t v_base = w.values.lane_base(p.kv.base[1] + uint64_t(kv_head) * p.kv.head_bytes[1], lane);
  const Scores scores(p.scale * (KC ? kv_unit<F>(p.kv.type[0]) : 1.0f), p.softcap);
  Runs<F, D, KC, VC> runs(pages, range.stop);
  auto load_keys = [&](uint32_t step, uint32_t key) {
    runs.look(step, key, lane);
#pragma unroll
    for (int i = 0; i < S::kTiles; i++) w.keys.load(i, k_base + runs.key_bytes(step, 2 * i + g / 4), lane);
  };
  auto load_values = [&](uint32_t step) {
#pragma unroll
    for (int i = 0; i < S::kTiles; i++) w.values.load(i, v_base + runs.value_bytes(step, 2 * i + t / 2), lane);
  };

  uint32_t key = range.begin + warp * S::kKeys;
  if (key >= range.stop) return;
  load_keys(0, key);
  for (uint32_t step = 0;; step++) {
    float x[S::kTiles][4];
    if (S::kAhead) load_values(step);
    w.keys.multiply(x, w.q, p.kv.type[0]);
    if (!S::kAhead) load_values(step);
    const uint32_t next = key + kWarps * S::kKeys;
    if (S::kAhead && next < range.stop) load_keys(step + 1, next);
    scores.apply(x);
    if (key < range.first || key + S::kKeys > range.stop) {
#pragma unroll
      for (int i = 0; i < S::kTiles * 4; i++) {
        const uint32_t at = key + 16 * (i / 4) + 2 * g + (i & 2) / 2;
        if (at < range.first || at >= range.stop) x[i / 4][i % 4] = -INFINITY;
      }
      w.clear_values(key + 4 * t, range.first, range.stop);
    }
    w.accept(x);
    w.multiply_values(x, p.kv.type[1]);
    if (next >= range.stop) return;
    if (!S::kAhead) load_keys(step + 1, next);
    key = next;
  }
}

// The warps' states as one, in shared memory.
template <int D>
struct Joined {
  float out[kWarps][kHeads / 2 * Shape<D>::kPairStride];
  float max[kWarps][kHeads], sum[kWarps][kHeads];
  uint32_t ticket;

  // All warps; afterwards `out` is on the scale of the common maximum. `unit`: of V.
  template <typename F, bool KC, bool VC>
  __device__ __forceinline__ void put(Warp<F, D, KC, VC>& w, float unit, uint32_t warp, uint32_t lane) {
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
      const float factor = exp2_approx(w.max[h] - top(2 * t + h)) * unit;
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

template <typename F, int D, bool KC, bool VC>
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
  Warp<F, D, KC, VC> w;
  w.load_q(p.q + (row + lane / 4 * D) * 2, lane, lane / 4 < heads);
  attend<F, D, KC, VC>(w, p, range, pages, kv_head, warp, lane);
  joined.put(w, VC ? kv_unit<F>(p.kv.type[1]) : 1.0f, warp, lane);

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

// c: codes with scales; f: the compute type; K, then V.
#define INSTANCE(name, F, D, KC, VC)                                                                                \
  extern "C" __global__ void __launch_bounds__(32 * kWarps, Shape<D>::kBlocks) name(                                \
      const __grid_constant__ AttentionDecodeParams p) {                                                            \
    attention_decode<F, D, KC, VC>(p);                                                                              \
  }
INSTANCE(attention_decode_ff_f16_d64, F16, 64, false, false)
INSTANCE(attention_decode_ff_f16_d96, F16, 96, false, false)
INSTANCE(attention_decode_ff_f16_d128, F16, 128, false, false)
INSTANCE(attention_decode_ff_f16_d256, F16, 256, false, false)
INSTANCE(attention_decode_ff_bf16_d64, BF16, 64, false, false)
INSTANCE(attention_decode_ff_bf16_d96, BF16, 96, false, false)
INSTANCE(attention_decode_ff_bf16_d128, BF16, 128, false, false)
INSTANCE(attention_decode_ff_bf16_d256, BF16, 256, false, false)
INSTANCE(attention_decode_cc_f16_d64, F16, 64, true, true)
INSTANCE(attention_decode_cc_f16_d96, F16, 96, true, true)
INSTANCE(attention_decode_cc_f16_d128, F16, 128, true, true)
INSTANCE(attention_decode_cc_f16_d256, F16, 256, true, true)
INSTANCE(attention_decode_cc_bf16_d64, BF16, 64, true, true)
INSTANCE(attention_decode_cc_bf16_d96, BF16, 96, true, true)
INSTANCE(attention_decode_cc_bf16_d128, BF16, 128, true, true)
INSTANCE(attention_decode_cc_bf16_d256, BF16, 256, true, true)
INSTANCE(attention_decode_cf_f16_d64, F16, 64, true, false)
INSTANCE(attention_decode_cf_f16_d96, F16, 96, true, false)
INSTANCE(attention_decode_cf_f16_d128, F16, 128, true, false)
INSTANCE(attention_decode_cf_f16_d256, F16, 256, true, false)
INSTANCE(attention_decode_cf_bf16_d64, BF16, 64, true, false)
INSTANCE(attention_decode_cf_bf16_d96, BF16, 96, true, false)
INSTANCE(attention_decode_cf_bf16_d128, BF16, 128, true, false)
INSTANCE(attention_decode_cf_bf16_d256, BF16, 256, true, false)
INSTANCE(attention_decode_fc_f16_d64, F16, 64, false, true)
INSTANCE(attention_decode_fc_f16_d96, F16, 96, false, true)
INSTANCE(attention_decode_fc_f16_d128, F16, 128, false, true)
INSTANCE(attention_decode_fc_f16_d256, F16, 256, false, true)
INSTANCE(attention_decode_fc_bf16_d64, BF16, 64, false, true)
INSTANCE(attention_decode_fc_bf16_d96, BF16, 96, false, true)
INSTANCE(attention_decode_fc_bf16_d128, BF16, 128, false, true)
INSTANCE(attention_decode_fc_bf16_d256, BF16, 256, false, true)
