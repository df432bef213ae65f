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
