"""The picture of a report: success with its interval, and the action error, by arm. SVG."""

import html

ROW = 22
TOP = 46
LABELS = 150  # columns of the names
SUCCESS = (160, 460)  # left and right end of the panels
ERROR = (550, 760)
WIDTH = 790
COLORS = {"plain": "#666666", "bf16": "#d66914", "a8": "#7b4fa3", "a4": "#1f5fa8", "a2": "#2a9d8f"}
OTHER = "#333333"
GRID = "#dddddd"


def draw(report: dict) -> str:
    """Returns the picture of `analyze`'s report."""
    arms = report["arms"]
    bottom = TOP + ROW * len(arms)
    most = max(arm["error"] for arm in arms) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 40}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{bottom + 40}" fill="white"/>',
        text(SUCCESS[0], 18, "success, %, with its 95 % interval", weight="bold"),
        text(ERROR[0], 18, "mean action error", weight="bold"),
    ]
    for tick in range(0, 101, 20):
        parts += axis(place(tick / 100, 1.0, SUCCESS), bottom, str(tick))
    for share in (0.0, 0.5, 1.0):
        parts += axis(place(share * most, most, ERROR), bottom, f"{share * most:.2f}")
    for index, arm in enumerate(arms):
        y = TOP + ROW * index + ROW / 2
        color = COLORS.get(arm["arm"], OTHER)
        share = arm["success"] / arm["episodes"]
        low, high = place(arm["low"], 1.0, SUCCESS), place(arm["high"], 1.0, SUCCESS)
        parts += [
            text(LABELS, y + 4, arm["arm"], anchor="end"),
            f'<line x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}" stroke="{color}" stroke-width="2"/>',
            dot(place(share, 1.0, SUCCESS), y, color),
            text(SUCCESS[1] + 12, y + 4, f"{arm['success']}/{arm['episodes']}"),
            dot(place(arm["error"], most, ERROR), y, color),
        ]
    parts.append(text(SUCCESS[0], bottom + 26, f"tasks: {', '.join(report['tasks'])}"))
    return "\n".join([*parts, "</svg>"]) + "\n"


def place(value: float, most: float, panel: tuple[int, int]) -> float:
    """Returns the x of a value from 0 to `most` in a panel."""
    left, right = panel
    return left + (right - left) * value / most


def axis(x: float, bottom: float, label: str) -> list[str]:
    """Returns a line of the grid with its label."""
    line = f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}" stroke="{GRID}"/>'
    return [line, text(x, TOP - 12, label, anchor="middle")]


def dot(x: float, y: float, color: str) -> str:
    """Returns a dot."""
    return f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{color}"/>'


def text(x: float, y: float, content: str, anchor: str = "start", weight: str = "normal") -> str:
    """Returns a text."""
    escaped = html.escape(content)
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escaped}</text>'
