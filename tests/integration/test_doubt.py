"""The source has decided and heard nothing: frozen, until the one node that knows has answered."""
import subprocess

import pytest

from conftest import GODWIT, Bed
from peers import CommitProxy
from moving import Client, end_bed, make_bed, run, settled, snapshot, status, stop


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    it = make_bed(tmp_path_factory, Bed)
    yield it
    end_bed(it)


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


def test_another_node_with_the_same_name_at_that_address_is_not_believed(web, bed):
    one, two = bed["node1"], bed["node2"]
    fall_in_doubt(bed, lose_commit=False).close()
    state = "/run/impostor"
    two.run("mkdir", "-m", "700", state)
    two.run("cp", "/var/lib/godwit/node.json", state)
    impostor = two.popen(GODWIT, "--state", state, "serve", "--insecure", "--listen", ":4999", text=True,
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
    assert status(one, "web") is None and status(two, "web") == "running"
