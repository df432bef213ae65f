// Paged flash attention of prefill chunks: causal over each sequence's cached and new keys.
//
// Grid (query tiles, kv_heads, sequences after the decodes), 4 warps. A tile's 64 rows are (token, head of the group) pairs,
// token-major, so the group's heads share each read of K and V. Warp w owns rows 16w .. 16w+15 through all keys. K and V tiles
// of kKeys keys come to shared memory by cp.async while the tile before is worked on, one barrier a tile: two stages in
// turn; where they are codes, one stage as they lie in the pages, which all threads dequantise into the tile at the cost of
// a second barrier. With g = lane / 4 and t = lane % 4, a lane holds rows g and g+8 of its warp:
//   S (16 x keys) = Q K^T, then P = 2^(x - m) in the compute type becomes the A operand of O (16 x dims) += P V.
// Shared memory is in 16-byte chunks; chunk c of row r is stored at c ^ swizzle(r), so that the 8 rows of an ldmatrix meet
// all banks. Rows outside [first, end) of the tile are filled with zeros.
// Dynamic shared memory (prefill_shared in src/launch/attention.rs): of K and then of V two stages, or the tile and its codes;
// at head_dim 256 also Q; where the runs of two tiles lie.
// Bound by tensor cores: 2 products of 16x8x16 per 16 rows, 16 keys and 8 dims.
#include "attention.cuh"
#include "kv.cuh"
#include "mma.cuh"

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kRows = 16 * kWarps;

template <int D>
struct Shape {
  static constexpr int kKeys = D <= 128 ? 64 : 32;
  static constexpr int kRuns = kKeys / 8;
  static constexpr int kGroups = kKeys / 16;
  static constexpr int kChunks = D / 8;  // 16-byte chunks of a row
  static constexpr int kSteps = D / 16;
  static constexpr int kTile = kKeys * D * 2;  // bytes of a K or V tile
  static constexpr bool kKeepQ = D <= 128;     // Q in registers; its shared memory is then a part of K's that is still free
};

// K or V in shared memory. kCodes: of elements with scales.
template <int D, bool kCodes>
struct Half {
  using S = Shape<D>;
  static constexpr int kRunUnits = kCodes ? D * 17 / 32 : D;  // 16-byte units of 8 tokens in a page
  static constexpr int kSecond = S::kTile;                    // the second stage, or the codes
  static constexpr int kBytes = S::kTile + (kCodes ? S::kRuns * kRunUnits * 16 : S::kTile);
  // Offset of the tile of a stage.
  __device__ __forceinline__ static constexpr uint32_t tile(uint32_t stage) { return kCodes ? 0 : stage * S::kTile; }
};

template <int D, bool KC, bool VC>
struct Shared {
  using S = Shape<D>;
  static constexpr int kV = Half<D, KC>::kBytes;
  static constexpr int kEnd = kV + Half<D, VC>::kBytes;
  static constexpr int kQ = !S::kKeepQ ? kEnd : KC ? 0 : S::kTile;
  static constexpr int kRunTable = kEnd + (S::kKeepQ ? 0 : kRows * D * 2);
};

// Byte offset of a chunk in a tile of rows of D elements.
template <int D>
__device__ __forceinline__ uint32_t swizzled(uint32_t row, uint32_t chunk) {
  const uint32_t mix = D == 96 ? (row >> 1) & 3 : row & 7;
  return row * (D * 2) + (chunk ^ mix) * 16;
}

// What a block works on. Row r is head (row0 + r) % group of the group, of token start + (row0 + r) / group.
struct Tile {
  uint32_t start;  // the sequence's first token in the batch
  uint32_t row0, rows;
  uint32_t first, end;  // keys that some row may see
};

template <typename F, int D, bool KC, bool VC>
struct Block {
  using S = Shape<D>;
  const AttentionPrefillParams& p;
  const Tile& tile;
  unsigned char* const memory;  // dynamic shared memory
  const uint32_t shared, group;
  const Pages pages;

