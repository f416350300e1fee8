"""The bed of the fault matrix: two nodes that a container moves between, and a third where its
client is.

The container counts, and appends (nonce, count) some hundred times a second to a file that both
nodes have (tests/workloads/beacon). So whoever ran beside it, or has gone back, is seen there.
"""
import contextlib
import ctypes
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from bed import ROOTFS, TESTBED, Bed, Failed, call

BUILD = pathlib.Path(os.environ.get("GODWIT_BUILD", "build")).absolute()
GODWIT = str(BUILD / "tools/godwit")
AGENT = str(pathlib.Path(__file__).with_name("fault_agent.py"))
BOX = "box"
NODES = ("node1", "node2")
BOX_PORT = 7000
MEGABYTES = 8
DISK_MB = 160
VALUES = ("peer-dead-s:value=2", "keep-longer-s:value=1", "settler-look-ms:value=100")
# a node gets a /tmp of its own, unless what it runs is there
TMP = [] if any(path.startswith("/tmp/") for path in (GODWIT, AGENT)) else ["/tmp"]
CLONE_NEWNET = 0x40000000
RECORD = re.compile("(tokens|releases)(/[0-9a-f]+)?|departed(/[0-9a-f.:]+)?")
LIBC = ctypes.CDLL(None, use_errno=True)


def other(node):
    return NODES[node == NODES[0]]


class Problem(Exception):
    """A case has failed; what is said is printed."""


def until(what, seconds, problem):
    end = time.monotonic() + seconds
    while not (result := what()):
        if time.monotonic() > end:
            raise Problem(problem() if callable(problem) else problem)
        time.sleep(0.02)
    return result


class Log:
    """What all copies have appended: counts that don't grow are a copy too many, or one that has gone back."""

    def __init__(self, path):
        self.file, self.last, self.nonce, self.wrong = open(path, "rb"), -1, None, None

    def follow(self, nonce):
        self.file.seek(0, os.SEEK_END)
        self.last, self.nonce, self.wrong = -1, nonce, None

    def check(self):
        heard = 0
        while len(record := self.file.read(16)) == 16:
            nonce, count = struct.unpack("<QQ", record)
            if nonce == self.nonce and count <= self.last and not self.wrong:
                self.wrong = f"it was at {self.last}, and then at {count}"
            if nonce == self.nonce:
                self.last, heard = max(count, self.last), heard + 1
        if self.wrong:
            raise Problem(f"two copies, or an old one: {self.wrong}")
        return heard


