"""A connection that is lost while memory goes: the move goes on where it was, or ends well."""
import contextlib
import json
import pathlib
import socket
import struct
import subprocess
import threading
import time

import pytest

from conftest import GODWIT
from moving import (Client, has_nothing, in_node, migrate, moving_bed, PEER_PORT, run, settled, snapshot, status,
                    until)
from peers import Proxy

MEGABYTES = 100
BWLIMIT = "40m"         # of its memory a second, so that there is a time to pull the cable


@pytest.fixture
def web(bed):
    """A container with some memory that does not shrink; afterwards nothing of it is left."""
    before = snapshot(bed)
    address = run(bed["node1"], "web", "/workloads/fill", str(MEGABYTES))
    client = Fill(bed["node3"], address)
    try:
        yield client
    finally:
        client.close()
        for name in ("node1", "node2"):
            bed[name].link("up")
            bed[name].godwit("rm", "-f", "web", check=False)
    settled(bed, before)


class Fill(Client):
    """A client of workload fill, which compares its memory when asked."""

    def ask(self, request="check"):
        self.socket.sendall(request.encode() + b"\n")
        answer = self.socket.makefile().readline().strip()
        assert answer == "ok", answer


def begin(bed, *options, source="node1", host="node2"):
    """Returns when its memory has been on its way for a moment."""
    move = bed[source].popen(GODWIT, "migrate", "--json", "--compress", "none", "--bwlimit", BWLIMIT,
                             *options, "web", host, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    while "precopy" not in (line := move.stderr.readline()):
        assert line, "it ended before"
    time.sleep(0.5)
    return move


def end(process):
    out, errors = process.communicate(timeout=60)
    return process.returncode, json.loads(out), errors


def log_since(node, mark):
    return pathlib.Path(node.log).read_text()[mark:]


def mark(node):
    return len(pathlib.Path(node.log).read_text())


class ResettingProxy(Proxy):
    """Any number of connections at once to node2's daemon. Each is reset after so many bytes:
    the limits in turn; further ones are left alone."""

    def __init__(self, node, limits):
        self.limits = list(limits)
        super().__init__(node)

    def relay(self, connection):
        limit = self.limits.pop(0) if self.limits else None
        threading.Thread(target=self.relay_one, args=(connection.dup(), limit), daemon=True).start()

    def relay_one(self, connection, limit):
        upstream = in_node(self.node, lambda: socket.create_connection(("10.88.0.2", PEER_PORT), 5))
        back = threading.Thread(target=self.pump_back, args=(upstream, connection), daemon=True)
        back.start()
        passed = 0
        with contextlib.suppress(OSError):
            connection.settimeout(30)
            while (limit is None or passed < limit) and (data := connection.recv(65536)):
                upstream.sendall(data)
                passed += len(data)
        for it in (upstream, connection):
            with contextlib.suppress(OSError):
                if limit is not None and passed >= limit:
                    it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                it.shutdown(socket.SHUT_RDWR)
        back.join(5)
        upstream.close()
        connection.close()


@pytest.mark.parametrize("connections, limits", [
    (1, [30_000_000, 20_000_000, 5_000_000]),
    (3, [12_000_000, 9_000_000, 20_000_000, 10_000_000])])
def test_connections_that_are_reset(bed, web, connections, limits):
    """Several in a row: what has arrived is not sent again."""
    logged = mark(bed["node2"])
    proxy = ResettingProxy(bed["node3"], limits)
    try:
        code, report, errors = end(begin(bed, "--verify", "--connections", str(connections),
                                         host="10.88.0.3:4999"))
    finally:
        proxy.close()
    assert code == 0, errors
    assert report["reconnects"] == len(limits)
    assert 0 < report["bytes_resent"] < 30_000_000
    assert report["bytes_wire"] < 1.4 * (MEGABYTES << 20)
    assert log_since(bed["node2"], logged).count("is back, and goes on") == len(limits)
    web.ask()


def test_a_cable_that_is_out_for_a_while(bed, web):
    """Two seconds are nothing to TCP; after five it is given up here, and made anew."""
    for seconds, options in ((2, ()), (5, ("--retry-for", "3s"))):
        source, target = (("node1", "node2") if status(bed["node1"], "web") else ("node2", "node1"))
        move = begin(bed, *options, source=source, host=target)
        bed[source].link("down")
        time.sleep(seconds)
        bed[source].link("up")
        code, report, errors = end(move)
        assert code == 0, errors
        assert (report["reconnects"] > 0) == (seconds == 5), report
        assert report["bytes_wire"] < 1.3 * (MEGABYTES << 20), report
        web.ask()


def test_a_cable_that_stays_out(bed, web):
    """It runs on here; what has come to the target is kept for a while, and then removed."""
    logged = mark(bed["node2"])
    move = begin(bed, "--retry-for", "1s")
    bed["node1"].link("down")
    code, report, errors = end(move)
    assert code == 1 and not report["ok"], report
    assert "no way back to node2 for 1 s" in errors and "goes on here as before" in errors, errors
    assert status(bed["node1"], "web") == "running"
    until(lambda: status(bed["node2"], "web") is None, 20, "the target keeps it")
    has_nothing(bed["node2"])
    until(lambda: "has not come back" in log_since(bed["node2"], logged), say="the target does not tell why")
    assert "what has come is kept for 6 s" in log_since(bed["node2"], logged)
    bed["node1"].link("up")
    web.ask()
    migrate(bed["node1"], "web", bed["node2"])
    web.ask()


def test_whoever_begins_anew_need_not_wait(bed, web):
    """The command is killed; the target waits for it, and does not turn the next one away."""
    move = begin(bed, "--retry-for", "1m")
    move.kill()
    move.communicate()
    until(lambda: "is kept for 65 s" in pathlib.Path(bed["node2"].log).read_text(), 10,
          "the target has not noticed")
    assert status(bed["node2"], "web") == "incoming"
    migrate(bed["node1"], "web", bed["node2"])
    web.ask()


def test_the_target_is_gone_for_good(bed, web):
    """Its worker dies: who comes back is told so at once."""
    move = begin(bed, "--retry-for", "1m")
    daemon = bed.daemons["node2"].pid
    children = pathlib.Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()
    for pid in children:
        if pathlib.Path(f"/proc/{pid}/comm").read_text() == "godwit\n":
            subprocess.run(["kill", "-9", pid], check=True)
    begun = time.monotonic()
    code, _, errors = end(move)
    assert code == 1 and "no such migration is under way here" in errors, errors
    assert time.monotonic() - begun < 10
    web.ask()
    migrate(bed["node1"], "web", bed["node2"])
    web.ask()
    for record in (bed["node2"].state / "tokens").iterdir():    # whom it was for is dead
        assert record.read_text() == "refused\n"
        record.unlink()
