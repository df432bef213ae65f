// For models with QK-norm, after the projection: RMSNorm and RoPE of each head of Q (in place) and K, and K and V to their
// pages.
//
// A head is normed by head_dim / 8 lanes, each with 8 elements (16 bytes); heads of head_dim 64 sit four to a warp, 96 and 128
// two, 256 one. Work item i is slot i % (heads + 2 kv_heads) of token i / (heads + 2 kv_heads): Q heads, K heads, V heads.
// Bytes: q, k and v once each way, and 4 bytes of cos or sin per rotated element (from L2 after the first head).
#include "kv.cuh"

constexpr int kThreads = 128;

// `lanes` neighbours hold the head.
template <int D, int kLanes>
__device__ __forceinline__ void norm(Eight& x, uint64_t weight, float eps, uint32_t first) {
  float square = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; i++) square += x.v[i] * x.v[i];
#pragma unroll
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) square += __shfl_xor_sync(kAllLanes, square, lanes);
  const float factor = rsqrtf(square / D + eps);
  const float4* w = reinterpret_cast<const float4*>(weight + first * 4);
  const float4 a = __ldg(w), b = __ldg(w + 1);
  const float scale[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
  for (int i = 0; i < 8; i++) x.v[i] *= factor * scale[i];
}

// Rotates adjacent pairs below `dims`. `row`: cos and sin of the position.
__device__ __forceinline__ void rotate(Eight& x, uint64_t row, uint32_t dims, uint32_t first) {
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    if (first + i >= dims) return;
    const float2 angle = __ldg(reinterpret_cast<const float2*>(row + (first + i) * 4));
    const float a = x.v[i], b = x.v[i + 1];
    x.v[i] = a * angle.x - b * angle.y;
    x.v[i + 1] = a * angle.y + b * angle.x;
  }
}

template <typename F, int D>
__device__ __forceinline__ void qk_norm_rope(const QkNormRopeParams& p) {
  constexpr int kLanes = D == 64 ? 8 : D <= 128 ? 16 : 32;
  const uint32_t item = (blockIdx.x * kThreads + threadIdx.x) / kLanes, first = threadIdx.x % kLanes * 8;
  const uint32_t slots = p.heads + 2 * p.kv.kv_heads;
  const uint32_t token = item / slots, slot = item % slots;
  // Idle lanes stay for the shuffles.
  const bool used = token < p.batch.token_count && first < D;
  const bool is_q = slot < p.heads, is_v = slot >= p.heads + p.kv.kv_heads;
  const uint32_t head = is_q ? slot : (slot - p.heads) % p.kv.kv_heads;
  const uint64_t q = p.q + ((uint64_t(token) * p.heads + head) * D + first) * 2;
  const uint64_t kv = (is_v ? p.v : p.k) + ((uint64_t(token) * p.kv.kv_heads + head) * D + first) * 2;
  Eight x = used ? Eight::load<F>(is_q ? q : kv) : Eight{};

  Eight y = x;
  norm<D, kLanes>(y, is_q ? p.q_norm : p.k_norm, p.eps, used ? first : 0);
  if (!used) return;
  if (!is_v) {
    x = y;
    const uint32_t position = reinterpret_cast<const uint32_t*>(p.batch.positions)[token];
    rotate(x, p.rope + uint64_t(position) * p.rope_dims * 4, p.rope_dims, first);
    bool fits = true;
#pragma unroll
    for (int i = 0; i < 8; i++) fits = fits && float_fits<F>(x.v[i]);
    if (!fits) *reinterpret_cast<uint32_t*>(p.status) = p.status_code;
  }
  if (is_q) {
    x.store<F>(q);
    return;
  }
  const uint32_t place = reinterpret_cast<const uint32_t*>(p.batch.slots)[token];
  const uint32_t page = place / p.kv.page_tokens, offset = place % p.kv.page_tokens;
  const uint64_t at = p.kv.base[is_v] + page * p.kv.page_bytes + uint64_t(head) * p.kv.head_bytes[is_v];
  const uint32_t type = p.kv.type[is_v];
  if (type == kKvFloat) {
    x.store<F>(at + (offset * D + first) * 2);
    return;
  }
  const EightCodes codes(x, type);
  codes.store(at, offset, first, D);
  if (!codes.scale.fits()) *reinterpret_cast<uint32_t*>(p.status) = p.status_code;
}

#define INSTANCE(name, F, D)                                                                             \
  extern "C" __global__ void __launch_bounds__(kThreads) name(const __grid_constant__ QkNormRopeParams p) { \
    qk_norm_rope<F, D>(p);                                                                               \
  }
INSTANCE(qk_norm_rope_f16_d64, F16, 64)
INSTANCE(qk_norm_rope_f16_d96, F16, 96)
INSTANCE(qk_norm_rope_f16_d128, F16, 128)
INSTANCE(qk_norm_rope_f16_d256, F16, 256)
INSTANCE(qk_norm_rope_bf16_d64, BF16, 64)
INSTANCE(qk_norm_rope_bf16_d96, BF16, 96)
INSTANCE(qk_norm_rope_bf16_d128, BF16, 128)
INSTANCE(qk_norm_rope_bf16_d256, BF16, 256)
