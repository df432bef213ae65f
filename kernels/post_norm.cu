// x += norm(sums), after a projection of many rows whose model normalises it (Gemma). A warp takes a row; bound by memory.
#include "rows.cuh"

extern "C" __global__ void __launch_bounds__(256) post_norm(const __grid_constant__ PostNormParams p) {
  const uint32_t lane = threadIdx.x % 32, quads = p.cols / 4;
  const uint32_t t = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (t >= p.tokens) return;
  const float4* sums = pointer<const float4>(p.sums) + uint64_t(t) * quads;
  float sum = 0;
  for (uint32_t i = lane; i < quads; i += 32) sum += square_sum(sums[i]);
  const float scale = rsqrtf(warp_sum(sum) / p.cols + p.eps);
  float4* x = pointer<float4>(p.x) + uint64_t(t) * quads;
  for (uint32_t i = lane; i < quads; i += 32) {
    const float4 add = normed(sums[i], scale, __ldg(pointer<const float4>(p.norm) + i));
    const float4 old = x[i];
    x[i] = make_float4(old.x + add.x, old.y + add.y, old.z + add.z, old.w + add.w);
  }
}
