"""Draws tiers.svg: where KV pages rest. Run: python3 docs/make_tiers_svg.py > docs/tiers.svg"""
from draw import Picture

p = Picture(1120, 470, "Where KV pages rest")
p.box(20, 50, 1080, 62, "engine thread: one prefix tree decides",
      "BLAKE3 keys of whole prefixes, salted by tenant; the token ids are compared as well|one eviction policy for the device and for each tier of our own", "#eef3fb")
tiers = [("device pages", "read by the kernels", "#f3f8f0", "#7a9a6a", ["#d7e6f7", "#fbe3c7", "#e7ddf5", "#fff"]),
         ("pinned host memory", "--kv-tier host=2GiB", "#fff", "#444", ["#d7e6f7", "#fbe3c7", "#d7e6f7", "#fff"]),
         ("disk", "--kv-tier disk=PATH,10GiB|found again after a restart", "#fff", "#444", ["#d7e6f7", "#fbe3c7", "#d7e6f7", "#fbe3c7"]),
         ("shared store", "--kv-tier redis=URL|--kv-tier s3=s3://bucket/prefix", "#fff", "#444", ["#d7e6f7", "#fbe3c7", "#d7e6f7", "#e7ddf5"])]
xs = [20 + i * 280 for i in range(4)]
for x, (title, sub, fill, stroke, pages) in zip(xs, tiers):
    p.raw(f'<rect x="{x}" y="150" width="240" height="180" rx="8" fill="{fill}" stroke="{stroke}"/>')
    p.label(x + 120, 175, title, "middle", 14, "#111")
    for i, line in enumerate(sub.split("|")):
        p.label(x + 120, 194 + 17 * i, line, "middle")
    for i, color in enumerate(pages):
        p.page(x + 35 + i * 44, 235, color)
    p.arrow((x + 120, 112), (x + 120, 150), dash=True)
for x in xs[:3]:
    p.arrow((x + 240, 252), (x + 280, 252))
    p.arrow((x + 280, 278), (x + 240, 278))
p.label(20, 362, "down: when pages are computed, their halves are summed on the device and copied on a stream of their own; nobody waits for it", size=13, color="#333")
p.label(20, 386, "up: a prompt that waits for pages waits alone; every record proves model, key, half, epoch, token ids and checksum, or it is not used", size=13, color="#333")
p.label(20, 410, "load or compute: by measured bandwidth and prefill speed, request by request", size=13, color="#333")
p.label(20, 444, "one colour = the pages of one tenant's text; a page holds 16 tokens of all layers of its group, as a K half and a V half", size=12)
p.print()
