"""What the tests of migrations share: beds with workloads, clients, comparisons."""
import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time

import pytest

from conftest import BUILD, GODWIT, TOP, Bed, processes_of

WORKLOADS = BUILD / "tests" / "workloads"
PORT = 7000
PEER_PORT = 4967
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def until(what, seconds=10, say="it did not happen"):
    """Waits until what() is true, and returns it."""
    end = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < end, say
        time.sleep(0.01)
    return result


def make_image(folder):
    """The root file system base, with all workloads and something to change."""
    subprocess.run([str(TOP / "tests/lib/rootfs"), "make", "base", str(folder)], check=True)
    target = folder / "workloads"
    target.mkdir()
    for program in WORKLOADS.iterdir():
        if program.is_file() and os.access(program, os.X_OK):
            shutil.copy(program, target)
    data = folder / "data"
    for name in ("copied", "removed", "mode", "untouched", "renamed/inside", "replaced/old"):
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("copied! text\n" if name == "copied" else f"{path.name}\n")
    return folder


def holder(node, name=None):
    """The pid of the process that holds a node's namespaces, or those of another part of its bed."""
    return pathlib.Path("/run/godwit-testbed", node.bed.name, name or node.name).read_text().split()[0]


def in_node(node, make):
    """Calls make() in the node's network namespace and returns what it returns."""
    return in_namespace(f"/proc/{holder(node)}/ns/net", make)


def in_namespace(path, make):
    result = []

    def run():
        with open(path, "rb") as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        try:
            result.append(make())
        except OSError as error:
            result.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]


class Client:
    """A connection to a workload from another node, or from another namespace."""

    def __init__(self, node, address, port=PORT, namespace=None):
        def make():
            end = time.monotonic() + 10
            while True:
                try:
                    return socket.create_connection((address, port), 10)
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.02)
        self.socket = in_namespace(namespace, make) if namespace else in_node(node, make)
        self.socket.settimeout(20)
        self.name = self.socket.getsockname()
        self.nonce = self.count = None

    def ask(self, request="?"):
        """The workload checks itself: still the same one, further on, and well.
        Returns what it tells besides."""
        self.socket.sendall(request.encode() + b"\n")
        nonce, count, verdict = self.socket.makefile().readline().rstrip("\n").split(" ", 2)
        assert verdict.split(":")[0] == "ok", verdict
        assert self.nonce in (None, nonce), "another process answers"
        assert self.count is None or int(count) > self.count, "it went back in time"
        self.nonce, self.count = nonce, int(count)
        assert self.socket.getsockname() == self.name
        return verdict[len("ok: "):]

    def close(self):
        self.socket.close()


def inspect(node, name):
    return json.loads(node.godwit("inspect", name).stdout)[0]


def status(node, name):
    """The container's status on that node, or None when it is not there."""
    listed = json.loads(node.godwit("ps", "-a", "--json").stdout)
    return next((c["status"] for c in listed if c["name"] == name), None)


def serve(node, *options, env=None):
    """Starts the node's daemon, ready when this returns. Its log: serve.log of the bed."""
    log = open(node.log, "a", encoding="utf-8")
    process = node.popen("env", *(env or ()), GODWIT, "serve", *options,
                         stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL)
    log.close()
    line = process.stdout.readline()
    assert "listens on" in line, line + pathlib.Path(node.log).read_text()
    return process


def stop(process):
    process.terminate()
    process.wait(10)
    process.stdout.close()


def serve_with_faults(bed, name, folder):
    """From now on the node's daemon and what it starts fails as the file bed.faults says (engine/base/fault.h)."""
    bed.faults = folder / "faults"
    bed.faults.touch()
    stop(bed.daemons[name])
    bed.daemons[name] = serve(bed[name], env=[f"GODWIT_FAULT=@{bed.faults}"])


@contextlib.contextmanager
def without_serve(bed, *names):
    """These nodes' daemons are stopped, and started again in the end."""
    for name in names:
        stop(bed.daemons[name])
    try:
        yield
    finally:
        for name in names:
            bed.daemons[name] = serve(bed[name])


# What every container of a run is given besides, as "--userns auto".
RUN_OPTIONS = os.environ.get("GODWIT_RUN_OPTIONS", "").split()


def run(node, name, *command, image="work", options=()):
    """Starts a container and returns its address."""
    node.godwit("run", "-d", "--name", name, *RUN_OPTIONS, *options, image, *command)
    return inspect(node, name)["network"]["address"].split("/")[0]


