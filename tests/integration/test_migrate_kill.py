"""Whoever is killed at whatever moment of a migration: one copy, which goes on."""
import os
import pathlib
import random
import re
import signal
import subprocess
import time

import pytest

from conftest import GODWIT, Bed
from peers import CommitProxy
from moving import (Client, end_bed, make_bed, migrate, run, serve, settled, snapshot,
                    status, until)

MEGABYTES = 120
MOMENTS = 12


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    it = make_bed(tmp_path_factory, Bed)
    yield it
    end_bed(it)


@pytest.fixture
def web(bed, request):
    """A container with some memory on node1; afterwards there is one copy, the same, that
    answers and can move, and nothing else."""
    before = snapshot(bed)
    client = Client(bed["node3"], run(bed["node1"], "web", "/workloads/count", str(MEGABYTES)))
    client.ask()
    yield client
    try:
        place = where(bed)
        client.ask()
        migrate(bed[place], "web", bed["node2" if place == "node1" else "node1"])
        client.ask()
    finally:
        client.close()
        for node in ("node1", "node2"):
            bed[node].godwit("rm", "-f", "web", check=False)
    # a refusal that was told stays: COMMIT may still be on its way; and so does what a side
    # that was killed could not acknowledge
    for node in (bed["node1"], bed["node2"]):
        for record in (node.state / "tokens").iterdir():
            if record.read_text() == "refused\n" or "killed" in request.node.name:
                record.unlink()
    settled(bed, before)


def where(bed, seconds=15):
    """The one node that runs it; waits until the other has cleaned up."""
    def look():
        found = {name: status(bed[name], "web") for name in ("node1", "node2")}
        there = [name for name, state in found.items() if state]
        return there[0] if len(there) == 1 and found[there[0]] == "running" else None
    return until(look, seconds, "not exactly one copy runs")


