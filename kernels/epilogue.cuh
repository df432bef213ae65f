// What is done with the sums of a projection: bias, then residual, RoPE and append, activation, or soft cap.
// brings: pointer, Packer<F>, Finish<F, kind>
//
// A Finish serves one thread: four neighbouring rows of the matrix (outputs), any token.
#pragma once
#include "float.cuh"
#include "params.h"

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

// Q, K and V, one after another.
template <class F>
struct Finish<F, kQkv> : FinishBase<F> {
  Packer<F> packer;
  bool rotate;
  uint32_t dim;         // of the head
  uint32_t row_bytes;  // from one token to the next, or 0: pages
  uint64_t to;         // token 0, or this head in page 0
  __device__ Finish(const EpilogueParams& params, uint32_t first_of_four) : FinishBase<F>(params, first_of_four) {
    const uint32_t kv_rows = params.kv.kv_heads * params.kv.head_dim;
    const bool raw = params.k != 0;
    uint32_t part = 0, local = first_of_four;
    if (local >= params.q_rows) local -= params.q_rows, part = 1;
    if (part && local >= kv_rows) local -= kv_rows, part = 2;
    const uint32_t head = local / params.kv.head_dim;
    dim = local - head * params.kv.head_dim;
    rotate = !raw && part < 2 && dim < params.rope_dims;
    if (part == 0) {
      to = params.out + local * 2;
      row_bytes = params.q_rows * 2;
    } else if (raw) {
      to = (part == 1 ? params.k : params.v) + local * 2;
      row_bytes = kv_rows * 2;
    } else {
      to = params.kv.base[part - 1] + uint64_t(head) * params.kv.head_bytes[part - 1] + dim * 2;
      row_bytes = 0;
    }
  }
  __device__ void store(uint32_t token, float4 v) {
    const auto& p = this->p;
    v = this->biased(v);
    if (rotate) {
      const uint32_t position = pointer<const uint32_t>(p.positions)[token];
      const float4 r = __ldg(pointer<const float4>(p.rope) + (uint64_t(position) * p.rope_dims + dim) / 4);
      v = make_float4(v.x * r.x - v.y * r.y, v.x * r.y + v.y * r.x, v.z * r.z - v.w * r.w, v.z * r.w + v.w * r.z);
    }
    uint64_t at = uint64_t(token) * row_bytes;
    if (!row_bytes) {
      const uint32_t slot = pointer<const uint32_t>(p.slots)[token];
      const uint32_t page = slot / p.kv.page_tokens;
      at = page * p.kv.page_bytes + (slot - page * p.kv.page_tokens) * p.kv.head_dim * 2;
    }
    *pointer<uint2>(to + at) = make_uint2(packer.pack(v.x, v.y), packer.pack(v.z, v.w));
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
