// Projections of few rows (T <= 8): weights times x^T on tensor cores, with x's norm before and an epilogue after.
// brings: gemv<F, type, epilogue>
//
// A block owns tiles_per_block tile-rows (16 outputs each). It normalises all T rows of x once, into shared memory, while
// its first weights are already on their way. Each warp then takes its share of the columns; the parts of the
// sums meet in shared memory at one barrier, and one warp (another for each tile-row) adds them in order and finishes.
//
//   shared: x      [T][cols / 64][8 vectors of 16 bytes], vector v of row t at v ^ (t % 8): no bank conflicts
//           sums   [2][warp][8 tokens][kPitch] f32
//
// Bound by memory: every weight is read once, in 16-byte loads, kPrefetch tiles ahead.
#pragma once
#include "mma.cuh"
#include "rows.cuh"
#include "weights.cuh"

constexpr uint32_t kTokens = 8;       // width of the tensor-core product
constexpr uint32_t kPitch = 16 + 4;   // of a token's 16 sums: conflict-free for the fragment's writes
constexpr uint32_t kWarpSums = kTokens * kPitch;

__device__ __forceinline__ char* x_vector(char* x, uint32_t across, uint32_t t, uint32_t v) {
  return x + t * across * 128 + ((v ^ (t & 7)) << 4);
}

// The rows of x, normalised where there is a norm, into shared memory; zeros fill the last tile.
template <class F>
__device__ __forceinline__ void stage_rows(const GemvParams& p, char* x, float* partial, uint32_t across) {
  const RowsParams& rows = p.rows;
  if (!rows.norm) {
    for (uint32_t t = 0; t < rows.tokens; ++t) {
      const uint4* from = row_of<uint4>(rows, t, 2);
      for (uint32_t v = threadIdx.x; v < across * 8; v += blockDim.x) {
        *reinterpret_cast<uint4*>(x_vector(x, across, t, v)) = v * 8 < rows.cols ? from[v] : make_uint4(0, 0, 0, 0);
      }
    }
    __syncthreads();
    return;
  }
  const uint32_t quads = rows.cols / 4;
  for (uint32_t t = 0; t < rows.tokens; ++t) {
    const float4* from = row_of<float4>(rows, t, 4);
    block_square_sums(quads, partial + t * kMostWarps, [&](uint32_t i) { return from[i]; });
  }
  __syncthreads();
  Packer<F> packer;
  for (uint32_t t = 0; t < rows.tokens; ++t) {
    const float4* from = row_of<float4>(rows, t, 4);
    const float scale = norm_scale(partial + t * kMostWarps, rows.cols, rows.eps);
    for (uint32_t i = threadIdx.x; i < across * 16; i += blockDim.x) {
      uint2 packed = make_uint2(0, 0);
      if (i < quads) {
        const float4 v = normed(from[i], scale, __ldg(pointer<const float4>(rows.norm) + i));
        packed = make_uint2(packer.pack(v.x, v.y), packer.pack(v.z, v.w));
      }
      *reinterpret_cast<uint2*>(x_vector(x, across, t, i / 2) + (i & 1) * 8) = packed;
    }
  }
  packer.report(p.out.status, p.out.status_code);
  __syncthreads();
}

// Adds the warps' sums of a tile-row: lane = (token, four rows). Tokens n and n + 4 share a quarter warp, whose 16-byte reads
// then touch every bank once.
struct FinishLane {
  const uint32_t token = threadIdx.x % 32 / 8 + (threadIdx.x & 4), quad = threadIdx.x % 4;

  __device__ __forceinline__ float4 sum(const float* sums) const {
    const float* from = sums + token * kPitch + quad * 4;
    float4 v = *reinterpret_cast<const float4*>(from);
    for (uint32_t w = 1; w < blockDim.x / 32; ++w) {
      const float4 more = *reinterpret_cast<const float4*>(from + w * kWarpSums);
      v = make_float4(v.x + more.x, v.y + more.y, v.z + more.z, v.w + more.w);
    }
    return v;
  }
};

template <class F, Epilogue kKind>
__device__ __forceinline__ void finish_tile_row(const GemvParams& p, const float* sums, uint32_t row, uint32_t local_row, uint32_t part_rows) {
  const FinishLane lane;
  if (lane.token >= p.rows.tokens || local_row + lane.quad * 4 >= part_rows) return;
  Finish<F, kKind> finish(p.out, row + lane.quad * 4);
  finish.store(lane.token, lane.sum(sums));
  finish.report();
}

// Two tile-rows are 32 rows of a head, which share a scale. `above`: sums of the first.
template <class F>
__device__ __forceinline__ void finish_pair(const GemvParams& p, float4 above, const float* sums, uint32_t row) {
  const FinishLane lane;
  if (lane.token >= p.rows.tokens) return;
  Finish<F, kQkv> finish(p.out, row + lane.quad * 4);
  float4 v[2] = {above, lane.sum(sums)};
  finish.template store_group<4>(lane.token, v);
  finish.report();
}