def begin(bed, *options):
    return bed["node1"].popen(GODWIT, "migrate", "-q", *options, "web", "node2", stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def duration(bed):
    """How long a migration takes that nobody disturbs, seconds."""
    if not hasattr(bed, "duration"):
        begun = time.monotonic()
        migrate(bed["node1"], "web", bed["node2"])
        bed.duration = time.monotonic() - begun
        migrate(bed["node2"], "web", bed["node1"])
    return bed.duration


def in_node(bed, node, pattern):
    """Pids of the node's processes whose name or command matches."""
    mark = f"GODWIT_TESTBED_NODE={bed.name}/{node}".encode()
    found = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if mark in (proc / "environ").read_bytes().split(b"\0"):
                words = (proc / "comm").read_text().strip() + " " + (proc / "cmdline").read_text()
                if re.search(pattern, words):
                    found.append(int(proc.name))
        except OSError:
            pass
    return found


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def moments(bed, part=1.1):
    """Moments spread over a migration, each a little off."""
    chance = random.Random(7)
    return [(k + chance.random()) / MOMENTS * part * duration(bed) for k in range(MOMENTS)]


def bring_home(bed, client):
    """Whatever came of it, it is one and the same; for the next round it is on node1."""
    for name in ("node1", "node2"):
        if status(bed[name], "web") == "in-doubt":
            # what the killed command had asked for may still be happening
            done = bed[name].godwit("resolve", "web", check=False)
            assert done.returncode == 0 or status(bed[name], "web") != "in-doubt", done
    place = where(bed)
    client.ask()
    if place == "node2":
        migrate(bed["node2"], "web", bed["node1"])
        client.ask()
    return place


def test_the_command_is_killed(web, bed):
    places = set()
    for moment in moments(bed):
        process = begin(bed)
        time.sleep(moment)
        process.kill()
        process.communicate()
        places.add(bring_home(bed, web))
    assert "node1" in places


def workers_of(daemon):
    """The daemon's own children; monitors and fillers of containers that have arrived are
    there too, because it reaps them."""
    children = pathlib.Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
    for pid in children:
        try:
            if pathlib.Path(f"/proc/{pid}/comm").read_text() == "godwit\n":
                yield int(pid)
        except OSError:
            pass


def test_the_targets_worker_is_killed(web, bed):
    daemon = bed.daemons["node2"].pid
    codes = set()
    for moment in moments(bed):
        process = begin(bed, "--settle", "5s")
        time.sleep(moment)
        kill(workers_of(daemon))
        out, err = process.communicate(timeout=60)
        codes.add(process.returncode)
        if process.returncode:
            assert err.startswith("godwit: migrate 'web' to node2: "), err
        bring_home(bed, web)
    assert 1 in codes


def test_the_targets_monitor_is_killed(web, bed):
    codes = set()
    for moment in moments(bed):
        process = begin(bed, "--settle", "5s")
        time.sleep(moment)
        kill(in_node(bed, "node2", "^godwit-monitor"))
        out, err = process.communicate(timeout=60)
        codes.add(process.returncode)
        if process.returncode == 0:
            # it had arrived, and lives on without its monitor
            for name in ("node1", "node2"):
                bed[name].godwit("rm", "-f", "web", check=False)
            web.close()
            new = Client(bed["node3"], run(bed["node1"], "web", "/workloads/count", str(MEGABYTES)))
            web.__dict__.update(new.__dict__)
            continue
        assert err.startswith("godwit: migrate 'web' to node2: "), err
        bring_home(bed, web)
    assert 1 in codes


def criu_at_work(bed, process):
    """Pid of the CRIU that restores on node2, or None when the migration is over. It works
    for some milliseconds only, so this looks without a pause."""
    monitors = until(lambda: in_node(bed, "node2", "^godwit-monitor") or process.poll() is not None)
    while process.poll() is None:
        for monitor in monitors:
            try:
                children = pathlib.Path(f"/proc/{monitor}/task/{monitor}/children").read_text()
                for pid in children.split():
                    if b"swrk" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                        return int(pid)
            except OSError:
                pass
    return None


def test_criu_is_killed_at_the_target(web, bed):
    said = []
    for milliseconds in (0, 1, 2, 4, 6, 9):
        process = begin(bed, "--settle", "5s")
        pid = criu_at_work(bed, process)
        time.sleep(milliseconds / 1000)
        kill([pid] if pid else [])
        out, err = process.communicate(timeout=60)
        if process.returncode:
            said.append(err)
        bring_home(bed, web)
    assert any("CRIU was killed by signal 9" in text for text in said), said


def test_the_targets_daemon_is_killed(web, bed):
    """It alone: its workers go on, and so does the migration."""
    process = begin(bed)
    time.sleep(duration(bed) / 2)
    bed.daemons["node2"].kill()
    bed.daemons["node2"].wait()
    bed.daemons["node2"].stdout.close()
    process.communicate(timeout=60)
    bed.daemons["node2"] = serve(bed["node2"])
    bring_home(bed, web)


# --- in doubt ---------------------------------------------------------------------

def test_the_cable_is_cut_at_any_moment(web, bed):
    """Afterwards the cable is back, and at most `resolve` is needed."""
    seen = set()
    for moment in moments(bed)[4::5]:
        process = begin(bed, "--settle", "1s")
        time.sleep(moment)
        bed["node2"].link("down")
        try:
            _, err = process.communicate(timeout=100)
        finally:
            bed["node2"].link("up")
        seen.add(process.returncode)
        if process.returncode == 3:
            assert "in doubt" in err and "godwit resolve web" in err, err
            assert status(bed["node1"], "web") in ("in-doubt", "migrating")
        bring_home(bed, web)
    assert seen & {1, 3}


@pytest.mark.parametrize("resumed", [True, False], ids=["it runs there", "it never did"])
def test_in_doubt_and_resolved(web, bed, resumed):
    """COMMIT is lost, or its answer is: the target knows, and resolve asks it."""
    two = bed["node2"]
    proxy = CommitProxy(two, lose_commit=not resumed)
    try:
        done = bed["node1"].godwit("migrate", "-q", "--settle", "0s", "web", "node2:4999", check=False)
        assert done.returncode == 3, done
        assert "container 'web' is frozen here and in doubt" in done.stderr
        assert "'godwit resolve web'" in done.stderr
        assert status(bed["node1"], "web") == "in-doubt"
        for verb in ("unpause", "migrate"):
            arguments = ("web", "node2") if verb == "migrate" else ("web",)
            assert bed["node1"].godwit(verb, *arguments, check=False).returncode == 1
        proxy.transparent = True
        done = bed["node1"].godwit("resolve", "web")
        assert ("runs on node2" in done.stdout) == resumed, done.stdout
    finally:
        proxy.close()
    assert where(bed) == ("node2" if resumed else "node1")
    web.ask()


def test_resolve_of_what_is_not_in_doubt(web, bed):
    done = bed["node1"].godwit("resolve", "web", check=False)
    assert done.returncode == 1 and "container 'web' is not in doubt" in done.stderr
