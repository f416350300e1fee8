"""Connections and sockets in all their states move, or it is said by name why they don't."""
import contextlib
import json
import socket
import threading

import pytest

from moving import PORT, Client, in_node, left_as_found, migrate, moving_bed, run

STATES = ("options", "multicast", "half-closed", "time-wait", "queued", "unix")


@pytest.fixture(autouse=True)
def gone(bed):
    """Whatever a test starts, all nodes are as before after it."""
    with left_as_found(bed):
        yield


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_the_same_after_the_move_and_back(bed, state):
    one, two = bed["node1"], bed["node2"]
    client = Client(bed["node3"], run(one, "web", "/workloads/states", state))
    client.ask()
    for source, target in ((one, two), (two, one)):
        migrate(source, "web", target)
        client.ask()
        client.ask()
    client.close()


def fill(connection):
    """Sends until nothing fits any more."""
    connection.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += connection.send(b"f" * 4096)
    connection.settimeout(20)
    return sent


def read_all(connection):
    came = 0
    while data := connection.recv(65536):
        assert not data.strip(b"f")
        came += len(data)
    return came


def test_queues_that_are_full(bed):
    """Sent, received and not yet sent data of both ends: what was written is read."""
    one, two = bed["node1"], bed["node2"]
    address = run(one, "web", "/workloads/states", "full")
    client = Client(bed["node3"], address)
    with in_node(bed["node3"], lambda: socket.create_connection((address, 7100), 10)) as connection:
        its = int(client.ask())
        mine = fill(connection)
        assert its > 10000 and mine > 10000
        for source, target in ((one, two), (two, one)):
            migrate(source, "web", target)
        connection.shutdown(socket.SHUT_WR)
        assert int(client.ask()) == mine and read_all(connection) == its
    client.close()


class Visitors:
    """Connections that are made, used once and closed, one after the other, by several threads."""

    def __init__(self, node, address):
        self.address, self.ended = address, threading.Event()
        self.errors, self.visits = [], [0, 0, 0, 0]
        self.threads = [threading.Thread(target=in_node, args=(node, lambda n=n: self.run(n)))
                        for n in range(len(self.visits))]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        while not self.ended.is_set():
            try:
                with socket.create_connection((self.address, PORT), 20) as connection:
                    connection.settimeout(20)
                    connection.sendall(b"?\n")
                    if b" ok" not in connection.recv(512):
                        self.errors.append("a wrong answer")
                self.visits[number] += 1
            except OSError as error:
                self.errors.append(repr(error))

    def end(self):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def test_connections_that_come_all_the_time(bed):
    """None is refused, reset or left alone, whenever it was made."""
    one, two = bed["node1"], bed["node2"]
    address = run(one, "web", "/workloads/count")
    Client(bed["node3"], address).close()
    visitors = Visitors(bed["node3"], address)
    try:
        for source, target in ((one, two), (two, one)) * 3:
            migrate(source, "web", target)
    finally:
        visitors.end()
    assert not visitors.errors and min(visitors.visits) > 10


def test_connections_that_nobody_accepts(bed):
    """They can't move; that is found before anything begins."""
    one, two = bed["node1"], bed["node2"]
    client = Client(bed["node3"], run(one, "web", "/workloads/states", "waiting"))
    client.ask()
    failed = migrate(one, "web", two, check=False)
    assert failed.returncode == 1 and "port 7100" in failed.stderr and "(unaccepted)" in failed.stderr
    found = json.loads(one.godwit("check", "--json", "web", check=False).stdout)
    assert "unaccepted" in json.dumps(found)
    client.ask()
    client.close()