// One part of the matrix, or the whole.
template <class F, WeightType kType, Epilogue kKind>
__device__ __forceinline__ void gemv_part(const GemvParams& p, uint32_t part) {
  using W = Weights<kType>;
  extern __shared__ __align__(128) char shared[];
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const MatrixParams& m = p.part[part];
  const uint32_t across = (p.rows.cols + 63) / 64;
  const uint32_t tile_rows = (m.rows + 15) / 16;
  const uint32_t first = (blockIdx.x - p.first_block[part]) * p.tiles_per_block;
  const uint32_t mine = min(p.tiles_per_block, tile_rows - first);
  // This warp's columns: `count` tiles from `begin` on.
  const uint32_t begin = warp * across / warps;
  const int count = (warp + 1) * across / warps - begin;
  constexpr int kAhead = W::kPrefetch;

  typename W::Reader reader(m, lane, first * across + begin);
  typename W::Raw raw[kAhead];
  unroll<kAhead>([&](auto d) {
    if (d < count) raw[d].load(reader, d);
  });
  char* x = shared;
  float* sums = reinterpret_cast<float*>(shared + p.rows.tokens * across * 128);
  stage_rows<F>(p, x, sums, across);

  // Row of x and vector that this lane addresses for ldmatrix; rows beyond T repeat the last one.
  const uint32_t x_row = min(lane % 8, p.rows.tokens - 1);
  const uint32_t x_first = pinned(shared_address(x_vector(x, across, x_row, lane / 8)) + begin * 128);
  float4 above = make_float4(0, 0, 0, 0);
  for (uint32_t tile_row = 0; tile_row < mine; ++tile_row) {
    float acc[4] = {0, 0, 0, 0};
    uint32_t x_here = x_first;
    for (int left = count; left > 0; left -= kAhead, x_here += kAhead * 128) {
      // While these tiles are multiplied, the next ones are loaded: of this tile-row or of the block's next.
      const bool ends = left <= kAhead;
      const int next_left = !ends ? left - kAhead : tile_row + 1 < mine ? count : 0;
      reader.advance(ends ? across - count + left : kAhead);
      const uint32_t x_there = x_here ^ 64;
      unroll<kAhead>([&](auto d) {
        if (d < left) {
          uint32_t b[2][4];
          ldmatrix_x4_at<d * 128>(b[0], x_here);
          ldmatrix_x4_at<d * 128>(b[1], x_there);
          Fragments<F, W> weights;
          weights.prepare(raw[d]);
#pragma unroll
          for (int s = 0; s < 4; ++s) {
            uint32_t a[4];
            weights.step(raw[d], s, a);
            mma_16x8x16<F>(acc, a[0], a[1], a[2], a[3], b[s / 2][s % 2 * 2], b[s / 2][s % 2 * 2 + 1]);
          }
        }
        if (d < next_left) raw[d].load(reader, d);
      });
    }
    float* all = sums + (tile_row & 1) * warps * kWarpSums;
    float* to = all + warp * kWarpSums + (lane % 4) * 2 * kPitch + lane / 4 * 2;
    *reinterpret_cast<float2*>(to) = make_float2(acc[0], acc[2]);
    *reinterpret_cast<float2*>(to + kPitch) = make_float2(acc[1], acc[3]);
    __syncthreads();
    const uint32_t row = (first + tile_row) * 16;
    if (kKind == kQkv && p.pairs) {
      // The same warp for both; it holds the sums of the first until it has those of the second.
      if (warp != tile_row / 2 % warps) continue;
      if (tile_row % 2 == 0) {
        above = FinishLane().sum(all);
      } else {
        finish_pair<F>(p, above, all, p.first_row[part] + row - 16);
      }
    } else if (warp == tile_row % warps) {
      finish_tile_row<F, kKind>(p, all, p.first_row[part] + row, row, m.rows);
    }
  }
}

// x += norm(sums), by the block that arrives last.
__device__ __forceinline__ void post_norm_last(const GemvParams& p) {
  extern __shared__ __align__(128) char shared[];
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicInc(pointer<uint32_t>(p.post_counter), gridDim.x - 1) == gridDim.x - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  float* partial = reinterpret_cast<float*>(shared);
  const uint32_t width = p.out.out_width, quads = width / 4;
  const float4* sums = pointer<const float4>(p.out.sums);
  for (uint32_t t = 0; t < p.rows.tokens; ++t) {
    block_square_sums(quads, partial + t * kMostWarps, [&](uint32_t i) { return __ldcg(sums + t * quads + i); });
  }
  __syncthreads();
  for (uint32_t t = 0; t < p.rows.tokens; ++t) {
    const float scale = norm_scale(partial + t * kMostWarps, width, p.post_eps);
    float4* x = pointer<float4>(p.out.out) + t * quads;
    for (uint32_t i = threadIdx.x; i < quads; i += blockDim.x) {
      const float4 add = normed(__ldcg(sums + t * quads + i), scale, __ldg(pointer<const float4>(p.post_norm) + i));
      const float4 old = x[i];
      x[i] = make_float4(old.x + add.x, old.y + add.y, old.z + add.z, old.w + add.w);
    }
  }
}
