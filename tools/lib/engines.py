"""The engines that the benches of single commands compare, and one bundle for all of them.

godwit-oci, crun and runc run one and the same OCI bundle: what `godwit-oci spec` proposes
(pid, network, mount, uts, ipc and cgroup namespaces, device rules, masked paths) with a
limit of processes and podman's system call filter, when that is installed. crun refuses
hybrid machines, so there it sees the hierarchies of version 1 alone, where it makes the
same limits. With --cgroup v2 all see cgroup2 alone; a hybrid machine has no controllers
there, and crun wants CAP_SYS_RESOURCE for device rules, so limits and rules are left out.
"""
import json
import os
import shutil
import subprocess

from bed import Bed, Failed

STOPWATCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stopwatch.py")
OCI = ("godwit-oci", "crun", "runc")
ENGINES = (*OCI, "godwit", "godwit-none")
TO_IT = "crun"
HIDE_V2 = ("unshare", "--mount", "/bin/sh", "-ec",
           'mount -t tmpfs none /sys/fs/cgroup/unified; exec "$@"', "sh")
PROFILE = "/usr/share/containers/seccomp.json"    # of golang-github-containers-common, podman's


def add_options(parser, runs):
    parser.add_argument("--runs", type=int, default=runs, help=f"runs of each engine (default {runs})")
    parser.add_argument("--engines", default=",".join(ENGINES), metavar="LIST",
                        help=f"some of {','.join(ENGINES)} (the default)")
    parser.add_argument("--cgroup", choices=("host", "v2"), default="host",
                        help="what the node sees (default host: what this machine has)")


def check_options(parser, options):
    options.engines = options.engines.split(",")
    unknown = set(options.engines) - set(ENGINES)
    if unknown:
        parser.error(f"--engines: not {', '.join(sorted(unknown))}")
    if options.runs < 1:
        parser.error("--runs: at least 1")


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


def write_bundle(bed, engine, rootfs, *args):
    """The same for each engine but for the name of its cgroup."""
    folder = bed.folder / f"bundle-{engine}-{len(list(bed.folder.glob('bundle-*')))}"
    folder.mkdir()
    bed.run("node1", "godwit-oci", "spec", "--bundle", folder)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["process"].update(terminal=False, args=list(args))
    config["root"] = {"path": str(rootfs), "readonly": True}
    linux = config["linux"]
    linux["cgroupsPath"] = f"/godwit-testbed/{bed.name}/node1/{folder.name}"
    linux["resources"]["pids"] = {"limit": 2048}
    if bed.cgroup == "v2":
        del linux["resources"]
    if os.path.exists(PROFILE):
        linux["seccomp"] = filter_of(set(config["process"]["capabilities"]["bounding"]))
    file.write_text(json.dumps(config))
    return folder


def place_of(bed, engine):
    """The words that show an engine the control groups that it can work with."""
    hybrid = bed.cgroup == "host" and os.path.exists("/sys/fs/cgroup/unified/cgroup.procs")
    return HIDE_V2 if hybrid and engine == "crun" else ()


def measure(options, commands_of):
    """What stopwatch.py says of commands_of(bed, engine, rootfs), {name: command}, for all engines."""
    installed = [engine for engine in options.engines if engine.startswith("godwit") or shutil.which(engine)]
    with Bed("bench", nodes=1, cgroup=options.cgroup) as bed:
        rootfs = bed.make_image("node1", "base")
        commands = {}
        for engine in installed:
            commands.update(commands_of(bed, engine, rootfs))
        watch = bed.start("node1", "/usr/bin/python3", "-B", STOPWATCH, options.runs,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        out, _ = watch.communicate(json.dumps(commands))
    if watch.returncode:
        raise Failed("the stopwatch failed")
    missing = {engine: {"error": "not installed (apt-get install it)"}
               for engine in options.engines if engine not in installed}
    return {**json.loads(out), **missing}
