// What is done with the sums of a projection: bias, then residual, RoPE and append, activation, or soft cap.
// brings: pointer, Packer<F>, Finish<F, kind>
//
// A Finish serves one thread: four neighbouring rows of the matrix (outputs), any token.
#pragma once
#include "kv.cuh"

template <class T>
__device__ __forceinline__ T* pointer(uint64_t address) {
  return reinterpret_cast<T*>(address);
}

// Values that will be written in the compute type: remembers one that does not fit.
template <class F>
struct Packer {
  bool bad = false;
  __device__ uint32_t pack(float a, float b) {
    bad |= !float_fits<F>(a) || !float_fits<F>(b);
    return F::pack(a, b);
  }
  __device__ void report(uint64_t status, uint32_t code) const {
    if (bad) atomicCAS(pointer<uint32_t>(status), 0u, code);
  }
};

template <class F, Epilogue kKind>
struct Finish;

template <class F>
struct FinishBase {
  const EpilogueParams& p;
  const uint32_t row;
  float4 bias = make_float4(0, 0, 0, 0);
  __device__ FinishBase(const EpilogueParams& params, uint32_t first_of_four) : p(params), row(first_of_four) {
    if (p.bias) bias = __ldg(pointer<const float4>(p.bias) + row / 4);
  }
  __device__ float4 biased(float4 v) const {
    return make_float4(v.x + bias.x, v.y + bias.y, v.z + bias.z, v.w + bias.w);
  }
};

template <class F>
struct Finish<F, kResidual> : FinishBase<F> {
  using FinishBase<F>::FinishBase;
  __device__ void store(uint32_t token, float4 v) {
    const auto& p = this->p;
    v = this->biased(v);
    const uint64_t at = (uint64_t(token) * p.out_width + this->row) / 4;
    if (p.sums) {
      __stcg(pointer<float4>(p.sums) + at, v);
    } else {
      float4* x = pointer<float4>(p.out) + at;
      const float4 old = *x;
      *x = make_float4(old.x + v.x, old.y + v.y, old.z + v.z, old.w + v.w);
    }
  }
  __device__ void report() const {}
};

// Q, K and V, one after another. To pages of codes go 32 rows of a head at a time, by neighbouring lanes (store_group).
template <class F>
struct Finish<F, kQkv> : FinishBase<F> {
  Packer<F> packer;
  bool rotate;
  uint32_t dim;        // of the head
  uint32_t row_bytes;  // from one token to the next, or 0: pages
  uint32_t type;       // KvType of the pages
  uint64_t to;         // these rows of token 0, or this head in page 0
  __device__ Finish(const EpilogueParams& params, uint32_t first_of_four) : FinishBase<F>(params, first_of_four) {
    const uint32_t kv_rows = params.kv.kv_heads * params.kv.head_dim;
    const bool raw = params.k != 0;
    uint32_t part = 0, local = first_of_four;
    if (local >= params.q_rows) local -= params.q_rows, part = 1;
    if (part && local >= kv_rows) local -= kv_rows, part = 2;
    const uint32_t head = local / params.kv.head_dim;
    dim = local - head * params.kv.head_dim;
    rotate = !raw && part < 2;
    type = kKvFloat;
    if (part == 0) {
      to = params.out + local * 2;
      row_bytes = params.q_rows * 2;
    } else if (raw) {
      to = (part == 1 ? params.k : params.v) + local * 2;
      row_bytes = kv_rows * 2;
    } else {
      to = params.kv.base[part - 1] + uint64_t(head) * params.kv.head_bytes[part - 1];
      row_bytes = 0;
      type = params.kv.type[part - 1];
    }
  }

  // Rows 16 `block` on.
  __device__ float4 finished(uint32_t token, float4 v, uint32_t block) const {
    const auto& p = this->p;
    if (block == 0) {
      v = this->biased(v);
    } else if (p.bias) {
      const float4 b = __ldg(pointer<const float4>(p.bias) + this->row / 4 + 4 * block);
      v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
    }
    const uint32_t first = dim + 16 * block;
    if (!rotate || first >= p.rope_dims) return v;
    const uint32_t position = pointer<const uint32_t>(p.positions)[token];
    const float4 r = __ldg(pointer<const float4>(p.rope) + (uint64_t(position) * p.rope_dims + first) / 4);
    return make_float4(v.x * r.x - v.y * r.y, v.x * r.y + v.y * r.x, v.z * r.z - v.w * r.w, v.z * r.w + v.w * r.z);
  }

