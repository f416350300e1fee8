"""The source has decided and heard nothing: frozen, until the one node that knows has answered."""
import json
import subprocess

import pytest

from conftest import GODWIT
from peers import CommitProxy, nodes_without_tls
from moving import (Client, moving_bed, run, serve, settled, snapshot, status, stop, until,
                    without_serve)


@pytest.fixture
def web(bed):
    """A container on node1 and a client of it. Afterwards one copy runs, and nothing else is left."""
    before = snapshot(bed)
    client = Client(bed["node3"], run(bed["node1"], "web", "/workloads/count", "8"))
    client.ask()
    yield client
    try:
        client.ask()
    finally:
        client.close()
        for node in ("node1", "node2"):
            bed[node].godwit("rm", "-f", "web", check=False)
    settled(bed, before)


def fall_in_doubt(bed, lose_commit):
    """A migration whose connection breaks at the decision; returns the proxy that the peer is behind."""
    proxy = CommitProxy(bed["node2"], lose_commit)
    done = bed["node1"].godwit("migrate", "-q", "--settle", "0s", "web", "node2:4999", check=False)
    assert done.returncode == 3, done
    assert status(bed["node1"], "web") == "in-doubt"
    return proxy


def records(node):
    """What a node keeps for a migration that is not settled on both sides."""
    return [p.name for folder in ("tokens", "releases") for p in (node.state / folder).iterdir()]


def is_only_on(bed, name):
    other = "node1" if name == "node2" else "node2"
    return status(bed[name], "web") == "running" and status(bed[other], "web") is None


@pytest.mark.parametrize("lose_commit", [True, False], ids=["COMMIT was lost", "the answer was lost"])
def test_serve_settles_it_alone_when_the_target_is_back(web, bed, lose_commit):
    one, two = bed["node1"], bed["node2"]
    proxy = fall_in_doubt(bed, lose_commit)
    try:
        until(lambda: status(two, "web") == (None if lose_commit else "running"))
        proxy.transparent = True
        until(lambda: is_only_on(bed, "node1" if lose_commit else "node2"), 20, "nobody settled it")
        until(lambda: not records(one) and not records(two), 10, "records are left")
    finally:
        proxy.close()


def test_serve_restarted_on_both_sides_settles_it(web, bed):
    one, two = bed["node1"], bed["node2"]
    proxy = fall_in_doubt(bed, lose_commit=False)
    try:
        with without_serve(bed, "node1", "node2"):
            proxy.transparent = True
            assert status(one, "web") == "in-doubt" and status(two, "web") == "running"
        until(lambda: is_only_on(bed, "node2"), 20, "nobody settled it")
        until(lambda: not records(one) and not records(two), 10, "records are left")
    finally:
        proxy.close()


def test_a_node_without_serve_tells_who_knows_and_is_settled_by_hand(web, bed):
    one, two = bed["node1"], bed["node2"]
    with without_serve(bed, "node1"):
        fall_in_doubt(bed, lose_commit=True).close()
        row = next(line for line in one.godwit("ps").stdout.splitlines() if line.startswith("web "))
        told = json.loads(one.godwit("ps", "--json").stdout)[0]["doubt"]
        assert f"in-doubt (node2:4999, {told['token']})" in row and told["node"] == "node2"
        for verb in ("start", "stop", "rm", "unpause"):
            assert one.godwit(verb, "web", check=False).returncode == 1
        done = one.godwit("resolve", "web", "--resume-here")
        assert "goes on here, unasked: if node2 runs it, there are two now" in done.stdout
        assert status(one, "web") == "running" and len(records(one)) == 1
    one.run("rm", "-rf", *(f"/var/lib/godwit/releases/{name}" for name in records(one)))
    until(lambda: not records(two), 10, "the refusal is not forgotten")


def test_who_knows_that_the_target_runs_it_can_remove_it_here(web, bed):
    one, two = bed["node1"], bed["node2"]
    with without_serve(bed, "node1"):
        proxy = fall_in_doubt(bed, lose_commit=False)
        both = one.godwit("resolve", "web", "--gone", "--resume-here", check=False)
        assert both.returncode != 0 and "exclude each other" in both.stderr, both
        done = one.godwit("resolve", "web", "--gone")
        assert done.stdout == "container 'web' is removed here, unasked: if it does not run on node2, it is lost\n"
        assert is_only_on(bed, "node2")
        proxy.transparent = True
    try:
        until(lambda: not records(one) and not records(two), 20, "records are left")
    finally:
        proxy.close()


def test_another_node_with_the_same_name_at_that_address_is_not_believed(web, bed):
    one, two = bed["node1"], bed["node2"]
    fall_in_doubt(bed, lose_commit=False).close()
    stop(bed.daemons["node1"])
    state = "/run/impostor"
    two.run("mkdir", "-m", "700", state)
    two.run("cp", "/var/lib/godwit/node.json", state)
    impostor = two.popen(GODWIT, "--state", state, "serve", "--listen", ":4999", text=True,
                         stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert impostor.stdout.readline().startswith("node2 listens")
        done = one.godwit("resolve", "web", check=False)
        assert done.returncode == 1 and "node2:4999 is node 'node2' (id " in done.stderr, done
        assert status(one, "web") == "in-doubt" and status(two, "web") == "running"
    finally:
        stop(impostor)
        two.run("rm", "-r", state)
    proxy = CommitProxy(two, lose_commit=False)
    proxy.transparent = True
    try:
        assert "runs on node2" in one.godwit("resolve", "web").stdout
    finally:
        proxy.close()
        bed.daemons["node1"] = serve(one)
    assert status(one, "web") is None and status(two, "web") == "running"