  __device__ __forceinline__ Block(const AttentionPrefillParams& params, const Tile& of, uint32_t seq, unsigned char* at)
      : p(params),
        tile(of),
        memory(at),
        shared(shared_address(at)),
        group(params.heads / params.kv.kv_heads),
        pages(params.batch, params.kv, seq) {}

  // Element of Q or of the output where a row starts.
  __device__ __forceinline__ uint64_t element(uint32_t row) const {
    const uint32_t at = tile.row0 + row;
    return (uint64_t(tile.start + at / group) * p.heads + blockIdx.y * group + at % group) * D;
  }

  __device__ __forceinline__ void load_q() const {
#pragma unroll
    for (int i = 0; i < kRows * S::kChunks / kThreads; i++) {
      const uint32_t at = i * kThreads + threadIdx.x, row = at / S::kChunks, chunk = at % S::kChunks;
      const bool valid = row < tile.rows;
      const uint64_t from = p.q + (element(valid ? row : 0) + chunk * 8) * 2;
      copy_async_16(shared + Shared<D, KC, VC>::kQ + swizzled<D>(row, chunk), from, valid);
    }
  }

  // Page of run `threadIdx.x` of the tile at `key`, times 4, and the runs before it there.
  __device__ __forceinline__ uint32_t locate(uint32_t key) const {
    const uint32_t run = min(key + threadIdx.x * 8, (tile.end - 1) & ~7u);
    return threadIdx.x < S::kRuns ? pages.page(run) * 4 + pages.runs_before(run) : 0;
  }
  // What `locate` found, in 16-byte units from page 0: of K and of V.
  __device__ __forceinline__ void put(uint2* runs, uint32_t located) const {
    if (threadIdx.x >= S::kRuns) return;
    const uint32_t page = located / 4 * pages.page_units, before = located % 4;
    runs[threadIdx.x] = make_uint2(page + before * Half<D, KC>::kRunUnits, page + before * Half<D, VC>::kRunUnits);
  }

  __device__ __forceinline__ bool counts(uint32_t key) const { return key >= tile.first && key < tile.end; }

  // Starts the copies of K or V of the tile at `key`. `to`: a stage, or the codes.
  template <bool kCodes, bool kValues>
  __device__ __forceinline__ void load(uint32_t key, const uint2* runs, uint32_t to) const {
    const uint64_t head = p.kv.base[kValues] + uint64_t(blockIdx.y) * p.kv.head_bytes[kValues];
    auto run_at = [&](uint32_t run) { return head + uint64_t(kValues ? runs[run].y : runs[run].x) * 16; };
    if constexpr (kCodes) {
      constexpr int kUnits = Half<D, true>::kRunUnits, kAll = S::kRuns * kUnits;
#pragma unroll
      for (int i = 0; i < (kAll + kThreads - 1) / kThreads; i++) {
        const uint32_t at = i * kThreads + threadIdx.x, run = at / kUnits, first = key + run * 8;
        if (kAll % kThreads != 0 && at >= kAll) break;
        const bool valid = first + 7 >= tile.first && first < tile.end;
        copy_async_16(to + at * 16, run_at(run) + at % kUnits * 16, valid);
      }
    } else {
#pragma unroll
      for (int i = 0; i < S::kKeys * S::kChunks / kThreads; i++) {
        const uint32_t at = i * kThreads + threadIdx.x, row = at / S::kChunks, chunk = at % S::kChunks;
        copy_async_16(to + swizzled<D>(row, chunk), run_at(row / 8) + (row % 8 * D + chunk * 8) * 2, counts(key + row));
      }
    }
  }

  __device__ __forceinline__ void load_kv(uint32_t key, const uint2* runs, uint32_t stage) const {
    load<KC, false>(key, runs, shared + (KC ? Half<D, KC>::kSecond : Half<D, KC>::tile(stage)));
    load<VC, true>(key, runs, shared + Shared<D, KC, VC>::kV + (VC ? Half<D, VC>::kSecond : Half<D, VC>::tile(stage)));
  }

