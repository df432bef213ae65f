"""What the drawings of docs/ share: boxes, arrows and labels on a light page."""


class Picture:
    def __init__(self, width, height, title):
        self.out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="14">',
                    f'<rect width="{width}" height="{height}" rx="10" fill="#fbfbf8"/>',
                    '<defs><marker id="a" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
                    '<path d="M0 0L10 5L0 10z" fill="#555"/></marker></defs>']
        self.label(20, 30, title, size=18, color="#111")

    def raw(self, text):
        self.out.append(text)

    def box(self, x, y, w, h, title, sub="", fill="#fff", stroke="#444"):
        self.raw(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6" fill="{fill}" stroke="{stroke}"/>')
        lines = [title] if not sub else [title, *sub.split("|")]
        top = y + h / 2 - (len(lines) - 1) * 8.5 + 5
        for i, line in enumerate(lines):
            weight = ' font-weight="600" font-size="13"' if i == 0 else ' fill="#555" font-size="12"'
            self.raw(f'<text x="{x + w / 2}" y="{top + i * 17}" text-anchor="middle"{weight}>{line}</text>')

    def arrow(self, *points, dash=False):
        path = "M" + "L".join(f"{x} {y}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dash else ""
        self.raw(f'<path d="{path}" fill="none" stroke="#555" stroke-width="1.5" marker-end="url(#a)"{dashes}/>')

    def label(self, x, y, text, anchor="start", size=12, color="#555"):
        self.raw(f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{color}">{text}</text>')

    def page(self, x, y, color, w=38, h=60):
        """A KV page: its K half and its V half."""
        self.raw(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="3" fill="{color}" stroke="#777"/>')
        self.raw(f'<line x1="{x}" y1="{y + h // 2}" x2="{x + w}" y2="{y + h // 2}" stroke="#999"/>')
        self.label(x + w // 2, y + h // 4 + 4, "K", "middle", 11)
        self.label(x + w // 2, y + h * 3 // 4 + 4, "V", "middle", 11)

    def print(self):
        print("\n".join([*self.out, "</svg>"]))
