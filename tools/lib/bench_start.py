"""How long it takes to run /bin/true in a container, from the command's start to its end,
and the memory of the largest process that it needs. All run in turn on one node of a
test bed, on the same root file system (busybox), output to nowhere.

godwit-oci, crun and runc run one and the same OCI bundle: what `godwit-oci spec` proposes
(pid, network, mount, uts, ipc and cgroup namespaces, device rules, masked paths) with a
limit of processes and podman's system call filter, when that is installed. crun refuses
hybrid machines, so there it sees the hierarchies of version 1 alone, where it makes the
same limits. With --cgroup v2 all see cgroup2 alone; a hybrid machine has no controllers
there, and crun wants CAP_SYS_RESOURCE for device rules, so limits and rules are left out.

godwit and godwit-none are `godwit run --rm` with its defaults and with --network none. They
do more than a bundle says: an overlay, a monitor with a log and an exit status that
outlive the command, and godwit an address on a bridge.

ratio is the median divided by crun's: below 1 is quicker than crun.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys

from bed import Bed, Failed
from benchmark import parse, parser_of, run

STOPWATCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stopwatch.py")
ENGINES = ("godwit-oci", "crun", "runc", "godwit", "godwit-none")
TO_IT = "crun"
HIDE_V2 = ("unshare", "--mount", "/bin/sh", "-ec",
           'mount -t tmpfs none /sys/fs/cgroup/unified; exec "$@"', "sh")
PROFILE = "/usr/share/containers/seccomp.json"    # of golang-github-containers-common, podman's


def options_of():
    parser = parser_of("start", __doc__,
                       "for each engine median_ms, min_ms, peak_rss_kb, runs, ratio")
    parser.add_argument("--runs", type=int, default=40, help="runs of each engine (default 40)")
    parser.add_argument("--engines", default=",".join(ENGINES), metavar="LIST",
                        help=f"some of {','.join(ENGINES)} (the default)")
    parser.add_argument("--cgroup", choices=("host", "v2"), default="host",
                        help="what the node sees (default host: what this machine has)")
    options = parse(parser)
    options.engines = options.engines.split(",")
    unknown = set(options.engines) - set(ENGINES)
    if unknown:
        parser.error(f"--engines: not {', '.join(sorted(unknown))}")
    if options.runs < 1:
        parser.error("--runs: at least 1")
    return options


def applies(rule, capabilities):
    """Whether podman would take a rule of its profile for this machine and these rights."""
    needs, without = rule.get("includes") or {}, rule.get("excludes") or {}
    arches = needs.get("arches")
    return ((not arches or "amd64" in arches) and "minKernel" not in needs
            and set(needs.get("caps") or ()) <= capabilities
            and not set(without.get("caps") or ()) & capabilities)


def filter_of(capabilities):
    """linux.seccomp as podman makes it of its profile."""
    with open(PROFILE, encoding="utf-8") as file:
        profile = json.load(file)
    keys = ("names", "action", "args", "errnoRet")
    return {"defaultAction": profile["defaultAction"],
            "defaultErrnoRet": profile["defaultErrnoRet"],
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{key: rule[key] for key in keys if rule.get(key) is not None}
                         for rule in profile["syscalls"] if applies(rule, capabilities)]}


def write_bundle(bed, engine, rootfs):
    """The same for each engine but for the name of its cgroup."""
    folder = bed.folder / f"bundle-{engine}"
    folder.mkdir()
    bed.run("node1", "godwit-oci", "spec", "--bundle", folder)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["process"].update(terminal=False, args=["/bin/true"])
    config["root"] = {"path": str(rootfs), "readonly": True}
    linux = config["linux"]
    linux["cgroupsPath"] = f"/godwit-testbed/{bed.name}/node1/{engine}"
    linux["resources"]["pids"] = {"limit": 2048}
    if bed.cgroup == "v2":
        del linux["resources"]
    if os.path.exists(PROFILE):
        linux["seccomp"] = filter_of(set(config["process"]["capabilities"]["bounding"]))
    file.write_text(json.dumps(config))
    return folder


def words_of(bed, engine, rootfs):
    if engine == "godwit":
        return ["godwit", "run", "--rm", "base", "/bin/true"]
    if engine == "godwit-none":
        return ["godwit", "run", "--rm", "--network", "none", "base", "/bin/true"]
    return [engine, "--root", f"/run/{engine}", "run", "--bundle",
            str(write_bundle(bed, engine, rootfs)), f"bench-{engine}"]


def place_of(bed, engine):
    hybrid = bed.cgroup == "host" and os.path.exists("/sys/fs/cgroup/unified/cgroup.procs")
    return HIDE_V2 if hybrid and engine == "crun" else ()


def installed(engine):
    return engine.startswith("godwit") or shutil.which(engine)


def measure(options):
    with Bed("bench", nodes=1, cgroup=options.cgroup) as bed:
        rootfs = bed.make_image("node1", "base")
        commands = {engine: {"words": words_of(bed, engine, rootfs),
                             "place": place_of(bed, engine)}
                    for engine in options.engines if installed(engine)}
        watch = bed.start("node1", "/usr/bin/python3", "-B", STOPWATCH, options.runs,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        out, _ = watch.communicate(json.dumps(commands))
    if watch.returncode:
        raise Failed("the stopwatch failed")
    missing = {engine: {"error": "not installed (apt-get install it)"}
               for engine in options.engines if not installed(engine)}
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
    measured = measure(options)
    results = results_of(measured)
    show(measured, results)
    return results, results


if __name__ == "__main__":
    sys.exit(run(options_of(), benchmark))
