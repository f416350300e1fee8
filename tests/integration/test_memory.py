"""Programs that keep changing and verifying their memory are moved: not one wrong byte.

GODWIT_MEMORY_MOVES says how often each is moved (2 in a normal run, 10 in the slow one).
"""
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

import sabotage
from conftest import GODWIT, numbers
from moving import Client, inspect, left_as_found, migrate, moving_bed, run, status, until

MOVES = int(os.environ.get("GODWIT_MEMORY_MOVES", "2"))
LONG = MOVES > 2
PLANTS = {"a wrong bit": 1, "a stale page": 2, "an empty page": 3, "another page": 4}

HUGE_PAGES = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
LINK_MBIT = 200   # 25 MB/s

# what it is called here: the program and its arguments
WORKLOADS = {
    "threads": ("regions", "4", "8"),
    "process tree": ("forks",),
    "churn": ("churn",),
    "shared anonymous": ("shared", "anonymous"),
    "memfd": ("shared", "memfd"),
    "system five": ("shared", "sysv"),
    "shared file on tmpfs": ("shared", "/dev/shm/object"),
    "shared file on the overlay": ("shared", "/var/tmp/object"),
    "file on tmpfs": ("files", "/dev/shm/file"),
    "file on the overlay": ("files", "/var/tmp/file"),
    "unlinked file on tmpfs": ("files", "/dev/shm/file", "unlinked"),
    "unlinked file on the overlay": ("files", "/var/tmp/file", "unlinked"),
    "guards, locks and stacks": ("guards",),
    "huge pages": ("huge",),
    "copy on write": ("family",),
    "exec": ("execs",),
    "fast writer": ("writer", "200", "64"),
    "sparse": ("sparse", "20000", "1024" if LONG else "128"),
}
# those that do not write to places which are root's, as somebody else
USERS = ("threads", "process tree", "churn", "shared anonymous", "guards, locks and stacks")