# What every move of a run is given besides.
OPTIONS = os.environ.get("GODWIT_MOVE_OPTIONS", "").split()


def migrate(node, name, to, *options, check=True, **more):
    """What stays at the source for a while stays shortly, so that nobody waits for it to go."""
    return node.godwit("migrate", *OPTIONS, "--forward", "200ms", *options, name, to.name, check=check, **more)


def moves(bed):
    """The pids of all moves of the bed, forwarders too: those that have not named themselves yet
    are still called as the command that started them."""
    return [pid for pid, command in processes_of(bed) if f"{GODWIT} migrate " in command]


def snapshot(bed):
    """All that the bed has, but what is kept on purpose: daemons, and logs of CRIU. What moves
    have left at their sources for a while goes first."""
    until(lambda: not moves(bed), say="a move has not ended")
    now = bed.snapshot()
    now["processes"] = {p for p in now["processes"] if "godwit serve" not in p[1]}
    now["files"] = {node: {f for f in files if f not in ("tokens", "logs", "departed")
                           and not f.startswith(("logs/", "departed/"))}
                    for node, files in now["files"].items()}
    return now


def settled(bed, before, seconds=6):
    """Asserts that the machine is as it was before; what just ends gets a moment."""
    end = time.monotonic() + seconds
    while (now := snapshot(bed)) != before and time.monotonic() < end:
        time.sleep(0.05)
    for what, then in before.items():
        if isinstance(then, dict):
            for node, part in then.items():
                compare(f"{what} of {node}", part, now[what][node])
        else:
            compare(what, then, now[what])


def compare(what, then, now):
    """Fails with the difference only."""
    more = sorted(str(x) for x in now if x not in then)
    less = sorted(str(x) for x in then if x not in now)
    if now != then:
        pytest.fail(f"{what}: {len(more)} came {more[:8]}, {len(less)} went {less[:8]}")


def log_of(node, name):
    return node.godwit("logs", name).stdout


def has_nothing(node):
    """Nothing of a container is on the node; one that was refused goes after the source was told."""
    until(lambda: not list((node.state / "containers").iterdir()), say=f"{node.name} is not clean")
    assert node.godwit("ps", "-a", "-q").stdout == ""


def make_bed(tmp_path_factory, nodes=3, images=("work",)):
    """A bed whose nodes all have the image with the workloads, and whose daemons run."""
    bed = Bed(nodes, "host")
    try:
        folder = make_image(tmp_path_factory.mktemp("rootfs") / "work")
        logs = tmp_path_factory.mktemp("logs")
        for node in bed.nodes.values():
            node.log = logs / f"{node.name}.log"
            node.log.touch()
            for image in images:
                node.godwit("image", "import", image, folder)
        for node in bed.nodes.values():
            # the first container makes cgroups that stay for the next ones
            node.godwit("run", "--rm", images[0], "/bin/true")
        bed.folder = folder
        bed.daemons = {name: serve(bed[name]) for name in ("node1", "node2")}
    except BaseException:
        bed.down()
        raise
    return bed


def end_bed(bed):
    for process in bed.daemons.values():
        if process.poll() is None:
            stop(process)
    bed.down()


@pytest.fixture(scope="module", name="bed")
def moving_bed(tmp_path_factory):
    """To import: the bed of a file's tests, which leave it as they found it."""
    it = make_bed(tmp_path_factory)
    yield it
    end_bed(it)


@pytest.fixture(scope="module", name="bed")
def bed_of_three(tmp_path_factory):
    """The same, and node3 takes containers, too."""
    it = make_bed(tmp_path_factory)
    it.daemons["node3"] = serve(it["node3"])
    yield it
    end_bed(it)


@pytest.fixture(scope="module", name="bed")
def bed_with_faults(tmp_path_factory):
    """The same, and what node2's daemon does can fail: bed.faults."""
    it = make_bed(tmp_path_factory)
    serve_with_faults(it, "node2", tmp_path_factory.mktemp("faults"))
    yield it
    end_bed(it)


def remove_all(bed):
    for node in bed.nodes.values():
        names = node.godwit("ps", "-a", "-q").stdout.split()
        if names:
            node.godwit("rm", "-f", *names)


@contextlib.contextmanager
def left_as_found(bed):
    """Whatever is started inside, all nodes are as before after it."""
    before = snapshot(bed)
    try:
        yield
    finally:
        remove_all(bed)
    settled(bed, before)


def fail_unless(condition, text):
    if not condition:
        pytest.fail(text)