class FaultBed(Bed):
    userns = "host"                 # of the container that moves

    def __init__(self, number=0, small_disks=False):
        super().__init__(f"faults{number}", 3)
        self.agents, self.daemons, self.client, self.answers = {}, {}, None, None
        self.baseline, self.nonce, self.count, self.log = {}, None, 0, None
        self.where = NODES[0]       # who has the container
        self.small_disks = small_disks

    def __enter__(self):
        super().__enter__()
        try:
            self.set_up()
        except BaseException:
            self.close()
            raise
        return self

    def set_up(self):
        (self.folder / "faults").mkdir()
        rootfs = self.folder / "rootfs"
        call(ROOTFS, "make", "base", rootfs)
        shutil.copy(BUILD / "tests/workloads/beacon", rootfs / "bin/beacon")
        for node in NODES:
            self.set_faults(node)
            if self.small_disks:
                self.run(node, "mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", "/var/lib/godwit")
                shutil.copy(self.folder / node / "node.json", self.state(node))
                shutil.copytree(self.folder / node / "tls", self.state(node) / "tls")
            self.start_node(node)
            self.do(node, GODWIT, "image", "import", "work", rootfs)
            self.warm_up(node)
        (self.folder / "shared").mkdir()
        (self.folder / "shared/log").touch()
        self.log = Log(self.folder / "shared/log")
        self.make_baseline()

    # --- nodes ---

    def start_node(self, node):
        for folder in TMP:
            self.run(node, "mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", folder)
        self.agents[node] = self.start(node, "/usr/bin/python3", "-B", AGENT, *TMP, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, env=self.environment(node))
        if not self.serve(node):
            raise Problem(f"godwit serve does not start on {node}")

    def stop_agent(self, node):
        agent = self.agents.pop(node)
        agent.kill()
        agent.communicate()

    def agent(self, node, question):
        agent = self.agents[node]
        print(json.dumps(question), file=agent.stdin, flush=True)
        line = agent.stdout.readline()
        if not line:
            raise Failed(f"the agent on {node} has ended")
        return json.loads(line)

    def look(self, node):
        return self.agent(node, None)

    def try_to(self, node, *words):
        """(exit code, stdout, stderr) of a short program in a node."""
        return self.agent(node, [str(word) for word in words])

    def do(self, node, *words):
        code, out, err = self.try_to(node, *words)
        if code:
            raise Problem(f"{node}: {' '.join(map(str, words[1:]))}: exit {code}: {err.strip()}")
        return out

    def link(self, node, how):
        call(TESTBED, "--name", self.name, "link", node, how)

    def crash(self, node):
        call(TESTBED, "--name", self.name, "crash", node)
        self.stop_agent(node)
        self.daemons.pop(node).communicate()

    def boot(self, node):
        call(TESTBED, "--name", self.name, "boot", node)
        self.start_node(node)
        self.warm_up(node)

    def warm_up(self, node):
        """The first container makes cgroups that stay for the next ones."""
        self.do(node, GODWIT, "run", "--rm", "--ip", f"10.88.{node[-1]}.200", "work", "/bin/true")

    # --- faults ---

    def path(self, name):
        return self.folder / "faults" / name

    def environment(self, node):
        return {**os.environ, "GODWIT_FAULT": f"@{self.path(node)}"}

    def set_faults(self, node, *faults):
        """From now on, in all of the node's processes, also those that are there already."""
        new = self.path(f".{node}")
        new.write_text("\n".join((*VALUES, *faults)) + "\n", encoding="ascii")
        new.rename(self.path(node))

    def clear_faults(self):
        for node in NODES:
            self.set_faults(node)
        for marker in self.folder.glob("faults/marker*"):
            marker.unlink()

    # --- daemons ---

    def serve(self, node, step=lambda: None):
        """Starts it; false when it ends at once."""
        with open(self.path(f"{node}.log"), "a", encoding="utf-8") as log:
            daemon = self.start(node, GODWIT, "serve", stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=log, env=self.environment(node))
        self.daemons[node] = daemon
        while not select.select([daemon.stdout], [], [], 0.005)[0]:
            step()
            if self.daemons.get(node) is not daemon:
                return True         # its power was cut meanwhile
        return "listens on" in daemon.stdout.readline()

    def revive(self, step=lambda: None):
        """As an init system would: daemons that have ended are started again. step is called
        while one cleans up."""
        for _ in range(3):
            dead = [node for node, daemon in self.daemons.items() if daemon.poll() is not None]
            if all([self.serve(node, step) for node in dead]):      # each of them is started
                return
            time.sleep(0.1)
        raise Problem("godwit serve does not start")

    # --- the container ---

    def make_socket(self):
        """A socket in the third node."""
        made = []

        def make():
            pid = pathlib.Path("/run/godwit-testbed", self.name, "node3").read_text(encoding="ascii").split()[0]
            with open(f"/proc/{pid}/ns/net", "rb") as namespace:
                if LIBC.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def start_box(self, node):
        volume = f"{self.folder}/shared:/shared" + ("" if self.userns == "host" else ":idmap")
        self.do(node, GODWIT, "run", "-d", "--name", BOX, "--userns", self.userns, "-v", volume,
                "work", "/bin/beacon", "/shared/log", MEGABYTES)
        found = json.loads(self.do(node, GODWIT, "inspect", BOX))[0]
        address = (found["network"]["address"].split("/")[0], BOX_PORT)

        def connect():
            self.client = self.make_socket()
            self.client.settimeout(5)
            with contextlib.suppress(OSError):
                self.client.connect(address)
                return True
            self.client.close()
            return False
        until(connect, 5, "the container does not answer")
        self.answers, self.nonce, self.count = self.client.makefile(), None, 0
        self.ask()
        self.log.follow(self.nonce)

    def ask(self):
        """Over the connection that was made in the beginning: it is the same, further on, and well."""
        try:
            self.client.sendall(b"?\n")
            nonce, count, verdict = self.answers.readline().rstrip("\n").split(" ", 2)
        except (OSError, ValueError) as error:
            raise Problem(f"its client hears nothing any more: {error}") from error
        if verdict != "ok":
            raise Problem(f"the container has taken damage: {verdict}")
        nonce, count = int(nonce, 16), int(count)
        if self.nonce not in (None, nonce):
            raise Problem("another container answers")
        if count <= self.count:
            raise Problem(f"it has gone back from {self.count} to {count}")
        self.nonce, self.count = nonce, count

    def remove_box(self):
        if self.client:
            self.client.close()
        for node in NODES:
            said = []

            def gone(at=node, said=said):
                said[:] = self.try_to(at, GODWIT, "rm", "-f", BOX)
                return said[0] == 0 or not (self.state(at) / "containers" / BOX).exists()
            # serve may look at it just now
            until(gone, 3, lambda at=node, said=said: f"{at}: it can't be removed: {said[2].strip()}")

    def renew(self):
        """Another container, after it was seen that of the old one nothing stays."""
        self.remove_box()
        self.compare(None)
        self.start_box(NODES[0])
        self.where = NODES[0]

    def state(self, node):
        """The node's state directory, as seen from here."""
        pid = pathlib.Path("/run/godwit-testbed", self.name, node).read_text(encoding="ascii").split()[0]
        return pathlib.Path(f"/proc/{pid}/root/var/lib/godwit")

    def has_decision(self, node):
        return (self.state(node) / "containers" / BOX / "handover.json").exists()

    def remove_decisions(self):
        for node in NODES:
            with contextlib.suppress(OSError):
                (self.state(node) / "containers" / BOX / "handover.json").unlink()

    def monitor_lives(self, node):
        record = self.record(node)
        return record.get("monitor_pid") in self.named(node, "godwit-monitor")

    def statuses(self):
        """{node: status} of the nodes that have it."""
        found = {}
        for node in NODES:
            for box in json.loads(self.do(node, GODWIT, "ps", "-a", "--json")):
                found[node] = box["status"]
        return found

    def record(self, node):
        """What its state.json says, {} when there is none."""
        path = self.state(node) / "containers" / BOX / "state.json"
        with contextlib.suppress(OSError, ValueError):
            return json.loads(path.read_text(encoding="utf-8"))
        return {}

    def move(self, source, *options):
        """Starts a migration to the other node."""
        return self.start(source, GODWIT, "migrate", "-q", "--settle", "1s", "--retry-for", "1s", *options,
                          BOX, other(source), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=self.environment(source))

    # --- processes ---

    def processes(self, node=None):
        """{pid: (name, command)} of the nodes' processes."""
        mark = f"GODWIT_TESTBED_NODE={self.name}/{node or ''}".encode()
        inside = f"/godwit-testbed/{self.name}/{node or ''}"
        found = {}
        for proc in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (any(word.startswith(mark) for word in (proc / "environ").read_bytes().split(b"\0"))
                        or inside in (proc / "cgroup").read_text()):
                    command = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(proc.name)] = ((proc / "comm").read_text().strip(), command.strip())
        return found

    def workers(self, node):
        """The daemon's children that serve a connection."""
        daemon = self.daemons[node].pid
        with contextlib.suppress(OSError):
            children = pathlib.Path(f"/proc/{daemon}/task/{daemon}/children").read_text(encoding="ascii")
            return [int(pid) for pid in children.split()
                    if pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == "godwit\n"]
        return []

    def named(self, node, name):
        return [pid for pid, (comm, _) in self.processes(node).items() if comm == name]

    # --- what there is ---

    def own_processes(self):
        mine = {f"godwit-testbed {self.name} {node}" for node in ("node1", "node2", "node3", "switch")}
        return sorted(name if name == "godwit-monitor" else f"{name} {command}"
                      for name, command in self.processes().values()
                      if command not in mine and AGENT not in command)

    def cgroups(self):
        found = []
        for line in pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
            _, point, kind = line.split()[:3]
            if kind.startswith("cgroup"):
                top = f"{point}/godwit-testbed/{self.name}"
                found += [folder[len(top):] for folder, _, _ in os.walk(top)]
        return sorted(found)

    def all_there_is(self):
        """All that the bed has. Records of migrations are kept until both sides know that both have
        them (serve's business), but not their temporary files."""
        there = {"processes": self.own_processes(), "cgroups": self.cgroups()}
        for node in NODES:
            for what, found in self.look(node).items():
                if what == "files":
                    found = [path for path in found if not RECORD.fullmatch(path)]
                there[f"{what} of {node}"] = found
        return there

    def make_baseline(self):
        """What there is without a container, and with one on each node after a move."""
        self.baseline[None] = self.all_there_is()
        self.start_box("node1")
        for node in ("node1", "node2"):
            process = self.move(node, "--forward", "0s")
            _, said = process.communicate(timeout=60)
            if process.returncode:
                raise Failed(f"it does not even move when all is well: {said}")
            self.ask()
            until(lambda at=other(node): set(self.statuses()) == {at}, 5, "two containers")
            time.sleep(0.3)
            self.baseline[other(node)] = self.all_there_is()

    def compare(self, where, seconds=3):
        """Raises unless there is what the baseline has; what just ends gets a moment."""
        end = time.monotonic() + seconds
        while (now := self.all_there_is()) != self.baseline[where]:
            if where and any(".tmp" in path for path in now[f"files of {where}"]):
                # what somebody who was killed was writing goes with the next operation
                self.try_to(where, GODWIT, "unpause", BOX)
            if time.monotonic() > end:
                raise Problem("left behind: " + "; ".join(differences(self.baseline[where], now)))
            time.sleep(0.05)

    def remove_links(self, node):
        """Those that a monitor leaves that is killed while it removes the last of its container: the
        kernel keeps the namespace while the container's connections end. Their gates must be closed."""
        links = set(self.look(node)["links"]) - set(self.baseline[None][f"links of {node}"])
        for link in links:
            if not self.try_to(node, "tc", "filter", "show", "dev", link, "ingress")[1].strip():
                raise Problem(f"the interface {link} stays on {node}, and is open")
            self.do(node, "ip", "link", "del", link)
        return bool(links)


def differences(before, now):
    for what, then in before.items():
        if isinstance(then, int):
            if then != now[what]:
                yield f"{now[what]} {what} instead of {then}"
            continue
        rest = list(then)
        more = [x for x in now[what] if x not in rest or rest.remove(x)]
        less = list(rest)
        if more or less:
            yield f"{what}: more {more[:6]}, less {less[:6]}"


def kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
