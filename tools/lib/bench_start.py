"""How long `run IMAGE /bin/true` takes, from the command's start to its end, and the
memory of the largest process that it needs. All engines run in turn on one node of
a test bed, on the same root file system (busybox), with new pid, network, mount, uts,
ipc and cgroup namespaces, output to nowhere. The node has cgroup2 alone, as crun
takes nothing else.

godwit has its defaults: an overlay, an address on a bridge, a system call filter, a
monitor. godwit-none is the same with --network none. crun and runc have their own
`spec`, with the cgroup namespace added, and neither overlay, address, filter nor
device rules: they do less.

ratio is godwit's median divided by that engine's: below 1 godwit is quicker.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys

from bed import Bed, Failed, call
from benchmark import parse, parser_of, run

STOPWATCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stopwatch.py")
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
ENGINES = ("godwit", "godwit-none", "crun", "runc")


def options_of():
    parser = parser_of("start", __doc__,
                       "for each engine median_ms, min_ms, peak_rss_kb, runs, ratio")
    parser.add_argument("--runs", type=int, default=40, help="runs of each engine (default 40)")
    parser.add_argument("--engines", default=",".join(ENGINES), metavar="LIST",
                        help=f"some of {','.join(ENGINES)} (the default)")
    options = parse(parser)
    options.engines = options.engines.split(",")
    unknown = set(options.engines) - set(ENGINES)
    if unknown:
        parser.error(f"--engines: not {', '.join(sorted(unknown))}")
    if options.runs < 1:
        parser.error("--runs: at least 1")
    return options


def write_bundle(bed, engine, rootfs):
    """An OCI bundle of what the engine itself proposes, changed where it must be."""
    folder = bed.folder / f"bundle-{engine}"
    folder.mkdir()
    call(engine, "spec", cwd=folder)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["process"].update(terminal=False, args=["/bin/true"])
    config["root"] = {"path": str(rootfs), "readonly": True}
    config["linux"]["namespaces"] = [{"type": kind} for kind in NAMESPACES]
    config["linux"].pop("resources", None)  # device rules: crun wants CAP_SYS_RESOURCE for them
    config["linux"]["cgroupsPath"] = f"/godwit-testbed/{bed.name}/node1/{engine}"
    file.write_text(json.dumps(config))
    return folder


def command_of(bed, engine, rootfs):
    if engine == "godwit":
        return ["godwit", "run", "--rm", "base", "/bin/true"]
    if engine == "godwit-none":
        return ["godwit", "run", "--rm", "--network", "none", "base", "/bin/true"]
    return [engine, "--root", f"/run/{engine}", "run", "--bundle",
            str(write_bundle(bed, engine, rootfs)), f"bench-{engine}"]


def installed(engine):
    return engine.startswith("godwit") or shutil.which(engine)


def measure(engines, runs):
    with Bed("bench", nodes=1, cgroup="v2") as bed:
        rootfs = bed.make_image("node1", "base")
        commands = {engine: command_of(bed, engine, rootfs) for engine in engines
                    if installed(engine)}
        watch = bed.start("node1", "/usr/bin/python3", "-B", STOPWATCH, runs,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        out, _ = watch.communicate(json.dumps(commands))
    if watch.returncode:
        raise Failed("the stopwatch failed")
    missing = {engine: {"error": "not installed (apt-get install it)"} for engine in engines
               if not installed(engine)}
    return {**json.loads(out), **missing}


def results_of(measured):
    """Of the engines that worked."""
    results = {}
    for engine, values in measured.items():
        if "error" not in values:
            results[engine] = {"median_ms": statistics.median(values["ms"]),
                               "min_ms": min(values["ms"]), "peak_rss_kb": max(values["rss_kb"]),
                               "runs": len(values["ms"])}
    for engine, result in results.items():
        if engine != "godwit" and "godwit" in results:
            result["ratio"] = results["godwit"]["median_ms"] / result["median_ms"]
    return results


def show(measured, results):
    print(f"{'engine':<12}{'median ms':>11}{'min ms':>9}{'peak MB':>9}{'runs':>6}"
          "   godwit to it")
    for engine, result in results.items():
        ratio = f"{result['ratio']:.2f}" if "ratio" in result else "-"
        print(f"{engine:<12}{result['median_ms']:11.2f}{result['min_ms']:9.2f}"
              f"{result['peak_rss_kb'] / 1024:9.1f}{result['runs']:6}   {ratio}")
    for engine, values in measured.items():
        if "error" in values:
            print(f"{engine:<12} left out, it does not work here: {values['error']}")


def benchmark(options):
    measured = measure(options.engines, options.runs)
    results = results_of(measured)
    show(measured, results)
    return results, results


if __name__ == "__main__":
    sys.exit(run(options_of(), benchmark))
