#!/usr/bin/env python3
"""The figures of the README, measured here: prints its tables and draws docs/kv_cache.svg.

usage: python3 benches/figures.py [--trace TRACE.jsonl]       after `cargo build --release`

Work (instructions, bytes, launches) is counted and the same everywhere; times are of this machine, emulated.
The parity table comes from `cargo bench --bench parity -- emulator` (and `cpu`, and `emulator bf16`), minutes each.
"""
import json, os, subprocess, sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KVICK = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release", "kvick")
LENGTHS = (16, 32, 64, 128, 256, 512)


def bench(*arguments):
    done = subprocess.run([KVICK, "bench", "--json", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def models():
    print("| model | prefill of 512 | decode | launches a token | warp instructions a token | bytes a token | memory at most |")
    print("|---|---|---|---|---|---|---|")
    for model in ("smollm2-135m", "gemma3-270m"):
        r = bench("--model", model, "--prompt-tokens", "512", "--tokens", "8")
        print(f"| {model} | {r['prefill_tokens_per_s']:.0f} tokens/s | {r['decode_tokens_per_s']:.1f} tokens/s | "
              f"{r['launches_per_token']:.0f} | {r['warp_instructions_per_token'] / 1e6:.1f} M | "
              f"{r['bytes_per_token'] / 1e6:.0f} MB | {r['peak_rss_bytes'] / 1e6:.0f} MB |")


def kv_cache():
    rows = []
    for n in LENGTHS:
        on, off = (bench("--prompt-tokens", str(n), "--tokens", "2", "--kv-cache", c) for c in ("on", "off"))
        rows.append((n, on, off))
    print("\n| tokens so far | with the KV cache | without | work saved | time with | time without |")
    print("|---|---|---|---|---|---|")
    for n, on, off in rows:
        a, b = on["warp_instructions_per_token"], off["warp_instructions_per_token"]
        print(f"| {n} | {a / 1e6:.1f} M warp instructions | {b / 1e6:.1f} M | {b / a:.1f}x | "
              f"{1 / on['decode_tokens_per_s']:.2f} s | {1 / off['decode_tokens_per_s']:.2f} s |")
    return [(n, on["warp_instructions_per_token"] / 1e6, off["warp_instructions_per_token"] / 1e6) for n, on, off in rows]


def draw(rows, path):
    """Bars: work of one token, with and without the cache."""
    width, height, left, base = 760, 340, 70, 280
    top = max(off for _, _, off in rows)
    bar = lambda v: v / top * 220
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="13">',
           f'<rect width="{width}" height="{height}" rx="10" fill="#fbfbf8"/>',
           '<text x="20" y="28" font-size="16">Work of one more token, SmolLM2-135M (M warp instructions)</text>']
    for i, (n, on, off) in enumerate(rows):
        x = left + i * 112
        for dx, v, colour in ((0, on, "#5b8def"), (36, off, "#e0a458")):
            out.append(f'<rect x="{x + dx}" y="{base - bar(v):.1f}" width="32" height="{bar(v):.1f}" fill="{colour}"/>')
            out.append(f'<text x="{x + dx + 16}" y="{base - bar(v) - 6:.1f}" text-anchor="middle" font-size="11">{v:.0f}</text>')
        out.append(f'<text x="{x + 34}" y="{base + 18}" text-anchor="middle">{n}</text>')
    out.append(f'<line x1="{left - 10}" y1="{base}" x2="{width - 20}" y2="{base}" stroke="#555"/>')
    out.append(f'<text x="{width / 2}" y="{base + 40}" text-anchor="middle" fill="#555">tokens so far</text>')
    for x, colour, text in ((440, "#5b8def", "with the KV cache"), (590, "#e0a458", "without")):
        out.append(f'<rect x="{x}" y="44" width="12" height="12" fill="{colour}"/><text x="{x + 18}" y="55">{text}</text>')
    out.append("</svg>\n")
    open(path, "w").write("\n".join(out))


def replay(trace):
    out = os.path.join(ROOT, "docs", "hit_rate.svg")
    capacities = "500,1000,2000,3000,5000,10000,20000,30000,50000,100000"
    subprocess.run([KVICK, "replay", trace, "--capacity", capacities, "--svg", out], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run([KVICK, "replay", trace, "--json"], check=True, capture_output=True, text=True)
    rows = json.loads(done.stdout)["rows"]
    sizes = sorted({r["capacity"] for r in rows})
    print("\n| policy | " + " | ".join(f"{c:,} blocks" for c in sizes) + " |\n|---|" + "---|" * len(sizes))
    for policy in dict.fromkeys(r["policy"] for r in rows):
        hits = {r["capacity"]: r["hit_percent"] for r in rows if r["policy"] == policy}
        print(f"| {policy} | " + " | ".join(f"{hits[c]:.1f}" for c in sizes) + " |")


models()
draw(kv_cache(), os.path.join(ROOT, "docs", "kv_cache.svg"))
if "--trace" in sys.argv:
    replay(sys.argv[sys.argv.index("--trace") + 1])
