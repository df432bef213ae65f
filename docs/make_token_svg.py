"""Draws token.svg: the path from prompt to token. Run: python3 docs/make_token_svg.py > docs/token.svg"""
from draw import Picture

p = Picture(1120, 560, "From prompt to token")
box, arrow, label = p.box, p.arrow, p.label
# host row
box(20, 50, 150, 56, "tokenizer", "text to ids", "#eef3fb")
box(210, 50, 190, 56, "scheduler", "decodes + prefill chunks|under a token budget", "#eef3fb")
box(440, 50, 190, 56, "batch", "page tables, slots, positions|in one pinned copy", "#eef3fb")
box(950, 50, 150, 56, "detokenizer", "whole UTF-8 characters", "#eef3fb")
arrow((170, 78), (210, 78)); arrow((400, 78), (440, 78))
label(20, 130, "host: thin Rust runtime")
# device frame
p.raw('<rect x="20" y="150" width="1080" height="290" rx="8" fill="#f3f8f0" stroke="#7a9a6a"/>')
label(32, 170, "device: hand-written CUDA kernels, compiled by build.rs to PTX", color="#4d6b3f")
p.raw('<rect x="170" y="185" width="700" height="240" rx="8" fill="none" stroke="#7a9a6a" stroke-dasharray="6 4"/>')
label(182, 203, "every layer: 5 launches at decode (6 with QK-norm)", color="#4d6b3f")
box(36, 225, 112, 50, "embedding", "rows of ids")
names = [("norm + QKV", "bias, RoPE, append"), ("paged attention", "split KV, GQA in M"), ("output proj.", "+ residual"),
         ("norm + gate/up", "+ activation"), ("down proj.", "+ residual")]
xs = [184 + i * 137 for i in range(5)]
for x, (a, b) in zip(xs, names):
    box(x, 225, 124, 50, a, b)
for x, y in zip(xs, xs[1:]):
    arrow((x + 124, 250), (y, 250))
arrow((148, 250), (184, 250)); arrow((860, 250), (890, 250))
box(890, 225, 96, 50, "LM head", "final norm")
box(1004, 225, 86, 50, "sampler", "seeded")
arrow((986, 250), (1004, 250))
arrow((535, 106), (535, 140), (92, 140), (92, 225))
arrow((1047, 225), (1047, 106))
# KV pages
label(430, 312, "KV pages: [page][k|v][layer][head][token][dim]", color="#333")
colors = ["#d7e6f7", "#d7e6f7", "#fbe3c7", "#d7e6f7", "#fbe3c7", "#e7ddf5", "#fff", "#fff", "#e7ddf5", "#fff", "#fbe3c7", "#fff"]
for i, c in enumerate(colors):
    p.page(184 + i * 44, 325, c)
label(184, 408, "one colour = one sequence; white = free; a page holds 16 tokens of all layers of its group", size=12)
arrow((246, 275), (246, 325)); arrow((383, 325), (383, 275))
label(252, 304 - 8, "append", size=11); label(389, 304 - 8, "read", size=11)
# driver
box(170, 462, 320, 66, "NVIDIA driver", "sm_80 and newer: PTX compiled for the GPU", "#fff")
box(560, 462, 320, 66, "emulated GPU", "the CUDA driver API on the CPU,|executing the same PTX, checked", "#fff")
label(36, 500, "cudarc: libcuda", size=13)
arrow((330, 440), (330, 462), dash=True); arrow((720, 440), (720, 462), dash=True)
p.print()
