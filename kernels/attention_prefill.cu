// Paged flash attention of prefill chunks: causal over each sequence's cached and new keys.
//
// Grid (query tiles, kv_heads, sequences after the decodes), 4 warps. A tile's 64 rows are (token, head of the group) pairs,
// token-major, so the group's heads share each read of K and V. Warp w owns rows 16w .. 16w+15 through all keys; K and V
// tiles of kKeys keys pass through two stages of shared memory by cp.async, one barrier a tile. With g = lane / 4 and
// t = lane % 4, a lane holds rows g and g+8 of its warp:
//   S (16 x keys) = Q K^T, then P = 2^(x - m) in the compute type becomes the A operand of O (16 x dims) += P V.
// Shared memory is in 16-byte chunks; chunk c of row r is stored at c ^ swizzle(r), so that the 8 rows of an ldmatrix meet
// all banks. Rows outside [first, end) of the tile are filled with zeros, never read.
// Dynamic shared memory: K V of stage 0, K V of stage 1, at head_dim 256 also Q, and the page offsets (prefill_shared in
// src/launch/attention.rs).
// Bound by tensor cores: 2 products of 16x8x16 per 16 rows, 16 keys and 8 dims.
#include "attention.cuh"
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
  static constexpr int kHalf = kKeys * D * 2;       // bytes of a K or V tile
  static constexpr bool kKeepQ = D <= 128;          // Q in registers; its shared memory is then the second stage
  static constexpr int kQ = kKeepQ ? 2 * kHalf : 4 * kHalf;
  static constexpr int kUnits = kKeepQ ? 4 * kHalf : kQ + kRows * D * 2;  // page offsets of two tiles
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

template <typename F, int D>
struct Block {
  using S = Shape<D>;
  const AttentionPrefillParams& p;
  const Tile& tile;
  const uint32_t shared, group;
  const Pages pages;
  const uint64_t keys, values;

  __device__ __forceinline__ Block(const AttentionPrefillParams& params, const Tile& of, uint32_t seq, uint32_t at)
      : p(params),
        tile(of),
        shared(at),
        group(params.heads / params.kv.kv_heads),
        pages(params.batch, params.kv, seq),
        keys(params.kv.base[0] + uint64_t(blockIdx.y) * params.kv.head_bytes[0]),
        values(params.kv.base[1] + uint64_t(blockIdx.y) * params.kv.head_bytes[1]) {}

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
      copy_async_16(shared + S::kQ + swizzled<D>(row, chunk), from, valid);
    }
  }

  // Where run `threadIdx.x` of the tile at `key` lies.
  __device__ __forceinline__ uint32_t locate(uint32_t key) const {
    return threadIdx.x < S::kRuns ? pages.unit(min(key + threadIdx.x * 8, (tile.end - 1) & ~7u)) : 0;
  }

  __device__ __forceinline__ void load_kv(uint32_t key, const uint32_t* units, uint32_t stage) const {
    const uint32_t to = shared + stage * 2 * S::kHalf;
#pragma unroll
    for (int i = 0; i < S::kKeys * S::kChunks / kThreads; i++) {
      const uint32_t at = i * kThreads + threadIdx.x, row = at / S::kChunks, chunk = at % S::kChunks;
      const bool valid = key + row >= tile.first && key + row < tile.end;
      const uint64_t from = uint64_t(units[row / 8]) * 16 + (row % 8 * D + chunk * 8) * 2;
      copy_async_16(to + swizzled<D>(row, chunk), keys + from, valid);
      copy_async_16(to + S::kHalf + swizzled<D>(row, chunk), values + from, valid);
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
  __device__ __forceinline__ void attend(uint32_t k, uint32_t q_tile, const Scores& scores, uint32_t key, uint32_t window,
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
    multiply_v<kEdge>(x, k + S::kHalf, groups, lane);
  }

  // Lanes t and t^1 exchange halves, so that four lanes write a whole sector of a row.
  __device__ __forceinline__ void store(int r, uint64_t row, bool used, uint32_t lane) const {
    float weight = sum[r] + __shfl_xor_sync(kAllLanes, sum[r], 1);
    weight += __shfl_xor_sync(kAllLanes, weight, 2);
    const float inverse = 1.0f / weight;
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

template <typename F, int D>
__device__ __forceinline__ void attention_prefill(const AttentionPrefillParams& p) {
  using S = Shape<D>;
  extern __shared__ __align__(128) unsigned char dynamic[];
  uint32_t(*units)[S::kRuns] = reinterpret_cast<uint32_t(*)[S::kRuns]>(dynamic + S::kUnits);
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
  const Block<F, D> block(p, tile, seq, shared_address(dynamic));

  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint32_t mine = 16 * warp + lane / 4;
  const uint32_t low = position(16 * warp), high = position(16 * warp + 15);
  const bool idle = 16 * warp >= tile.rows;
  Rows<F, D> w;
  w.position[0] = position(mine);
  w.position[1] = position(mine + 8);

  uint32_t key = tile.first & ~7u, ahead = block.locate(key);
  if (threadIdx.x < S::kRuns) units[0][threadIdx.x] = ahead;
  ahead = block.locate(key + S::kKeys);
  __syncthreads();
  block.load_q();
  block.load_kv(key, units[0], 0);
  copy_async_commit();
  if (threadIdx.x < S::kRuns) units[1][threadIdx.x] = ahead;
  if (S::kKeepQ) {
    copy_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int step = 0; step < S::kSteps; step++) w.load_q(w.q[S::kKeepQ ? step : 0], block.shared + S::kQ, step, warp, lane);
  }

  const Scores scores(p.scale, p.softcap);
  for (uint32_t stage = 0; key < tile.end; key += S::kKeys, stage ^= 1) {
    // The tile at `key` has come, and no warp still reads the other stage.
    copy_async_wait<0>();
    __syncthreads();
    const bool more = key + S::kKeys < tile.end;
    if (more) {
      block.load_kv(key + S::kKeys, units[stage ^ 1], stage ^ 1);
      copy_async_commit();
      ahead = block.locate(key + 2 * S::kKeys);
    }
    const uint32_t k = block.shared + stage * 2 * S::kHalf, q = block.shared + S::kQ;
    const bool whole = key + S::kKeys - 1 <= low && high - key < p.window;
    if (whole && !idle) {
      w.template attend<false>(k, q, scores, key, p.window, S::kGroups, warp, lane);
    } else if (key <= high && !idle) {
      const uint32_t groups = (high - key) / 16 + 1;
      w.template attend<true>(k, q, scores, key, p.window, groups, warp, lane);
    }
    if (more && threadIdx.x < S::kRuns) units[stage][threadIdx.x] = ahead;
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const bool used = mine + 8 * r < tile.rows;
    w.store(r, p.out + block.element(used ? mine + 8 * r : 0) * 2, used, lane);
  }
}

#define INSTANCE(name, F, D)                                                                                  \
  extern "C" __global__ void __launch_bounds__(kThreads) name(const __grid_constant__ AttentionPrefillParams p) { \
    attention_prefill<F, D>(p);                                                                               \
  }
INSTANCE(attention_prefill_f16_d64, F16, 64)
INSTANCE(attention_prefill_f16_d96, F16, 96)
INSTANCE(attention_prefill_f16_d128, F16, 128)
INSTANCE(attention_prefill_f16_d256, F16, 256)
INSTANCE(attention_prefill_bf16_d64, BF16, 64)
INSTANCE(attention_prefill_bf16_d96, BF16, 96)
INSTANCE(attention_prefill_bf16_d128, BF16, 128)
INSTANCE(attention_prefill_bf16_d256, BF16, 256)
