// out[t] = norm(x[row_index[t]]) in the compute type, before a projection of many rows. A warp takes a row; bound by memory.
#include "rows.cuh"

template <class F>
__device__ __forceinline__ void norm_rows(const NormRowsParams& p) {
  const uint32_t lane = threadIdx.x % 32, quads = p.rows.cols / 4;
  const uint32_t t = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (t >= p.rows.tokens) return;
  const float4* x = row_of<float4>(p.rows, t, 4);
  float sum = 0;
  for (uint32_t i = lane; i < quads; i += 32) sum += square_sum(x[i]);
  const float scale = rsqrtf(warp_sum(sum) / p.rows.cols + p.rows.eps);
  uint2* out = pointer<uint2>(p.out) + uint64_t(t) * quads;
  Packer<F> packer;
  for (uint32_t i = lane; i < quads; i += 32) {
    const float4 v = normed(x[i], scale, __ldg(pointer<const float4>(p.rows.norm) + i));
    out[i] = make_uint2(packer.pack(v.x, v.y), packer.pack(v.z, v.w));
  }
  packer.report(p.status, p.status_code);
}

extern "C" __global__ void __launch_bounds__(256) norm_rows_f16(const __grid_constant__ NormRowsParams p) { norm_rows<F16>(p); }
extern "C" __global__ void __launch_bounds__(256) norm_rows_bf16(const __grid_constant__ NormRowsParams p) { norm_rows<BF16>(p); }
