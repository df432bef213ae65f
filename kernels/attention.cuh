// What decode and prefill attention share: scores, the online softmax, and where a run of 8 keys lies.
//
// The softmax works in powers of two: x = score * log2(e), p = 2^(x - m). The running maximum m is rounded up to an integer
// and lowered by kHeadroom. So p lies in (0, 2^kHeadroom], small p stay normal f16 numbers, every rescaling is by an exact
// power of two, and p is rounded to the compute type in the same way whatever the split of the keys: only the order of
// the f32 sums depends on it.
// brings: kHeadroom, kNoMax, Scores, rounded_max, Pages
#pragma once
#include "float.cuh"
#include "params.h"

constexpr float kHeadroom = 14.0f;
// Below every maximum, and finite, so that differences of maxima are never NaN.
constexpr float kNoMax = -1.0e30f;
constexpr float kLog2e = 1.44269504088896341f;

// q k^T to exponents of two, through the soft cap c * tanh(s / c) where there is one.
struct Scores {
  float inner;  // multiplies q k^T
  float cap;    // 0: none

  __device__ __forceinline__ Scores(float scale, float softcap)
      : inner(softcap == 0.0f ? scale * kLog2e : 2.0f * kLog2e * scale / softcap), cap(softcap * kLog2e) {}

  template <int N>
  __device__ __forceinline__ void apply(float (&x)[N][4]) const {
#pragma unroll
    for (int i = 0; i < 4 * N; i++) x[i / 4][i % 4] *= inner;
    if (cap == 0.0f) return;
    // tanh(y) = 1 - 2 / (e^2y + 1); the hardware's tanh has only 11 bits.
#pragma unroll
    for (int i = 0; i < 4 * N; i++) {
      x[i / 4][i % 4] = cap - __fdividef(2.0f * cap, exp2_approx(x[i / 4][i % 4]) + 1.0f);
    }
  }
};

__device__ __forceinline__ float rounded_max(float before, float x) { return fmaxf(before, ceilf(x) - kHeadroom); }

// Page table of one sequence. A run is 8 keys at a multiple of 8, so it lies within one page.
struct Pages {
  const uint32_t* table;
  uint32_t shift;       // log2(page_tokens)
  uint32_t page_units;  // 16-byte units from one page to the next

  __device__ __forceinline__ Pages(const BatchParams& batch, const KvParams& kv, uint32_t seq)
      : table(reinterpret_cast<const uint32_t*>(batch.page_tables) + uint64_t(seq) * batch.pages_per_seq),
        shift(31 - __clz(kv.page_tokens)),
        page_units(uint32_t(kv.page_bytes / 16)) {}

  // The page of key `run` (a multiple of 8).
  __device__ __forceinline__ uint32_t page(uint32_t run) const { return __ldg(table + (run >> shift)); }
  // Runs before it in its page.
  __device__ __forceinline__ uint32_t runs_before(uint32_t run) const { return (run & ((1u << shift) - 1)) / 8; }
};
