"""How long a container stands still while it is saved and goes on, with godwit and runc in turn.

The program (tests/workloads/fill) has --mb of memory that does not compress and writes
--rate MB/s into a quarter of it, at most 64 MB. Both engines write to the same disk.

  gap    the longest that the program did not run, by its own CLOCK_REALTIME
  pause  from outside: the longest that a client on a third node waited for an answer
  total  from the command's start until all of it is on disk, which godwit sees to by
         itself; for runc the file system is synced

After each checkpoint all memory is compared with what it must be.

godwit: godwit checkpoint --leave-running. runc: runc checkpoint --leave-running
--tcp-established, with the same CRIU.
"""
import os
import shutil
import statistics
import subprocess
import sys
import time

from bed import Bed, Failed
from benchmark import parse, parser_of, run
from move_bed import Children, check_memory, event, make_roots, started
from move_engines import Godwit, Runc

CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "move_client.py")
METRICS = ("gap_ms", "pause_ms", "total_ms")
QUIET = 0.3             # seconds that the client works before
REGION_MB = 64


def options_of():
    parser = parser_of("checkpoint", __doc__)
    parser.add_argument("--mb", default="64,1024", metavar="MB[,...]", help="MB of memory (64,1024)")
    parser.add_argument("--runs", type=int, default=5, help="checkpoints of each (default 5)")
    parser.add_argument("--rate", type=int, default=20, help="MB/s that the program writes (20)")
    options = parse(parser)
    words = options.mb.split(",")
    if not all(word.isdigit() and 4 <= int(word) <= 16384 for word in words):
        parser.error("--mb: 4 to 16384 each")
    options.sizes = [int(word) for word in words]
    if options.runs < 1 or options.rate < 1:
        parser.error("--runs and --rate: at least 1")
    return options


def one_run(bed, engine, size, rate):
    check_memory(size)
    words = ("/bin/fill", size, rate, min(size // 4, REGION_MB))
    folder = bed.folder / "saved"
    with started(engine, "base", words) as address, Children() as children:
        client = children.start(bed, "node3", "/usr/bin/python3", "-B", CLIENT, "writer", address, 7000,
                                size, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        event(client, "ready", 60 + size / 10)
        time.sleep(QUIET)
        begun = time.time()
        try:
            engine.save(folder)
            total = time.time() - begun
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        client.stdin.write(f"{begun!r}\n")
        client.stdin.flush()
        seen = event(client, "done", 60 + size / 10)
    if seen["wrong"] != "ok":
        raise Failed(f"after the checkpoint the content is wrong: {seen['wrong']}")
    return {"gap_ms": seen["gap_ms"], "pause_ms": seen["pause_ms"], "total_ms": total * 1e3}


def measure(options):
    """[{"engine", "memory_mb", "runs", "errors"}] and why one was left out."""
    results = []
    with Bed("bench", nodes=3) as bed:
        roots = make_roots(bed, ["base"])
        engines = [Godwit(bed), Runc(bed)]
        left_out = {engine.name: engine.why_not() for engine in engines if engine.why_not()}
        engines = [engine for engine in engines if engine.name not in left_out]
        for engine in engines:
            engine.setup(roots)
        for size in options.sizes:
            mine = [{"engine": engine.name, "memory_mb": size, "runs": [], "errors": []}
                    for engine in engines]
            results += mine
            for turn in range(options.runs):
                for engine, result in zip(engines, mine):
                    print(f"{size} MB, {engine.name}, run {turn + 1} of {options.runs}",
                          file=sys.stderr, flush=True)
                    try:
                        result["runs"].append(one_run(bed, engine, size, options.rate))
                    except Failed as failed:
                        result["errors"].append(f"{failed}\n{failed.details}".strip())
                        print(f"bench: {result['errors'][-1]}", file=sys.stderr)
    return results, left_out


def summary_of(result):
    summary = {key: result[key] for key in ("engine", "memory_mb", "errors")}
    summary["runs"] = len(result["runs"])
    for metric in METRICS:
        values = [run[metric] for run in result["runs"]]
        summary[metric] = {"median": statistics.median(values), "min": min(values),
                           "max": max(values)} if values else None
    return summary


def show(summaries, left_out):
    print(f"{'':<18}" + "".join(f"{metric.replace('_', ' '):>12}{'min-max':>20}" for metric in METRICS))
    for summary in summaries:
        print(f"{summary['memory_mb']:>6} MB {summary['engine']:<8}", end="")
        for metric in METRICS:
            numbers = summary[metric]
            span = f"{numbers['min']:,.1f}-{numbers['max']:,.1f}" if numbers else "-"
            print(f"{numbers['median'] if numbers else float('nan'):12,.1f}{span:>20}", end="")
        print()
    for name, why in left_out.items():
        print(f"{name}: left out: {why}")


def benchmark(options):
    results, left_out = measure(options)
    summaries = [summary_of(result) for result in results]
    show(summaries, left_out)
    return summaries, not any(summary["errors"] for summary in summaries)


if __name__ == "__main__":
    sys.exit(run(options_of(), benchmark))
