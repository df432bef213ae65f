// out[t] = table[tokens[t]] * scale, from a table in the order of weights.cuh (it may be the LM head as well).
// A thread takes the part of a row that one lane of a tile holds: 16 weights. Bound by memory.
#include "epilogue.cuh"
#include "weights.cuh"

template <class F, WeightType kType>
__device__ __forceinline__ void embed(const EmbedParams& p) {
  using W = Weights<kType>;
  const uint32_t across = (p.cols + 63) / 64;
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= across * 4) return;
  const uint32_t row = __ldg(pointer<const uint32_t>(p.tokens) + blockIdx.y);
  const uint32_t tile = i / 4, t = i % 4;
  const bool odd = row & 1;
  const typename W::Reader reader(p.table, row % 16 / 2 * 4 + t, row / 16 * across + tile);
  typename W::Raw raw;
  raw.load(reader, 0);
  float* out = pointer<float>(p.out) + uint64_t(blockIdx.y) * p.cols;
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    uint32_t a[4];
    W::template codes<F>(raw, s, a);
    const float2 affine = W::affine(raw, s, odd);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 code = F::unpack(odd ? a[2 * half + 1] : a[2 * half]);
      // Rounded as quant.rs does.
      const float first = __fadd_rn(__fmul_rn(code.x, affine.x), affine.y);
      const float second = __fadd_rn(__fmul_rn(code.y, affine.x), affine.y);
      const uint32_t column = tile * 64 + s * 16 + half * 8 + t * 2;
      if (column < p.cols) *reinterpret_cast<float2*>(out + column) = make_float2(first * p.scale, second * p.scale);
    }
  }
}

// Codes are exact in f16 whatever the compute type.
#define ENTRY(name, F, type) \
  extern "C" __global__ void __launch_bounds__(128) embed_##name(const __grid_constant__ EmbedParams p) { embed<F, type>(p); }
ENTRY(float_f16, F16, kFloat)
ENTRY(float_bf16, BF16, kFloat)
ENTRY(q8_0, F16, kQ8_0)
ENTRY(q4_0, F16, kQ4_0)
ENTRY(q4_1, F16, kQ4_1)
ENTRY(q5_0, F16, kQ5_0)
ENTRY(q4_k, F16, kQ4_K)
ENTRY(q6_k, F16, kQ6_K)
