//! The planted mistakes.

/// A replacement in `kernels/{file}.cu`; `from` occurs once.
#[derive(Clone, Copy)]
pub struct Mutant {
    pub file: &'static str,
    pub what: &'static str,
    pub from: &'static str,
    pub to: &'static str,
}

const fn decode(what: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { file: "attention_decode", what, from, to }
}

const fn prefill(what: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { file: "attention_prefill", what, from, to }
}

const fn sample(what: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { file: "sample", what, from, to }
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
    decode("V of masked keys kept", "w.clear_v(key + 2 * t, range.first, range.stop);", ""),
    decode("pages of a tile swapped", "% kLook * S::kRuns + r)", "% kLook * S::kRuns + (r ^ 1))"),
    decode("page offsets held too long", "if (step % kLook == 0)", "if (step % (2 * kLook) == 0)"),
    decode("page table read beyond its end", "pages.unit(min(ahead, last_run))", "pages.unit(ahead)"),
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
    decode("K read as V", "layer + p.kv.half_stride * 2 + 2 * t", "layer + 2 * t"),
    decode("query of the wrong KV head", "kv_head * group + tile", "tile"),
    prefill("diagonal masked", "if (at > own ||", "if (at >= own ||"),
    prefill("future seen", "if (at > own ||", "if (at > own + 2 ||"),
    prefill("window one key long", "own - at >= window)", "own - at > window)"),
    prefill("edge tile taken for a whole one", "key + S::kKeys - 1 <= low &&", "key + S::kKeys - 1 <= high &&"),
    prefill("barrier of the loop dropped", "__syncthreads();\n    const bool more", "const bool more"),
    prefill(
        "copies of a tile not waited for",
        "copy_async_wait<0>();\n    __syncthreads();\n    const bool more",
        "__syncthreads();\n    const bool more",
    ),
    prefill("tile copied over the one in use", "units[stage ^ 1], stage ^ 1);", "units[stage ^ 1], stage);"),
    prefill("unused slots not cleared", "valid = key + row >= tile.first && key + row < tile.end;", "valid = true;"),
    prefill("pages of a tile swapped", "units[row / 8])", "units[row / 8 ^ 1])"),
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
];