  // The codes of K or V that have come, to the tile at `half`.
  __device__ __forceinline__ void dequantise(uint32_t key, unsigned char* half, uint32_t type) const {
    type == kKvFp8 ? dequantise_as<true>(key, half) : dequantise_as<false>(key, half);
  }
  template <bool kFp8>
  __device__ __forceinline__ void dequantise_as(uint32_t key, unsigned char* half) const {
    const unsigned char* codes = half + Half<D, true>::kSecond;
#pragma unroll 2
    for (uint32_t at = threadIdx.x; at < S::kKeys / 2 * S::kChunks; at += kThreads) {
      const uint32_t pair = at / S::kChunks, chunk = at % S::kChunks, row = 2 * pair;
      const unsigned char* run = codes + pair / 4 * (Half<D, true>::kRunUnits * 16);
      const uint4 w = *reinterpret_cast<const uint4*>(run + pair % 4 * (2 * D) + chunk * 16);
      uint32_t scales = *reinterpret_cast<const uint32_t*>(run + 8 * D + pair % 4 * (D / 8) + chunk / 4 * 4);
      // Codes are never NaN: it is the scale that must not be.
      if (!counts(key + row)) scales &= 0xffff0000;
      if (!counts(key + row + 1)) scales &= 0x0000ffff;
      const Dequantiser<F, kFp8> both(scales), even = both.splat_half(false), odd = both.splat_half(true);
      *reinterpret_cast<uint4*>(half + swizzled<D>(row, chunk)) =
          make_uint4(even.template pair<0>(w.x), even.template pair<1>(w.x), even.template pair<0>(w.y), even.template pair<1>(w.y));
      *reinterpret_cast<uint4*>(half + swizzled<D>(row + 1, chunk)) =
          make_uint4(odd.template pair<0>(w.z), odd.template pair<1>(w.z), odd.template pair<0>(w.w), odd.template pair<1>(w.w));
    }
  }
};

// One warp's rows.
template <typename F, int D>
struct Rows {
  using S = Shape<D>;
  uint32_t q[S::kKeepQ ? S::kSteps : 1][4];
  float out[D / 8][4];
  float max[2], sum[2];      // of rows g and g+8
  uint32_t position[2];      // of their tokens

  __device__ __forceinline__ Rows() {
#pragma unroll
    for (int i = 0; i < D / 8; i++) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0.0f;
    max[0] = max[1] = kNoMax;
    sum[0] = sum[1] = 0.0f;
  }

  // `tile`: Q in shared memory.
  __device__ __forceinline__ void load_q(uint32_t (&a)[4], uint32_t tile, int step, uint32_t warp, uint32_t lane) const {
    ldmatrix_x4(a, tile + swizzled<D>(16 * warp + lane % 16, 2 * step + lane / 16));
  }

