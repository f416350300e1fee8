"""Programs that keep changing and verifying their memory are moved: not one wrong byte.

GODWIT_MEMORY_MOVES says how often each is moved (2 in a normal run, 10 in the slow one).
"""
import os

import pytest

from conftest import Bed
from moving import Client, end_bed, make_bed, migrate, run, settled, status, until

MOVES = int(os.environ.get("GODWIT_MEMORY_MOVES", "2"))
LONG = MOVES > 2
PLANTS = {"a wrong bit": 1, "a stale page": 2, "an empty page": 3, "another page": 4}

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


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    it = make_bed(tmp_path_factory, Bed)
    yield it
    end_bed(it)


class Moved:
    """A container with a workload, and a client on a third node that asks it."""

    def __init__(self, bed, workload, *options):
        self.nodes = [bed["node1"], bed["node2"]]
        program, *arguments = workload
        self.name = program
        address = run(self.here, program, f"/workloads/{program}", *arguments, options=options)
        self.client = Client(bed["node3"], address)

    @property
    def here(self):
        return self.nodes[0]

    def move(self, *options):
        done = migrate(self.here, self.name, self.nodes[1], *options)
        self.nodes.reverse()
        assert status(self.nodes[1], self.name) is None and status(self.here, self.name) == "running"
        return done

    def ask(self, request="?"):
        return self.client.ask(request)


@pytest.fixture
def start(bed):
    """start(workload): a Moved; afterwards both nodes are as before."""
    before, started = bed.snapshot(), []

    def begin(workload, *options):
        started.append(it := Moved(bed, workload, *options))
        return it
    try:
        yield begin
    finally:
        for it in started:
            it.client.close()
        for node in (bed["node1"], bed["node2"]):
            names = node.godwit("ps", "-a", "-q").stdout.split()
            if names:
                node.godwit("rm", "-f", *names)
    settled(bed, before)


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
