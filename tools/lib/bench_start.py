"""How long it takes to run /bin/true in a container, from the command's start to its end,
and the memory of the largest process that it needs. All run in turn on one node of a
test bed, on the same root file system (busybox), output to nowhere; engines.py says
what the engines are given.

godwit and godwit-none are `godwit run --rm` with its defaults and with --network none. They
do more than a bundle says: an overlay, a monitor with a log and an exit status that
outlive the command, and godwit an address on a bridge.

ratio is the median divided by crun's: below 1 is quicker than crun.
"""
import statistics
import sys

from engines import TO_IT, add_options, check_options, measure, place_of, write_bundle
from benchmark import parse, parser_of, run


def options_of():
    parser = parser_of("start", __doc__,
                       "for each engine median_ms, min_ms, peak_rss_kb, runs, ratio")
    add_options(parser, runs=40)
    options = parse(parser)
    check_options(parser, options)
    return options


def words_of(bed, engine, rootfs):
    if engine == "godwit":
        return ["godwit", "run", "--rm", "base", "/bin/true"]
    if engine == "godwit-none":
        return ["godwit", "run", "--rm", "--network", "none", "base", "/bin/true"]
    return [engine, "--root", f"/run/{engine}", "run", "--bundle",
            str(write_bundle(bed, engine, rootfs, "/bin/true")), f"bench-{engine}"]


def commands_of(bed, engine, rootfs):
    return {engine: {"words": words_of(bed, engine, rootfs), "place": place_of(bed, engine)}}


def results_of(measured):
    """Of the engines that worked."""
    results = {}
    for engine, values in measured.items():
        if "error" not in values:
            results[engine] = {"median_ms": statistics.median(values["ms"]),
                               "min_ms": min(values["ms"]), "peak_rss_kb": max(values["rss_kb"]),
                               "runs": len(values["ms"])}
    for engine, result in results.items():
        if engine != TO_IT and TO_IT in results:
            result["ratio"] = result["median_ms"] / results[TO_IT]["median_ms"]
    return results


def show(measured, results):
    print(f"{'engine':<12}{'median ms':>11}{'min ms':>9}{'peak MB':>9}{'runs':>6}"
          f"   to {TO_IT}")
    for engine, result in results.items():
        ratio = f"{result['ratio']:.2f}" if "ratio" in result else "-"
        print(f"{engine:<12}{result['median_ms']:11.2f}{result['min_ms']:9.2f}"
              f"{result['peak_rss_kb'] / 1024:9.1f}{result['runs']:6}   {ratio}")
    for engine, values in measured.items():
        if "error" in values:
            print(f"{engine:<12} left out, it does not work here: {values['error']}")


def benchmark(options):
    measured = measure(options, commands_of)
    results = results_of(measured)
    show(measured, results)
    return results, results


if __name__ == "__main__":
    sys.exit(run(options_of(), benchmark))
