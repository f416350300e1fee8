"""Peers that misbehave, and proxies that cut, for tests of migrations."""
import contextlib
import os
import socket
import struct
import threading

import pytest

from moving import PEER_PORT, in_node

MAGIC = 0x54574447
HEADER_BYTES = 16
COMMIT = 11
SILENCE_S = 120     # so long a slow machine may need for a stage of a migration


def frame(kind, payload=b"", length=None):
    """A frame as wire.h has it, but for the checksum."""
    return (struct.pack("<IHHII", MAGIC, kind, 0, len(payload) if length is None else length, 0) +
            payload)


class Peer(threading.Thread):
    """Listens in a node and does something to each connection."""

    def __init__(self, node, act):
        super().__init__(daemon=True)
        self.act = act

        def listen():
            it = socket.create_server(("0.0.0.0", 4999))
            return it
        self.server = in_node(node, listen)
        self.server.settimeout(0.1)
        self.ended = False
        self.start()

    def run(self):
        while not self.ended:
            with contextlib.suppress(OSError):
                connection, _ = self.server.accept()
                connection.settimeout(SILENCE_S)
                with connection:
                    self.act(connection)

    def close(self):
        self.ended = True
        self.join(15)
        self.server.close()


def read_some(connection):
    with contextlib.suppress(OSError):
        return connection.recv(65536)


class Proxy(Peer):
    """Passes bytes on to node2's daemon until so many have gone there; then it cuts."""

    def __init__(self, node, limit=None, spoil=False):
        self.limit, self.spoil, self.node, self.passed = limit, spoil, node, 0
        super().__init__(node, self.relay)

    def connect(self):
        return in_node(self.node, lambda: socket.create_connection(("10.88.0.2", PEER_PORT), SILENCE_S))

    def relay(self, connection):
        upstream = self.connect()
        back = threading.Thread(target=self.pump_back, args=(upstream, connection), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while data := connection.recv(4096):
                if self.limit is not None and self.passed + len(data) > self.limit:
                    data = data[:self.limit - self.passed]
                    if self.spoil:
                        upstream.sendall(data + b"\xa5" * 64)
                        self.passed += 10**9
                        continue
                    upstream.sendall(data)
                    break
                self.passed += len(data)
                upstream.sendall(data)
        for it in (upstream, connection):
            with contextlib.suppress(OSError):
                it.shutdown(socket.SHUT_RDWR)
        back.join(5)
        upstream.close()

    @staticmethod
    def pump_back(upstream, connection):
        with contextlib.suppress(OSError):
            while data := upstream.recv(65536):
                connection.sendall(data)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module", autouse=True, name="without_tls")
def nodes_without_tls():
    """To import: all that this file starts does without TLS, so that a proxy can read along."""
    os.environ["GODWIT_INSECURE"] = "1"
    yield
    del os.environ["GODWIT_INSECURE"]


class CommitProxy(Proxy):
    """Cuts the connection at COMMIT: before it went to the target, or after the target has
    answered it. From then on it lets nobody through until it is transparent. Not through TLS."""

    def __init__(self, node, lose_commit):
        self.lose_commit, self.cut, self.mute, self.transparent = lose_commit, False, False, False
        self.answered = threading.Event()
        super().__init__(node)

    def relay(self, connection):
        if self.transparent:
            super().relay(connection)
        elif not self.cut:
            self.relay_frames(connection)

    def relay_frames(self, connection):
        upstream = self.connect()
        back = threading.Thread(target=self.answers, args=(upstream, connection), daemon=True)
        back.start()
        source = connection.makefile("rb")
        while len(head := source.read(HEADER_BYTES)) == HEADER_BYTES:
            _, kind, _, length, _ = struct.unpack("<IHHII", head)
            payload = source.read(length)
            if kind == COMMIT:
                self.cut = self.mute = True
                if not self.lose_commit:
                    upstream.sendall(head + payload)
                    self.answered.wait(SILENCE_S)
                break
            upstream.sendall(head + payload)
        for it in (connection, upstream):
            with contextlib.suppress(OSError):
                it.shutdown(socket.SHUT_RDWR)
        back.join(5)
        upstream.close()

    def answers(self, upstream, connection):
        with contextlib.suppress(OSError):
            while data := upstream.recv(65536):
                if self.mute:
                    self.answered.set()
                else:
                    connection.sendall(data)
