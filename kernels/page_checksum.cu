// The sums of half pages before they leave the device: sum over words of mix(position) * word mod 2^64, as in
// src/checksum.rs. One block per half page; the sum is free of order, so threads take 16-byte vectors in turn.
// Bytes: each half once. Bound by memory: about 30 warp instructions per 16 bytes a lane.
#include "float.cuh"
#include "params.h"

constexpr int kThreads = 512;
constexpr uint64_t kStep = 0x9e3779b97f4a7c15ull;

__device__ __forceinline__ uint64_t term(uint64_t key, uint32_t word) { return ((key ^ (key >> 29)) | 1) * word; }

extern "C" __global__ void __launch_bounds__(kThreads) page_checksum(const __grid_constant__ PageChecksumParams p) {
  __shared__ uint64_t sums[kThreads / 32];
  const uint32_t page = reinterpret_cast<const uint32_t*>(p.pages)[blockIdx.x / 2];
  const bool is_v = blockIdx.x % 2 != 0;
  const uint4* half = reinterpret_cast<const uint4*>(p.data + page * p.page_bytes + (is_v ? p.k_bytes : 0));
  const uint32_t vectors = uint32_t((is_v ? p.page_bytes - p.k_bytes : p.k_bytes) / 16);
  uint64_t sum = 0;
#pragma unroll 4
  for (uint32_t i = threadIdx.x; i < vectors; i += kThreads) {
    const uint4 v = __ldg(half + i);
    const uint64_t key = (4ull * i + 1) * kStep;
    sum += term(key, v.x) + term(key + kStep, v.y) + term(key + 2 * kStep, v.z) + term(key + 3 * kStep, v.w);
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kThreads / 32; w++) sum += sums[w];
  reinterpret_cast<uint64_t*>(p.out)[blockIdx.x] = sum;
}
