// out = act(norm(x) Wgate^T) * (norm(x) Wup^T), few rows; gate and up rows alternate.
#include "gemv.cuh"

#define ENTRY(name, F, type) \
  extern "C" __global__ void __launch_bounds__(256, 2) name(const __grid_constant__ GemvParams p) { gemv_part<F, type, kGateUp>(p, 0); }
#define ENTRIES(type, kType)                   \
  ENTRY(norm_gate_up_##type##_f16, F16, kType) \
  ENTRY(norm_gate_up_##type##_bf16, BF16, kType)
ENTRIES(float, kFloat)
ENTRIES(q8_0, kQ8_0)
ENTRIES(q4_0, kQ4_0)
ENTRIES(q4_1, kQ4_1)
ENTRIES(q5_0, kQ5_0)
ENTRIES(q4_k, kQ4_K)
ENTRIES(q6_k, kQ6_K)
