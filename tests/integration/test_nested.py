"""godwit in a container of godwit's: it runs containers there, as on a machine of its own."""
import json
import pathlib
import re
import shutil
import subprocess

import pytest

from conftest import GODWIT, TOP
from moving import inspect, settled, snapshot
from test_engine import has_controllers

# Another subnet than the node's, in whose it is itself.
SETTINGS = {"subnet": "10.99.0.0/16", "bridge_address": "10.99.0.1/16", "gateway": "10.99.0.1"}


def libraries():
    """What the program is linked with, and what it loads for published ports."""
    listed = subprocess.run(["ldconfig", "-p"], stdout=subprocess.PIPE, text=True, check=True).stdout
    nft = re.search(r"libnftables\.so\.1 .*=> (\S+)", listed).group(1)
    for program in (GODWIT, nft):
        told = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
        yield from re.findall(r"(/\S+) \(0x", told)
    yield nft


@pytest.fixture(scope="module")
def engine(node, tmp_path_factory):
    """An image with godwit in it, on the node."""
    root = tmp_path_factory.mktemp("engine") / "root"
    subprocess.run([TOP / "tests/lib/rootfs", "make", "base", root], check=True)
    for library in libraries():
        target = root / library[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    (root / "usr/local/bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(GODWIT, root / "usr/local/bin/godwit")
    node.godwit("image", "import", "engine", root)
    node.godwit("run", "--rm", "engine", "true")  # a node keeps its bridge
    return "engine"


@pytest.fixture
def outer(node, engine, tmp_path):
    """A nested container with the image base for its own containers. Nothing is left of it."""
    before = snapshot(node.bed)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/node.json").write_text(json.dumps(SETTINGS))
    base = tmp_path / "base"
    subprocess.run([TOP / "tests/lib/rootfs", "make", "base", base], check=True)
    node.godwit("run", "-d", "--name", "outer", "--nested", "-v", f"{tmp_path}/state:/var/lib/godwit",
                "-v", f"{base}:/srv/base:ro", engine, "sleep", "100000")
    node.godwit("exec", "outer", "godwit", "image", "import", "base", "/srv/base")
    yield Inner(node)
    node.godwit("rm", "-f", "outer")
    settled(node.bed, before, seconds=20)


class Inner:
    """godwit in the container."""

    def __init__(self, node):
        self.node = node

    def godwit(self, *args, check=True):
        return self.node.godwit("exec", "outer", "godwit", *args, check=check)


def test_an_engine_in_a_container_runs_execs_limits_stops_and_removes(node, outer):
    assert outer.godwit("run", "--rm", "base", "echo", "inside").stdout == "inside\n"
    assert outer.godwit("run", "--rm", "base", "sh", "-c", "exit 7", check=False).returncode == 7
    limits = ("-m", "64m", "--cpus", "0.5", "--pids-limit", "20") if has_controllers(node) else ("--pids-limit", "0")
    outer.godwit("run", "-d", "--name", "in", "-p", "8080:80", *limits, "base",
                 "sh", "-c", "while :; do echo from inside | nc -l -p 80; done")
    assert outer.godwit("exec", "in", "hostname").stdout == "in\n"
    assert "in " in outer.godwit("ps").stdout
    address = inspect(node, "outer")["network"]["address"].split("/")[0]
    reach = f"until nc {address} 8080 </dev/null; do sleep 0.1; done"
    assert node.godwit("run", "--rm", "base", "timeout", "30", "sh", "-c", reach).stdout == "from inside\n"
    if has_controllers(node):
        told = json.loads(outer.godwit("inspect", "in").stdout)[0]["cgroup"]["limits"]
        assert told["memory_bytes"] == 64 << 20 and told["pids"] == 20 and told["cpu_millis"] == 500
        outer.godwit("update", "-m", "32m", "in")
        done = outer.godwit("exec", "in", "sh", "-c", "x=aaaaaaaa; while :; do x=$x$x; done", check=False)
        assert done.returncode == 137
    assert node.godwit("exec", "outer", "echo", "outer goes on").stdout == "outer goes on\n"
    outer.godwit("pause", "in")
    outer.godwit("unpause", "in")
    outer.godwit("stop", "-t", "0", "in")
    outer.godwit("rm", "in")
    assert "in " not in outer.godwit("ps", "-a").stdout


def test_what_runs_in_it_ends_with_it_and_can_be_started_again(outer):
    node = outer.node
    outer.godwit("run", "-d", "--name", "in", "base", "sleep", "100000")
    node.godwit("stop", "-t", "0", "outer")
    node.godwit("start", "outer")
    assert "exited" in outer.godwit("ps", "-a").stdout
    outer.godwit("start", "in")    # and is left running: it goes with the container that it is in
    assert outer.godwit("exec", "in", "echo", "again").stdout == "again\n"


def test_it_does_not_move_and_says_why(outer):
    node = outer.node
    done = node.godwit("check", "outer", check=False)
    assert done.returncode == 1 and done.stdout.startswith("nested: ") and "--nested" in done.stdout
    outer.godwit("run", "-d", "--name", "in", "base", "sleep", "100000")
    done = node.godwit("checkpoint", "outer", "/tmp/no-such-checkpoint", check=False)
    assert done.returncode == 1 and "nested: " in done.stderr and "namespace-nested: " in done.stderr
    assert not pathlib.Path("/tmp/no-such-checkpoint").exists()


def test_only_what_is_granted(node, outer, box):
    """The machine's own switches stay read-only, its disks closed; without --nested nothing is granted."""
    script = "echo 1 >/proc/sys/net/ipv4/ip_forward && ! echo x >/proc/sys/kernel/core_pattern && " \
             "mknod /tmp/disk b 254 0 && ! dd if=/tmp/disk of=/dev/null count=1 && mkdir /sys/fs/cgroup/{}more"
    unified = "" if node.run("test", "-e", "/sys/fs/cgroup/cgroup.procs", check=False).returncode == 0 else "unified/"
    done = node.godwit("exec", "outer", "sh", "-c", script.format(unified), check=False)
    assert done.returncode == 0, done.stderr
    plain = box("sleep", "1000")
    for refused in ("mount -t tmpfs none /mnt", "mknod /tmp/disk b 254 0", f"mkdir /sys/fs/cgroup/{unified}more",
                    "echo 1 >/proc/sys/net/ipv4/ip_forward"):
        assert node.godwit("exec", plain, "sh", "-c", refused, check=False).returncode != 0, refused
    outer.godwit("--state", "/tmp/state", "image", "import", "base", "/srv/base")
    done = outer.godwit("--state", "/tmp/state", "run", "--rm", "base", "true", check=False)
    assert done.returncode == 125 and "on a volume" in done.stderr
