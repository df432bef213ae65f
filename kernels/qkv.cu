// Q, K, V = norm(x) W^T (+ bias), few rows; RoPE of Q and K and append of K and V to their pages, or all three as
// projected where the model normalises Q and K first. Each of the three may have a type of its own.
#include "gemv.cuh"

template <class F>
__device__ __forceinline__ void qkv(const GemvParams& p) {
  const uint32_t part = (blockIdx.x >= p.first_block[1]) + (blockIdx.x >= p.first_block[2]);
  switch (p.part[part].type) {
    case kFloat: return gemv_part<F, kFloat, kQkv>(p, part);
    case kQ8_0: return gemv_part<F, kQ8_0, kQkv>(p, part);
    case kQ4_0: return gemv_part<F, kQ4_0, kQkv>(p, part);
    case kQ4_1: return gemv_part<F, kQ4_1, kQkv>(p, part);
    case kQ5_0: return gemv_part<F, kQ5_0, kQkv>(p, part);
    case kQ4_K: return gemv_part<F, kQ4_K, kQkv>(p, part);
    case kQ6_K: return gemv_part<F, kQ6_K, kQkv>(p, part);
  }
}

extern "C" __global__ void __launch_bounds__(256, 2) qkv_f16(const __grid_constant__ GemvParams p) { qkv<F16>(p); }
extern "C" __global__ void __launch_bounds__(256, 2) qkv_bf16(const __grid_constant__ GemvParams p) { qkv<BF16>(p); }
