"""A move that is given up, at every moment until it is decided: it runs here, and both sides are clean."""
import os
import signal
import subprocess
import time

import pytest

from conftest import GODWIT
from moving import Client, bed_with_faults, has_nothing, migrate, run, settled, snapshot, status, until

WAYS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "--cancel": None}


@pytest.fixture
def web(bed):
    """A container with some memory on node1, and a client; afterwards it runs there, and can move."""
    before = snapshot(bed)
    client = Client(bed["node3"], run(bed["node1"], "web", "/workloads/count", "60"))
    client.ask()
    yield client
    bed.faults.write_text("")
    client.ask()
    place = next(node for node in ("node1", "node2") if status(bed[node], "web"))
    assert status(bed[place], "web") == "running"
    migrate(bed[place], "web", bed["node2" if place == "node1" else "node1"])
    client.ask()
    client.close()
    for node in ("node1", "node2"):
        bed[node].godwit("rm", "-f", "web", check=False)
    settled(bed, before)


class Move:
    """A migration that stops at a fault point, in the process of that role, until it may go on."""

    def __init__(self, bed, folder, point, role, *options):
        self.bed, self.marker = bed, folder / "marker"
        fault = f"{point}@{role}:wait:{self.marker}"
        env = []
        if role == "command":
            env = ["env", f"GODWIT_FAULT={fault}"]
        else:
            bed.faults.write_text(fault)
        self.process = bed["node1"].popen(*env, GODWIT, "migrate", "-q", *options, "web", "node2",
                                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                          start_new_session=True)
        until(lambda: self.marker.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()

    def cancel(self, way):
        """Returns the one that waits for it, or None."""
        if WAYS[way] is None:
            return self.bed["node1"].popen(GODWIT, "migrate", "--cancel", "web", stdin=subprocess.DEVNULL,
                                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if way == "Ctrl-C":
            os.killpg(self.process.pid, signal.SIGINT)  # all that the terminal reaches, CRIU too
        else:
            self.process.terminate()
        return None

    def go_on(self):
        self.marker.with_name("marker.go").touch()

    def end(self):
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


def check_cancelled(bed, move, waiter, began, seconds):
    code, err = move.end()
    assert time.monotonic() - began < seconds, "it took too long"
    assert code == 1 and "cancelled" in err.splitlines()[0], err
    assert err.splitlines()[-1] == "container 'web' goes on here as before"
    if waiter:
        out, err = waiter.communicate(timeout=10)
        assert waiter.returncode == 0 and out == "given up; container 'web' goes on here\n", err
    assert status(bed["node1"], "web") == "running"
    has_nothing(bed["node2"])


# where it stands while it is cancelled: a point of the target, or of the source itself
MOMENTS = {
    "negotiate: before the verdict": ("send-VERDICT", "receive", "SIGTERM"),
    "prepare: the target prepares": ("send-PREPARED", "receive", "Ctrl-C"),
    "prepare: its monitor does": ("restore-prepared", "restore", "--cancel"),
    "precopy: the target takes no memory": ("received-TREE_BEGIN", "receive", "--cancel"),
    "precopy: before the rounds": ("source-precopy-begin", "command", "SIGTERM"),
    "dump: CRIU is about to": ("criu-pre-dump", "command", "--cancel"),
    "dump: all is seized": ("criu-network-lock", "command", "Ctrl-C"),
    "dump: CRIU has dumped": ("criu-post-dump", "command", "Ctrl-C"),
    "transfer: before it": ("source-transfer-begin", "command", "--cancel"),
    "transfer: the target takes nothing": ("target-transfer-begin", "receive", "SIGTERM"),
    "restore: CRIU restores": ("criu-pre-resume", "restore", "Ctrl-C"),
    "restore: it is there, frozen": ("send-RESTORED", "receive", "--cancel"),
    "commit: just before it is decided": ("source-commit-begin", "command", "SIGTERM"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_given_up_in(bed, web, tmp_path, moment):
    """The container does not wait for the other side, and the command not for long."""
    point, role, way = MOMENTS[moment]
    move = Move(bed, tmp_path, point, role)
    began = time.monotonic()
    waiter = move.cancel(way)
    time.sleep(0.3)
    if role != "command":
        until(lambda: status(bed["node1"], "web") == "running", 3)
        web.ask()
    move.go_on()
    check_cancelled(bed, move, waiter, began, 8)


@pytest.mark.parametrize("way", WAYS)
def test_given_up_while_memory_goes(bed, web, way):
    move = bed["node1"].popen(GODWIT, "migrate", "--bwlimit", "2m", "web", "node2", stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    for line in move.stderr:
        if " precopy," in line:
            break
    time.sleep(0.5)
    began = time.monotonic()
    waiter = Move.cancel(type("", (), {"bed": bed, "process": move}), way)
    _, err = move.communicate(timeout=30)
    assert time.monotonic() - began < 3 and move.returncode == 1 and "precopy: " in err and "cancelled" in err
    if waiter:
        assert waiter.wait(10) == 0
        waiter.communicate()
    has_nothing(bed["node2"])


def test_given_up_while_the_target_hangs(bed, web, tmp_path):
    """Nobody there says a word any more: that must not keep anybody here."""
    move = Move(bed, tmp_path, "received-TREE_BEGIN", "receive")
    began = time.monotonic()
    move.cancel("Ctrl-C")
    code, err = move.end()
    assert code == 1 and "cancelled" in err and time.monotonic() - began < 10
    web.ask()
    move.go_on()
    # It may have heard no ABORT, if its buffers were full: then it waits for the source to come
    # back, for as long as that one would have tried (10 s) and a little longer.
    until(lambda: status(bed["node2"], "web") is None, 25)


@pytest.mark.parametrize("way", WAYS)
def test_too_late(bed, web, tmp_path, way):
    """The decision is on disk: it moves."""
    move = Move(bed, tmp_path, "send-COMMIT", "command")
    waiter = move.cancel(way)
    if waiter:
        _, err = waiter.communicate(timeout=5)
        assert waiter.returncode == 4 and "too late, it is decided that it moves" in err
    move.go_on()
    code, err = move.end()
    assert code == (0 if waiter else 4), err
    assert waiter or "too late to give up, it runs on node2" in err
    assert status(bed["node2"], "web") == "running" and status(bed["node1"], "web") is None


def test_nothing_to_give_up(bed, web):
    done = bed["node1"].godwit("migrate", "--cancel", "web", check=False)
    assert done.returncode == 1 and "no migration or checkpoint of it is under way" in done.stderr
    done = bed["node1"].godwit("migrate", "--cancel", "nobody", check=False)
    assert done.returncode == 1 and "no container 'nobody'" in done.stderr
    for words in (("--cancel", "web", "node2"), ("web",)):
        assert bed["node1"].godwit("migrate", *words, check=False).returncode == 2


def test_a_checkpoint_is_given_up_the_same_way(bed, web, tmp_path):
    fault = f"GODWIT_FAULT=criu-post-dump@command:wait:{tmp_path}/marker"
    saving = bed["node1"].popen("env", fault, GODWIT, "checkpoint", "-q", "web", tmp_path / "c",
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until((tmp_path / "marker").exists)
    waiter = bed["node1"].popen(GODWIT, "migrate", "--cancel", "web", stdin=subprocess.DEVNULL)
    time.sleep(0.3)
    (tmp_path / "marker.go").touch()
    _, err = saving.communicate(timeout=20)
    assert saving.returncode == 1 and "cancelled" in err and waiter.wait(10) == 0
    assert not (tmp_path / "c").exists()


def test_at_once_again(bed, web, tmp_path):
    """What was given up is gone when the command is."""
    for point in ("send-PREPARED", "send-RESTORED"):
        folder = tmp_path / point
        folder.mkdir()
        move = Move(bed, folder, point, "receive")
        move.cancel("SIGTERM")
        move.go_on()
        assert move.end()[0] == 1
        bed.faults.write_text("")
        migrate(bed["node1"], "web", bed["node2"])
        migrate(bed["node2"], "web", bed["node1"])