  // Address of this head in the token's page, and the token's place there.
  __device__ uint64_t page_of(uint32_t token, uint32_t& offset) const {
    const KvParams& kv = this->p.kv;
    const uint32_t slot = pointer<const uint32_t>(this->p.slots)[token], page = slot / kv.page_tokens;
    offset = slot - page * kv.page_tokens;
    return to + page * kv.page_bytes;
  }

  __device__ void put(uint32_t token, float4 v, uint32_t block) {
    uint64_t at = to + uint64_t(token) * row_bytes + block * 32;
    if (!row_bytes) {
      uint32_t offset;
      at = page_of(token, offset);
      at += (offset * this->p.kv.head_dim + dim + 16 * block) * 2;
    }
    *pointer<uint2>(at) = make_uint2(packer.pack(v.x, v.y), packer.pack(v.z, v.w));
  }

  __device__ void store(uint32_t token, float4 v) { put(token, finished(token, v, 0), 0); }

  // kLanes neighbours have 32 rows of one head and token between them; v[i]: rows 16 i on of this lane.
  template <int kLanes, int N>
  __device__ void store_group(uint32_t token, float4 (&v)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = finished(token, v[i], i);
    if (type == kKvFloat) {
#pragma unroll
      for (int i = 0; i < N; ++i) put(token, v[i], i);
      return;
    }
    float top = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float here = fmaxf(fmaxf(fabsf(v[i].x), fabsf(v[i].y)), fmaxf(fabsf(v[i].z), fabsf(v[i].w)));
      packer.bad |= !float_fits<F>(v[i].x) || !float_fits<F>(v[i].y) || !float_fits<F>(v[i].z) || !float_fits<F>(v[i].w);
      top = fmaxf(top, here);
    }
    const uint32_t neighbours = ((1u << kLanes) - 1) << (threadIdx.x & (32 - kLanes));
#pragma unroll
    for (int lanes = 1; lanes < kLanes; lanes *= 2) top = fmaxf(top, __shfl_xor_sync(neighbours, top, lanes));
    const KvScale scale(top, type);
    packer.bad |= !scale.fits();
    uint32_t offset;
    const uint64_t head = page_of(token, offset);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      *pointer<uint32_t>(head + kv_code_at(offset, dim + 16 * i, this->p.kv.head_dim)) = kv_codes(v[i], scale.inverse, type);
    }
    if (dim % kScaleDims == 0) {
      *pointer<uint16_t>(head + kv_scale_at(offset, dim, this->p.kv.head_dim)) = static_cast<uint16_t>(scale.bits);
    }
  }
  __device__ void report() const { packer.report(this->p.status, this->p.status_code); }
};

// Rows alternate: gate, up.
template <class F>
struct Finish<F, kGateUp> : FinishBase<F> {
  Packer<F> packer;
  using FinishBase<F>::FinishBase;
  // Both activations are g * sigmoid(z): SiLU with z = g, tanh GELU with z = 2 sqrt(2 / pi) (g + 0.044715 g^3).
  __device__ float activated(float g) const {
    const float z = this->p.activation ? g * fmaf(g * g, 0.0713548163f, 1.59576912f) : g;
    return __fdividef(g, 1.0f + __expf(-z));
  }
  __device__ void store(uint32_t token, float4 v) {
    const uint64_t at = (uint64_t(token) * this->p.out_width + this->row / 2) / 2;
    pointer<uint32_t>(this->p.out)[at] = packer.pack(activated(v.x) * v.y, activated(v.z) * v.w);
  }
  __device__ void report() const { packer.report(this->p.status, this->p.status_code); }
};

template <class F>
struct Finish<F, kLogits> : FinishBase<F> {
  using FinishBase<F>::FinishBase;
  __device__ float capped(float v) const { return this->p.softcap * tanhf(__fdividef(v, this->p.softcap)); }
  __device__ void store(uint32_t token, float4 v) {
    const auto& p = this->p;
    if (p.softcap != 0) v = make_float4(capped(v.x), capped(v.y), capped(v.z), capped(v.w));
    float* out = pointer<float>(p.out) + uint64_t(token) * p.out_width + this->row;
    if (p.out_width % 4 == 0) {
      *reinterpret_cast<float4*>(out) = v;
      return;
    }
    const float values[4] = {v.x, v.y, v.z, v.w};
    for (uint32_t i = 0; i < 4 && this->row + i < p.out_width; ++i) out[i] = values[i];
  }
  __device__ void report() const {}
};
