"""A person at a terminal."""
import contextlib
import os
import pty
import select
import subprocess

from moving import until


class Terminal:
    """A command of a node on a pseudo-terminal of ours."""

    def __init__(self, node, *args):
        self.master, slave = pty.openpty()
        os.set_blocking(self.master, False)
        self.set_size(24, 80)
        self.process = node.popen(*args, stdin=slave, stdout=slave, stderr=slave,
                                  start_new_session=True)
        os.close(slave)
        self.text = ""

    def set_size(self, rows, columns):
        subprocess.run(["stty", "rows", str(rows), "cols", str(columns)], check=True,
                       stdin=os.fdopen(os.dup(self.master)))

    def type(self, text):
        os.write(self.master, text.encode())

    def read(self):
        ready, _, _ = select.select([self.master], [], [], 0.05)
        with contextlib.suppress(OSError):
            if ready:
                self.text += os.read(self.master, 65536).decode()
        return self.text

    def expect(self, words):
        until(lambda: words in self.read())

    def close(self):
        code = self.process.wait(20)
        os.close(self.master)
        return code
