"""What goes wrong in a migration: it is said clearly, the container goes on, nothing stays."""
import contextlib
import pathlib
import random
import signal
import socket
import subprocess
import time

import pytest

from conftest import GODWIT
from peers import Peer, Proxy, frame, read_some
from moving import (Client, has_nothing, in_node, inspect, migrate, moving_bed, PEER_PORT, run, serve, settled,
                    snapshot, status, stop, until)


@pytest.fixture
def web(bed):
    """A container on node1 that counts, and a client of it. After the test it must still
    run there, the same, answer, and be able to move; and both nodes be as before."""
    one, two = bed["node1"], bed["node2"]
    before = snapshot(bed)
    client = Client(bed["node3"], run(one, "web", "/workloads/count", "20"))
    client.ask()
    yield client
    try:
        client.ask()
        assert status(one, "web") == "running"
        two.godwit("rm", "-f", *two.godwit("ps", "-a", "-q").stdout.split() or ["none"], check=False)
        migrate(one, "web", two)
        client.ask()
    finally:
        client.close()
        for node in (one, two):
            node.godwit("rm", "-f", "web", check=False)
    settled(bed, before)


def refused(node, *args, to="node2", code=1, name="web"):
    """A migration that must fail; returns what it says. It is one line, and the fate."""
    done = node.godwit("migrate", "-q", *args, name, to, check=False)
    assert done.returncode == code, done
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"godwit: migrate '{name}' to {to}: "), done.stderr
    assert len(lines[0]) < 400
    if code == 1:
        assert lines[-1] == f"container '{name}' goes on here as before", done.stderr
    return done.stderr


# --- before anything begins ---------------------------------------------------

def test_a_container_that_is_not_there(bed):
    done = bed["node1"].godwit("migrate", "nobody", "node2", check=False)
    assert done.returncode == 1 and "no container 'nobody' on node1; 'godwit ps -a' lists them" in done.stderr


def test_a_container_that_does_not_run(bed):
    one = bed["node1"]
    one.godwit("run", "--name", "ended", "work", "/bin/true")
    done = one.godwit("migrate", "-q", "ended", "node2", check=False)
    one.godwit("rm", "ended")
    assert done.returncode == 1 and "container 'ended' is exited, not running" in done.stderr
    assert "goes on" not in done.stderr


def test_a_host_that_has_no_address(web, bed):
    assert "no-such-host" in refused(bed["node1"], to="no-such-host")


def test_a_port_that_is_none(web, bed):
    for port in ("x", "-1", "", "99999"):
        said = refused(bed["node1"], to=f"node2:{port}")
        assert "negotiate: " in said and "node2" in said
        assert not port or f"port '{port}' is wrong" in said, said


def test_a_host_where_nobody_listens(web, bed):
    said = refused(bed["node1"], to="node3")
    assert "Connection refused" in said and "godwit serve" in said


def test_a_host_that_is_not_there(web, bed):
    begun = time.monotonic()
    assert "10.88.0.77" in refused(bed["node1"], to="10.88.0.77")
    assert time.monotonic() - begun < 20


def test_to_itself(web, bed):
    assert "node1" in refused(bed["node1"], to="node1")


def test_an_exec_session_does_not_move(web, bed):
    one = bed["node1"]
    session = one.popen(GODWIT, "exec", "web", "sleep", "1000", stdin=subprocess.DEVNULL)
    until(lambda: inspect(one, "web")["cgroup"]["usage"]["pids"] == 2)
    assert "exec session" in refused(one)
    one.godwit("exec", "web", "sh", "-c", "kill $(pidof sleep)")
    session.wait(10)


# --- refused by the target ------------------------------------------------------

def test_the_name_is_taken(web, bed):
    bed["node2"].godwit("run", "-d", "--name", "web", "work", "sleep", "1000")
    said = refused(bed["node1"])
    assert "name-taken: a container 'web' is already on node2; " in said


def test_the_address_is_taken(web, bed):
    two = bed["node2"]
    address = inspect(bed["node1"], "web")["network"]["address"].split("/")[0]
    # as if somebody had given it out there: the node believes its own records
    two.godwit("run", "-d", "--name", "thief", "--ip", "10.88.2.200", "work", "sleep", "1000")
    config = two.state / "containers" / "thief" / "config.json"
    config.write_text(config.read_text().replace("10.88.2.200", address))
    said = refused(bed["node1"])
    assert "address-taken" in said and address in said


def test_the_image_differs(web, bed, tmp_path):
    two = bed["node2"]
    two.godwit("image", "rm", "work")
    (tmp_path / "other").mkdir()
    two.godwit("image", "import", "work", tmp_path / "other")
    try:
        said = refused(bed["node1"])
        assert "image-differs: image 'work' has other content here" in said
    finally:
        two.godwit("image", "rm", "work")
        two.godwit("image", "import", "work", bed.folder)


