"""The results of tools/bench migrate as one SVG: pause and downtime by memory, page rounds."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 460, 330            # of a panel
LEFT, RIGHT, TOP, BOTTOM = 80, 18, 40, 46
COLOURS = {"godwit": "#1b7f5c", "runc": "#c0512b", "crun": "#5b62b3"}
STYLE = ("text{font:12px sans-serif;fill:#333}.title{font-size:14px;font-weight:bold}"
         ".grid{stroke:#ddd}.axis{stroke:#888}.small{font-size:10px}")


def text(x, y, words, anchor="start", kind=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">'
            f'{escape(words)}</text>')


def line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def whole_powers(values):
    """Powers of ten around values."""
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    return [10 ** power for power in range(low, high + 1)]


class Panel:
    """Memory across, milliseconds up, both logarithmic."""

    def __init__(self, title, sizes, times):
        self.title, self.sizes = title, sorted(set(sizes))
        self.ticks = whole_powers(times)

    def x(self, size):
        low, high = math.log(self.sizes[0]), math.log(self.sizes[-1])
        share = (math.log(size) - low) / (high - low) if high > low else 0.5
        return LEFT + 20 + share * (WIDTH - LEFT - RIGHT - 40)

    def y(self, ms):
        low, high = math.log(self.ticks[0]), math.log(self.ticks[-1])
        share = (math.log(max(ms, self.ticks[0])) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def frame(self):
        parts = [text(LEFT, 20, self.title, kind="title")]
        for tick in self.ticks:
            parts += [line(LEFT, self.y(tick), WIDTH - RIGHT, self.y(tick), "grid"),
                      text(LEFT - 6, self.y(tick) + 4, f"{tick:,g} ms", "end")]
        foot = HEIGHT - BOTTOM
        for size in self.sizes:
            parts += [line(self.x(size), foot, self.x(size), foot + 4, "axis"),
                      text(self.x(size), foot + 18, f"{size} MB", "middle")]
        return parts

    def series(self, points, colour, dashed):
        dots = [(self.x(size), self.y(ms)) for size, ms in points]
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in dots)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        hole = "white" if dashed else colour
        return [f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>',
                *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{hole}" stroke="{colour}"/>'
                  for x, y in dots)]

    def label(self, size, ms, above):
        y = self.y(ms) + (-9 if above else 18)
        return text(self.x(size), y, f"{ms:,.0f}", "middle", "small")


def times_panel(kind, results):
    """Pause as a full line with its numbers, downtime as a dashed one."""
    mine = [result for result in results if result["workload"] == kind and result["runs"]]
    if not mine:
        return []
    times = [max(result[metric]["median"], 0.1) for result in mine
             for metric in ("pause_ms", "downtime_ms")]
    panel = Panel(f"{kind}: pause (full), downtime (dashed)",
                  [result["memory_mb"] for result in mine], times)
    parts = panel.frame()
    for place, engine in enumerate(sorted({result["engine"] for result in mine})):
        rows = sorted((result for result in mine if result["engine"] == engine),
                      key=lambda result: result["memory_mb"])
        colour = COLOURS.get(engine, "#666")
        for metric, dashed in (("downtime_ms", True), ("pause_ms", False)):
            points = [(row["memory_mb"], row[metric]["median"]) for row in rows]
            parts += panel.series(points, colour, dashed)
        parts += [panel.label(row["memory_mb"], row["pause_ms"]["median"],
                              row["pause_ms"]["median"] >= row["downtime_ms"]["median"])
                  for row in rows]
        x = LEFT + place * 110
        parts += [f'<rect x="{x}" y="{HEIGHT - 16}" width="12" height="12" fill="{colour}"/>',
                  text(x + 17, HEIGHT - 5, engine)]
    return parts


def bars(title, rows, unit):
    """rows: (label, value), one bar each."""
    top = max(value for _, value in rows) or 1
    step = min(30, (HEIGHT - TOP - 20) / len(rows))
    parts = [text(LEFT, 20, title, kind="title")]
    for place, (label, value) in enumerate(rows):
        y = TOP + place * step
        width = value / top * (WIDTH - LEFT - RIGHT - 120)
        parts += [text(LEFT + 24, y + step * 0.7, label, "end"),
                  f'<rect x="{LEFT + 30}" y="{y + 2:.1f}" width="{max(width, 1):.1f}" '
                  f'height="{step - 4:.1f}" fill="{COLOURS["godwit"]}"/>',
                  text(LEFT + 36 + width, y + step * 0.7, f"{value:,.1f} {unit}", kind="small")]
    return parts


def last_report(results):
    for result in reversed(results):
        if result["engine"] == "godwit" and result["reports"]:
            return f"{result['workload']} {result['memory_mb']} MB", result["reports"][-1]
    return "", {}


def rounds_panel(results):
    """What was written since the round before, for each page round of godwit's last move."""
    name, report = last_report(results)
    rounds = report.get("rounds")
    if not isinstance(rounds, list) or not rounds:
        return []
    rows = [(str(number), each["bytes"] / 1e6) for number, each in enumerate(rounds, 1)]
    return bars(f"page rounds of the last move ({name})", rows[-40:], "MB")


def phases_panel(results):
    name, report = last_report(results)
    rows = [(phase, ms) for phase, ms in report.get("phases_ms", {}).items()]
    return bars(f"where that move's time went ({name})", rows, "ms") if rows else []


def frozen_panel(results):
    """The steps of its standstill that are more than a breath."""
    name, report = last_report(results)
    rows = [(step, ms) for step, ms in report.get("frozen_ms", {}).items() if ms >= 0.5]
    return bars(f"where its standstill went ({name})", rows, "ms") if rows else []


def draw(results):
    panels = [times_panel(kind, results) for kind in ("idle", "writer", "redis")]
    panels += [rounds_panel(results), phases_panel(results), frozen_panel(results)]
    panels = [panel for panel in panels if panel]
    rows = -(-len(panels) // 2)
    width, height = WIDTH * min(2, max(1, len(panels))), HEIGHT * max(1, rows)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
             f'width="{width}" height="{height}"><style>{STYLE}</style>'
             f'<rect width="{width}" height="{height}" fill="white"/>']
    for place, panel in enumerate(panels):
        across, down = place % 2 * WIDTH, place // 2 * HEIGHT
        parts.append(f'<g transform="translate({across} {down})">' + "\n".join(panel) + "</g>")
    return "\n".join(parts) + "\n</svg>\n"
