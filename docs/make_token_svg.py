"""Draws token.svg: the path from prompt to token. Run: python3 docs/make_token_svg.py > docs/token.svg"""
W, H = 1120, 560
out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" font-family="system-ui, sans-serif" font-size="14">',
       f'<rect width="{W}" height="{H}" rx="10" fill="#fbfbf8"/>',
       '<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
       '<path d="M0 0L10 5L0 10z" fill="#555"/></marker></defs>']

def box(x, y, w, h, title, sub="", fill="#fff", stroke="#444"):
    out.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6" fill="{fill}" stroke="{stroke}"/>')
    lines = [title] if not sub else [title, *sub.split("|")]
    top = y + h / 2 - (len(lines) - 1) * 8.5 + 5
    for i, line in enumerate(lines):
        weight = ' font-weight="600" font-size="13"' if i == 0 else ' fill="#555" font-size="12"'
        out.append(f'<text x="{x + w / 2}" y="{top + i * 17}" text-anchor="middle"{weight}>{line}</text>')

def arrow(*points, dash=False):
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    out.append(f'<path d="{path}" fill="none" stroke="#555" stroke-width="1.5" marker-end="url(#a)"{" stroke-dasharray=" + chr(34) + "5 4" + chr(34) if dash else ""}/>')

def label(x, y, text, anchor="start", size=12, color="#555"):
    out.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{color}">{text}</text>')

label(20, 30, "From prompt to token", size=18, color="#111")
# host row
box(20, 50, 150, 56, "tokenizer", "text to ids", "#eef3fb")
box(210, 50, 190, 56, "scheduler", "decodes + prefill chunks|under a token budget", "#eef3fb")
box(440, 50, 190, 56, "batch", "page tables, slots, positions|in one pinned copy", "#eef3fb")
box(950, 50, 150, 56, "detokenizer", "whole UTF-8 characters", "#eef3fb")
arrow((170, 78), (210, 78)); arrow((400, 78), (440, 78))
label(20, 130, "host: thin Rust runtime")
# device frame
out.append('<rect x="20" y="150" width="1080" height="290" rx="8" fill="#f3f8f0" stroke="#7a9a6a"/>')
label(32, 170, "device: hand-written CUDA kernels, compiled by build.rs to PTX", color="#4d6b3f")
out.append('<rect x="170" y="185" width="700" height="240" rx="8" fill="none" stroke="#7a9a6a" stroke-dasharray="6 4"/>')
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
    x = 184 + i * 44
    out.append(f'<rect x="{x}" y="325" width="38" height="60" rx="3" fill="{c}" stroke="#777"/>')
    out.append(f'<line x1="{x}" y1="355" x2="{x + 38}" y2="355" stroke="#999"/>')
    label(x + 19, 344, "K", "middle", 11); label(x + 19, 374, "V", "middle", 11)
label(184, 408, "one colour = one sequence; white = free; a page holds 16 tokens of all layers of its group", size=12)
arrow((246, 275), (246, 325)); arrow((383, 325), (383, 275))
label(252, 304 - 8, "append", size=11); label(389, 304 - 8, "read", size=11)
# driver
box(170, 462, 320, 66, "NVIDIA driver", "sm_80 and newer: PTX compiled for the GPU", "#fff")
box(560, 462, 320, 66, "emulated GPU", "the CUDA driver API on the CPU,|executing the same PTX, checked", "#fff")
label(36, 500, "cudarc: libcuda", size=13)
arrow((330, 440), (330, 462), dash=True); arrow((720, 440), (720, 462), dash=True)
out.append("</svg>")
print("\n".join(out))