def test_a_volume_that_is_not_there(bed, tmp_path):
    one = bed["node1"]
    volume = tmp_path / "volume"
    volume.mkdir()
    run(one, "vol", "sleep", "1000", options=("-v", f"{volume}:/srv"))
    volume.rename(tmp_path / "moved")
    said = refused(one, name="vol")
    one.godwit("rm", "-f", "vol")
    assert "volume-missing" in said and str(volume) in said


@contextlib.contextmanager
def small_state(bed, size):
    """node2's state directory, where containers are, on a small file system."""
    two = bed["node2"]
    stop(bed.daemons["node2"])
    place = "/var/lib/godwit/containers"
    two.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", place)
    bed.daemons["node2"] = serve(two)
    try:
        yield
    finally:
        stop(bed.daemons["node2"])
        two.run("umount", place)
        bed.daemons["node2"] = serve(two)


def test_the_target_has_no_disk_for_it(web, bed):
    """A state directory of 32 MB for a container with 60: it is told before anything is sent."""
    one, two = bed["node1"], bed["node2"]
    one.godwit("exec", "web", "dd", "if=/dev/urandom", "of=/tmp/big", "bs=1M", "count=60")
    state = "/run/small"
    two.run("mkdir", "-p", state)
    two.run("mount", "-t", "tmpfs", "-o", "size=32m,mode=700", "tmpfs", state)
    two.run("cp", "-r", "/var/lib/godwit/node.json", "/var/lib/godwit/tls", state)
    small = two.popen(GODWIT, "--state", state, "serve", "--listen", ":4970",
                      stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        small.stdout.readline()
        said = refused(one, to="node2:4970")
        assert "disk-short: it needs" in said and state in said
    finally:
        stop(small)
        two.run("umount", state)
        two.run("rmdir", state)
        one.godwit("exec", "web", "rm", "/tmp/big")


def test_the_target_runs_out_of_disk_on_the_way(web, bed):
    """What the check could not see: another file system where containers are."""
    one = bed["node1"]
    one.godwit("exec", "web", "dd", "if=/dev/urandom", "of=/tmp/big", "bs=1M", "count=20")
    with small_state(bed, "8m"):
        said = refused(one)
        assert "MiB of disk are free" in said, said
        assert not list(pathlib.Path(bed["node2"].state / "containers").iterdir())
    one.godwit("exec", "web", "rm", "/tmp/big")


def test_the_target_has_no_memory_for_it(web, bed):
    """The check knows only /proc/meminfo: a node with another one."""
    two = bed["node2"]
    stop(bed.daemons["node2"])
    fake = pathlib.Path(two.state) / "meminfo"
    text = pathlib.Path("/proc/meminfo").read_text().splitlines()
    fake.write_text("\n".join("MemAvailable: 50000 kB" if l.startswith("MemAvailable") else l for l in text) + "\n")
    script = f"mount --bind /var/lib/godwit/meminfo /proc/meminfo && exec {GODWIT} serve"
    poor = two.popen("unshare", "--mount", "sh", "-c", script, stdout=subprocess.PIPE,
                     stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert poor.stdout.readline()
        assert "memory-short: it needs" in refused(bed["node1"])
    finally:
        stop(poor)
        fake.unlink()
        bed.daemons["node2"] = serve(two)


def test_criu_is_absent_on_the_target(web, bed):
    two = bed["node2"]
    stop(bed.daemons["node2"])
    bed.daemons["node2"] = serve(two, env=["GODWIT_CRIU=/no/such/criu"])
    said = refused(bed["node1"])
    assert "criu-missing" in said and "/no/such/criu" in said and "tools/setup" in said
    stop(bed.daemons["node2"])
    bed.daemons["node2"] = serve(two)


def test_criu_is_absent_here(web, bed):
    done = bed["node1"].run("env", "GODWIT_CRIU=/no/such/criu", GODWIT, "migrate", "-q", "web", "node2", check=False)
    assert done.returncode == 1 and "/no/such/criu" in done.stderr
    assert "container 'web' goes on here as before" in done.stderr


def test_criu_that_is_none(web, bed):
    for program in ("/bin/true", "/bin/false", "/etc/passwd", "/"):
        done = bed["node1"].run("env", f"GODWIT_CRIU={program}", GODWIT, "migrate", "-q", "web", "node2",
                                check=False)
        assert done.returncode == 1 and program in done.stderr, done.stderr


# --- what CRIU can't dump ---------------------------------------------------------

def test_what_criu_refuses(bed):
    """What can't be seen from outside is found at the freeze, and the container goes on."""
    one = bed["node1"]
    before = snapshot(bed)
    try:
        client = Client(bed["node3"], run(one, "odd", "/workloads/odd", "watch-deleted"))
        client.ask()
        said = refused(one, name="odd")
        assert "dump: " in said and "CRIU's log: /var/lib/godwit/logs/odd-dump.log" in said
        client.ask()
        client.close()
        assert status(one, "odd") == "running"
    finally:
        one.godwit("rm", "-f", "odd")
    settled(bed, before)


# --- peers that misbehave ---------------------------------------------------------

MISBEHAVIOUR = {
    "hangs up at once": lambda c: None,
    "hangs up after the greeting": read_some,
    "sends random bytes": lambda c: (read_some(c), c.sendall(random.Random(1).randbytes(4096))),
    "speaks HTTP": lambda c: (read_some(c), c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    "says that a lot follows": lambda c: (read_some(c), c.sendall(frame(1, b"", length=0xffffffff))),
    "sends an empty greeting": lambda c: (read_some(c), c.sendall(frame(1))),
    "sends half a header": lambda c: (read_some(c), c.sendall(frame(1)[:7])),
}


@pytest.mark.parametrize("how", MISBEHAVIOUR)
def test_a_target_that(web, bed, how):
    peer = Peer(bed["node2"], MISBEHAVIOUR[how])
    try:
        refused(bed["node1"], to="node2:4999")
    finally:
        peer.close()


def bytes_of_a_migration(bed):
    """How many bytes the source sends in all (measured with one that succeeds)."""
    if not hasattr(bed, "measured"):
        one, two = bed["node1"], bed["node2"]
        run(one, "measure", "/workloads/count", "20")
        proxy = Proxy(two)
        try:
            one.godwit("migrate", "-q", "--compress", "1", "measure", "node2:4999")
        finally:
            proxy.close()
        two.godwit("rm", "-f", "measure")
        bed.measured = proxy.passed
    return bed.measured


@pytest.mark.parametrize("spoil", [False, True], ids=["cut", "spoilt"])
@pytest.mark.parametrize("part", [0.0005, 0.01, 0.5, 0.8])
def test_a_connection_that_ends_or_is_damaged_on_the_way(web, bed, part, spoil):
    total = bytes_of_a_migration(bed)
    two = bed["node2"]
    proxy = Proxy(two, int(total * part) + 30, spoil)
    try:
        refused(bed["node1"], "--compress", "1", "--retry-for", "1s", to="node2:4999")
    finally:
        proxy.close()
    until(lambda: not list((two.state / "containers").iterdir()), say="the target is not clean")


GARBAGE = {
    "nothing": b"",
    "random": random.Random(2).randbytes(100000),
    "text": b"GET / HTTP/1.1\r\nHost: node2\r\n\r\n",
    "zeros": bytes(100000),
    "a length beyond all": frame(1, length=0xffffffff),
    "an offer first": frame(2, b"\x0a\x03abc"),
    "a type that is none": frame(200, b"abc"),
    "half a header": frame(1)[:9],
    "a greeting that never ends": frame(1, length=1000) + b"\x0a\x05",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_the_daemon_is_sent(web, bed, what):
    two = bed["node2"]
    with in_node(two, lambda: socket.create_connection(("10.88.0.2", PEER_PORT), 5)) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(GARBAGE[what])
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    assert bed.daemons["node2"].poll() is None
    has_nothing(two)


def test_idle_connections_do_not_keep_others_out(web, bed):
    two = bed["node2"]
    idle = [in_node(two, lambda: socket.create_connection(("10.88.0.2", PEER_PORT), 5)) for _ in range(80)]
    migrate(bed["node1"], "web", two)
    migrate(two, "web", bed["node1"])
    for connection in idle:
        connection.close()
    assert "one that has said nothing is closed" in pathlib.Path(two.log).read_text()


# --- cancelled ------------------------------------------------------------------

def phases(process):
    """Yields the phase of each line of progress."""
    for line in process.stderr:
        if " s " in line and " so far" in line:
            yield line.split()[2].rstrip(",")


@pytest.mark.parametrize("phase", ["negotiate", "prepare", "dump", "transfer", "restore"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_cancelled_in(web, bed, phase, number):
    one = bed["node1"]
    process = one.popen(GODWIT, "migrate", "web", "node2", stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                        stdin=subprocess.DEVNULL)
    for now in phases(process):
        if now == phase:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    if process.returncode == 0:  # it had passed the decision already
        migrate(bed["node2"], "web", one)
        return
    assert process.returncode in (1, 130) and "cancelled" in err, err
    assert "container 'web' goes on here as before" in err
    until(lambda: not list((bed["node2"].state / "containers").iterdir()), say="the target is not clean")
