"""What the gate of a container does while it moves: told while it does it, and in the end; its bounds."""
import contextlib
import json
import os
import socket
import subprocess

import pytest

from conftest import GODWIT
from moving import (PORT, Client, bed_with_faults, has_nothing, in_node, inspect, left_as_found, migrate, run, status,
                    until)

RING_BYTES = 4 << 20
LINK = ("ifindex", "flags", "mtu", "master", "operstate", "address", "qdisc")


@pytest.fixture
def gone(bed):
    """Whatever a test starts, all nodes are as before after it."""
    with left_as_found(bed):
        yield


def gate(node, name):
    return inspect(node, name)["network"]["gate"]


@contextlib.contextmanager
def standing_still(bed, folder, *faults):
    """A move of web that stops when all but the decision is done, and goes on in the end; .report then."""
    marker = folder / "marker"
    faults = ",".join((*faults, f"source-restore-end@command:wait:{marker}"))
    process = bed["node1"].popen("env", f"GODWIT_FAULT={faults}", GODWIT, "migrate", "--json", "-q", "--forward", "0",
                                 "web", "node2", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    until(lambda: marker.exists() or process.poll() is not None)
    try:
        yield process
    finally:
        (folder / "marker.go").touch()
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    process.report = json.loads(out)["held"]


def send(bed, address, count, size):
    with in_node(bed["node3"], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        for _ in range(count):
            sender.sendto(os.urandom(size), (address, PORT))


def start(bed):
    """The container's address, and a client that has its MAC."""
    address = run(bed["node1"], "web", "/workloads/count")
    client = Client(bed["node3"], address)
    client.ask()
    return address, client


def test_it_is_told_while_it_moves_and_in_the_end(bed, gone, tmp_path):
    address, client = start(bed)
    assert gate(bed["node1"], "web") is None
    with standing_still(bed, tmp_path) as move:
        before = gate(bed["node1"], "web")
        assert before["state"] == "held"
        send(bed, address, 10, 100)
        client.socket.sendall(b"?\n")
        now = gate(bed["node1"], "web")
        assert now["held"]["frames"] - before["held"]["frames"] >= 11
        assert now["to"]["held"]["bytes"] - before["to"]["held"]["bytes"] >= 10 * 142
        there = inspect(bed["node2"], "web")
        assert there["state"]["status"] == "incoming" and there["network"]["gate"]["state"] == "muted"
    client.socket.makefile().readline()         # its question was held
    client.ask()
    client.close()
    until(lambda: gate(bed["node2"], "web") is None)
    told = move.report
    assert told["frames"] == told["gate"]["held"]["frames"] >= 11
    assert told["gate"]["to"]["held"]["frames"] >= now["to"]["held"]["frames"]
    assert not any(told[what] for what in told if what.startswith("lost"))


def test_what_does_not_fit_is_lost_and_told(bed, gone, tmp_path):
    address, client = start(bed)
    with standing_still(bed, tmp_path) as move:
        send(bed, address, 5000, 1400)
        now = gate(bed["node1"], "web")
        assert now["ring_full"]["frames"] > 1000 and now["held"]["bytes"] <= RING_BYTES
        assert now["held"]["frames"] + now["ring_full"]["frames"] >= 5000
    assert move.report["lost_full"] >= now["ring_full"]["frames"] and move.report["frames"] > 2000
    client.ask()
    client.close()


def test_what_waits_for_too_long_is_lost_and_told(bed, gone, tmp_path):
    address, client = start(bed)
    with standing_still(bed, tmp_path, "held-age-ms:value=1") as move:
        send(bed, address, 10, 100)
        until(lambda: gate(bed["node1"], "web")["held"]["frames"] >= 10)
    assert move.report["lost_too_old"] >= 10
    assert move.report["frames"] + move.report["lost_too_old"] == move.report["gate"]["held"]["frames"]
    client.ask()
    client.close()


def kept(node):
    """What godwit makes of a node's network: rules, links, what is on them, and where frames are sent."""
    found = {"rules": json.loads(node.run("nft", "-j", "list", "ruleset").stdout or "{}"),
             "addresses": node.run("ip", "-4", "-o", "addr").stdout,
             "fdb": [line for line in node.run("bridge", "fdb").stdout.splitlines() if "permanent" in line]}
    for link in json.loads(node.run("ip", "-j", "link").stdout):
        found[link["ifname"]] = {what: link.get(what) for what in LINK}
        for where in ("ingress", "egress"):
            found[f"{link['ifname']} {where}"] = node.run("tc", "filter", "show", "dev", link["ifname"], where,
                                                          check=False).stdout
    return found


def difference(then, now):
    return {what: (then.get(what), now.get(what)) for what in then | now if then.get(what) != now.get(what)}


# where a move fails: at which point of whom, and what happens there
FAILURES = {
    "negotiate": "source-negotiate-end@command:reset",
    "negotiate, there": "send-VERDICT@receive:reset",
    "prepare": "restore-prepared@restore:fail=ENOSPC",
    "prepare, there": "send-PREPARED@receive:die",
    "precopy": "source-precopy-begin@command:reset",
    "precopy, there": "target-precopy-begin@receive:die",
    "dump": "send-FROZEN@command:reset",
    "dump, seized": "criu-network-lock@command:reset",
    "transfer": "source-transfer-begin@command:reset",
    "transfer, there": "target-transfer-begin@receive:reset",
    "restore": "restore-tasks@restore:fail=EIO",
    "restore, done": "restore-done@restore:fail=EIO",
    "restore, the command dies": "source-restore-end@command:die",
    "commit, not written": "act-write-decision@command:fail=ENOSPC",
    "commit, refused": "act-decide-resumed@restore:fail=ENOSPC",
}


def fail(bed, fault):
    """A move of web that must not succeed."""
    here = f"GODWIT_FAULT={fault}" if "@command" in fault else "NOTHING="
    bed.faults.write_text("" if "@command" in fault else fault)
    done = bed["node1"].run("env", here, GODWIT, "migrate", "-q", "--retry-for", "0", "--forward", "200ms", "web", "node2",
                            check=False)
    bed.faults.write_text("")
    return done


def test_wherever_it_fails_the_network_is_as_before(bed, gone):
    """Rules, links, gates; on both nodes. And who was connected is answered, and who comes anew."""
    one, two, three = bed["node1"], bed["node2"], bed["node3"]
    address = run(one, "web", "/workloads/count", options=("-p", "18080:7000"))
    clients = [Client(three, address), Client(three, one.address, 18080)]
    for client in clients:
        client.ask()
    before = [kept(node) for node in (one, two)]
    assert "18080" in json.dumps(before[0]["rules"]) and before[1]["rules"] == kept(three)["rules"]
    for where, fault in FAILURES.items():
        done = fail(bed, fault)
        assert done.returncode == (-9 if fault.endswith("@command:die") else 1), (where, done)
        until(lambda: status(one, "web") == "running", say=where)
        for client in clients:
            client.ask()
        new = Client(three, one.address, 18080)
        new.ask()
        new.close()
        has_nothing(two)
        for node, then in zip((one, two), before):
            try:
                until(lambda: kept(node) == then)
            except AssertionError:
                pytest.fail(f"{where}: {difference(then, kept(node))}")
    migrate(one, "web", two)
    clients[0].ask()
    for client in clients:
        client.close()
