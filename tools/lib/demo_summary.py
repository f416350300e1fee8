"""The demo's result as a person enjoys reading it. Every number comes out of the result."""
import sys

EIGHTHS = " ▏▎▍▌▋▊▉█"
HEIGHTS = " ▁▂▃▄▅▆▇█"
CHART = 40


class Paint:
    """Colour and block characters where the terminal has them, plain text elsewhere."""

    def __init__(self, stream):
        self.colour = stream.isatty()
        self.blocks = (stream.encoding or "").lower().replace("-", "") == "utf8"

    def tint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def mark(self, good):
        sign = ("✔", "✘")[not good] if self.blocks else ("yes", "NO ")[not good]
        return self.tint("32" if good else "31;1", sign)

    def bar(self, share):
        cells = share * CHART
        if not self.blocks:
            return "#" * round(cells)
        full, rest = divmod(round(cells * 8), 8)
        return "█" * full + (EIGHTHS[rest] if rest else "")

    def heights(self, counts):
        top = max(counts) or 1
        if not self.blocks:
            return "".join("." if count == 0 else "#" for count in counts)
        return "".join(HEIGHTS[-(-count * 8 // top)] for count in counts)


def checks(result, paint):
    lines = [paint.tint("1", "What was promised, and what held")]
    for check in result["checks"]:
        lines.append(f"  {paint.mark(check['held'])} {check['what']}")
        if check["said"]:
            lines.append(f"      {check['said']}")
    return lines


def phases(result, paint):
    times = result["phases_ms"]
    longest = max(times.values(), default=0) or 1
    lines = [paint.tint("1", "Where the time went")]
    for name, took in times.items():
        lines.append(f"  {name:<10}{took:10,.1f} ms  {paint.bar(took / longest)}")
    lines.append(f"  {'total':<10}{result['total_ms']:10,.1f} ms")
    return lines


def numbers(result):
    raw, wire = result["bytes_raw"], result["bytes_wire"]
    return [
        f"  downtime      {result['downtime_ms']:10,.1f} ms  freeze to resume, as godwit says",
        f"  moved         {raw / 1e6:10,.1f} MB  {wire / 1e6:,.1f} MB on the wire, "
        f"{raw / max(wire, 1):.1f} to 1",
    ]


def client_numbers(result, paint):
    def seen(key):
        return result[f"client_{key}"]
    return [
        paint.tint("1", "What the client saw"),
        f"  longest pause {seen('longest_pause_ms'):10,.1f} ms  its longest wait for an answer",
        f"  otherwise     {seen('longest_pause_otherwise_ms'):10,.1f} ms  longest at other times",
        f"  median        {seen('median_ms'):10,.2f} ms",
        f"  sent again    {seen('retransmitted'):10,} segments",
    ]


def timeline(result, paint):
    line = result["timeline"]
    return [
        paint.tint("1", f"Answers that the client got, one column for {line['span_ms']:.0f} ms"),
        f"  {paint.heights(line['answers'])}",
    ]


def listings(result, paint):
    lines = [paint.tint("1", "godwit ps afterwards")]
    for node, text in result["ps"].items():
        lines += [f"  {node}  {line}" for line in text.splitlines()]
    return lines


def show(result, stream=sys.stdout):
    paint = Paint(stream)
    sections = [checks(result, paint)]
    if result["phases_ms"]:
        sections.append(phases(result, paint) + numbers(result))
    if result["timeline"]:
        sections += [client_numbers(result, paint), timeline(result, paint)]
    sections.append(listings(result, paint))
    for section in sections:
        print("", *section, sep="\n", file=stream)
    verdict = "All of it held." if result["ok"] else "Not all of it held: see above."
    print("", paint.tint("32;1" if result["ok"] else "31;1", verdict), sep="\n", file=stream)
