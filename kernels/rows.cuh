// Rows of the residual stream: sums over a block, RMSNorm.
// brings: warp_sum, row_of, block_square_sums, norm_scale
#pragma once
#include "epilogue.cuh"

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int lanes = 16; lanes; lanes /= 2) v += __shfl_xor_sync(kAllLanes, v, lanes);
  return v;
}

__device__ __forceinline__ float square_sum(float4 v) { return v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w; }

// Element 0 of row t, in units of E.
template <class E>
__device__ __forceinline__ const E* row_of(const RowsParams& p, uint32_t t, uint32_t bytes_per_element) {
  const uint32_t row = p.row_index ? __ldg(pointer<const uint32_t>(p.row_index) + t) : t;
  return pointer<const E>(p.x + uint64_t(row) * p.cols * bytes_per_element);
}

constexpr uint32_t kMostWarps = 8;

// Each warp's part of the square sum of a row into partial[warp]; load(i) gives four elements. Wants a barrier after it.
template <class Load>
__device__ __forceinline__ void block_square_sums(uint32_t quads, float* partial, Load load) {
  float sum = 0;
  for (uint32_t i = threadIdx.x; i < quads; i += blockDim.x) sum += square_sum(load(i));
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
}

// 1 / RMS of a row from the parts of all warps, added in one order by every thread.
__device__ __forceinline__ float norm_scale(const float* partial, uint32_t cols, float eps) {
  float sum = 0;
  for (uint32_t w = 0; w < blockDim.x / 32; ++w) sum += partial[w];
  return rsqrtf(sum / cols + eps);
}

__device__ __forceinline__ float4 normed(float4 v, float scale, float4 weight) {
  return make_float4(v.x * scale * weight.x, v.y * scale * weight.y, v.z * scale * weight.z, v.w * scale * weight.w);
}
