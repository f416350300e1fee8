"""Fixtures of the integration tests: test beds, root file systems, before and after.

    def test_runs(bed, rootfs):
        node = bed["node1"]
        node.godwit("image", "import", "base", rootfs("base"))
        before = bed.snapshot()
        assert node.godwit("run", "--rm", "base", "/bin/echo", "hi").stdout == "hi\\n"
        assert bed.snapshot() == before

A test may ask for another bed with @pytest.mark.bed(nodes=2, cgroup="v2").
"""
import itertools
import os
import pathlib
import re
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("GODWIT_BUILD", TOP / "build"))
GODWIT = BUILD / "tools" / "godwit"
TESTBED = TOP / "tools" / "testbed"
SKIPS = TOP / "tests" / "skips.txt"
HIERARCHIES = ("cgroup", "cgroup2")
numbers = itertools.count(1)


class Node:
    """One node of a bed: a machine as far as godwit can tell."""

    def __init__(self, bed, number):
        self.bed = bed
        self.name = f"node{number}"
        self.address = f"10.88.0.{number}"
        self.state = pathlib.Path("/var/lib/godwit-testbed") / bed.name / self.name

    def command(self, *args):
        """The words that run a program in the node, for a Popen of one's own."""
        return [str(TESTBED), "--name", self.bed.name, "exec", self.name, "--", *map(str, args)]

    def run(self, *args, check=True, timeout=120, **options):
        """Runs a program in the node; with check, a non-zero exit fails the test."""
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        done = subprocess.run(self.command(*args), text=True, timeout=timeout, check=False,
                              **options)
        if check and done.returncode:
            pytest.fail(f"{self.name}: {' '.join(map(str, args))}: exit {done.returncode}\n"
                        f"{done.stdout}{done.stderr}")
        return done

    def godwit(self, *args, **options):
        """Runs godwit in the node: .returncode, .stdout, .stderr."""
        return self.run(GODWIT, *args, **options)

    def popen(self, *args, **options):
        """Starts a program in the node; whatever it is then, the bed's end ends it."""
        options.setdefault("text", True)
        return subprocess.Popen(self.command(*args), **options)

    def daemon(self, *args):
        """Starts a program in the node that nobody waits for."""
        self.run("setsid", "--fork", *args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def link(self, how):
        self.bed.testbed("link", self.name, how)

    def crash(self):
        self.bed.testbed("crash", self.name)

    def boot(self):
        self.bed.testbed("boot", self.name)


class Bed:
    """A test bed with a name of its own; bed["node1"] is a Node."""

    def __init__(self, nodes, cgroup):
        self.name = f"test{os.getpid()}-{next(numbers)}"
        self.testbed("up", str(nodes), "--cgroup", cgroup, "--owner", str(os.getpid()))
        self.nodes = {f"node{k}": Node(self, k) for k in range(1, nodes + 1)}

    def __getitem__(self, name):
        return self.nodes[name]

    def testbed(self, *args):
        done = subprocess.run([str(TESTBED), "--name", self.name, *args], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.fail(f"testbed {' '.join(args)}: {done.stdout}")
        return done.stdout

    def down(self):
        self.testbed("down")

    def snapshot(self):
        return snapshot_of_machine(self)


def cgroups_of(bed):
    """All cgroups of the bed, in every hierarchy."""
    found = set()
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind = line.split()[:3]
        if kind in HIERARCHIES:
            top = pathlib.Path(point) / "godwit-testbed" / bed.name
            found.update(folder for folder, _, _ in os.walk(top))
    return found


def processes_of(bed):
    """(pid, command) of all processes in the nodes: by environment, or by cgroup."""
    mark = f"GODWIT_TESTBED_NODE={bed.name}/".encode()
    found = set()
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            inside = (any(word.startswith(mark) for word in
                          (proc / "environ").read_bytes().split(b"\0"))
                      or f"/godwit-testbed/{bed.name}/" in (proc / "cgroup").read_text())
            if inside:
                words = (proc / "cmdline").read_bytes().replace(b"\0", b" ")
                found.add((int(proc.name), words.decode(errors="replace").strip()))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass  # it has just ended, or belongs to whoever runs this machine
    return found


def namespaces_of(pids):
    """All namespaces that these processes are in."""
    found = set()
    for pid in pids:
        for kind in ("net", "mnt", "uts", "ipc", "pid", "cgroup", "time", "user"):
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
            except OSError:
                pass
    return found


def mounts_of(node):
    """What is mounted in the node, without the numbers that the kernel gives out."""
    lines = node.run("cat", "/proc/self/mountinfo").stdout.splitlines()
    return sorted(" ".join(line.split()[3:6] + line.split(" - ")[1].split()) for line in lines)


def links_of(node):
    """Network interfaces of the node, with what may vary cut off."""
    lines = node.run("ip", "-o", "link").stdout.splitlines()
    return sorted(re.sub(r"^\d+: ([^:@]+).*", r"\1", line) for line in lines)


def files_of(node):
    """Paths in the node's state directory, without the caches."""
    return {str(path.relative_to(node.state)) for path in node.state.rglob("*")
            if path.relative_to(node.state).parts[0] != "cache"}


def snapshot_of_machine(bed):
    """All that a bed has on this machine, to compare with another moment."""
    processes = processes_of(bed)
    return {
        "processes": processes,
        "namespaces": namespaces_of(pid for pid, _ in processes),
        "cgroups": cgroups_of(bed),
        "mounts": {name: mounts_of(node) for name, node in bed.nodes.items()},
        "links": {name: links_of(node) for name, node in bed.nodes.items()},
        "netns": {name: node.run("ip", "netns").stdout for name, node in bed.nodes.items()},
        "files": {name: files_of(node) for name, node in bed.nodes.items()},
    }


@pytest.fixture
def bed(request):
    marker = request.node.get_closest_marker("bed")
    options = {"nodes": 3, "cgroup": "host", **(marker.kwargs if marker else {})}
    it = Bed(**options)
    try:
        yield it
    finally:
        it.down()


@pytest.fixture
def rootfs(tmp_path):
    """rootfs("redis"): a folder with that root file system (base, redis, python)."""
    def make(kind):
        folder = tmp_path / f"rootfs-{kind}"
        subprocess.run([str(TOP / "tests/lib/rootfs"), "make", kind, str(folder)], check=True)
        return folder
    return make


@pytest.fixture(scope="module")
def oci_root(tmp_path_factory):
    """A root file system that the bundles of a file share."""
    path = tmp_path_factory.mktemp("root") / "base"
    subprocess.run([TOP / "tests" / "lib" / "rootfs", "make", "base", path], check=True,
                   capture_output=True)
    return path


@pytest.fixture
def oci(tmp_path, oci_root):
    """A bundle for the OCI runtime, and what runs of it."""
    from oci import Oci  # pylint: disable=import-outside-toplevel
    made = Oci(tmp_path, oci_root)
    yield made
    made.close()


# The cgroups as the machine has them, and cgroup2 alone, which may be the same.
LAYOUTS = ["host"] if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists() else ["host", "v2"]


@pytest.fixture(scope="module", params=LAYOUTS)
def node(request, tmp_path_factory):
    """One node with the image base, shared by the tests of a file. Tests leave nothing on it."""
    folder = tmp_path_factory.mktemp("rootfs") / "base"
    subprocess.run([str(TOP / "tests/lib/rootfs"), "make", "base", str(folder)], check=True)
    it = Bed(1, request.param)
    try:
        it["node1"].godwit("image", "import", "base", folder)
        yield it["node1"]
    finally:
        it.down()


@pytest.fixture
def box(node):
    """Starts a container in the background, and removes it in the end: box("sleep", "9")."""
    started = []

    def start(*command, options=()):
        name = f"box{next(numbers)}"
        node.godwit("run", "-d", "--name", name, *options, "base", *command)
        started.append(name)
        return name
    yield start
    for name in started:
        node.godwit("rm", "-f", name, check=False)


def written_skips():
    """The skips that tests/skips.txt allows: name of the test, then the reason."""
    lines = SKIPS.read_text().splitlines() if SKIPS.exists() else []
    return {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}


def pytest_configure(config):
    config.addinivalue_line("markers", "bed(nodes=3, cgroup='host'): the bed that the test gets")
    config.skipped = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail"):
        story = pathlib.Path(item.fspath).stem.removeprefix("test_")
        item.config.skipped.append(f"integration/{story}::{item.name}")


def pytest_sessionfinish(session, exitstatus):
    """A skip that nobody wrote down fails; a file that was skipped whole says so (77)."""
    unwritten = [name for name in session.config.skipped if name not in written_skips()]
    if unwritten:
        print("\nskipped, but not in tests/skips.txt:", *unwritten)
        session.exitstatus = 1
    elif exitstatus == 0 and session.testscollected == len(session.config.skipped) > 0:
        session.exitstatus = 77
