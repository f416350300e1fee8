"""A test bed for as long as a with block lasts, for the demo and the benches.

    with Bed("demo", nodes=3) as bed:
        bed.run("node1", "godwit", "ps")

However the block ends, also when this process is killed, the bed goes: a janitor
in a session of its own waits for the other end of a pipe, which only this process
holds, and then takes the bed down.
"""
import os
import pathlib
import signal
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]
TESTBED = str(TOP / "tools/testbed")
ROOTFS = str(TOP / "tests/lib/rootfs")
JANITOR = 'trap "" HUP INT TERM; read -r _; exec "$0" --name "$1" down'


class Failed(Exception):
    """What a person should read; the rest of the story is in .details."""

    def __init__(self, message, details=""):
        super().__init__(message)
        self.details = details


def call(*command, timeout=600, **options):
    """Runs a program and returns what it printed; Failed when it fails."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
               "start_new_session": True, **options}
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, text=True, timeout=timeout, check=False, **options)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{' '.join(command)}: not done after {timeout} s") from late
    if done.returncode:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}",
                     (done.stdout or "") + (done.stderr or ""))
    return done.stdout


def exit_on_signals():
    """Ctrl-C, SIGTERM and a hang-up end the program like an exception does."""
    def leave(number, _):
        raise SystemExit(128 + number)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


class Bed:
    def __init__(self, purpose, nodes, cgroup="host"):
        self.name = f"{purpose}-{os.getpid()}"
        self.cgroup = cgroup
        self.up = ["up", nodes, "--cgroup", cgroup, "--owner", os.getpid()]
        self.folder = pathlib.Path("/var/lib/godwit-testbed") / self.name
        self.janitor = None

    def __enter__(self):
        self.janitor = subprocess.Popen(["/bin/sh", "-c", JANITOR, TESTBED, self.name],
                                        stdin=subprocess.PIPE, start_new_session=True)
        try:
            call(TESTBED, "--name", self.name, *self.up)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self.janitor.stdin.close()
        if self.janitor.wait() and call(TESTBED, "--name", self.name, "down"):
            raise Failed(f"test bed {self.name} could not be taken down")

    def command(self, node, *words):
        """The words that run a program in a node."""
        return [TESTBED, "--name", self.name, "exec", node, "--", *map(str, words)]

    def run(self, node, *words, **options):
        return call(*self.command(node, *words), **options)

    def start(self, node, *words, **options):
        """A program that runs on in a node until the bed goes."""
        return subprocess.Popen(self.command(node, *words), text=True, start_new_session=True,
                                **options)

    def make_image(self, node, kind):
        """Imports a root file system of tests/lib/rootfs as an image of that name."""
        folder = self.folder / f"rootfs-{kind}"
        call(ROOTFS, "make", kind, folder)
        self.run(node, "godwit", "image", "import", kind, folder)
        return folder