  // Keys 16j .. of K in shared memory, for each j < groups.
  template <bool kEdge>
  __device__ __forceinline__ void multiply_k(float (&x)[2 * S::kGroups][4], uint32_t k, uint32_t q_tile, uint32_t groups,
                                             uint32_t warp, uint32_t lane) {
#pragma unroll
    for (int j = 0; j < 2 * S::kGroups; j++) x[j][0] = x[j][1] = x[j][2] = x[j][3] = 0.0f;
    const uint32_t row = lane % 8 + lane / 16 * 8, chunk = lane / 8 % 2;
#pragma unroll
    for (int step = 0; step < S::kSteps; step++) {
      uint32_t fresh[4];
      if (!S::kKeepQ) load_q(fresh, q_tile, step, warp, lane);
      const uint32_t(&a)[4] = S::kKeepQ ? q[S::kKeepQ ? step : 0] : fresh;
#pragma unroll
      for (int j = 0; j < S::kGroups; j++) {
        if (kEdge && j >= groups) break;
        uint32_t b[4];
        ldmatrix_x4(b, k + swizzled<D>(16 * j + row, 2 * step + chunk));
        mma_16x8x16<F>(x[2 * j], a[0], a[1], a[2], a[3], b[0], b[1]);
        mma_16x8x16<F>(x[2 * j + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
      }
    }
  }

  // Scores to weights, with the state moved to the new maximum.
  __device__ __forceinline__ void accept(float (&x)[2 * S::kGroups][4]) {
    float next[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float top = fmaxf(x[0][2 * r], x[0][2 * r + 1]);
#pragma unroll
      for (int j = 1; j < 2 * S::kGroups; j++) top = fmaxf(top, fmaxf(x[j][2 * r], x[j][2 * r + 1]));
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
      next[r] = rounded_max(max[r], top);
    }
    if (__any_sync(kAllLanes, next[0] != max[0] || next[1] != max[1])) rescale(next);
#pragma unroll
    for (int j = 0; j < 2 * S::kGroups; j++) {
#pragma unroll
      for (int c = 0; c < 4; c++) {
        x[j][c] = exp2_approx(x[j][c] - max[c / 2]);
        sum[c / 2] += x[j][c];
      }
    }
  }

  __device__ __forceinline__ void rescale(const float (&next)[2]) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float factor = exp2_approx(max[r] - next[r]);
      max[r] = next[r];
      sum[r] *= factor;
#pragma unroll
      for (int i = 0; i < D / 8; i++) {
        out[i][2 * r] *= factor;
        out[i][2 * r + 1] *= factor;
      }
    }
  }

  template <bool kEdge>
  __device__ __forceinline__ void multiply_v(const float (&x)[2 * S::kGroups][4], uint32_t v, uint32_t groups, uint32_t lane) {
    const uint32_t row = lane % 16, chunk = lane / 16;
#pragma unroll
    for (int j = 0; j < S::kGroups; j++) {
      if (kEdge && j >= groups) break;
      const uint32_t a0 = F::pack(x[2 * j][0], x[2 * j][1]), a1 = F::pack(x[2 * j][2], x[2 * j][3]);
      const uint32_t a2 = F::pack(x[2 * j + 1][0], x[2 * j + 1][1]), a3 = F::pack(x[2 * j + 1][2], x[2 * j + 1][3]);
#pragma unroll
      for (int i = 0; i < D / 16; i++) {
        uint32_t b[4];
        ldmatrix_x4_trans(b, v + swizzled<D>(16 * j + row, 2 * i + chunk));
        mma_16x8x16<F>(out[2 * i], a0, a1, a2, a3, b[0], b[1]);
        mma_16x8x16<F>(out[2 * i + 1], a0, a1, a2, a3, b[2], b[3]);
      }
    }
  }

  // One tile of keys. kEdge: some row may not see some key, and keys beyond `groups` * 16 are seen by none.
  template <bool kEdge>
  __device__ __forceinline__ void attend(uint32_t k, uint32_t v, uint32_t q_tile, const Scores& scores, uint32_t key, uint32_t window,
                                         uint32_t groups, uint32_t warp, uint32_t lane) {
    float x[2 * S::kGroups][4];
    multiply_k<kEdge>(x, k, q_tile, groups, warp, lane);
    scores.apply(x);
    if (kEdge) {
#pragma unroll
      for (int i = 0; i < 8 * S::kGroups; i++) {
        const uint32_t at = key + 8 * (i / 4) + 2 * (lane % 4) + i % 2, own = position[i / 2 % 2];
        if (at > own || own - at >= window) x[i / 4][i % 4] = -INFINITY;
      }
    }
    accept(x);
    multiply_v<kEdge>(x, v, groups, lane);
  }

