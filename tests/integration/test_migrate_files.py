"""Changes to files go ahead while the container runs: all of them arrive, little of them in the pause."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import GODWIT
from moving import (Client, has_nothing, inspect, left_as_found, migrate, moving_bed, run, settled, snapshot, status,
                    stop, serve, until)

MIB = 1 << 20


@pytest.fixture(autouse=True)
def gone(bed):
    with left_as_found(bed):
        yield


def shell(node, name, script):
    return node.godwit("exec", name, "/bin/busybox", "sh", "-c", script).stdout.strip()


def moved(source, name, target, *options):
    return json.loads(migrate(source, name, target, "--json", "-q", *options).stdout)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_files_that_never_rest_arrive_as_they_were_at_the_freeze(bed, seed):
    """Written, mapped, cut, renamed, linked, removed while open: --verify compares all, with times and attributes."""
    here, there = bed["node1"], bed["node2"]
    client = Client(bed["node3"], run(here, "web", "/workloads/restless", seed))
    for _ in range(4):
        client.ask()
        report = moved(here, "web", there, "--verify")
        assert report["files"]["bytes"] > 0
        here, there = there, here
    client.ask()
    client.close()


# 32 MB of text, to which a line is added now and then through a descriptor that stays open
LOGS = ("busybox head -c 32m /dev/zero | busybox tr '\\0' x >/log; "
        "while busybox sleep 0.05; do echo line; done >>/log & exec /workloads/count")


def test_what_was_written_before_takes_no_part_in_the_pause(bed):
    one, two = bed["node1"], bed["node2"]
    client = Client(bed["node3"], run(one, "web", "/bin/busybox", "sh", "-c", LOGS))
    sums = shell(one, "web", "busybox mkdir /new; busybox head -c 64m /dev/urandom > /new/large; "
                 "cd /new; busybox ln large linked; busybox md5sum large")
    report = moved(one, "web", two, "--verify")
    assert report["files"]["bytes"] >= 96 * MIB and report["files"]["bytes_frozen"] < MIB, report["files"]
    assert shell(two, "web", "busybox md5sum /new/linked").split()[0] == sums.split()[0]
    assert shell(two, "web", "busybox stat -c %h /new/large") == "2"
    size = int(shell(two, "web", "busybox stat -c %s /log"))
    until(lambda: int(shell(two, "web", "busybox stat -c %s /log")) > size >= 32 * MIB)
    client.ask()
    client.close()


def test_verify_finds_a_planted_difference(bed):
    one, two = bed["node1"], bed["node2"]
    client = Client(bed["node3"], run(one, "web", "/workloads/count"))
    done = one.run("env", "GODWIT_FAULT=files-hash:value=1", GODWIT, "migrate", "--verify", "web", "node2", check=False)
    assert done.returncode == 1 and "its changes to files here are not what they are" in done.stderr, done.stderr
    assert status(one, "web") == "running"
    has_nothing(two)
    client.ask()
    client.close()


def worker_of(daemon):
    """The pid of the process that receives."""
    children = pathlib.Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    return next(int(p) for p in children if pathlib.Path(f"/proc/{p}/comm").read_text() == "godwit\n")


def test_one_that_is_killed_while_files_go_leaves_nothing(bed):
    """Either side, while the first round is on its way."""
    one, two = bed["node1"], bed["node2"]
    client = Client(bed["node3"], run(one, "web", "/workloads/count"))
    shell(one, "web", "busybox head -c 32m /dev/urandom > /large")
    for victim in ("command", "worker"):
        before = snapshot(bed)
        move = one.popen(GODWIT, "migrate", "-q", "--bwlimit", "8m", "--retry-for", "0", "web", "node2",
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until(lambda: list(two.state.glob("containers/web/upper/large")), say="no file has come")
        os.kill(move.pid if victim == "command" else worker_of(bed.daemons["node2"]), signal.SIGKILL)
        _, says = move.communicate(timeout=30)
        assert move.returncode == (-signal.SIGKILL if victim == "command" else 1), says
        assert status(one, "web") == "running"
        if victim == "worker":              # whom it is for is told when it comes again
            migrate(one, "web", two, "--check")
        has_nothing(two)
        client.ask()
        settled(bed, before)
    client.close()


@pytest.fixture
def small_disk(bed):
    """node2's containers are on a file system of 160 MB."""
    two = bed["node2"]
    stop(bed.daemons["node2"])
    two.run("mount", "-t", "tmpfs", "-o", "size=160m", "none", "/var/lib/godwit/containers")
    bed.daemons["node2"] = serve(two)
    try:
        yield two
    finally:
        stop(bed.daemons["node2"])
        left = two.run("ls", "-A", "/var/lib/godwit/containers").stdout
        two.run("umount", "/var/lib/godwit/containers")
        bed.daemons["node2"] = serve(two)
    assert left == ""


WHEN_TOLD = ("(while ! [ -e /go ]; do busybox sleep 0.02; done; busybox head -c 200m /dev/zero | busybox tr '\\0' x "
             ">/data/large) & exec /workloads/count 100")


def test_a_disk_that_gets_full_is_told_and_the_container_goes_on(bed, small_disk):
    """There is room for what it has at the beginning; it writes more while it moves."""
    one, two = bed["node1"], small_disk
    client = Client(bed["node3"], run(one, "web", "/bin/busybox", "sh", "-c", WHEN_TOLD))
    shell(one, "web", "busybox head -c 1m /dev/zero >/data/large")
    move = one.popen(GODWIT, "migrate", "-q", "--compress", "none", "--bwlimit", "40m", "web", "node2",
                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until(lambda: two.run("test", "-e", "/var/lib/godwit/containers/web/upper/data/large", check=False).returncode == 0)
    shell(one, "web", "busybox touch /go")          # long before the first round of memory is over
    _, says = move.communicate(timeout=60)
    assert move.returncode == 1 and "data/large" in says and "MiB of disk are free" in says, says
    assert "container 'web' goes on here as before" in says
    assert status(one, "web") == "running"
    until(lambda: shell(one, "web", "busybox stat -c %s /data/large") == str(200 * MIB))
    client.ask()
    client.close()
