"""A migration that is in doubt: what is said, what is refused, and what settles it. (Who dies at which
moment: tools/faults.)"""
import pytest

from peers import CommitProxy, nodes_without_tls
from moving import Client, migrate, moving_bed, run, settled, snapshot, status, without_serve


@pytest.fixture
def web(bed):
    """A container on node1; afterwards there is one copy, the same, that answers and can move, and
    nothing else."""
    before = snapshot(bed)
    client = Client(bed["node3"], run(bed["node1"], "web", "/workloads/count", "8"))
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
    # a refusal that was told stays: COMMIT may still be on its way
    for record in (bed["node2"].state / "tokens").iterdir():
        if record.read_text() == "refused\n":
            record.unlink()
    settled(bed, before)


def where(bed):
    """The one node that has it."""
    there = [name for name in ("node1", "node2") if status(bed[name], "web") is not None]
    assert len(there) == 1
    return there[0]


@pytest.mark.parametrize("resumed", [True, False], ids=["it runs there", "it never did"])
def test_in_doubt_and_resolved(web, bed, resumed):
    """COMMIT is lost, or its answer is: the target knows, and resolve asks it."""
    one = bed["node1"]
    proxy = CommitProxy(bed["node2"], lose_commit=not resumed)
    try:
        with without_serve(bed, "node1"):   # which would ask by itself, and be first now and then
            done = one.godwit("migrate", "-q", "--settle", "0s", "web", "node2:4999", check=False)
            assert done.returncode == 3, done
            assert "container 'web' is frozen here and in doubt" in done.stderr
            assert "'godwit resolve web'" in done.stderr
            assert status(one, "web") == "in-doubt"
            for verb in ("unpause", "migrate"):
                arguments = ("web", "node2") if verb == "migrate" else ("web",)
                assert one.godwit(verb, *arguments, check=False).returncode == 1
            proxy.transparent = True
            done = one.godwit("resolve", "web")
            assert ("runs on node2" in done.stdout) == resumed, done.stdout
    finally:
        proxy.close()
    assert where(bed) == ("node2" if resumed else "node1")
    web.ask()


def test_resolve_of_what_is_not_in_doubt(web, bed):
    done = bed["node1"].godwit("resolve", "web", check=False)
    assert done.returncode == 1 and "container 'web' is not in doubt" in done.stderr
