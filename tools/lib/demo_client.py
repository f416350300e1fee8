"""The demo's client: one TCP connection to a redis, and a record of what it was promised.

usage: demo_client.py ADDRESS PORT MB

It fills the server with MB megabytes, prints a JSON line, and then writes and reads,
one request after the other, until a line comes on standard input: two numbers, the
time of the day in seconds at which the server began to move and at which it was done.
For another second it goes on, counted from the first answer after that. Then it reads
back every write that was acknowledged, prints a second JSON line with all that it saw,
and ends. It never connects again; a broken connection is an error.

Times are those of this process, which stays where it is.
"""
import array
import base64
import bisect
import hashlib
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

PATIENCE = 60           # seconds without an answer that end the client, and for each
PATIENCE_MB = 0.1       # megabyte that must move this much more
AFTERWARDS = 1.0        # seconds that it goes on after the move
BATCH = 64              # requests under way while filling and reading back
WORDS = ("order customer invoice address street basket price total status shipped pending "
         "returned currency discount account session profile language timezone created "
         "updated comment").split()


def digest(value):
    return hashlib.blake2b(value, digest_size=16).digest()


class Values:
    """Values like an application's: records of words and numbers, and tokens that do
    not compress. No two are alike."""

    def __init__(self):
        self.random = random.Random()
        self.records = [self.record() for _ in range(2000)]

    def record(self):
        pick = self.random
        text = [f"{pick.choice(WORDS)} {pick.random()}" for _ in range(3)]
        fields = text + [pick.randrange(10 ** 9) for _ in range(3)]
        return json.dumps(dict(zip(pick.sample(WORDS, 6), fields))).encode()

    def large(self):
        """3 to 5 KB."""
        token = base64.b64encode(self.random.randbytes(self.random.randint(500, 1500)))
        return b"".join(self.random.choices(self.records, k=14)) + token

    def small(self):
        return self.random.choice(self.records) + base64.b64encode(self.random.randbytes(30))


class Client:
    def __init__(self, address, port, patience):
        self.values = Values()
        self.connection = connect(address, port, patience)
        self.acknowledged = {}          # key: digest of the value
        self.loaded = 0
        self.wrong_reads = 0
        self.begun = array.array("d")   # time of the day at which a request was sent
        self.took = array.array("d")    # seconds until its answer
        self.identity_before = self.identity()

    def identity(self):
        """What would differ if this were another connection, or another server."""
        call = self.connection.call
        link = self.connection.socket
        return {"inode": os.fstat(link.fileno()).st_ino, "port": link.getsockname()[1],
                "client_id": call(b"CLIENT", b"ID"), "run_id": self.info("server")["run_id"]}

    def info(self, section):
        text = self.connection.call(b"INFO", section.encode()).decode()
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

    def load(self, size):
        """Fills the server with at least size bytes of values."""
        sent = 0
        while sent < size:
            batch = []
            while len(batch) < BATCH and sent < size:
                value = self.values.large()
                batch.append((b"key:%d" % self.loaded, value))
                self.loaded += 1
                sent += len(value)
            self.connection.socket.sendall(b"".join(resp.pack(b"SET", *pair) for pair in batch))
            for key, value in batch:
                self.expect_ok(self.connection.reply(), key, value)
        return sent

    def expect_ok(self, answer, key, value):
        if answer != b"OK":
            raise RuntimeError(f"redis answered {answer!r} to SET")
        self.acknowledged[key] = digest(value)

    def timed(self, *words):
        begun, start = time.time(), time.monotonic()
        answer = self.connection.call(*words)
        self.took.append(time.monotonic() - start)
        self.begun.append(begun)
        return answer

    def write_and_read(self, number):
        """One SET of a new key, one GET of any."""
        key, value = b"live:%d" % number, self.values.small()
        self.expect_ok(self.timed(b"SET", key, value), key, value)
        other = b"live:%d" % self.values.random.randint(max(0, number - 5000), number)
        answer = self.timed(b"GET", other)
        if answer is None or digest(answer) != self.acknowledged[other]:
            self.wrong_reads += 1

    def lost(self):
        """Reads back every acknowledged write, and counts those that are not there."""
        lost, keys = 0, list(self.acknowledged)
        for start in range(0, len(keys), BATCH):
            batch = keys[start:start + BATCH]
            self.connection.socket.sendall(b"".join(resp.pack(b"GET", key) for key in batch))
            for key in batch:
                value = self.connection.reply()
                lost += value is None or digest(value) != self.acknowledged[key]
        return lost

    def retransmitted(self):
        """Segments that this end sent again: tcpi_total_retrans of tcp(7)'s TCP_INFO."""
        info = self.connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return struct.unpack_from("=8B24I", info)[8 + 23]


