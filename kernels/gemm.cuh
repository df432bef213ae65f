// Projections of many rows: weights times x^T on tensor cores, dequantised in registers, with an epilogue after.
// brings: gemm<F, type, Shape>
//
// A block computes 16 kM kDown outputs of 8 kN tokens. Its warps are kDown x kSplit: warp (down, split) takes kM tile-rows
// and every kSplit-th tile of the columns. Weights go from memory straight to registers, one tile ahead, in the order
// of the A operand; x comes through a ring of three stages in shared memory, one column tile for each split:
//
//   stage   [split][token][8 vectors of 16 bytes], vector v of token n at v ^ (n % 8): no bank conflicts
//   sums    [split][token][rows + 4] f32, in place of the stages at the end, 64 tokens at a time
//
// A weight fragment is dequantised once for 8 kN tokens, and one ldmatrix feeds 2 kM products. Bound by tensor cores.
#pragma once
#include "epilogue.cuh"
#include "mma.cuh"
#include "weights.cuh"

template <int kNValue, int kMValue, int kDownValue, int kSplitValue>
struct Shape {
  static constexpr int kN = kNValue, kM = kMValue, kDown = kDownValue, kSplit = kSplitValue;
  static constexpr int kThreads = 32 * kDown * kSplit;
  static constexpr int kBlocks = kThreads == 256 ? 3 : 2;  // of an SM
  static constexpr int kTokens = 8 * kN, kRows = 16 * kM * kDown;
  static constexpr int kStages = 3, kStageBytes = kSplit * kTokens * 128;
  static constexpr int kChunk = kTokens < 64 ? kTokens : 64, kPitch = kRows + 4;
  static constexpr int kSumBytes = kSplit * kChunk * kPitch * 4;
  static constexpr int kShared = kStages * kStageBytes > kSumBytes ? kStages * kStageBytes : kSumBytes;
};

// Copies the columns of round `round` of x to a stage; zeros beyond the last column, repeats of the last token beyond T.
template <class S>
__device__ __forceinline__ void load_stage(const GemmParams& p, uint32_t stage, uint32_t first_token, uint32_t round) {
  constexpr uint32_t kRowsAtOnce = S::kThreads / 8;
  const uint32_t v = threadIdx.x % 8;
#pragma unroll
  for (uint32_t i = 0; i < S::kSplit * S::kTokens / kRowsAtOnce; ++i) {
    const uint32_t slot = threadIdx.x / 8 + i * kRowsAtOnce;  // split * kTokens + token
    const uint32_t token = min(first_token + slot % S::kTokens, p.tokens - 1);
    const uint32_t column = (round * S::kSplit + slot / S::kTokens) * 64 + v * 8;
    const bool inside = column < p.cols;
    copy_async_16(stage + slot * 128 + ((v ^ (slot & 7)) << 4), p.x + (uint64_t(token) * p.cols + column) * 2, inside);
  }
}

// acc += weights of one column tile times its x.
template <class F, class W, class S>
__device__ __forceinline__ void multiply_tile(const typename W::Raw (&raw)[S::kM], uint32_t x, float (&acc)[S::kM][S::kN][4]) {
  Fragments<F, W> weights[S::kM];
#pragma unroll
  for (int m = 0; m < S::kM; ++m) weights[m].prepare(raw[m]);
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    uint32_t a[S::kM][4];
#pragma unroll
    for (int m = 0; m < S::kM; ++m) weights[m].step(raw[m], s, a[m]);
    const uint32_t x_step = x ^ (s << 5);
    unroll<S::kN / 2>([&](auto pair) {
      constexpr int n = 2 * pair;
      uint32_t b[4];
      ldmatrix_x4_at<n * 1024>(b, x_step);
#pragma unroll
      for (int m = 0; m < S::kM; ++m) {
        mma_16x8x16<F>(acc[m][n], a[m][0], a[m][1], a[m][2], a[m][3], b[0], b[1]);
        mma_16x8x16<F>(acc[m][n + 1], a[m][0], a[m][1], a[m][2], a[m][3], b[2], b[3]);
      }
    });
  }
}

// Finishes 64 tokens from the sums in shared memory: each thread keeps its four rows and walks over tokens.
template <class F, Epilogue kKind, class S>
__device__ __forceinline__ void finish_chunk(const GemmParams& p, const float* sums, uint32_t first_token, uint32_t local_row) {
  constexpr uint32_t kQuads = S::kRows / 4;
  const uint32_t row = local_row + threadIdx.x % kQuads * 4;
  if (row >= p.part.rows) return;
  Finish<F, kKind> finish(p.out, p.first_row + row);
  for (uint32_t n = threadIdx.x / kQuads; n < S::kChunk && first_token + n < p.tokens; n += S::kThreads / kQuads) {
    const float* from = sums + n * S::kPitch + threadIdx.x % kQuads * 4;
    float4 v = *reinterpret_cast<const float4*>(from);
#pragma unroll
    for (int split = 1; split < S::kSplit; ++split) {
      const float4 more = *reinterpret_cast<const float4*>(from + split * S::kChunk * S::kPitch);
      v = make_float4(v.x + more.x, v.y + more.y, v.z + more.z, v.w + more.w);
    }
    if constexpr (kKind == kQkv) {
      float4 rows[1] = {v};
      finish.template store_group<8>(first_token + n, rows);
    } else {
      finish.store(first_token + n, v);
    }
  }
  finish.report();
}

