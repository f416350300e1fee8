"""How much slower a container is while its memory is being copied, before it moves.

A redis with --mb of values gets SETs of 1000 bytes to keys by chance from redis-benchmark
(of its own package) on a third node, with 16 connections, all the time. Its counter of
commands is read from outside every 10 ms, which gives its throughput

  without   in the two seconds before the command
  during    from the start of godwit migrate to the freeze, which is the longest gap
            between two changes of the counter
  after     in the second that follows the command's end

A slow-down is 1 - during / without. It includes that the copy takes processor time of
the machine, on which all nodes and the load are. Where there is hardly any time before
the freeze (the window), nothing is copied before it, and there is nothing to measure.
"""
import bisect
import os
import statistics
import subprocess
import sys
import time

from bed import Bed, Failed
from benchmark import parse, parser_of, run
from move_bed import REDIS, Children, check_memory, event, make_roots, started
from move_engines import Godwit

CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "load_client.py")
WITHOUT, AFTER = 2.0, 1.0       # seconds
WARM = 0.5                      # seconds that the load works before
SHORTEST = 0.2                  # seconds of a window that say something


def options_of():
    parser = parser_of("overhead", __doc__)
    parser.add_argument("--runs", type=int, default=5, help="moves (default 5)")
    parser.add_argument("--mb", type=int, default=1024, help="MB of values (default 1024)")
    parser.add_argument("--options", default="", help="more options for godwit migrate, one word")
    options = parse(parser)
    if options.runs < 1 or not 1 <= options.mb <= 16384:
        parser.error("--runs: at least 1; --mb: 1 to 16384")
    return options


def rate(samples, begun, ended):
    """Commands a second between two times."""
    times = [at for at, _ in samples]
    first, last = bisect.bisect_left(times, begun), bisect.bisect_right(times, ended) - 1
    if last <= first:
        return None
    return (samples[last][1] - samples[first][1]) / (times[last] - times[first])


def freeze_of(samples, begun, ended):
    """The last sample before the longest gap."""
    inside = [at for at, _ in samples if begun <= at <= ended + AFTER]
    gaps = [(later - earlier, earlier) for earlier, later in zip(inside, inside[1:])]
    if not gaps:
        raise Failed("nothing was seen of the redis while it moved")
    return max(gaps)[1]


def run_of(samples, begun, ended, moved):
    frozen = freeze_of(samples, begun, ended)
    run = {"without": rate(samples, begun - WITHOUT, begun), "during": rate(samples, begun, frozen),
           "after": rate(samples, ended, ended + AFTER), "window_ms": (frozen - begun) * 1e3,
           "downtime_ms": moved["downtime_ms"], "total_ms": moved["total_ms"], "slowdown_pct": None}
    if run["without"] and run["during"] is not None and frozen - begun >= SHORTEST:
        run["slowdown_pct"] = (1 - run["during"] / run["without"]) * 100
    return run


def loaded_move(engine, load, client):
    time.sleep(WARM + WITHOUT)
    begun = time.time()
    moved = engine.move()
    ended = time.time()
    time.sleep(AFTER)
    if load.poll() is not None:
        raise Failed(f"redis-benchmark ended: {load.communicate()[1].strip()}")
    client.stdin.write("\n")
    client.stdin.flush()
    return run_of(event(client, "done", 60)["samples"], begun, ended, moved)


def one_move(bed, engine, root, megabytes):
    check_memory(megabytes)
    with started(engine, "redis", REDIS) as address, Children() as children:
        client = children.start(bed, "node3", "/usr/bin/python3", "-B", CLIENT, address, 6379,
                                megabytes, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        event(client, "ready", 60 + megabytes / 10)
        keys = (megabytes << 20) // 4080
        load = children.start(bed, "node3", "chroot", root, "redis-benchmark", "-h", address, "-t",
                              "set", "-d", 1000, "-r", keys, "-c", 16, "-n", 10 ** 9, "-q",
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)
        return loaded_move(engine, load, client)


def measure(options):
    runs, errors = [], []
    with Bed("bench", nodes=3) as bed:
        roots = make_roots(bed, ["redis"])
        engine = Godwit(bed, options.options)
        engine.setup(roots)
        for turn in range(options.runs):
            print(f"run {turn + 1} of {options.runs}", file=sys.stderr, flush=True)
            try:
                runs.append(one_move(bed, engine, roots["redis"], options.mb))
            except Failed as failed:
                errors.append(str(failed))
                print(f"bench: {failed}", failed.details, sep="\n", file=sys.stderr)
    return runs, errors


def median(runs, key):
    values = [run[key] for run in runs if run[key] is not None]
    return statistics.median(values) if values else None


def show(runs):
    columns = ("without", "during", "after", "window_ms", "slowdown_pct")
    print(" " * 8 + "".join(f"{words:>13}" for words in ("without /s", "during /s", "after /s",
                                                         "window ms", "slower %")))
    rows = [(f"run {turn}", [run]) for turn, run in enumerate(runs, 1)]
    for name, part in [*rows, ("median", runs)]:
        values = [median(part, column) for column in columns]
        print(f"{name:<8}" + "".join(f"{'-':>13}" if value is None else f"{value:13,.1f}"
                                     for value in values))
    if median(runs, "slowdown_pct") is None:
        print(f"no window was {SHORTEST * 1e3:.0f} ms or longer: hardly anything is done before "
              "the freeze")


def benchmark(options):
    runs, errors = measure(options)
    if runs:
        show(runs)
    if errors:
        print(f"{len(errors)} moves failed: {errors[0]}")
    medians = {key: median(runs, key) for key in runs[0]} if runs else None
    return {"memory_mb": options.mb, "runs": runs, "errors": errors, "median": medians}, not errors


if __name__ == "__main__":
    sys.exit(run(options_of(), benchmark))
