//! The planted mistakes.

/// A replacement in `kernels/{place}`, where `from` occurs once.
#[derive(Clone, Copy)]
pub struct Mutant {
    /// The stem of the entry file whose checks are run.
    pub file: &'static str,
    /// The file that has the mistake: the entry file or a header of it.
    pub place: &'static str,
    pub what: &'static str,
    pub from: &'static str,
    pub to: &'static str,
}

const fn decode(what: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { file: "attention_decode", place: "attention_decode.cu", what, from, to }
}

const fn prefill(what: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { file: "attention_prefill", place: "attention_prefill.cu", what, from, to }
}

const fn sample(what: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { file: "sample", place: "sample.cu", what, from, to }
}

const fn at(
    file: &'static str,
    place: &'static str,
    what: &'static str,
    from: &'static str,
    to: &'static str,
) -> Mutant {
    Mutant { file, place, what, from, to }
}

/// Of what is read from pages of codes.
const fn codes(file: &'static str, what: &'static str, from: &'static str, to: &'static str) -> Mutant {
    at(file, "fragments.cuh", what, from, to)
}

/// Of the projections of few rows.
const fn gemv(what: &'static str, from: &'static str, to: &'static str) -> Mutant {
    at("linear_residual", "gemv.cuh", what, from, to)
}

/// Of the projections of many rows.
const fn gemm(what: &'static str, from: &'static str, to: &'static str) -> Mutant {
    at("gemm", "gemm.cuh", what, from, to)
}

/// Of pages on their way out and back.
const fn pack(what: &'static str, from: &'static str, to: &'static str) -> Mutant {
    at("page_pack", "page_pack.cu", what, from, to)
}