  // `unit`: of V. Lanes t and t^1 exchange halves, so that four lanes write a whole sector of a row.
  __device__ __forceinline__ void store(int r, uint64_t row, bool used, float unit, uint32_t lane) const {
    float weight = sum[r] + __shfl_xor_sync(kAllLanes, sum[r], 1);
    weight += __shfl_xor_sync(kAllLanes, weight, 2);
    const float inverse = unit / weight;
    const uint32_t odd = lane & 1;
    uint2* to = reinterpret_cast<uint2*>(row) + lane / 2 % 2 + odd * 2;
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
      const uint32_t left = F::pack(out[2 * i][2 * r] * inverse, out[2 * i][2 * r + 1] * inverse);
      const uint32_t right = F::pack(out[2 * i + 1][2 * r] * inverse, out[2 * i + 1][2 * r + 1] * inverse);
      const uint32_t other = __shfl_xor_sync(kAllLanes, odd ? left : right, 1);
      if (used) to[4 * i] = odd ? make_uint2(other, right) : make_uint2(left, other);
    }
  }
};

template <typename F, int D, bool KC, bool VC>
__device__ __forceinline__ void attention_prefill(const AttentionPrefillParams& p) {
  using S = Shape<D>;
  using M = Shared<D, KC, VC>;
  extern __shared__ __align__(128) unsigned char dynamic[];
  uint2(*runs)[S::kRuns] = reinterpret_cast<uint2(*)[S::kRuns]>(dynamic + M::kRunTable);
  const uint32_t seq = p.batch.decodes + blockIdx.z, group = p.heads / p.kv.kv_heads;
  const uint32_t* starts = reinterpret_cast<const uint32_t*>(p.batch.query_start);
  Tile tile;
  tile.start = starts[seq];
  const uint32_t all_rows = (starts[seq + 1] - tile.start) * group;
  // Later tiles see more keys: they go first.
  tile.row0 = (gridDim.x - 1 - blockIdx.x) * kRows;
  if (tile.row0 >= all_rows) return;
  tile.rows = min(uint32_t(kRows), all_rows - tile.row0);
  const uint32_t* positions = reinterpret_cast<const uint32_t*>(p.batch.positions) + tile.start;
  auto position = [&](uint32_t row) { return positions[(tile.row0 + min(row, tile.rows - 1)) / group]; };
  tile.end = position(kRows) + 1;
  const uint32_t before = position(0) + 1;
  tile.first = before > p.window ? before - p.window : 0;
  const Block<F, D, KC, VC> block(p, tile, seq, dynamic);

  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint32_t mine = 16 * warp + lane / 4;
  const uint32_t low = position(16 * warp), high = position(16 * warp + 15);
  const bool idle = 16 * warp >= tile.rows;
  Rows<F, D> w;
  w.position[0] = position(mine);
  w.position[1] = position(mine + 8);

  uint32_t key = tile.first & ~7u;
  uint32_t ahead = block.locate(key);
  block.put(runs[0], ahead);
  ahead = block.locate(key + S::kKeys);
  __syncthreads();
  block.load_q();
  block.load_kv(key, runs[0], 0);
  copy_async_commit();
  block.put(runs[1], ahead);
  if (S::kKeepQ) {
    copy_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int step = 0; step < S::kSteps; step++) w.load_q(w.q[S::kKeepQ ? step : 0], block.shared + M::kQ, step, warp, lane);
  }

  const Scores scores(p.scale * (KC ? kv_unit<F>(p.kv.type[0]) : 1.0f), p.softcap);
  for (uint32_t stage = 0; key < tile.end; key += S::kKeys, stage ^= 1) {
    // The tile at `key` has come, and no warp still reads the other stage or the tile before.
    copy_async_wait<0>();
    __syncthreads();
    if (KC) block.dequantise(key, dynamic, p.kv.type[0]);
    if (VC) block.dequantise(key, dynamic + M::kV, p.kv.type[1]);
    // The tile is whole, and its codes may be overwritten.
    if (KC || VC) __syncthreads();
    const bool more = key + S::kKeys < tile.end;
    if (more) {
      block.load_kv(key + S::kKeys, runs[stage ^ 1], stage ^ 1);
      copy_async_commit();
      ahead = block.locate(key + 2 * S::kKeys);
    }
    const uint32_t k = block.shared + Half<D, KC>::tile(stage), v = block.shared + M::kV + Half<D, VC>::tile(stage);
    const uint32_t q = block.shared + M::kQ;
    const bool whole = key + S::kKeys - 1 <= low && high - key < p.window;
    if (whole && !idle) {
      w.template attend<false>(k, v, q, scores, key, p.window, S::kGroups, warp, lane);
    } else if (key <= high && !idle) {
      const uint32_t groups = (high - key) / 16 + 1;
      w.template attend<true>(k, v, q, scores, key, p.window, groups, warp, lane);
    }
    if (more) block.put(runs[stage], ahead);
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const bool used = mine + 8 * r < tile.rows;
    const float unit = VC ? kv_unit<F>(p.kv.type[1]) : 1.0f;
    w.store(r, p.out + block.element(used ? mine + 8 * r : 0) * 2, used, unit, lane);
  }
}

