"""How long a move to another node takes, and how long clients wait, with several engines in turn.

Workloads: idle and writer are one program (tests/workloads/fill) with memory that does
not compress; writer also writes --rate MB/s into --region per cent of it. redis holds
that many MB of values and is under SET load by one client.

  pause     from outside: the longest that a client on a third node, with one TCP
            connection, waited for an answer. ping each millisecond, or SET after SET.
            Retransmission is in it. A connection that broke is made again, and said
  downtime  freeze to resume, by what the engine says (below)
  gap       the longest that the program did not run, by its own CLOCK_REALTIME
            (idle and writer); it should agree with downtime
  total     from the command's start to its end
  wire      bytes that went to the other node
  memory    the most that godwit took on either side, beside the container's and the page
            store's: the command and its helpers, the daemon and its children

After each move all memory, or all values, are compared with what they must be.

godwit: godwit migrate with --options. runc: with the same CRIU; checkpoint
--tcp-established into a tmpfs, tar over a plain TCP socket, restore, in a network
namespace that keeps address and MAC, so that its connections survive too (which
they do only while nobody's packet meets the namespace without its sockets: it is
cut off in between). crun is left out where it can't checkpoint; then it says why.
"""
import os
import statistics
import subprocess
import sys
import time

import move_chart
from bed import Bed, Failed
from benchmark import parse, parser_of, run
from move_bed import REDIS, Children, check_memory, event, make_roots, started
from move_engines import ENGINES, USUAL

CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "move_client.py")
DEFAULT = ("idle:64,idle:256,idle:1024,idle:4096,"
           "writer:64,writer:256,writer:1024,writer:4096,redis:1024")
WORKLOADS = ("idle", "writer", "redis")
METRICS = ("pause_ms", "downtime_ms", "total_ms", "bytes_wire", "gap_ms")
LARGEST_MB = 16384
QUIET = 0.3             # seconds that the client works before the move


def cases_of(text, parser):
    cases = []
    for word in text.split(","):
        kind, _, size = word.partition(":")
        if kind not in WORKLOADS or not size.isdigit() or not 1 <= int(size) <= LARGEST_MB:
            parser.error(f"--only: '{word}' is not WORKLOAD:MB, one of {', '.join(WORKLOADS)} and "
                         f"1 to {LARGEST_MB}")
        cases.append((kind, int(size)))
    return cases


def options_of():
    parser = parser_of("migrate", __doc__)
    parser.add_argument("--only", default=DEFAULT, metavar="WORKLOAD:MB[,...]",
                        help=f"of these only (default {DEFAULT})".replace("%", "%%"))
    parser.add_argument("--engines", default=",".join(USUAL), metavar="LIST",
                        help=f"some of {','.join(ENGINES)} (default: {','.join(USUAL)})")
    parser.add_argument("--runs", type=int, default=3, help="moves of each (default 3)")
    parser.add_argument("--rate", type=int, default=100, help="MB/s that writer writes (100)")
    parser.add_argument("--region", type=int, default=25, metavar="PCT",
                        help="per cent of its memory that writer writes into (25)")
    parser.add_argument("--options", default="", help="more options for godwit migrate, one word")
    parser.add_argument("--svg", default="", metavar="FILE", help="draw them")
    options = parse(parser)
    options.cases = cases_of(options.only, parser)
    options.engines = options.engines.split(",")
    unknown = set(options.engines) - set(ENGINES)
    if unknown:
        parser.error(f"--engines: not {', '.join(sorted(unknown))}")
    if options.runs < 1 or options.rate < 1 or not 1 <= options.region <= 100:
        parser.error("--runs and --rate: at least 1; --region: 1 to 100")
    return options


# --- one move ---------------------------------------------------------------