template <class F, class S>
__device__ __forceinline__ void finish_any(const GemmParams& p, const float* sums, uint32_t first_token, uint32_t local_row) {
  switch (p.epilogue) {
    case kResidual: return finish_chunk<F, kResidual, S>(p, sums, first_token, local_row);
    case kQkv: return finish_chunk<F, kQkv, S>(p, sums, first_token, local_row);
    case kGateUp: return finish_chunk<F, kGateUp, S>(p, sums, first_token, local_row);
    case kLogits: return finish_chunk<F, kLogits, S>(p, sums, first_token, local_row);
  }
}

// Grid: (blocks of rows, blocks of tokens).
template <class F, WeightType kType, class S>
__device__ __forceinline__ void gemm(const GemmParams& p) {
  using W = Weights<kType>;
  extern __shared__ __align__(128) char shared[];
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t down = warp % S::kDown, split = warp / S::kDown;
  const uint32_t across = (p.cols + 63) / 64, tile_rows = (p.part.rows + 15) / 16;
  const uint32_t rounds = (across + S::kSplit - 1) / S::kSplit;
  const uint32_t first_token = blockIdx.y * S::kTokens;
  const uint32_t stages = shared_address(shared);

  // Tile-rows beyond the matrix repeat the last one; their sums are dropped.
  const auto tile_row = [&](uint32_t m) { return min((blockIdx.x * S::kDown + down) * S::kM + m, tile_rows - 1); };
  typename W::Reader reader(p.part, lane, tile_row(0) * across + split);
  uint32_t to_row[S::kM];  // tiles from the first tile-row to the m-th
  typename W::Raw raw[S::kM], next[S::kM];
#pragma unroll
  for (int m = 0; m < S::kM; ++m) {
    to_row[m] = (tile_row(m) - tile_row(0)) * across;
    if (split < across) raw[m].load(reader, to_row[m]);
  }
#pragma unroll
  for (int i = 0; i < S::kStages - 1; ++i) {
    if (i < rounds) load_stage<S>(p, stages + i * S::kStageBytes, first_token, i);
    copy_async_commit();
  }

  // Row and vector of x that this lane addresses for ldmatrix: two token tiles, both halves of a step.
  const uint32_t x_row = split * S::kTokens + (lane / 16) * 8 + lane % 8;
  const uint32_t x_lane = x_row * 128 + (((lane / 8) & 1) ^ (lane % 8)) * 16;
  float acc[S::kM][S::kN][4] = {};
  uint32_t slot = 0;
  for (uint32_t round = 0; round < rounds; ++round) {
    copy_async_wait<S::kStages - 2>();
    __syncthreads();
    const uint32_t ahead = round + S::kStages - 1;
    const uint32_t free_slot = slot == 0 ? S::kStages - 1 : slot - 1;
    if (ahead < rounds) load_stage<S>(p, stages + free_slot * S::kStageBytes, first_token, ahead);
    copy_async_commit();
    const uint32_t column = round * S::kSplit + split;
    reader.advance(S::kSplit);
#pragma unroll
    for (int m = 0; m < S::kM; ++m) {
      if (column + S::kSplit < across) next[m].load(reader, to_row[m]);
    }
    if (column < across) multiply_tile<F, W, S>(raw, stages + slot * S::kStageBytes + x_lane, acc);
#pragma unroll
    for (int m = 0; m < S::kM; ++m) raw[m] = next[m];
    slot = slot + 1 == S::kStages ? 0 : slot + 1;
  }

  float* sums = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int chunk = 0; chunk < S::kTokens; chunk += S::kChunk) {
    __syncthreads();
#pragma unroll
    for (int m = 0; m < S::kM; ++m) {
#pragma unroll
      for (int n = 0; n < S::kChunk / 8; ++n) {
        const float(&c)[4] = acc[m][chunk / 8 + n];
        float* to = sums + (split * S::kChunk + n * 8 + lane % 4 * 2) * S::kPitch + (down * S::kM + m) * 16 + lane / 4 * 2;
        *reinterpret_cast<float2*>(to) = make_float2(c[0], c[2]);
        *reinterpret_cast<float2*>(to + S::kPitch) = make_float2(c[1], c[3]);
      }
    }
    __syncthreads();
    finish_any<F, S>(p, sums, first_token + chunk, blockIdx.x * S::kRows);
  }
}
