"""Streams between containers, compared byte by byte, while both ends move; a client that answers nothing."""
import socket

import pytest

from moving import PORT, Client, bed_of_three, in_node, inspect, left_as_found, migrate, remove_all, run, until

STREAM = "/workloads/stream"
MORE = 2 << 20          # bytes, in each direction


@pytest.fixture
def gone(bed):
    with left_as_found(bed):
        yield
        remove_all(bed)
        for node in bed.nodes.values():
            node.godwit("network", "rm", "lan", check=False)


def addresses(bed, family):
    """Options for two containers, and how the second reaches the first."""
    if family == "ipv4":
        return (), lambda network: network["address"]
    bed["node1"].godwit("network", "create", "lan", "--subnet", "10.70.0.0/16", "--subnet", "fd00:70::/64",
                        "--peer", "node2", "--peer", "node3")
    return ("--network", "lan"), lambda network: network["address2"]


class Streams:
    """A container that draws from another and pushes to it; both look at what comes."""

    def __init__(self, bed, family):
        options, way = addresses(bed, family)
        one = bed["node1"]
        self.where = {"server": one, "client": one}
        run(one, "server", STREAM, options=options)
        there = way(inspect(one, "server")["network"]).split("/")[0]
        run(one, "client", STREAM, there, options=options)

    def ask(self, name):
        """What the container finds; by a connection that begins and ends in its own namespace."""
        node = self.where[name]
        namespace = f"/proc/{inspect(node, name)['state']['pid']}/ns/net"
        asker = Client(None, "127.0.0.1", namespace=namespace)
        try:
            return asker.ask()
        finally:
            asker.close()

    def flows(self):
        """So many bytes more in both directions, and none that is wrong."""
        before = [int(n) for n in self.ask("client").split()]
        until(lambda: all(int(n) - then > MORE for n, then in zip(self.ask("client").split(), before)),
              seconds=30, say="it does not flow")
        self.ask("server")

    def move(self, name, to):
        migrate(self.where[name], name, to)
        self.where[name] = to


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_both_ends_move_one_after_the_other(bed, gone, family):
    """From one node apart, together on another, and back, the other one first."""
    one, two, three = bed["node1"], bed["node2"], bed["node3"]
    streams = Streams(bed, family)
    streams.flows()
    for name, to in (("server", two), ("client", three), ("client", two), ("server", one), ("client", one)):
        streams.move(name, to)
        streams.flows()


@pytest.fixture
def deaf(bed):
    """node3 hears no answer from port 7000."""
    three = bed["node3"]
    for words in ("add table inet deaf", "add chain inet deaf in { type filter hook input priority 0 ; }",
                  f"add rule inet deaf in tcp sport {PORT} drop"):
        three.run("nft", words)
    yield lambda: three.run("nft", "delete", "table", "inet", "deaf")
    three.run("nft", "delete", "table", "inet", "deaf", check=False)


def half_open(node, name):
    return node.run("nsenter", "--net", "--target", inspect(node, name)["state"]["pid"],
                    "ss", "-Hn4t", "state", "syn-recv").stdout


def test_a_handshake_whose_client_is_silent(bed, gone, deaf):
    """It keeps nobody from moving, and goes on with a client that comes back."""
    one, two, three = bed["node1"], bed["node2"], bed["node3"]
    address = run(one, "web", "/workloads/count")
    neighbour = Client(one, address)
    neighbour.ask()
    begun = in_node(three, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    begun.setblocking(False)
    begun.connect_ex((address, PORT))
    until(lambda: half_open(one, "web"))
    migrate(one, "web", two)
    neighbour.ask()
    assert not begun.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    deaf()
    client = Client(three, address)
    client.ask()
    begun.settimeout(30)
    begun.sendall(b"?\n")
    assert b" ok" in begun.recv(512)
    begun.close()
    client.close()
    neighbour.close()
