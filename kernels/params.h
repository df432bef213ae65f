// Launch parameters: one plain struct per kernel, passed by __grid_constant__. The one place where they are declared:
// .cu files include it, build.rs derives the Rust mirror (src/params.rs). Pointers are uint64_t device addresses, and a
// struct has no padding (the mirror does not compile otherwise): order fields by size, or add a named `pad`.
#pragma once
#include <stdint.h>

// ---- common ----

// One layer of a KV page group; see KvLayout in src/backend/types.rs. Strides in elements.
// Element (page, k|v, head, token, dim) = base + page * page_stride + v * half_stride + head * head_stride + token * head_dim + dim
typedef struct {
  uint64_t base;  // address of this layer in page 0: data + layer * layer_stride elements
  uint64_t page_stride;
  uint64_t half_stride;
  uint32_t head_stride;
  uint32_t kv_heads;
  uint32_t head_dim;
  uint32_t page_tokens;
} KvParams;

// The step's metadata on the device; see Sections in src/backend/batch.rs. Addresses of u32 arrays.
typedef struct {
  uint64_t tokens;       // [T]
  uint64_t positions;    // [T]
  uint64_t query_start;  // [S + 1]
  uint64_t kv_len;       // [S]
  uint64_t slots;        // [T] of the layer's group
  uint64_t page_tables;  // [S, pages_per_seq] of the layer's group
  uint32_t token_count;
  uint32_t seq_count;
  uint32_t decodes;
  uint32_t pages_per_seq;
} BatchParams;

// ---- mm ----

// ---- attn ----

// attention_decode.cu: the first `decodes` sequences, one token each.
typedef struct {
  BatchParams batch;
  KvParams kv;
  uint64_t q;         // compute type [T, heads, head_dim]
  uint64_t out;       // compute type [T, heads, head_dim]
  uint64_t partials;  // f32, one [8 heads, head_dim + 2] per block of the grid; unused with one split
  uint64_t counters;  // u32 [decodes, kv_heads * head tiles], zero between launches
  uint32_t heads;
  uint32_t splits;   // grid.x: parts of the key range
  uint32_t window;   // UINT32_MAX: none
  float scale;       // of q k^T
  float softcap;     // 0: none
  uint32_t pad;
} AttentionDecodeParams;

// attention_prefill.cu: sequences decodes .. seq_count.
typedef struct {
  BatchParams batch;
  KvParams kv;
  uint64_t q;    // compute type [T, heads, head_dim]
  uint64_t out;  // compute type [T, heads, head_dim]
  uint32_t heads;
  uint32_t window;  // UINT32_MAX: none
  float scale;
  float softcap;  // 0: none
} AttentionPrefillParams;

// qk_norm_rope.cu: RMSNorm and RoPE of each head of q and k, append of k and v.
typedef struct {
  BatchParams batch;
  KvParams kv;
  uint64_t q;       // compute type [T, heads, head_dim], normed and rotated in place
  uint64_t k;       // compute type [T, kv_heads, head_dim], as projected
  uint64_t v;       // compute type [T, kv_heads, head_dim], as projected
  uint64_t q_norm;  // f32 [head_dim]
  uint64_t k_norm;  // f32 [head_dim]
  uint64_t rope;    // f32 [positions, rope_dims / 2, 2]: cos, sin
  uint64_t status;  // u32, set to status_code when a result is not finite or leaves f16
  uint32_t heads;
  uint32_t rope_dims;
  float eps;
  uint32_t status_code;
} QkNormRopeParams;

// sample.cu; the batch's sections as addresses, see Sections in src/backend/batch.rs.
typedef struct {
  uint64_t logits;        // f32 [R, vocab]; the repeat penalty is written back
  uint64_t out;           // u32 [R]
  uint64_t sample;        // [R, 8]: temperature, top_k, top_p, min_p, repeat_penalty, seed low, seed high, step
  uint64_t recent_start;  // u32 [R + 1]
  uint64_t recent;        // u32
  uint64_t best;          // u64 [R], zero between launches (greedy)
  uint64_t counters;      // u32 [R], zero between launches (greedy)
  uint32_t vocab;
  uint32_t pad;
} SampleParams;