pub const MUTANTS: &[Mutant] = &[
    decode(
        "barrier before the common maximum dropped",
        "__syncthreads();\n#pragma unroll\n    for (int h = 0; h < 2; h++) {\n      const float factor",
        "for (int h = 0; h < 2; h++) {\n      const float factor",
    ),
    decode(
        "barrier before the warps' sum dropped",
        "__syncthreads();\n  }\n\n  __device__ __forceinline__ static uint32_t at",
        "}\n\n  __device__ __forceinline__ static uint32_t at",
    ),
    decode("mask one key late", "|| at >= range.stop) x", "|| at > range.stop) x"),
    decode("mask drops the first key", "if (at < range.first ||", "if (at <= range.first ||"),
    decode("window one key short", "end > window ? end - window : 0", "end > window ? end - window + 1 : 0"),
    decode("V of masked keys kept", "w.clear_values(key + 4 * t, range.first, range.stop);", ""),
    decode("pages of a tile swapped", "k, step % kLook * kRuns + run)", "k, step % kLook * kRuns + (run ^ 1))"),
    decode("page offsets held too long", "if (step % kLook != 0)", "if (step % (2 * kLook) != 0)"),
    decode("page table read beyond its end", "lane % kRuns * 8, last)", "lane % kRuns * 8, ~7u)"),
    decode("output not rescaled", "out[i][h] *= factor;", ""),
    decode("sum not rescaled", "sum[h] *= factor;", ""),
    decode(
        "weights not transposed",
        "b1 = movmatrix_trans(F::pack(p[i][2], p[i][3]))",
        "b1 = F::pack(p[i][2], p[i][3])",
    ),
    decode(
        "warps' sums on different scales",
        "s += sum[w][head] * exp2_approx(max[w][head] - top(head));",
        "s += sum[w][head];",
    ),
    decode(
        "a warp's output left out",
        "w < kWarps; w++) {\n      const float2 v",
        "w < kWarps - 1; w++) {\n      const float2 v",
    ),
    decode("splits joined without rescaling", "acc.x * a + v.x * b", "acc.x + v.x"),
    decode("sums of splits not rescaled", "sum = sum * a + state.y * b;", "sum = sum + state.y;"),
    decode("counter not reset", "range.parts - 1);\n", "0xffffffffu);\n"),
    decode("K read as V", "p.kv.base[1] + uint64_t", "p.kv.base[0] + uint64_t"),
    decode("query of the wrong KV head", "kv_head * group + tile", "tile"),
    decode("unit of V left out", "VC ? kv_unit<F>(p.kv.type[1]) : 1.0f, warp", "1.0f, warp"),
    codes(
        "attention_decode",
        "scales of two keys swapped",
        "even = both.splat_half(false), odd = both.splat_half(true);",
        "even = both.splat_half(true), odd = both.splat_half(false);",
    ),
    codes("attention_decode", "one scale for 64 dims of V", "- g * 16 + g / 4 * 4;", "- g * 16;"),
    codes("attention_decode", "scales of the keys before", "lane % 2 * (4 * D - D / 4)", "lane % 2 * (4 * D)"),
    codes(
        "attention_decode",
        "scale of the other key cleared",
        "? 0x0000ffff : 0xffff0000",
        "? 0xffff0000 : 0x0000ffff",
    ),
    codes(
        "attention_decode",
        "K of fp8 taken for int8",
        "kKvFp8 ? multiply_codes<true>(x, q)",
        "99 ? multiply_codes<true>(x, q)",
    ),
    at("attention_decode", "kv.cuh", "zero of the codes off by 8", "0xd480d480", "0xd488d488"),
    at(
        "attention_decode",
        "kv.cuh",
        "sign of fp8 lost",
        "lop_and_or<0x80008000>(x, x >> 1 & 0x3f803f80)",
        "x >> 1 & 0x3f803f80",
    ),
    at(
        "attention_decode",
        "kv.cuh",
        "scale of fp8 left out",
        "scale(Pairs<F16>::mul(scales, 0x5c005c00))",
        "scale(0x5c005c00)",
    ),
    prefill("tile used while it is dequantised", "if (KC || VC) __syncthreads();", ""),
    prefill("one scale for 64 dims", "chunk / 4 * 4)", "chunk / 8 * 4)"),
    prefill("scale of an unused slot kept", "if (!counts(key + row)) scales &= 0xffff0000;", ""),
    prefill("scales of two keys swapped", "both.splat_half(false), odd", "both.splat_half(true), odd"),
    prefill("unit of K left out", "p.scale * (KC ? kv_unit<F>(p.kv.type[0]) : 1.0f)", "p.scale"),
    prefill("diagonal masked", "if (at > own ||", "if (at >= own ||"),
    prefill("future seen", "if (at > own ||", "if (at > own + 2 ||"),
    prefill("window one key long", "own - at >= window)", "own - at > window)"),
    prefill("edge tile taken for a whole one", "key + S::kKeys - 1 <= low &&", "key + S::kKeys - 1 <= high &&"),
    prefill("barrier of the loop dropped", "__syncthreads();\n    if (KC) block", "if (KC) block"),
    prefill(
        "copies of a tile not waited for",
        "copy_async_wait<0>();\n    __syncthreads();\n    if (KC) block",
        "__syncthreads();\n    if (KC) block",
    ),
    prefill("tile copied over the one in use", "runs[stage ^ 1], stage ^ 1);", "runs[stage ^ 1], stage);"),
    prefill("unused slots not cleared", "return key >= tile.first && key < tile.end;", "return true;"),
    prefill("pages of a tile swapped", "run_at(row / 8)", "run_at(row / 8 ^ 1)"),
    prefill("page offsets of the wrong tile", "block.locate(key + 2 * S::kKeys)", "block.locate(key + S::kKeys)"),
    prefill("output not rescaled", "out[i][2 * r + 1] *= factor;", ""),
    prefill("last keys of an edge tile left out", "(high - key) / 16 + 1;", "(high - key) / 16;"),
    prefill("query of the wrong KV head", "blockIdx.y * group + at % group", "blockIdx.y + at % group"),
    prefill(
        "shared memory read without the swizzle",
        "v + swizzled<D>(16 * j + row, 2 * i + chunk)",
        "v + swizzled<D>(16 * j + row, 2 * i + chunk ^ 1)",
    ),
    prefill("halves of a store mixed up", "odd ? left : right, 1", "odd ? right : left, 1"),
    prefill(
        "first tile's queries for all",
        "return (uint64_t(tile.start + at / group)",
        "return (uint64_t(tile.start + row / group)",
    ),
    sample("highest id of equal ones", "if (value > x) {", "if (value >= x) {"),
    sample("greedy maximum left behind", "atomicExch(shared_top, Weight(0))", "*shared_top"),
    sample("greedy counter not reset", "row, gridDim.x - 1) != gridDim.x - 1", "row, 0xffffffffu) != gridDim.x - 1"),
    sample("penalty of negative logits", ": logits[id] * penalty;", ": logits[id] / penalty;"),
    sample("histogram not cleared", "s.weights[i] = 0;", ""),
    sample("last token of the top-k left out", "/ one : target);", "/ one : target - 1);"),
    sample(
        "ties of the cut all kept",
        "const uint32_t keep = cut.keep > ties_before ? cut.keep - ties_before : 0;",
        "const uint32_t keep = cut.keep;",
    ),
    sample("low bits of the cut ignored", "shift >= 0; shift", "shift > 0; shift"),
    sample("a round of Philox dropped", "round < 10", "round < 9"),
    sample("min-p ignored", "return p >= min_p ?", "return true ?"),
    sample("barrier after the search dropped", "__syncthreads();\n  return s.target;", "return s.target;"),
    gemv("barrier before the warps' sums dropped", "__syncthreads();\n    const uint32_t row", "const uint32_t row"),
    gemv("a warp's sums left out", "w = 1; w < blockDim.x / 32; ++w", "w = 1; w < blockDim.x / 32 - 1; ++w"),
    gemv("next tile-row read from the wrong place", "ends ? across - count + left : kAhead", "ends ? across : kAhead"),
    gemv("tile-rows beyond the matrix", "min(p.tiles_per_block, tile_rows - first)", "p.tiles_per_block"),
    gemv("post-norm's counter not reset", "gridDim.x - 1) == gridDim.x - 1", "0xffffffffu) == gridDim.x - 1"),
    gemv(
        "post-norm of the first token for all",
        "norm_scale(partial + t * kMostWarps, width",
        "norm_scale(partial, width",
    ),
    at(
        "linear_residual",
        "epilogue.cuh",
        "bias left out",
        "v = this->biased(v);\n    const uint64_t at = (",
        "const uint64_t at = (",
    ),
    at("linear_residual", "rows.cuh", "epsilon left out", "rsqrtf(sum / cols + eps)", "rsqrtf(sum / cols)"),
    at(
        "norm_gate_up",
        "gemv.cuh",
        "norm of the first token for all",
        "norm_scale(partial + t * kMostWarps, rows.cols",
        "norm_scale(partial, rows.cols",
    ),
    at(
        "norm_gate_up",
        "gemv.cuh",
        "barrier after the square sums dropped",
        "from[i]; });\n  }\n  __syncthreads();",
        "from[i]; });\n  }",
    ),
    at("norm_gate_up", "epilogue.cuh", "gate and up mixed up", "activated(v.x) * v.y", "activated(v.y) * v.x"),
    at(
        "norm_gate_up",
        "epilogue.cuh",
        "GELU without its cubic term",
        "fmaf(g * g, 0.0713548163f, 1.59576912f)",
        "1.59576912f",
    ),
    at(
        "norm_lm_head",
        "rows.cuh",
        "rows that need no logits",
        "p.row_index ? __ldg(pointer<const uint32_t>(p.row_index) + t) : t",
        "t",
    ),
    at("norm_lm_head", "epilogue.cuh", "soft cap left out", "if (p.softcap != 0)", "if (false)"),
    at(
        "qkv",
        "epilogue.cuh",
        "rotation the other way",
        "v.x * r.x - v.y * r.y, v.x * r.y + v.y * r.x",
        "v.x * r.x + v.y * r.y, v.y * r.x - v.x * r.y",
    ),
    at("qkv", "epilogue.cuh", "scale of 16 dims", "lanes < kLanes; lanes", "lanes < kLanes / 2; lanes"),
    at("qkv", "epilogue.cuh", "scale of the first head's dims", "if (dim % kScaleDims == 0)", "if (dim == 0)"),
    at("qkv", "gemv.cuh", "two warps finish a pair", "warp != tile_row / 2 % warps", "warp != tile_row % warps"),
    at("qkv", "gemv.cuh", "rows of a pair mixed up", "{above, lane.sum(sums)}", "{lane.sum(sums), above}"),
    at("qkv", "kv.cuh", "one scale for 64 dims", "dim / kScaleDims * 4 +", "dim / (2 * kScaleDims) * 4 +"),
    at(
        "qkv",
        "kv.cuh",
        "a token's codes over its neighbour's",
        "dim / 8 * 16 + token % 2 * 8 + dim % 8;",
        "dim / 8 * 16 + dim % 8;",
    ),
    at("qkv", "kv.cuh", "e4m3 always rounded up", "bits + 0x7ffff + (bits >> 20 & 1)", "bits + 0xfffff"),
    at(
        "qk_norm_rope",
        "kv.cuh",
        "scale of 16 dims",
        "return fmaxf(top, __shfl_xor_sync(scale_lanes(), top, 2));",
        "return top;",
    ),
    at("qkv", "epilogue.cuh", "V rotated", "&& part < 2;", "&& part < 3;"),
    at("qkv", "epilogue.cuh", "elements beyond the rotated ones rotated", "|| first >= p.rope_dims", ""),
    at("qkv", "qkv.cu", "K's matrix for V", "+ (blockIdx.x >= p.first_block[2])", ""),
    gemm("stage not waited for", "copy_async_wait<S::kStages - 2>();\n    __syncthreads();", "__syncthreads();"),
    gemm(
        "barrier of the loop dropped",
        "copy_async_wait<S::kStages - 2>();\n    __syncthreads();",
        "copy_async_wait<S::kStages - 2>();",
    ),
    gemm("stage copied over the one in use", "slot == 0 ? S::kStages - 1 : slot - 1;", "slot;"),
    gemm("a split's sums left out", "split < S::kSplit; ++split", "split < S::kSplit - 1; ++split"),
    gemm("columns of x without the swizzle", "x ^ (s << 5)", "x + (s << 5)"),
    gemm(
        "columns beyond the last",
        "copy_async_16(stage + slot * 128 + ((v ^ (slot & 7)) << 4), p.x + (uint64_t(token) * p.cols + column) * 2, inside)",
        "copy_async_16(stage + slot * 128 + ((v ^ (slot & 7)) << 4), p.x + (uint64_t(token) * p.cols + column) * 2, true)",
    ),
    gemm(
        "barrier before the next chunk dropped",
        "chunk += S::kChunk) {\n    __syncthreads();",
        "chunk += S::kChunk) {",
    ),
    gemm("first tile-row for all", "to_row[m] = (tile_row(m) - tile_row(0)) * across;", "to_row[m] = 0;"),
    at("norm_rows", "norm_rows.cu", "epsilon left out", " + p.rows.eps)", ")"),
    at(
        "norm_rows",
        "norm_rows.cu",
        "half of the square sum",
        "i += 32) sum += square_sum",
        "i += 64) sum += square_sum",
    ),
    at("post_norm", "post_norm.cu", "epsilon left out", " + p.eps)", ")"),
    at(
        "post_norm",
        "rows.cuh",
        "lanes left out of the sum",
        "lanes = 16; lanes; lanes /= 2",
        "lanes = 8; lanes; lanes /= 2",
    ),
    at("qk_norm_rope", "qk_norm_rope.cu", "K normed as Q", "is_q ? p.q_norm : p.k_norm", "p.q_norm"),
    at("qk_norm_rope", "qk_norm_rope.cu", "V normed", "if (!is_v) {\n    x = y;", "x = y;\n  if (!is_v) {"),
    at("qk_norm_rope", "qk_norm_rope.cu", "epsilon left out", "square / D + eps", "square / D"),
    at(
        "qk_norm_rope",
        "qk_norm_rope.cu",
        "elements beyond the rotated ones rotated",
        "if (first + i >= dims) return;",
        "",
    ),
    at("embed", "embed.cu", "odd rows taken for even ones", "const bool odd = row & 1;", "const bool odd = false;"),
    at(
        "embed",
        "embed.cu",
        "scale left out",
        "make_float2(first * p.scale, second * p.scale)",
        "make_float2(first, second)",
    ),
    pack("first page for all", "(p.pages)[blockIdx.y]", "(p.pages)[0]"),
    pack(
        "packed where the first is",
        "p.packed + (uint64_t(blockIdx.y) * p.heads + blockIdx.x)",
        "p.packed + (uint64_t(blockIdx.x))",
    ),
    pack("loss of the first warp alone", "w < blockDim.x / 32; w++", "w < 1; w++"),
    pack(
        "loss of the exact element",
        "const Eight rounded = Eight::of<F>(unpacked.packed<F>());",
        "const Eight rounded = values;",
    ),
    pack("barrier before the warps' losses dropped", "__syncthreads();", ""),
    pack("range of eight dims alone", "lanes <= 2; lanes *= 2", "lanes <= 0; lanes *= 2"),
    pack(
        "least value of half of the dims",
        "least = fminf(least, __shfl_xor_sync",
        "least = fmaxf(least, __shfl_xor_sync",
    ),
    pack("codes cut, not rounded", "__float2int_rn((x - least) * inverse)", "int((x - least) * inverse)"),
    pack(
        "codes beyond 15",
        "min(max(__float2int_rn((x - least) * inverse), 0), 15)",
        "max(__float2int_rn((x - least) * inverse), 0)",
    ),
    pack("least value left out", "float(code) * step + least", "float(code) * step"),
    pack("odd dims with the step of even ones", "even(ranges.x), odd(ranges.y)", "even(ranges.x), odd(ranges.x)"),
    pack(
        "odd dims packed as even ones",
        "even(least.x, most.x), odd(least.y, most.y)",
        "even(least.x, most.x), odd(least.x, most.x)",
    ),
    pack(
        "first token left out of the range",
        "float2 least = F::unpack(x[0]), most = least;",
        "float2 least = F::unpack(x[1]), most = least;",
    ),
    pack("codes of the second four tokens lost", "(i < 4 ? codes.x : codes.y)", "codes.x"),
    pack("pages of 16 tokens as those of 8", "case 16: pack_k4<F, 16>", "case 16: pack_k4<F, 8>"),
    pack("codes of K's second 16 tokens over the first", "(at.packed + j * T)[w / 4] =", "(at.packed + j * T)[0] ="),
    pack("codes of K's second four tokens lost", "make_uint2(words[0], words[1])", "make_uint2(words[0], words[0])"),
    pack("codes of K's fourth four tokens lost", "words[w + 2], words[w + 3])", "words[w + 2], words[w + 2])"),
    pack(
        "ranges of V over the codes",
        "at.packed + codes4_bytes(p))[i / 4] = range.bits",
        "at.packed)[i / 4] = range.bits",
    ),
    pack("range of the next dims", "codes4_bytes(p))[i / 4]);", "codes4_bytes(p))[i / 8]);"),
    pack("scale of another token", "kv_scale_at(token, dim, p.head_dim)", "kv_scale_at(0, dim, p.head_dim)"),
    at(
        "page_pack",
        "kv.cuh",
        "scale of eight dims alone",
        "top = fmaxf(top, __shfl_xor_sync(scale_lanes(), top, 1));",
        "",
    ),
    at(
        "page_pack",
        "kv.cuh",
        "scale of the first token for both",
        "scale_at(offset, first, dims)) = uint16_t",
        "scale_at(offset & ~1u, first, dims)) = uint16_t",
    ),
    at("page_pack", "kv.cuh", "fp8 without its unit", "  scale *= 256.0f;\n", ""),
    at(
        "page_pack",
        "kv.cuh",
        "codes of the first four dims twice",
        "kv_codes(make_float4(x.v[4], x.v[5], x.v[6], x.v[7])",
        "kv_codes(make_float4(x.v[0], x.v[1], x.v[2], x.v[3])",
    ),
];
