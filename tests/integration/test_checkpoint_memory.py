"""Memory in a checkpoint: saved while programs change it, read while they run again.

GODWIT_CHECKPOINTS says how often each program is saved (2 in a normal run).
"""
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

import sabotage
from conftest import GODWIT, numbers
from moving import Client, inspect, left_as_found, moving_bed, run, settled, snapshot, status, until

SAVES = int(os.environ.get("GODWIT_CHECKPOINTS", "2"))
LARGE = ("fill", "256")
PAGE = 4096

WORKLOADS = {
    "threads": ("regions", "4", "8"),
    "process tree": ("forks",),
    "churn": ("churn",),
    "shared anonymous": ("shared", "anonymous"),
    "memfd": ("shared", "memfd"),
    "shared file on tmpfs": ("shared", "/dev/shm/object"),
    "file on the overlay": ("files", "/var/tmp/file", "unlinked"),
    "guards, locks and stacks": ("guards",),
    "copy on write": ("family",),
    "exec": ("execs",),
    "sparse": ("sparse", "20000", "128"),
    "fast writer": ("writer", "200", "64"),
}


@pytest.fixture
def one(bed):
    """node1; afterwards it and node2 are as before."""
    with left_as_found(bed):
        yield bed["node1"]


def start(bed, node, workload):
    """A container, and a client on the third node that has asked it."""
    program, *arguments = workload
    name = f"{program}-{next(numbers)}"
    client = Client(bed["node3"], run(node, name, f"/workloads/{program}", *arguments))
    if program != "fill":
        client.ask()
    return name, client


def save(node, name, folder, *options):
    """The report."""
    return json.loads(node.godwit("checkpoint", "-q", "--json", *options, name, folder).stdout)


def check(bed, node, name):
    """What fill says of its pages, over a new connection."""
    address = inspect(node, name)["network"]["address"].split("/")[0]
    client = Client(bed["node3"], address)
    client.socket.sendall(b"check\n")
    said = client.socket.makefile().readline().strip()
    client.close()
    return said


