"""The results as a roofline plot in SVG."""

import html
import math

from .results import PEERS, Problem

WIDTHS = {"a2": "#2a9d8f", "a4": "#1f5fa8", "a8": "#7b4fa3", "bf16": "#d66914"}
PEER_COLORS = {"cuBLAS BF16": "#666666", "torch int4": "#aaaaaa"}


def peer_bytes(row):
    weight = row["n"] * row["k"]
    weight = 2 * weight if row["peer"] == "cuBLAS BF16" else weight // 2 + weight // 32
    return weight + 2 * row["m"] * (row["n"] + row["k"])


class RooflinePlot:
    """A roofline plot: operations per byte against TOP/s, both logarithmic."""

    width, height, left, right, top, bottom = 960, 600, 70, 190, 50, 60

    def __init__(self, points, copy, roofs):
        self.copy, self.roofs = copy, roofs
        xs, ys = [x for x, *_ in points], [y for _, y, *_ in points]
        highest = max([*ys, *roofs.values()])
        self.x = (math.floor(math.log10(min(xs))), math.ceil(math.log10(max([*xs, highest * 1e3 / copy]))))
        self.y = (math.floor(math.log10(min(ys))), math.ceil(math.log10(highest * 1.2)))
        self.lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            'font-family="sans-serif" font-size="13">',
            f'<rect width="{self.width}" height="{self.height}" fill="white"/>',
        ]

    def at(self, x, y):
        def place(value, low, high):
            return (math.log10(value) - low) / (high - low)

        across, up = place(x, *self.x), place(y, *self.y)
        return (
            round(self.left + across * (self.width - self.left - self.right), 1),
            round(self.height - self.bottom - up * (self.height - self.top - self.bottom), 1),
        )

    def text(self, x, y, text, anchor="start", more=""):
        self.lines.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{html.escape(text)}</text>')

    def line(self, start, end, color, width=1):
        (x1, y1), (x2, y2) = start, end
        self.lines.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{color}" stroke-width="{width}"/>')

    def axes(self, title):
        self.text(self.left, 28, title, more=' font-size="17"')
        low, high = 10.0 ** self.y[0], 10.0 ** self.y[1]
        for power in range(self.x[0], self.x[1] + 1):
            x, y = self.at(10.0**power, low)
            self.line((x, y), self.at(10.0**power, high), "#e5e5e5")
            self.text(x, y + 18, f"{10.0**power:g}", "middle")
        first, last = 10.0 ** self.x[0], 10.0 ** self.x[1]
        for power in range(self.y[0], self.y[1] + 1):
            x, y = self.at(first, 10.0**power)
            self.line((x, y), self.at(last, 10.0**power), "#e5e5e5")
            self.text(x - 8, y + 4, f"{10.0**power:g}", "end")
        middle = (self.left + self.width - self.right) / 2
        self.text(middle, self.height - 18, "operations per byte that must move", "middle")
        center = (self.top + self.height - self.bottom) / 2
        self.text(20, center, "TOP/s", "middle", f' transform="rotate(-90 20 {center})"')

    def roof(self):
        slope = self.copy / 1e3
        highest = max(self.roofs.values(), default=10.0 ** self.y[1])
        start = max(10.0 ** self.x[0], 10.0 ** self.y[0] / slope)
        last = 10.0 ** self.x[1]
        end = self.at(min(highest / slope, last), min(highest, last * slope))
        self.line(self.at(start, start * slope), end, "#333333", 2)
        for name, tops in self.roofs.items():
            if tops / slope < last:
                self.line(self.at(tops / slope, tops), self.at(last, tops), "#333333", 2)
            x, y = self.at(last, tops)
            self.text(x + 6, y + 4, f"{name}: {tops:.0f}")

    def point(self, x, y, color, square, label):
        px, py = self.at(x, y)
        title = f"<title>{html.escape(label)}</title>"
        if square:
            self.lines.append(f'<rect x="{px - 3}" y="{py - 3}" width="6" height="6" fill="{color}">{title}</rect>')
        else:
            self.lines.append(f'<circle cx="{px}" cy="{py}" r="3.5" fill="{color}" fill-opacity="0.8">{title}</circle>')

    def legend(self, entries):
        for at, (name, color) in enumerate(entries):
            y = self.height - self.bottom - 20 * (len(entries) - at)
            self.lines.append(f'<rect x="{self.width - 165}" y="{y - 10}" width="10" height="10" fill="{color}"/>')
            self.text(self.width - 148, y, name)

    def svg(self):
        return "\n".join([*self.lines, "</svg>", ""])


def roofline(results):
    points = []
    for row in results.rows:
        if row["x"] == "bf16" and row["peer"] == PEERS[0] and row["grouping"] == "g128":
            intensity = 2 * row["m"] * row["n"] * row["k"] / row["bytes"]
            label = f"{row['width']} {row['n']} x {row['k']}, M {row['m']}: {row['us']:.2f} us, {row['tops']:.1f} TOP/s"
            points.append((intensity, row["tops"], WIDTHS[row["width"]], False, label))
    seen = set()
    for row in results.rows:
        key = (row["peer"], row["m"], row["n"], row["k"])
        if row["peer_us"] is not None and key not in seen:
            seen.add(key)
            operations = 2 * row["m"] * row["n"] * row["k"]
            tops = operations / row["peer_us"] / 1e6
            label = f"{row['peer']} {row['n']} x {row['k']}, M {row['m']}: {row['peer_us']:.2f} us, {tops:.1f} TOP/s"
            points.append((operations / peer_bytes(row), tops, PEER_COLORS[row["peer"]], True, label))
    if not points:
        raise Problem("the reports have no figure of groups of 128 on BF16 activations")
    plot = RooflinePlot(points, results.copy, results.facts()["dense_tops"])
    plot.axes(f"{results.device['name']}: copies {results.copy:.0f} GB/s, dense rates of the model")
    plot.roof()
    for point in points:
        plot.point(*point)
    ours = [(f"w4ax {width}" if width != "bf16" else "w4ax bf16 (W4A16)", color) for width, color in WIDTHS.items()]
    theirs = [(name, color) for name, color in PEER_COLORS.items() if name in {peer for peer, *_ in seen}]
    plot.legend(ours + theirs)
    return plot.svg()
