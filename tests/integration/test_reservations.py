"""Two containers want the same place: one is refused at once, and who dies reserves nothing."""
import contextlib
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import GODWIT
from moving import (Client, has_nothing, inspect, left_as_found, migrate, moving_bed, remove_all, run, serve,
                    status, stop, until)


@pytest.fixture
def gone(bed):
    """Whatever a test starts, all nodes are as before after it."""
    with left_as_found(bed):
        yield
        remove_all(bed)
        # who was killed could not forget its refusal
        for record in (bed["node2"].state / "tokens").glob("*"):
            assert record.read_text() == "refused\n"
            record.unlink()


def begin(node, name, *options):
    return node.popen(GODWIT, "migrate", "-q", *options, name, "node2", stdin=subprocess.DEVNULL,
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def refused(node, name):
    """A migration to node2 that is refused, and at once; what it says."""
    began = time.monotonic()
    done = node.godwit("migrate", "-q", name, "node2", check=False)
    assert done.returncode == 1 and time.monotonic() - began < 4, done
    assert status(node, name) == "running"
    return done.stderr


@contextlib.contextmanager
def on_its_way(bed, node, name, folder, script=None):
    """A migration that has been accepted by node2, and waits there until it may go on."""
    two, marker = bed["node2"], folder / "marker"
    stop(bed.daemons["node2"])
    fault = f"GODWIT_FAULT=send-PREPARED@receive:wait:{marker}"
    if script:
        daemon = two.popen("env", fault, "unshare", "--mount", "sh", "-e", "-c",
                           f"{script}; exec {GODWIT} serve",
                           stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        daemon.stdout.readline()
        bed.daemons["node2"] = daemon
    else:
        bed.daemons["node2"] = serve(two, env=[fault])
    process = begin(node, name)
    try:
        until(marker.exists)
        process.receiver = int(marker.read_text().split()[0])
        process.release = lambda: (folder / "marker.go").touch()
        yield process
        process.release()
        _, err = process.communicate(timeout=60)
        assert process.returncode == process.expected, err
    finally:
        process.kill()
        process.communicate()
        (folder / "marker.go").touch()
        stop(bed.daemons["node2"])
        bed.daemons["node2"] = serve(two)


def test_the_same_name(bed, gone, tmp_path):
    for node in ("node1", "node3"):
        run(bed[node], "web", "/workloads/count")
    with on_its_way(bed, bed["node1"], "web", tmp_path) as first:
        said = refused(bed["node3"], "web")
        assert "name-taken: a container 'web' is already on node2" in said
        first.expected = 0
    assert status(bed["node2"], "web") == "running" and status(bed["node3"], "web") == "running"


def test_the_same_address(bed, gone, tmp_path):
    address = run(bed["node1"], "a", "/workloads/count")
    run(bed["node3"], "b", "/workloads/count")
    config = bed["node3"].state / "containers" / "b" / "config.json"
    config.write_text(config.read_text().replace(inspect(bed["node3"], "b")["network"]["address"].split("/")[0], address))
    with on_its_way(bed, bed["node1"], "a", tmp_path) as first:
        assert f"address-taken: address {address}/16 belongs to container 'a' on node2" in refused(bed["node3"], "b")
        first.expected = 0


def test_the_last_memory(bed, gone, tmp_path):
    """Two of 100 MB with 400 free: twice its size and something is reserved for each."""
    for node, name in (("node1", "a"), ("node3", "b")):
        client = Client(bed[node], run(bed[node], name, "/workloads/count", "100"))
        client.ask()
        client.close()
    fake = tmp_path / "meminfo"
    fake.write_text("MemTotal: 8000000 kB\nMemFree: 400000 kB\nMemAvailable: 400000 kB\n")
    with on_its_way(bed, bed["node1"], "a", tmp_path, f"mount --bind {fake} /proc/meminfo") as first:
        said = refused(bed["node3"], "b")
        assert "memory-short: it needs" in said and "reserved for others" in said
        assert "name-taken" not in said and "address-taken" not in said
        first.expected = 0
    migrate(bed["node3"], "b", bed["node2"])


@pytest.mark.parametrize("who", ["its receiver", "the daemon and its receiver", "the source"])
def test_who_is_killed_reserves_nothing(bed, gone, tmp_path, who):
    """The name, the address and the memory are free again at once."""
    run(bed["node1"], "web", "/workloads/count")
    run(bed["node3"], "web", "/workloads/count")
    with on_its_way(bed, bed["node1"], "web", tmp_path) as first:
        if who == "the source":
            first.kill()
            first.release()
        else:
            os.kill(first.receiver, signal.SIGKILL)
        if "daemon" in who:
            bed.daemons["node2"].kill()
            bed.daemons["node2"].wait()
            bed.daemons["node2"].stdout.close()
            bed.daemons["node2"] = serve(bed["node2"])
        until(lambda: first.poll() is not None)
        if who == "the source":  # who may come back, until somebody else comes
            folder = bed["node2"].state / "containers" / "web"
            until(lambda: (folder / "yield").exists() or not folder.exists())
        migrate(bed["node3"], "web", bed["node2"])
        first.expected = first.returncode
        assert first.returncode not in (0, 3)
    assert status(bed["node2"], "web") == status(bed["node1"], "web") == "running"


def test_a_question_reserves_nothing(bed, gone):
    """Nothing is made over there, and nothing is forgotten of what is on its way."""
    run(bed["node1"], "web", "/workloads/count")
    before = {path.name for path in pathlib.Path(bed["node2"].state).iterdir()}
    for _ in range(3):
        bed["node1"].godwit("migrate", "--check", "web", "node2")
    has_nothing(bed["node2"])
    assert {path.name for path in pathlib.Path(bed["node2"].state).iterdir()} == before