// c: codes with scales; f: the compute type; K, then V.
#define INSTANCE(name, F, D, KC, VC)                                                                              \
  extern "C" __global__ void __launch_bounds__(kThreads) name(const __grid_constant__ AttentionPrefillParams p) { \
    attention_prefill<F, D, KC, VC>(p);                                                                           \
  }
INSTANCE(attention_prefill_ff_f16_d64, F16, 64, false, false)
INSTANCE(attention_prefill_ff_f16_d96, F16, 96, false, false)
INSTANCE(attention_prefill_ff_f16_d128, F16, 128, false, false)
INSTANCE(attention_prefill_ff_f16_d256, F16, 256, false, false)
INSTANCE(attention_prefill_ff_bf16_d64, BF16, 64, false, false)
INSTANCE(attention_prefill_ff_bf16_d96, BF16, 96, false, false)
INSTANCE(attention_prefill_ff_bf16_d128, BF16, 128, false, false)
INSTANCE(attention_prefill_ff_bf16_d256, BF16, 256, false, false)
INSTANCE(attention_prefill_cc_f16_d64, F16, 64, true, true)
INSTANCE(attention_prefill_cc_f16_d96, F16, 96, true, true)
INSTANCE(attention_prefill_cc_f16_d128, F16, 128, true, true)
INSTANCE(attention_prefill_cc_f16_d256, F16, 256, true, true)
INSTANCE(attention_prefill_cc_bf16_d64, BF16, 64, true, true)
INSTANCE(attention_prefill_cc_bf16_d96, BF16, 96, true, true)
INSTANCE(attention_prefill_cc_bf16_d128, BF16, 128, true, true)
INSTANCE(attention_prefill_cc_bf16_d256, BF16, 256, true, true)
INSTANCE(attention_prefill_cf_f16_d64, F16, 64, true, false)
INSTANCE(attention_prefill_cf_f16_d96, F16, 96, true, false)
INSTANCE(attention_prefill_cf_f16_d128, F16, 128, true, false)
INSTANCE(attention_prefill_cf_f16_d256, F16, 256, true, false)
INSTANCE(attention_prefill_cf_bf16_d64, BF16, 64, true, false)
INSTANCE(attention_prefill_cf_bf16_d96, BF16, 96, true, false)
INSTANCE(attention_prefill_cf_bf16_d128, BF16, 128, true, false)
INSTANCE(attention_prefill_cf_bf16_d256, BF16, 256, true, false)
INSTANCE(attention_prefill_fc_f16_d64, F16, 64, false, true)
INSTANCE(attention_prefill_fc_f16_d96, F16, 96, false, true)
INSTANCE(attention_prefill_fc_f16_d128, F16, 128, false, true)
INSTANCE(attention_prefill_fc_f16_d256, F16, 256, false, true)
INSTANCE(attention_prefill_fc_bf16_d64, BF16, 64, false, true)
INSTANCE(attention_prefill_fc_bf16_d96, BF16, 96, false, true)
INSTANCE(attention_prefill_fc_bf16_d128, BF16, 128, false, true)
INSTANCE(attention_prefill_fc_bf16_d256, BF16, 256, false, true)
