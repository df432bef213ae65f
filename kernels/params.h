// Launch parameters: one plain struct per kernel, passed by __grid_constant__. The one place where they are declared:
// .cu files include it, build.rs derives the Rust mirror (src/params.rs). Pointers are uint64_t device addresses, and a
// struct has no padding (the mirror does not compile otherwise): order fields by size, or add a named `pad`.
#pragma once
#include <stdint.h>

// ---- common ----

// Element type of K or V in the pages; kKvFloat is the compute type. What a head has in a page: src/backend/kv.rs.
enum KvType : uint32_t { kKvFloat, kKvInt8, kKvFp8 };

// One layer of a KV page group; index 0 of an array is K, 1 is V.
// Head h of page p begins at base[v] + p * page_bytes + h * head_bytes[v].
typedef struct {
  uint64_t base[2];  // of this layer's head 0 in page 0
  uint64_t page_bytes;
  uint32_t head_bytes[2];
  uint32_t type[2];  // KvType
  uint32_t kv_heads;
  uint32_t head_dim;
  uint32_t page_tokens;
  uint32_t pad;
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

// How a matrix is stored on the device; kFloat is the compute type.
enum WeightType : uint32_t { kFloat, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ4_K, kQ6_K };

// What follows the sums of a projection: kernels/epilogue.cuh.
enum Epilogue : uint32_t { kResidual, kQkv, kGateUp, kLogits };

// A matrix [rows, cols] as src/launch/repack.rs lays it out; kernels/weights.cuh reads it. Tiles of 16 rows x 64 columns,
// tile-row by tile-row, each of the planes in that order.
typedef struct {
  uint64_t quants;  // 16-byte vectors
  uint64_t high;    // upper bits of 5- and 6-bit types
  uint64_t scales;  // per tile, or per row and superblock
  uint64_t supers;  // per row and superblock
  uint32_t rows;    // without padding
  uint32_t type;    // WeightType
} MatrixParams;

// What is done with the sums of a projection: epilogue.cuh. Fields of other operations are 0.
typedef struct {
  KvParams kv;
  uint64_t bias;       // f32 [rows] or 0
  uint64_t out;        // q | activation output: compute type; x | logits: f32; row-major [T, out_width]
  uint64_t sums;       // f32 [T, out_width]: takes the sums in place of x, for a post-norm; or 0
  uint64_t k;          // compute type [T, kv_heads * head_dim]: K as projected; 0: rotate and append to pages
  uint64_t v;          // as k
  uint64_t rope;       // f32 [positions, rope_dims / 2, 2]: cos, sin
  uint64_t positions;  // u32 [T]
  uint64_t slots;      // u32 [T]
  uint64_t status;     // u32, set to status_code when a result is not finite or leaves f16
  uint32_t status_code;
  uint32_t out_width;   // elements of a row of out
  uint32_t q_rows;      // rows of Q; K follows, then V
  uint32_t rope_dims;
  uint32_t activation;  // 0: SiLU, 1: GELU (tanh)
  float softcap;        // 0: none
} EpilogueParams;

// The rows that are multiplied: x [T, cols], taken at row_index[t] where that is not 0.
typedef struct {
  uint64_t x;          // f32 where norm is not 0, else compute type
  uint64_t norm;       // f32 [cols] or 0
  uint64_t row_index;  // u32 [T] or 0
  uint32_t tokens;     // T
  uint32_t cols;
  float eps;
  uint32_t pad;
} RowsParams;

// gemv.cuh: few rows. Blocks [first_block[i], first_block[i + 1]) take part i, tiles_per_block tile-rows each.
typedef struct {
  MatrixParams part[3];
  RowsParams rows;
  EpilogueParams out;
  uint64_t post_norm;     // f32 [rows] or 0: the last block does x += norm(out.sums)
  uint64_t post_counter;  // u32, 0 between launches
  float post_eps;
  uint32_t first_block[4];
  uint32_t first_row[3];  // of each part in the fused matrix
  uint32_t tiles_per_block;
  uint32_t pairs;  // tile-rows are finished by twos: pages of codes; tiles_per_block is then even
} GemvParams;

// gemm.cu: many rows, one part.
typedef struct {
  MatrixParams part;
  EpilogueParams out;
  uint64_t x;  // compute type [T, cols]
  uint32_t tokens;
  uint32_t cols;
  uint32_t first_row;  // of the part in the fused matrix
  uint32_t epilogue;   // Epilogue
} GemmParams;

// norm_rows.cu: out[t] = norm(x[row_index[t]]) in the compute type.
typedef struct {
  RowsParams rows;
  uint64_t out;     // compute type [T, cols]
  uint64_t status;  // u32
  uint32_t status_code;
  uint32_t pad;
} NormRowsParams;

// post_norm.cu: x += norm(sums).
typedef struct {
  uint64_t sums;  // f32 [T, cols]
  uint64_t x;     // f32 [T, cols]
  uint64_t norm;  // f32 [cols]
  uint32_t tokens;
  uint32_t cols;
  float eps;
  uint32_t pad;
} PostNormParams;

// embed.cu: out[t] = table[tokens[t]] * scale.
typedef struct {
  MatrixParams table;
  uint64_t tokens;  // u32 [T]
  uint64_t out;     // f32 [T, cols]
  uint32_t token_count;
  uint32_t cols;
  float scale;
  uint32_t pad;
} EmbedParams;

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

// page_checksum.cu: out[2 i + half] = sum of that half of pages[i].
typedef struct {
  uint64_t data;   // all pages of a group
  uint64_t pages;  // u32 [N]
  uint64_t out;    // u64 [N, 2]
  uint64_t page_bytes;
  uint64_t k_bytes;  // of them: the K half
} PageChecksumParams;

// page_pack.cu: halves of pages to packed halves (src/backend/packing.rs) and back, one packing and K or V alone.
// Head h (of all layers) of pages[i] is at data + pages[i] * page_bytes + h * head_bytes, packed at
// packed + (i * heads + h) * packed_bytes.
typedef struct {
  uint64_t data;    // the half in page 0, compute type
  uint64_t pages;   // u32 [N]
  uint64_t packed;  // [N, heads] of packed_bytes
  uint64_t losses;  // f32 [N, heads, 2]: sums of squares of the errors and of the values; packing only
  uint64_t page_bytes;
  uint32_t head_bytes;
  uint32_t packed_bytes;
  uint32_t heads;  // of all layers
  uint32_t head_dim;
  uint32_t page_tokens;
  uint32_t type;  // KvType of codes with scales per 32 dims; unused by int4
} PagePackParams;
