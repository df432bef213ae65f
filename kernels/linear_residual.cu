// x += W input (+ bias), few rows: output and down projection; with a post-norm, x += norm(W input + bias).
#include "gemv.cuh"

template <class F, WeightType kType>
__device__ __forceinline__ void linear_residual(const GemvParams& p) {
  gemv_part<F, kType, kResidual>(p, 0);
  if (p.post_norm) post_norm_last(p);
}

#define ENTRY(name, F, type) \
  extern "C" __global__ void __launch_bounds__(256, 2) name(const __grid_constant__ GemvParams p) { linear_residual<F, type>(p); }
#define ENTRIES(type, kType)                  \
  ENTRY(linear_residual_##type##_f16, F16, kType) \
  ENTRY(linear_residual_##type##_bf16, BF16, kType)
ENTRIES(float, kFloat)
ENTRIES(q8_0, kQ8_0)
ENTRIES(q4_0, kQ4_0)
ENTRIES(q4_1, kQ4_1)
ENTRIES(q5_0, kQ5_0)
ENTRIES(q4_k, kQ4_K)
ENTRIES(q6_k, kQ6_K)
