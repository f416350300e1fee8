"""The part of redis' protocol (RESP 2) that the demo's client speaks."""
import socket


class Connection:
    """One TCP connection to a redis; never made again. Blocks, at most timeout seconds a call."""

    def __init__(self, address, port, timeout):
        self.socket = socket.create_connection((address, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb", buffering=1 << 16)

    def call(self, *words):
        self.socket.sendall(pack(*words))
        return self.reply()

    def reply(self):
        """One reply: bytes, an int, None, or a list of those. An error is a RuntimeError."""
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return self.bulk(int(rest))
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise RuntimeError(f"redis: {line.decode(errors='replace').strip()}")

    def bulk(self, length):
        if length < 0:
            return None
        data = self.reader.read(length + 2)
        if len(data) != length + 2:
            raise ConnectionError("the server closed the connection")
        return data[:-2]


def pack(*words):
    """A command as bytes; words are bytes."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)