def connect(address, port, patience):
    """The server may still be starting."""
    end = time.monotonic() + 20
    while True:
        try:
            return resp.Connection(address, port, patience)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def percentile(values, share):
    return sorted(values)[int(share * (len(values) - 1))] if values else None


def pauses(client, moved_from, moved_to):
    """The longest pause while the server moved, the longest otherwise, and where in time."""
    first = bisect.bisect(client.begun, moved_from)
    last = bisect.bisect(client.begun, moved_to)
    first = max(first - 1, 0)           # under way when the move began
    other = client.took[:first] + client.took[last:]
    during = client.took[first:last]
    longest = max(range(len(client.took)), key=client.took.__getitem__)
    return {"longest_pause_ms": client.took[longest] * 1e3,
            "longest_pause_at": client.begun[longest],
            "longest_pause_moving_ms": max(during, default=0) * 1e3,
            "longest_pause_otherwise_ms": max(other, default=0) * 1e3,
            "median_ms": percentile(other, 0.5) * 1e3 if other else None,
            "requests_before": first, "requests_moving": last - first,
            "requests_after": len(client.took) - last}


def timeline(client, moved_from, moved_to, columns=72):
    """Answers in each of a number of equal spans: the move, the longest pause, a bit around."""
    longest = max(range(len(client.took)), key=client.took.__getitem__)
    start = min(moved_from, client.begun[longest])
    end = max(moved_to, client.begun[longest] + client.took[longest])
    margin = min(end - start, AFTERWARDS / 1.5) / 2
    start, span = start - margin, (end - start + 2 * margin) / columns
    counts = [0] * columns
    for begun, took in zip(client.begun, client.took):
        column = int((begun + took - start) // span)
        if 0 <= column < columns:
            counts[column] += 1
    return {"span_ms": span * 1e3, "answers": counts}


def say(**what):
    print(json.dumps(what), flush=True)


def work(client):
    """Until a line has come, and a bit longer; nothing when whoever started this has gone."""
    told, end = [], None
    threading.Thread(target=lambda: told.append(sys.stdin.readline()), daemon=True).start()
    for number in itertools.count():
        client.write_and_read(number)
        if told and end is None:
            end = time.monotonic() + AFTERWARDS
        if end and (time.monotonic() > end or not told[0].strip()):
            return tuple(map(float, told[0].split()))
    return ()


def play(address, port, megabytes):
    begun = time.monotonic()
    client = Client(address, port, PATIENCE + PATIENCE_MB * megabytes)
    size = client.load(megabytes << 20)
    say(event="loaded", keys=client.loaded, bytes=size, seconds=time.monotonic() - begun,
        used_memory=int(client.info("memory")["used_memory"]))
    move = work(client)
    if move:
        say(event="done", loaded=client.loaded, live=len(client.acknowledged) - client.loaded,
            lost=client.lost(), wrong_reads=client.wrong_reads, before=client.identity_before,
            after=client.identity(), retransmitted=client.retransmitted(),
            timeline=timeline(client, *move), **pauses(client, *move))


def main():
    try:
        play(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except (OSError, RuntimeError) as error:
        say(event="failed", error=f"{type(error).__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
