"""What somebody outside sees of a server that moves: one TCP connection, request after request.

usage: move_client.py idle|writer|redis ADDRESS PORT MB

The server of idle and writer is tests/workloads/fill, which gets a ping each millisecond.
Redis is filled with MB megabytes of values of 4080 bytes that do not compress, and gets
SETs of such values, to keys by chance, as fast as it answers.

A JSON line {"event": "ready"} says that all is set up. Then a line is expected on standard
input: the time of the day at which the move was started. Half a second later it checks all
memory (fill) or all values (redis), and prints what it saw as a JSON line. pause_ms is the
longest time from a request to its answer since the move was started. When the connection
breaks it connects again as soon as it can, and the time from the broken request to the first
answer is what counts; reconnects tells how often.

Times are by the clock of this process, which stays where it is.
"""
import array
import itertools
import json
import os
import random
import socket
import struct
import sys
import threading
import time

import resp

PATIENCE = 120          # seconds without an answer that end the client
AFTERWARDS = 0.5        # seconds that it goes on after the move
BATCH = 64              # requests under way while filling and reading back
VALUE = 4080            # with redis' header, one class of its allocator
KEY = b"key:%012d"     # as redis-benchmark has them
POOL = 64 << 20         # bytes by chance, of which all values are pieces


def connect(make):
    """The server may still be starting, or be on its way."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return make()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.001)


class Fill:
    def __init__(self, address, port, _):
        self.where = (address, port)
        self.open()
        self.setup()

    def open(self):
        self.socket = connect(lambda: socket.create_connection(self.where, PATIENCE))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def setup(self):
        if self.ask(b"check\n") != b"ok":
            raise RuntimeError("its memory is wrong before it moved")

    def ask(self, line):
        self.socket.sendall(line)
        answer = self.socket.recv(256)
        if not answer.endswith(b"\n"):
            raise ConnectionError("the server closed the connection")
        return answer.strip()

    def request(self):
        self.ask(b"ping\n")

    def rest(self):
        time.sleep(0.001)

    def result(self):
        _, gap_us, _ = self.ask(b"ping\n").split()
        return {"gap_ms": int(gap_us) / 1e3, "wrong": self.ask(b"check\n").decode()}


class Redis:
    def __init__(self, address, port, megabytes):
        self.where = (address, port)
        self.pool = memoryview(os.urandom(POOL))
        self.random = random.Random(1)
        self.at = array.array("I", (self.place() for _ in range((megabytes << 20) // VALUE)))
        self.open()
        self.load()

    def open(self):
        self.connection = connect(lambda: resp.Connection(*self.where, PATIENCE))
        self.socket = self.connection.socket

    def place(self):
        return self.random.randrange(POOL - VALUE)

    def value(self, key):
        return bytes(self.pool[self.at[key]:self.at[key] + VALUE])

    def batches(self):
        for start in range(0, len(self.at), BATCH):
            yield range(start, min(start + BATCH, len(self.at)))

    def load(self):
        for batch in self.batches():
            self.socket.sendall(b"".join(resp.pack(b"SET", KEY % key, self.value(key))
                                         for key in batch))
            for _ in batch:
                self.connection.reply()

    def request(self):
        key = self.random.randrange(len(self.at))
        self.at[key] = self.place()
        if self.connection.call(b"SET", KEY % key, self.value(key)) != b"OK":
            raise RuntimeError("redis did not answer OK")

    def rest(self):
        pass

    def result(self):
        wrong = 0
        for batch in self.batches():
            self.socket.sendall(b"".join(resp.pack(b"GET", KEY % key) for key in batch))
            wrong += sum(self.connection.reply() != self.value(key) for key in batch)
        return {"gap_ms": None, "wrong": f"bad {wrong} values" if wrong else "ok"}


class Watch:
    """Requests until told; begun and took are seconds of each."""

    def __init__(self, server):
        self.server = server
        self.begun, self.took = array.array("d"), array.array("d")
        self.reconnects = 0

    def once(self):
        begun, start = time.time(), time.monotonic()
        while True:
            try:
                self.server.request()
                break
            except (ConnectionError, BrokenPipeError):
                self.reconnects += 1
                self.server.open()
        self.took.append(time.monotonic() - start)
        self.begun.append(begun)
        self.server.rest()

    def until_told(self):
        """The time that is said on standard input; None when whoever started this has gone."""
        told, end = [], None
        threading.Thread(target=lambda: told.append(sys.stdin.readline()), daemon=True).start()
        for _ in itertools.count():
            self.once()
            if told and end is None:
                end = time.monotonic() + AFTERWARDS
            if end and (time.monotonic() > end or not told[0].strip()):
                return float(told[0]) if told[0].strip() else None

    def seen(self, moved_from):
        before = [took for begun, took in zip(self.begun, self.took) if begun + took < moved_from]
        since = [took for begun, took in zip(self.begun, self.took) if begun + took >= moved_from]
        info = self.server.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return {"pause_ms": max(since) * 1e3, "before_ms": max(before, default=0) * 1e3,
                "answers": len(self.took), "reconnects": self.reconnects,
                "retransmitted": struct.unpack_from("=8B24I", info)[8 + 23]}


def say(**what):
    print(json.dumps(what), flush=True)


def main():
    kind, address, port, megabytes = sys.argv[1:]
    try:
        server = (Redis if kind == "redis" else Fill)(address, int(port), int(megabytes))
        watch = Watch(server)
        say(event="ready")
        moved_from = watch.until_told()
        if moved_from is not None:
            say(event="done", **watch.seen(moved_from), **server.result())
    except (OSError, RuntimeError) as error:
        say(event="failed", error=f"{type(error).__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
