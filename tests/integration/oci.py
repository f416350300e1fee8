"""Bundles for the OCI runtime, and the marks that tell which part of the specification a test is about.

    @feature("linux.resources.pids.limit")
    def test_processes_are_limited(oci):
        oci.config["linux"]["resources"]["pids"] = {"limit": 7}
        assert oci.sh("cat /sys/fs/cgroup/pids/pids.max") == "7\\n"

tests/lib/oci-features makes the list of features and tests out of the marks.
"""
import contextlib
import itertools
import json
import os
import pathlib
import shutil
import socket
import subprocess

from conftest import BUILD

numbers = itertools.count(1)
SAFE_LIMITS = [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}]


def feature(*_names):
    """Says which fields of config.json (or "cli NAME") a test exercises; read by tests/lib/oci-features."""
    return lambda test: test


class Oci:
    """A bundle in a folder of its own, with the document that `spec` writes, and its containers."""

    def __init__(self, folder, root):
        self.folder = folder
        self.globals = []
        self.program = folder / "godwit-oci"
        self.program.symlink_to(BUILD / "tools" / "godwit")
        self.bundle = folder / "bundle"
        self.bundle.mkdir()
        (self.bundle / "rootfs").symlink_to(root)
        self.cgroup = f"/godwit-oci-test-{os.getpid()}/{next(numbers)}"
        self.call("spec", "--bundle", self.bundle)
        self.config = json.loads((self.bundle / "config.json").read_text())
        self.process["terminal"] = False
        self.linux["cgroupsPath"] = self.cgroup
        self.ids = []

    @property
    def process(self):
        return self.config["process"]

    @property
    def linux(self):
        return self.config["linux"]

    def words(self, *args):
        return [str(self.program), "--root", str(self.folder / "state"), *self.globals, *map(str, args)]

    def call(self, *args, check=True, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(self.words(*args), text=True, timeout=60, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        assert not check or done.returncode == 0, done.stderr
        return done

    def write(self, *args):
        if args:
            self.process["args"] = list(args)
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def run(self, *args, check=True, options=(), **more):
        """Runs the program to its end."""
        self.write(*args)
        name = f"c{next(numbers)}"
        self.ids.append(name)
        return self.call("run", "--bundle", self.bundle, *options, name, check=check, **more)

    def sh(self, script):
        return self.run("sh", "-c", script).stdout

    def refused(self, words):
        """What is said when the document can't be: it names the field, and nothing is left."""
        done = self.run(check=False)
        assert done.returncode == 1 and words in done.stderr, (words, done)
        assert self.call("list", "-q").stdout == ""
        return done.stderr

    def start(self, *args, options=(), **more):
        """A container that runs in the background: its id."""
        self.write(*args)
        name = f"c{next(numbers)}"
        self.ids.append(name)
        self.daemon("run", "--detach", "--bundle", self.bundle, *options, name, **more)
        return name

    def daemon(self, *args, **options):
        """For what leaves a process behind: it shall not hold our pipes."""
        out = self.folder / "out"
        with out.open("w", encoding="utf8") as file:
            options = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file, **options}
            done = subprocess.run(self.words(*args), timeout=60, check=False, **options)
        assert done.returncode == 0, out.read_text()

    def state(self, name):
        return json.loads(self.call("state", name).stdout)

    def setting(self, controller, file):
        """What a file of the container's control group says."""
        for place in (f"/sys/fs/cgroup/{controller}", "/sys/fs/cgroup"):
            path = pathlib.Path(f"{place}{self.cgroup}/{file}")
            if path.exists():
                return path.read_text().strip()
        raise FileNotFoundError(file)

    def close(self):
        for name in self.ids:
            self.call("delete", "--force", name, check=False)
        left = self.call("list", "-q").stdout
        groups = [str(path) for path in pathlib.Path("/sys/fs/cgroup").glob(f"*{self.cgroup}")]
        for place in ("", *(f"/{path.name}" for path in pathlib.Path("/sys/fs/cgroup").iterdir())):
            path = pathlib.Path(f"/sys/fs/cgroup{place}{os.path.dirname(self.cgroup)}")
            if path.is_dir() and not any(child.is_dir() for child in path.iterdir()):
                path.rmdir()
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        assert (left, groups) == ("", []), (left, groups)


def connected(address, port):
    with contextlib.suppress(ConnectionError):
        return socket.create_connection((address, port), timeout=30)
    return None


@contextlib.contextmanager
def network_namespace():
    """One that a container can join: its name, and the address at our end of a cable to it."""
    name = f"godwit-oci-{os.getpid()}"
    with contextlib.ExitStack() as undo:
        subprocess.run(["ip", "netns", "add", name], check=True)
        undo.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        link = f"gwoci{os.getpid() % 100000}"
        for words in (f"link add {link} type veth peer name eth0 netns {name}", f"addr add 10.234.5.1/24 dev {link}",
                      f"link set {link} up", f"-n {name} addr add 10.234.5.2/24 dev eth0", f"-n {name} link set eth0 up",
                      f"-n {name} link set lo up"):
            subprocess.run(["ip", *words.split()], check=True)
        yield name


def say(client, text):
    client.sendall(text)
    got = b""
    while len(got) < len(text):
        more = client.recv(100)
        assert more, "the connection was closed"
        got += more
    return got