def names_in(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("which", WORKLOADS)
def test_not_one_wrong_byte(bed, one, tmp_path, which):
    """Each checkpoint of a program that goes on and on is the program as it was then, on
    this node and on another; the last one, after which it ends, has its connection too."""
    two = bed["node2"]
    name, client = start(bed, one, WORKLOADS[which])
    for i in range(SAVES):
        save(one, name, tmp_path / f"c{i}", "--leave-running")
        client.ask()
    assert sabotage.tracked(one, name, "uw") == 0
    save(one, name, tmp_path / "last")
    one.godwit("rm", name)
    two.godwit("restore", tmp_path / "last")
    client.ask()
    client.ask()
    two.godwit("rm", "-f", name)
    for i in range(SAVES):
        node = (one, two)[i % 2]
        node.godwit("restore", tmp_path / f"c{i}")
        again = Client(bed["node3"], client.socket.getpeername()[0])
        again.ask()
        again.ask()
        assert again.nonce == client.nonce
        again.close()
        node.godwit("rm", "-f", name)
    client.close()


def test_the_pause_does_not_grow_with_memory(bed, one, tmp_path):
    """What is left for the pause is what was written last, not what there is."""
    for megabytes in (64, 1024):
        name, client = start(bed, one, ("fill", megabytes, "8", "4"))
        report = save(one, name, tmp_path / "c", "--leave-running")
        print(f"{megabytes} MB: pause {report['pause_ms']:.1f} ms, {report['total_ms']:.0f} ms in all")
        assert report["bytes"] > megabytes << 20
        assert report["rounds"][0]["sent_bytes"] > megabytes << 20
        assert report["rounds"][-1]["sent_bytes"] < 16 << 20
        assert 0 < report["pause_ms"] < report["total_ms"]
        one.godwit("rm", "-f", name)
        begun = time.monotonic()
        one.godwit("restore", tmp_path / "c")
        print(f"{megabytes} MB: restored in {(time.monotonic() - begun) * 1e3:.0f} ms")
        assert check(bed, one, name) == "ok"
        one.godwit("rm", "-f", name)
        shutil.rmtree(tmp_path / "c")
        client.close()


# --- damage -------------------------------------------------------------------

@pytest.fixture
def saved(bed, one, tmp_path):
    """A checkpoint of 256 MB, and nothing else; gives its name."""
    name, client = start(bed, one, LARGE)
    save(one, name, tmp_path / "c")
    one.godwit("rm", name)
    client.close()
    return name


def damage(file):
    """Flips a bit in one of the last pages, which is not the first to be read."""
    with open(file, "r+b") as pages:
        at = pages.seek(0, os.SEEK_END) - 100 * PAGE + 5
        pages.seek(at)
        byte = pages.read(1)[0]
        pages.seek(at)
        pages.write(bytes([byte ^ 4]))
    return at - 5


def test_a_damaged_page_is_never_used(bed, one, saved, tmp_path):
    """It is found before the container runs, when that is wanted; else while it runs, and
    is its end."""
    at = damage(tmp_path / "c" / "memory" / "pages")
    why = f"memory/pages is damaged at byte {at}: a page has changed"
    nothing = snapshot(bed)
    done = one.godwit("restore", "--verify", tmp_path / "c", check=False)
    assert done.returncode == 1 and why in done.stderr and done.stdout == "", done
    settled(bed, nothing)
    done = one.godwit("restore", tmp_path / "c", check=False)
    assert done.returncode == 1 and done.stdout == f"{saved}\n", done
    assert f"container '{saved}' was killed" in done.stderr and why in done.stderr, done
    state = inspect(one, saved)["state"]
    assert state["status"] == "exited" and why in json.dumps(state), state
    one.godwit("rm", saved)
    settled(bed, nothing)
    damage(tmp_path / "c" / "memory" / "pages")		# it is whole again
    one.godwit("restore", "--verify", tmp_path / "c")
    assert check(bed, one, saved) == "ok"


def test_restored_twice_at_once(bed, one, saved, tmp_path):
    """On two nodes, both reading the same files."""
    restores = [node.popen(GODWIT, "restore", tmp_path / "c", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for node in (one, bed["node2"])]
    for restore in restores:
        out, err = restore.communicate(timeout=60)
        assert restore.returncode == 0 and out == f"{saved}\n", err
    for node in (one, bed["node2"]):       # both have the address, so each is asked from inside
        said = node.godwit("exec", saved, "sh", "-c", "echo check | nc 127.0.0.1 7000 -w 20 | head -n 1").stdout
        assert said == "ok\n", said


def test_the_directory_goes_while_it_is_read(bed, one, saved, tmp_path):
    one.godwit("restore", "--no-wait", tmp_path / "c")
    shutil.rmtree(tmp_path / "c")
    assert check(bed, one, saved) == "ok"


def test_the_container_goes_while_it_is_read(bed, one, saved, tmp_path):
    nothing = snapshot(bed)
    for end in (("kill",), ("rm", "-f")):
        one.godwit("restore", "--no-wait", tmp_path / "c")
        one.godwit(*end, saved)
        one.godwit("rm", "-f", saved, check=False)
        settled(bed, nothing)


def test_the_restore_is_interrupted_while_it_waits(bed, one, saved, tmp_path):
    """The container runs and needs nobody."""
    restore = one.popen(GODWIT, "restore", tmp_path / "c", stdout=subprocess.PIPE)
    assert restore.stdout.readline() == f"{saved}\n"
    sabotage.interrupt(restore, signal.SIGKILL)
    restore.communicate(timeout=20)
    assert check(bed, one, saved) == "ok"
    until(lambda: sabotage.tracked(one, saved, "um") == 0, 20, "it is still being filled")


# --- what goes wrong while it is saved ------------------------------------------

def slow_save(node, name, folder):
    """A checkpoint in its first round, which takes seconds."""
    process = node.popen(GODWIT, "checkpoint", "-q", "--leave-running", "--bwlimit", "20m", name, folder,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: any(folder.parent.rglob("memory/pages")), 10, "it has not begun")
    time.sleep(0.2)
    return process


def writer_of(process):
    """The pid of the process that writes for it."""
    return until(lambda: subprocess.run(["pgrep", "-P", str(process.pid)], stdout=subprocess.PIPE, text=True,
                                        check=False).stdout.split(), 5)[0]


def test_cancelled_or_killed_it_leaves_nothing(bed, one, tmp_path):
    name, client = start(bed, one, ("regions", "2", "32"))
    folder = tmp_path / "made"
    folder.mkdir()
    before = snapshot(bed)

    def gone_on():
        client.ask()
        until(lambda: not names_in(folder), 10, f"left: {names_in(folder)}")
        settled(bed, before, 10)
        assert status(one, name) == "running" and sabotage.tracked(one, name, "uw") == 0
    process = slow_save(one, name, folder / "c")
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1 and "cancelled" in err and "goes on as before" in err, err
    gone_on()
    process = slow_save(one, name, folder / "c")
    sabotage.interrupt(process, signal.SIGKILL)
    process.communicate(timeout=20)
    gone_on()
    process = slow_save(one, name, folder / "c")
    os.kill(int(writer_of(process)), signal.SIGKILL)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1 and "the process that writes it was killed" in err, err
    gone_on()
    client.close()


def test_killed_with_all_it_leaves_what_the_next_removes(bed, one, tmp_path):
    name, client = start(bed, one, ("regions", "2", "32"))
    folder = tmp_path / "made"
    folder.mkdir()
    process = slow_save(one, name, folder / "c")
    refusal = one.godwit("checkpoint", name, folder / "c", check=False)
    assert refusal.returncode == 1, refusal
    for pid in (int(writer_of(process)), process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=20)
    assert names_in(folder) == [".c.partial"]
    until(lambda: status(one, name) == "running", 10)
    save(one, name, folder / "c", "--leave-running")
    assert names_in(folder) == ["c"]
    client.ask()
    client.close()


def test_a_full_disk(bed, one, tmp_path):
    name, client = start(bed, one, LARGE)
    folder = tmp_path / "small"
    folder.mkdir()
    before = snapshot(bed)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", folder], check=True)
    try:
        one.run("mount", "-t", "tmpfs", "-o", "size=32m", "none", folder)
        done = one.godwit("checkpoint", "-q", name, folder / "c", check=False)
        left = one.run("ls", "-A", folder).stdout
    finally:
        one.run("umount", folder, check=False)
        subprocess.run(["umount", folder], check=True)
    assert done.returncode == 1 and f"there is no room for it in {folder / 'c'}" in done.stderr, done.stderr
    assert "goes on as before" in done.stderr and left == ""
    settled(bed, before)
    assert check(bed, one, name) == "ok"
    client.close()


def test_what_diverges_can_be_given_up(bed, one, tmp_path):
    name, client = start(bed, one, ("writer", "60", "48"))
    done = one.godwit("checkpoint", "-q", "--bwlimit", "25m", "--max-time", "3s", "--on-diverge", "abort", name,
                      tmp_path / "c", check=False)
    assert done.returncode == 1 and "--on-diverge" in done.stderr, done.stderr
    assert names_in(tmp_path) == []
    client.ask()
    client.close()