def program_of(kind, size, options):
    """(image, port, words)"""
    if kind == "redis":
        return "redis", 6379, REDIS
    rate = options.rate if kind == "writer" else 0
    region = max(1, size * options.region // 100) if rate else 0
    return "base", 7000, ("/bin/fill", size, rate, region)


def watched_move(engine, client, size):
    event(client, "ready", 60 + size / 10)
    time.sleep(QUIET)
    begun = time.time()
    moved = engine.move()
    client.stdin.write(f"{begun!r}\n")
    client.stdin.flush()
    seen = event(client, "done", 60 + size / 10)
    if seen["wrong"] != "ok":
        raise Failed(f"after the move the content is wrong: {seen['wrong']}")
    return {**moved, **seen}


def one_move(bed, engine, case, options):
    kind, size = case
    check_memory(size)
    image, port, words = program_of(kind, size, options)
    with started(engine, image, words) as address, Children() as children:
        client = children.start(bed, "node3", "/usr/bin/python3", "-B", CLIENT, kind, address, port,
                                size, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return watched_move(engine, client, size)


# --- all of them ------------------------------------------------------------

def ready_engines(bed, options):
    """Those that work, set up; the others with the reason."""
    roots = make_roots(bed, sorted({"redis" if kind == "redis" else "base"
                                    for kind, _ in options.cases}))
    engines, left_out = [], {}
    for name in options.engines:
        engine = ENGINES[name](bed, options.options) if "godwit" in name else ENGINES[name](bed)
        left_out[name] = engine.why_not()
        if not left_out[name]:
            engine.setup(roots)
            engines.append(engine)
    return engines, {name: why for name, why in left_out.items() if why}


def measure(options):
    """{(engine, workload, MB): {"runs": [...], "errors": [...]}} and who was left out."""
    seen = {}
    with Bed("bench", nodes=3) as bed:
        engines, left_out = ready_engines(bed, options)
        for case in options.cases:
            for turn in range(options.runs):
                for engine in engines:
                    got = seen.setdefault((engine.name, *case), {"runs": [], "errors": []})
                    print(f"{case[0]} {case[1]} MB, {engine.name}, run {turn + 1} of "
                          f"{options.runs}", file=sys.stderr, flush=True)
                    try:
                        got["runs"].append(one_move(bed, engine, case, options))
                    except Failed as failed:
                        got["errors"].append(f"{failed}\n{failed.details}".strip())
                        print(f"bench: {got['errors'][-1]}", file=sys.stderr)
    return seen, left_out


def spread(values):
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def result_of(key, got):
    runs = got["runs"]
    result = dict(zip(("engine", "workload", "memory_mb"), key))
    result["runs"] = len(runs)
    for metric in METRICS:
        result[metric] = spread([run[metric] for run in runs])
    phases = dict.fromkeys(phase for run in runs for phase in run["phases_ms"])  # in their order
    result["phases_ms"] = {phase: spread([run["phases_ms"].get(phase) for run in runs])
                           for phase in phases}
    result["memory_bytes"] = {side: spread([run["memory_bytes"][side] for run in runs])
                              for side in ("source", "target")
                              if runs and "memory_bytes" in runs[0]}
    for line in ("frozen_ms", "frozen_restore_ms", "frozen_resume_ms"):
        steps = [run["report"].get(line, {}) for run in runs if "report" in run]
        result[line] = {step: spread([one.get(step) for one in steps])
                        for step in dict.fromkeys(step for one in steps for step in one)}
    result["before_ms"] = spread([run["before_ms"] for run in runs])
    result["retransmitted"] = [run["retransmitted"] for run in runs]
    result["reconnects"] = [run["reconnects"] for run in runs]
    result["measured"] = ENGINES[key[0]].measured
    result["errors"] = got["errors"]
    result["reports"] = [run["report"] for run in runs if "report" in run]
    predicted = [(report["predicted_downtime_ms"], report["downtime_ms"])
                 for report in result["reports"] if report.get("predicted_downtime_ms")]
    if predicted:
        result["predicted_ms"] = spread([said for said, _ in predicted])
        result["predicted_to_downtime"] = spread([said / real for said, real in predicted])
    if result["reports"] and "rounds" in result["reports"][-1]:
        result["rounds"] = result["reports"][-1]["rounds"]
    return result


# --- what it says -----------------------------------------------------------

def cell(numbers, scale=1.0):
    if not numbers:
        return f"{'-':>10}{'-':>16}"
    low, high = numbers["min"] / scale, numbers["max"] / scale
    digits = 0 if high >= 1000 else 1
    span = f"{low:,.{digits}f}-{high:,.{digits}f}"
    return f"{numbers['median'] / scale:10,.1f}{span:>16}"


def ratio(result, results, metric):
    """To godwit's median of the same."""
    for other in results:
        if other["engine"] == "godwit" and other is not result and other[metric] and \
                result[metric] and all(other[key] == result[key]
                                       for key in ("workload", "memory_mb")):
            return f"{result[metric]['median'] / other[metric]['median']:7.1f} x"
    return f"{'':>9}"


def show_table(results):
    print(f"{'':<26}{'pause ms':>10}{'min-max':>16}{'to godwit':>10}{'downtime ms':>12}"
          f"{'min-max':>16}{'gap ms':>10}{'min-max':>16}{'total ms':>10}{'min-max':>16}"
          f"{'to godwit':>10}{'wire MB':>10}")
    for result in results:
        name = f"{result['workload']} {result['memory_mb']} MB"
        wire = f"{result['bytes_wire']['median'] / 1e6:10,.1f}" if result["bytes_wire"] else ""
        print(f"{name:<16}{result['engine']:<10}{cell(result['pause_ms'])} "
              f"{ratio(result, results, 'pause_ms')}  {cell(result['downtime_ms'])}"
              f"{cell(result['gap_ms'])}{cell(result['total_ms'])} "
              f"{ratio(result, results, 'total_ms')}{wire}")


def name_of(result):
    return f"{result['engine']}, {result['workload']} {result['memory_mb']} MB"


def show_growth(results):
    """How the pause grows with the memory, and how far predictions were off."""
    for engine in ENGINES:
        for kind in ("idle", "writer"):
            mine = sorted((result["memory_mb"], result["pause_ms"]["median"]) for result in results
                          if (result["engine"], result["workload"]) == (engine, kind)
                          and result["runs"])
            if len(mine) > 1:
                print(f"{engine}, {kind}: the pause with {mine[-1][0]} MB is "
                      f"{mine[-1][1] / mine[0][1]:.2f} times that with {mine[0][0]} MB")
    for result in results:
        if "predicted_to_downtime" in result:
            off = result["predicted_to_downtime"]
            print(f"{name_of(result)}: predicted "
                  f"{result['predicted_ms']['median']:.1f} ms, {off['median']:.2f} of the downtime "
                  f"({off['min']:.2f} to {off['max']:.2f})")


def show_phases(results):
    for result in results:
        print(f"{name_of(result)}: " + ", ".join(
            f"{phase} {values['median']:,.1f}" for phase, values in result["phases_ms"].items()))


def show_memory(results):
    for result in results:
        if result["memory_bytes"]:
            print(f"{name_of(result)}: " + ", ".join(
                f"{side} {peak['max'] / 1e6:.1f} MB" for side, peak in result["memory_bytes"].items()))


def show_frozen(results):
    for result in results:
        for line, what in (("frozen_ms", "frozen"), ("frozen_restore_ms", "its restore"),
                           ("frozen_resume_ms", "its resume")):
            if result[line]:
                print(f"{name_of(result)}, {what}: " + ", ".join(
                    f"{step} {values['median']:,.1f}" for step, values in result[line].items()))


def show(results, left_out, options):
    show_table(results)
    print("\nmedian ms of each phase")
    show_phases(results)
    print("\nmedian ms of each step while it stands still")
    show_frozen(results)
    print("\nmost memory, beside the container's and the page store's")
    show_memory(results)
    print()
    show_growth(results)
    if any(kind == "writer" for kind, _ in options.cases):
        print(f"writer: {options.rate} MB/s into {options.region} % of its memory")
    for engine in options.engines:
        if engine not in left_out:
            print(f"{engine}: {ENGINES[engine].measured}")
    for result in results:
        broken = sum(result["reconnects"])
        if broken:
            print(f"{name_of(result)}: the connection broke {broken} times; the pause goes to the "
                  "first answer on a new one")
        if result["errors"]:
            print(f"{name_of(result)}: {len(result['errors'])} moves failed: "
                  f"{result['errors'][0].splitlines()[0]}")
    for engine, why in left_out.items():
        print(f"{engine}: left out: {why}")


def benchmark(options):
    seen, left_out = measure(options)
    results = [result_of(key, got) for key, got in seen.items()]
    show(results, left_out, options)
    if options.svg:
        with open(options.svg, "w", encoding="utf-8") as file:
            file.write(move_chart.draw(results))
    return results, results and not any(result["errors"] for result in results)


if __name__ == "__main__":
    sys.exit(run(options_of(), benchmark))