class Moved:
    """A container with a workload, and a client on a third node that asks it."""

    def __init__(self, bed, workload, *options):
        self.nodes = [bed["node1"], bed["node2"]]
        program, *arguments = workload
        self.name = f"{program}-{next(numbers)}"
        address = run(self.here, self.name, f"/workloads/{program}", *arguments, options=options)
        self.client = Client(bed["node3"], address)

    @property
    def here(self):
        return self.nodes[0]

    def move(self, *options):
        done = migrate(self.here, self.name, self.nodes[1], *options)
        self.nodes.reverse()
        assert status(self.nodes[1], self.name) is None and status(self.here, self.name) == "running"
        return done

    def begin_move(self, *options):
        return self.here.popen(GODWIT, "migrate", "-q", *options, self.name, self.nodes[1].name,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ask(self, request="?"):
        return self.client.ask(request)


@pytest.fixture
def start(bed):
    """start(workload): a Moved; afterwards both nodes are as before."""
    started = []

    def begin(workload, *options):
        started.append(it := Moved(bed, workload, *options))
        return it
    with left_as_found(bed):
        yield begin
        for it in started:
            it.client.close()


@pytest.mark.parametrize("which", WORKLOADS)
def test_not_one_wrong_byte(start, which):
    it = start(WORKLOADS[which])
    notes = [it.ask()]
    for _ in range(MOVES):
        it.move()
        notes.append(it.ask())
    print(f"{which}: {'; '.join(notes)}")


@pytest.mark.parametrize("which", WORKLOADS)
def test_a_planted_error_is_found(bed, start, which):
    """A check that can't fail says nothing: each kind of error, in each kind of memory."""
    for name, number in PLANTS.items():
        it = start(WORKLOADS[which])
        it.ask()
        with pytest.raises(AssertionError, match="wrong|instead|writes were made|not go on"):
            it.ask(f"plant {number}")
            pytest.fail(f"{name} was not found")
        it.client.close()
        bed["node1"].godwit("rm", "-f", it.name)


@pytest.mark.parametrize("which", WORKLOADS)
def test_a_lost_write_is_found(start, which):
    """One page, any that was rewritten since, is put back behind the program's back.
    A second try is for the page that was about to be rewritten anyway."""
    it = start(WORKLOADS[which])
    it.ask()
    told = []
    for _ in range(2):
        before = sabotage.pages_of(it.here, it.name)
        it.ask()
        sabotage.wait_changes()
        told.append(sabotage.put_back(it.here, it.name, before))
        try:
            it.ask()
        except AssertionError:
            return
    pytest.fail(f"not found: {told}")


@pytest.mark.parametrize("which", USERS)
def test_of_another_user(start, which):
    it = start(WORKLOADS[which], "-u", "user", "-w", "/tmp")
    it.ask()
    for _ in range(2):
        it.move()
        it.ask()


def test_two_pass_each_other(start, bed):
    """One goes there while one comes back, and again."""
    pair = start(WORKLOADS["threads"]), start(WORKLOADS["churn"])
    pair[1].move()
    for _ in range(2):
        moves = [it.begin_move() for it in pair]
        for move in moves:
            _, err = move.communicate(timeout=60)
            assert move.returncode == 0, err
        for it in pair:
            it.nodes.reverse()
            it.ask()


@pytest.fixture
def huge_pages():
    """Some hugetlb pages, if this machine's kernel gives them away."""
    before = int(HUGE_PAGES.read_text()) if HUGE_PAGES.exists() else None
    try:
        with contextlib.suppress(OSError):
            HUGE_PAGES.write_text(f"{before + 8}\n")
        yield
    finally:
        if before is not None:
            HUGE_PAGES.write_text(f"{before}\n")


def test_hugetlb_memory(start, huge_pages):
    """Where there is none, the program says so and moves what it has."""
    it = start(("huge", "hugetlb"))
    notes = [it.ask()]
    for _ in range(MOVES):
        it.move()
        notes.append(it.ask())
    print("hugetlb:", "; ".join(notes))
    amounts = {re.search(r"hugetlb (\d+)", note).group(1) for note in notes}
    assert len(amounts) == 1, notes


# --- shared memory goes ahead -------------------------------------------------------

MEGABYTE = 1 << 20
SHARED_KINDS = ("shared", "memfd", "sysv", "/dev/shm/filled")
LOCKED_MB = 7       # what may be locked without privileges is 8 MB in all


class Filled:
    """A container with one kind of memory full of noise that nobody writes to."""

    def __init__(self, bed, kind, megabytes):
        self.nodes = [bed["node1"], bed["node2"]]
        self.name = f"fill-{next(numbers)}"
        options = ("--shm-size", f"{megabytes + 1}m")
        address = run(self.nodes[0], self.name, "/workloads/fill", str(megabytes), "0", "0", kind, options=options)
        self.client = Client(bed["node3"], address)
        self.answers = self.client.socket.makefile()
        self.check()

    def ask(self, what):
        self.client.socket.settimeout(60)
        self.client.socket.sendall(what.encode() + b"\n")
        return self.answers.readline().split()

    def check(self):
        assert self.ask("check") == ["ok"]

    def move(self, *options):
        """The report of a move, and how long the program saw itself stand still, in ms."""
        self.check()
        report = json.loads(migrate(self.nodes[0], self.name, self.nodes[1], "--json", "--compress", "none",
                                    *options).stdout)
        pause = int(self.ask("ping")[1]) / 1000
        self.nodes.reverse()
        self.check()
        return report, pause


@pytest.fixture
def fill(bed):
    """fill(kind, megabytes): a Filled; afterwards both nodes are as before."""
    started = []

    def begin(kind, megabytes):
        started.append(it := Filled(bed, kind, megabytes))
        return it
    with left_as_found(bed):
        yield begin
        for it in started:
            it.client.close()


@pytest.mark.parametrize("kind", SHARED_KINDS)
def test_shared_memory_goes_while_it_runs_and_once(fill, kind):
    it = fill(kind, 32)
    for _ in range(2):
        report, _ = it.move()
        assert report["rounds"][-1]["sent_bytes"] < MEGABYTE, report
        assert 32 * MEGABYTE < report["bytes_raw"] < 36 * MEGABYTE, report


def used_mb(node, name):
    [now] = json.loads(node.godwit("stats", "--no-stream", "--json", name).stdout)
    return now["memory_bytes"] / MEGABYTE


@pytest.mark.parametrize("kind", SHARED_KINDS)
def test_shared_memory_stays_the_containers_own(fill, kind, tmp_path):
    """It counts for the container's control group, and so for its limit, after moves and a restore as before."""
    it = fill(kind, 32)
    here, there = it.nodes
    assert used_mb(here, it.name) > 32
    it.move()
    assert used_mb(there, it.name) > 32
    there.godwit("checkpoint", "-q", it.name, tmp_path / "checkpoint")
    there.godwit("rm", "-f", it.name)
    there.godwit("restore", tmp_path / "checkpoint")
    it.check()
    assert used_mb(there, it.name) > 32


def test_locked_memory_goes_while_it_runs_and_stays_locked(fill):
    it = fill("locked", LOCKED_MB)
    for _ in range(2):
        report, _ = it.move("--verify")
        assert report["rounds"][-1]["sent_bytes"] < MEGABYTE, report
        assert LOCKED_MB * MEGABYTE < report["bytes_raw"] < (LOCKED_MB + 4) * MEGABYTE, report
        pid = inspect(it.nodes[0], it.name)["state"]["pid"]
        locked = re.search(r"VmLck:\s*(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text())
        assert int(locked.group(1)) >= LOCKED_MB * 1024


INHERITED_MB, CHILDREN = 16, 3


def test_what_children_inherited_is_each_ones_own_afterwards(start):
    """Copy-on-write pages are right after a move, and no longer shared: this says how much
    memory that takes, so that nobody has to guess."""
    it = start(("inherited", str(INHERITED_MB), str(CHILDREN)))
    before = int(re.search(r"PSS (\d+) KB", it.ask()).group(1)) / 1024
    it.move()
    after = int(re.search(r"PSS (\d+) KB", it.ask()).group(1)) / 1024
    print(f"{INHERITED_MB} MB and {CHILDREN} children: {before:.0f} MB before, {after:.0f} MB after")
    assert before < 2 * INHERITED_MB, before
    assert after < 1.2 * (CHILDREN + 1) * INHERITED_MB, after


# --- --verify -----------------------------------------------------------------------

# memory that the source tells a wrong hash of, and what is said of it
DIFFERENCES = {
    "memory-hash": (("regions", "4", "2"), r"the memory of process \d+ here is not what it is"),
    "shared-hash": (("shared", "memfd"), "shared memory 'shared' here is not what it is"),
}


@pytest.mark.parametrize("fault", DIFFERENCES)
def test_verify_finds_a_planted_difference(start, fault):
    """It is refused before the commit, with the object's name, and goes on where it was."""
    workload, says = DIFFERENCES[fault]
    it = start(workload)
    it.ask()
    there, name = it.nodes[1], it.name
    done = it.here.run("env", f"GODWIT_FAULT={fault}:value=1", GODWIT, "migrate", "--verify", name, there.name,
                       check=False)
    assert done.returncode == 1 and re.search(says, done.stderr), done.stderr
    assert status(it.here, name) == "running" and status(there, name) is None
    it.ask()
    it.move("--verify")
    it.ask()


# --- a slow link ---------------------------------------------------------------

@pytest.fixture
def slow_link(bed):
    """Both nodes' links carry little; what was set goes with the test."""
    nodes = bed["node1"], bed["node2"]
    for node in nodes:
        node.run("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", f"{LINK_MBIT}mbit",
                 "burst", "256k", "latency", "50ms")
    try:
        yield
    finally:
        for node in nodes:
            node.run("tc", "qdisc", "del", "dev", "eth0", "root", check=False)


@pytest.mark.parametrize("which", ["threads", "guards, locks and stacks", "process tree"])
def test_a_cancelled_move_harms_nothing(start, slow_link, which):
    """Ctrl-C in the midst of it: the program goes on, tracked by nobody, and moves later."""
    it = start(WORKLOADS[which])
    it.ask()
    move = it.begin_move("--compress", "none")
    time.sleep(0.3)
    sabotage.interrupt(move, signal.SIGINT)
    _, err = move.communicate(timeout=60)
    assert move.returncode != 0, "it was over too soon"
    assert "cancelled" in err
    assert status(it.here, it.name) == "running", err
    it.ask()
    until(lambda: status(it.nodes[1], it.name) is None, 10, "the target keeps it")
    assert sabotage.tracked(it.here, it.name, "uw") == 0
    it.move()
    it.ask()


# Each --on-diverge policy with a writer that is faster than the link.
DIVERGES = ("writer", "60", "48")       # MB/s and MB; the link carries 25 MB/s
SMALLER = ("writer", "60", "16")
POLICY = ("--json", "--compress", "none", "--max-downtime", "300ms", "--max-time", "4s")


def flat(report):
    """All numbers of a report by their last names."""
    for key, value in report.items():
        if isinstance(value, dict):
            yield from flat(value)
        else:
            yield key, value


def told(done):
    report = json.loads(done.stdout)
    predicted = [value for key, value in flat(report) if "predicted" in key]
    assert predicted and max(predicted) > 0, report
    return report, max(predicted)


def test_on_diverge_stop(start, slow_link):
    """It stops anyway, late, and has said so."""
    it = start(DIVERGES)
    it.ask()
    report, predicted = told(it.move("--on-diverge", "stop", *POLICY))
    it.ask()
    assert predicted > 300 and report["downtime_ms"] > 300, report


def test_on_diverge_abort(start, slow_link):
    """It gives up and says so; the program never stood still for long."""
    it = start(DIVERGES)
    it.ask()
    done = migrate(it.here, it.name, it.nodes[1], "--on-diverge", "abort", *POLICY, check=False)
    assert done.returncode == 1 and "--on-diverge" in done.stderr, done.stderr
    assert status(it.here, it.name) == "running", done.stderr
    until(lambda: status(it.nodes[1], it.name) is None, 10, "the target keeps it")
    assert sabotage.tracked(it.here, it.name, "uw") == 0
    it.ask()


def carry_all(bed):
    """The links of slow_link carry what they can."""
    for node in ("node1", "node2"):
        bed[node].run("tc", "qdisc", "del", "dev", "eth0", "root")


def test_max_rounds(start, bed, slow_link):
    """After so many it stops, whatever it would mean."""
    it = start(SMALLER)
    it.ask()
    report, _ = told(it.move("--max-rounds", "2", *POLICY[:-2]))
    it.ask()
    assert len(report["rounds"]) == 3 and report["verdict"] == "freeze anyway", report


# How a move that has slowed the program down ends, and which node has it then.
ENDS = {"done": 1, "cancelled": 0, "command killed": 0, "monitor killed": 0}


@pytest.mark.parametrize("how", ENDS)
def test_a_throttled_program_has_its_limits_back(start, bed, slow_link, how):
    it = start(SMALLER, "--cpus", "0.9")
    it.ask()
    before = sabotage.cpu_limits(it.here, it.name)
    state = inspect(it.here, it.name)["state"]
    move = it.begin_move("--on-diverge", "throttle", "--throttle", "1", "--retry-for", "1s", *POLICY[:-1], "60s")
    until(lambda: sabotage.cpu_limits(it.here, it.name) != before or move.poll() is not None, 40)
    assert move.poll() is None, move.communicate()
    if how == "monitor killed":
        os.kill(state["monitor_pid"], signal.SIGKILL)
    elif how != "done":
        sabotage.interrupt(move, signal.SIGINT if how == "cancelled" else signal.SIGKILL)
    carry_all(bed)
    _, err = move.communicate(timeout=60)
    assert (move.returncode == 0) == (how == "done"), err
    node, other = it.nodes[ENDS[how]], it.nodes[1 - ENDS[how]]
    assert status(node, it.name) == "running", err
    until(lambda: status(other, it.name) is None, 60, "the other node keeps it")
    until(lambda: sabotage.cpu_limits(node, it.name) == before, 10, "its limits are another's")
    it.ask()


if LONG:
    def test_on_diverge_throttle(start, slow_link):
        """The program is slowed down until it fits, and has its full speed afterwards."""
        it = start(("writer", "60", "24"))  # a second on the link
        it.ask()
        limits = sabotage.cpu_limits(it.here, it.name)
        report, _ = told(it.move("--on-diverge", "throttle", "--throttle", "1", *POLICY[:-1], "60s"))
        it.ask()
        assert report["downtime_ms"] < 800, json.dumps(report)
        assert sabotage.cpu_limits(it.here, it.name) == limits
        time.sleep(1)
        assert float(it.ask().split()[0]) > 40

    def test_on_diverge_abort_leaves_the_limits(start, slow_link):
        it = start(DIVERGES)
        limits = sabotage.cpu_limits(it.here, it.name)
        migrate(it.here, it.name, it.nodes[1], "--on-diverge", "abort", *POLICY,
                check=False)
        assert sabotage.cpu_limits(it.here, it.name) == limits
        it.ask()
