"""A stream of bytes, or of datagrams, to or from tests/workloads/stream while that moves.

usage: flow_client.py down|up|datagrams ADDRESS RATE

A JSON line {"event": "ready"} says that it flows. After the line "end" on standard input it
prints what it saw as a JSON line, and ends: bytes, wrong (bytes that are not what they must
be), gap_ms (the longest time without a byte), samples ([seconds of the day, bytes of the
EVERY seconds before]) and timeouts (TcpExtTCPTimeouts of this network namespace), or sent,
answered, twice and late (an answer after that of a later question) datagrams, and the longest
wait for one in pause_ms.
"""
import array
import os
import select
import socket
import sys
import threading
import time

from move_client import say

PORT = 7001
PERIOD = 1048573        # as the workload has it
PIECE = 65536
EVERY = 0.02            # seconds of a sample
PATIENCE = 5.0          # seconds for the last answers
SO_RCVBUFFORCE = 33
ROOM = 16 << 20         # bytes: the answers after a move come all at once


def make_pattern():
    values, x = bytearray(), 1
    for _ in range(PERIOD):
        x = (x * 1664525 + 1013904223) & 0xffffffff
        values.append(x >> 24)
    return memoryview(bytes(values + values[:PIECE]))


def timeouts():
    with open("/proc/net/netstat", encoding="ascii") as file:
        names, values = file.readline().split(), file.readline().split()
    return int(values[names.index("TCPTimeouts")])


class Stream:
    def __init__(self, way, address):
        self.way, self.pattern = way, make_pattern()
        self.at = self.wrong = 0
        self.samples, self.gap = [], 0.0
        self.timeouts = timeouts()
        self.socket = socket.create_connection((address, PORT), 60)
        self.socket.sendall(f"{way}\n".encode())
        self.buffer = memoryview(bytearray(PIECE))

    def expected(self, size):
        start = self.at % PERIOD
        return self.pattern[start:start + size]

    def once(self):
        """Some bytes in the stream's direction."""
        if self.way == "up":
            count = self.socket.send(self.expected(PIECE))
        else:
            count = self.socket.recv_into(self.buffer)
            if not count:
                raise ConnectionError("the server closed the connection")
            if self.buffer[:count] != self.expected(count):
                self.wrong += sum(a != b for a, b in zip(self.buffer[:count], self.expected(count)))
        self.at += count

    def run(self, told):
        begun = last = sampled = time.time()
        before = 0
        while not told.is_set():
            self.once()
            now = time.time()
            self.gap, last = max(self.gap, now - last), now
            if now - sampled >= EVERY:
                self.samples.append((now, self.at - before))
                before, sampled = self.at, now
        return {"begun": begun, "ended": last, **self.result()}

    def result(self):
        if self.way == "up":
            self.socket.shutdown(socket.SHUT_WR)
            came, self.wrong = map(int, self.socket.makefile().readline().split())
            self.wrong += abs(came - self.at)
        return {"bytes": self.at, "wrong": self.wrong, "gap_ms": self.gap * 1e3, "samples": self.samples,
                "timeouts": timeouts() - self.timeouts}


class Datagrams:
    """Each is 64 bytes: its number, in decimal."""

    def __init__(self, address, rate):
        self.rate = rate
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        self.socket.connect((address, PORT))
        self.sent_at, self.seen = array.array("d"), bytearray()
        self.twice = self.late = 0
        self.highest, self.longest = -1, 0.0

    def ask(self):
        self.seen.append(0)
        self.sent_at.append(time.monotonic())
        self.socket.send(b"%064d" % (len(self.sent_at) - 1))

    def hear(self, seconds):
        while select.select([self.socket], [], [], max(seconds, 0))[0]:
            number = int(self.socket.recv(2048))
            self.twice += self.seen[number]
            self.late += number < self.highest
            self.highest = max(self.highest, number)
            self.seen[number] = 1
            self.longest = max(self.longest, time.monotonic() - self.sent_at[number])
            seconds = 0

    def run(self, told):
        begun = time.monotonic()
        while not told.is_set():
            due = begun + len(self.sent_at) / self.rate
            self.hear(due - time.monotonic())
            if time.monotonic() >= due:
                self.ask()
        took = time.monotonic() - begun
        end = time.monotonic() + PATIENCE
        while not all(self.seen) and time.monotonic() < end:
            self.hear(0.05)
        return {"sent": len(self.sent_at), "answered": sum(self.seen), "twice": self.twice, "late": self.late,
                "rate": len(self.sent_at) / took, "pause_ms": self.longest * 1e3}


def main():
    kind, address, rate = sys.argv[1:]
    try:
        flow = Datagrams(address, int(rate)) if kind == "datagrams" else Stream(kind, address)
        told = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
        say(event="ready")
        say(event="done", **flow.run(told))
    except (OSError, ValueError) as error:
        say(event="failed", error=f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    os._exit(0)     # the thread may still read


if __name__ == "__main__":
    main()
