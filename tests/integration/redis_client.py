"""A redis in a container, and a client that writes to it over one connection."""
import subprocess
import threading
import time

from conftest import TOP
from moving import Client, run


def import_redis(node, folder):
    """Its image, made in folder, which is not there yet."""
    subprocess.run([str(TOP / "tests/lib/rootfs"), "make", "redis", str(folder)], check=True)
    node.godwit("image", "import", "redis", folder)


class Redis(threading.Thread):
    """SETs and GETs over one connection until it is told to stop."""

    def __init__(self, node, address):
        super().__init__(daemon=True)
        self.client = Client(node, address, 6379)
        self.socket = self.client.socket
        self.reader = self.socket.makefile("rb")
        self.acknowledged, self.wrong = 0, None
        self.longest = 0.0
        self.stopped = threading.Event()

    def command(self, *words):
        text = f"*{len(words)}\r\n" + "".join(f"${len(w)}\r\n{w}\r\n" for w in words)
        self.socket.sendall(text.encode())
        line = self.reader.readline()
        if line[:1] == b"$" and line != b"$-1\r\n":
            return self.reader.read(int(line[1:]) + 2)[:-2].decode()
        assert line.endswith(b"\r\n"), "the connection ended"
        return line[1:-2].decode()

    def run(self):
        try:
            while not self.stopped.is_set():
                begun = time.monotonic()
                n = self.acknowledged
                assert self.command("SET", f"key:{n}", f"value:{n}") == "OK"
                self.acknowledged += 1
                back = self.command("GET", f"key:{n // 2}")
                assert back == f"value:{n // 2}", back
                self.longest = max(self.longest, time.monotonic() - begun)
        except (AssertionError, OSError) as error:
            self.wrong = error

    def stop(self):
        self.stopped.set()
        self.join(30)
        assert not self.wrong, self.wrong
        assert self.socket.getsockname() == self.client.name

    def lost(self):
        return [n for n in range(self.acknowledged) if self.command("GET", f"key:{n}") != f"value:{n}"]


def redis(node, *options, user=None):
    command = ("redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--dir", "/tmp")
    user = ("-u", user) if user else ()
    return run(node, "web", *command, image="redis", options=(*user, *options))
