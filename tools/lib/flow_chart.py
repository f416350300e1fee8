"""The streams of tools/bench network as one SVG: throughput over time, with the moves marked."""
from move_chart import COLOURS, STYLE, line, text

WIDTH, HEIGHT = 940, 260            # of a panel
LEFT, RIGHT, TOP, BOTTOM = 80, 18, 40, 36
TITLES = {"down": "from the container", "up": "to the container",
          "iperf3 down": "iperf3, from the container", "iperf3 up": "iperf3, to the container"}


def panel(kind, flow):
    begun, span = flow["begun"], max(flow["ended"] - flow["begun"], 1e-3)
    rates, before = [], begun
    for at, size in flow["samples"]:
        rates.append((at, size / (at - before) / 1e6))
        before = at
    top = max((rate for _, rate in rates), default=1) or 1
    foot = HEIGHT - BOTTOM

    def x(at):
        return LEFT + (at - begun) / span * (WIDTH - LEFT - RIGHT)

    def y(rate):
        return foot - rate / top * (foot - TOP)
    parts = [text(LEFT, 20, f"{TITLES[kind]}: MB/s over seconds; shaded: the moves", kind="title")]
    for each in flow["moves"]:
        parts.append(f'<rect x="{x(each["begun"]):.1f}" y="{TOP}" width="{x(each["ended"]) - x(each["begun"]):.1f}" '
                     f'height="{foot - TOP}" fill="#f0e6d2"/>')
    for share in (0, 0.5, 1):
        parts += [line(LEFT, y(share * top), WIDTH - RIGHT, y(share * top), "grid"),
                  text(LEFT - 6, y(share * top) + 4, f"{share * top:,.0f}", "end")]
    for second in range(int(span) + 1):
        parts.append(text(x(begun + second), foot + 16, str(second), "middle", "small"))
    way = " ".join(f"{x(at):.1f},{y(rate):.1f}" for at, rate in rates)
    return [*parts, f'<polyline points="{way}" fill="none" stroke="{COLOURS["godwit"]}"/>']


def draw(flows):
    """flows: what flow_client.py or iperf3 saw, with its moves, by a key of TITLES."""
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT * len(flows)}" width="{WIDTH}" '
             f'height="{HEIGHT * len(flows)}"><style>{STYLE}</style>'
             f'<rect width="{WIDTH}" height="{HEIGHT * len(flows)}" fill="white"/>']
    for place, (kind, flow) in enumerate(flows.items()):
        parts.append(f'<g transform="translate(0 {place * HEIGHT})">' + "\n".join(panel(kind, flow)) + "</g>")
    return "\n".join(parts) + "\n</svg>\n"
