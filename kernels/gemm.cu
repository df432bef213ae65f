// The projections of many rows, one part of a matrix at a time; what follows the sums is chosen at run time.
#include "gemm.cuh"

using Narrow = Shape<4, 1, 2, 4>;  // 32 outputs of 32 tokens, columns split over 4 warps: batched decode
using Wide = Shape<16, 2, 4, 1>;   // 128 outputs of 128 tokens: prefill

#define ENTRY(name, F, type, shape) \
  extern "C" __global__ void __launch_bounds__(shape::kThreads, shape::kBlocks) name(const __grid_constant__ GemmParams p) { gemm<F, type, shape>(p); }
#define ENTRIES(type, kType)                     \
  ENTRY(gemm_##type##_f16_n32, F16, kType, Narrow)   \
  ENTRY(gemm_##type##_f16_n128, F16, kType, Wide)    \
  ENTRY(gemm_##type##_bf16_n32, BF16, kType, Narrow) \
  ENTRY(gemm_##type##_bf16_n128, BF16, kType, Wide)
ENTRIES(float, kFloat)
ENTRIES(q8_0, kQ8_0)
ENTRIES(q4_0, kQ4_0)
ENTRIES(q4_1, kQ4_1)
ENTRIES(q5_0, kQ5_0)
ENTRIES(q4_k, kQ4_K)
ENTRIES(q6_k, kQ6_K)
