"""Whether a container could move: every reason why not, at once, and before anything is begun."""
import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading

import pytest

from conftest import GODWIT
from disks import disk_of
from moving import has_nothing, inspect, left_as_found, migrate, moving_bed, run, status, until
from terminal import Terminal

libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17


@pytest.fixture
def one(bed):
    """node1; afterwards both nodes are as before."""
    with left_as_found(bed):
        yield bed["node1"]


def check(node, *args):
    """(exit code, reasons) of a check."""
    verb = ("migrate", "--check") if len(args) > 1 else ("check",)
    done = node.godwit(*verb, "--json", *args, check=False)
    told = json.loads(done.stdout)
    assert told["ok"] == (done.returncode == 0) and told["ok"] == (not told["reasons"] and "error" not in told)
    for reason in told["reasons"]:
        assert all(reason[key] for key in ("code", "message", "remedy")), reason
    return done.returncode, told["reasons"]


def codes(reasons, found=None):
    return {r["code"] for r in reasons if found in (None, r["found"])}


# --- what is found where it is -----------------------------------------------------

def test_nothing_stands_in_the_way(one, bed):
    run(one, "box", "/workloads/count")
    assert check(one, "box") == (0, [])
    assert check(one, "box", "node2") == (0, [])
    assert one.godwit("check", "box").stdout == "container 'box' can move\n"
    assert one.godwit("migrate", "--check", "box", "node2").stdout == "container 'box' can move to node2\n"
    has_nothing(bed["node2"])
    one.godwit("pause", "box")
    assert check(one, "box", "node2") == (0, [])


UNSUPPORTED = {
    "vsock": "address family 40 (vsock)", "mptcp": "protocol 262 (MPTCP)", "hugetlb": "huge pages",
    "mqueue": "a POSIX message queue", "watch-proc": "a watch (inotify) on a file of proc",
    "landlock": "landlock-ruleset",
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_what_criu_has_no_word_for(one, bed, what):
    run(one, "odd", "/workloads/odd", what)
    until(lambda: one.godwit("logs", "odd").stdout == "ready\n")
    code, reasons = check(one, "odd", "node2")
    assert code == 1 and [r["code"] for r in reasons] == ["object-unsupported"], reasons
    assert UNSUPPORTED[what] in reasons[0]["message"] and "odd, descriptor" in reasons[0]["message"]
    done = one.godwit("migrate", "-q", "odd", "node2", check=False)
    assert done.returncode == 1 and "negotiate: " in done.stderr and "object-unsupported: " in done.stderr
    assert "object-unsupported" in one.godwit("checkpoint", "odd", "/tmp/none", check=False).stderr
    has_nothing(bed["node2"])


@contextlib.contextmanager
def outside(folder, descriptor):
    """Somebody on the host who gives what connects a descriptor, and keeps the connection."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "sock"))
    server.listen()
    connections = []

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            connections.append(connection)
            if descriptor is not None:
                socket.send_fds(connection, [b"x"], [descriptor])
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(5)
        for it in (server, *connections):
            it.close()
        (folder / "sock").unlink()
        if descriptor is not None:
            os.close(descriptor)


def a_perf_event():
    attributes = (ctypes.c_uint64 * 14)(1 | 112 << 32)
    return libc.syscall(298, attributes, 0, -1, -1, 0)


OUTSIDE = {
    "a file": (lambda: os.open("/etc/passwd", os.O_RDONLY), "object-outside", "/etc/passwd"),
    "a pipe": (lambda: os.dup(pipes()[0]), "object-outside", "a pipe whose other end is outside"),
    "a socket": (lambda: socket.socket().detach(), "object-outside", "a socket from outside"),
    "a process": (lambda: os.pidfd_open(os.getpid()), "object-outside", "a process outside"),
    "a namespace": (lambda: os.open("/proc/self/ns/net", os.O_RDONLY), "object-outside", "a namespace"),
    "a terminal": (lambda: os.openpty()[1], "object-outside", "/dev/pts/"),
    "a device": (lambda: os.open("/dev/fuse", os.O_RDWR), "object-unsupported", "the device 10:229"),
    "a perf event": (a_perf_event, "object-unsupported", "perf_event"),
    "a connection": (lambda: None, "object-outside", "a local socket that is connected to one outside"),
}


def pipes(kept=[]):
    """A pipe whose ends stay open here."""
    kept[:] = os.pipe()
    return kept


@pytest.mark.parametrize("what", OUTSIDE)
def test_what_belongs_to_the_host(one, bed, tmp_path, what):
    make, code, words = OUTSIDE[what]
    descriptor = make()
    with outside(tmp_path, descriptor):
        run(one, "odd", "/workloads/odd", "connected-out" if descriptor is None else "received",
            options=("-v", f"{tmp_path}:/srv"))
        until(lambda: one.godwit("logs", "odd").stdout == "ready\n")
        result, reasons = check(one, "odd")
        assert result == 1 and [r["code"] for r in reasons] == [code], reasons
        assert words in reasons[0]["message"]


def test_all_that_stands_in_the_way_at_once(one, bed):
    """A debugger, a session of exec, a namespace, and over there the name is taken."""
    two = bed["node2"]
    run(one, "odd", "/workloads/odd", "user-namespace")
    two.godwit("run", "-d", "--name", "odd", "work", "sleep", "1000")
    pid = inspect(one, "odd")["state"]["pid"]
    assert libc.ptrace(PTRACE_SEIZE, pid, 0, 0) == 0
    session = one.popen(GODWIT, "exec", "odd", "sleep", "1000", stdin=subprocess.DEVNULL)
    try:
        until(lambda: "exec-session" in codes(check(one, "odd")[1]))
        code, reasons = check(one, "odd", "node2")
        assert code == 1
        assert codes(reasons, "source") == {"traced", "exec-session", "namespace-nested"}
        assert codes(reasons, "target") == {"name-taken"}
        said = one.godwit("migrate", "-q", "odd", "node2", check=False).stderr.splitlines()
        assert len(said) == 2 + len(reasons) and said[-1] == "container 'odd' goes on here as before"
    finally:
        os.kill(pid, signal.SIGSTOP)  # a detach wants it to stand still
        os.waitpid(pid, 0x40000000)
        assert libc.ptrace(PTRACE_DETACH, pid, 0, 0) == 0
        os.kill(pid, signal.SIGCONT)
        session.kill()
        session.wait()


def test_a_program_before_a_shell_on_its_terminal(one):
    """CRIU can't give /dev/tty back to a shell that is not in the foreground."""
    one.godwit("run", "-dit", "--name", "tty", "work", "/bin/sh")
    terminal = Terminal(one, GODWIT, "attach", "tty")
    terminal.type("cat\n")
    terminal.expect("cat\r\n")
    until(lambda: codes(check(one, "tty")[1]) == {"terminal-busy"})
    terminal.type("\x1a")  # Ctrl-Z
    until(lambda: check(one, "tty") == (0, []))
    terminal.type("\x10\x11")
    terminal.close()


def test_what_does_not_run_and_what_is_not_there(one):
    one.godwit("run", "--name", "ended", "work", "/bin/true")
    assert codes(check(one, "ended")[1]) == {"not-running"}
    assert codes(check(one, "ended", "node2")[1]) == {"not-running"}
    done = one.godwit("check", "nobody", check=False)
    assert done.returncode == 1 and "no container 'nobody'" in done.stderr


def test_a_node_that_does_not_answer(one):
    run(one, "odd", "/workloads/odd", "vsock")
    done = one.godwit("migrate", "--check", "--json", "odd", "node3", check=False)
    told = json.loads(done.stdout)
    assert done.returncode == 1 and "Connection refused" in told["error"] and "Connection refused" in done.stderr
    assert codes(told["reasons"]) == {"object-unsupported"}


# --- what is found where it is to go ---------------------------------------------------

POOR = """
umount /sys/fs/cgroup/pids
mount --bind {folder}/meminfo /proc/meminfo
mount --bind {folder}/cpuinfo /proc/cpuinfo
mount --bind {folder}/pid_max /proc/sys/kernel/pid_max
export GODWIT_CRIU=/no/such/criu
exec setpriv --bounding-set=-sys_resource prlimit --nofile=500:500 {godwit} serve --listen :4970
"""


def test_a_node_that_lacks_everything(one, bed, tmp_path):
    """Of what can be counted a node has files; here it gets others."""
    two = bed["node2"]
    volume, disk = tmp_path / "volume", tmp_path / "disk"
    volume.mkdir()
    limited = disk_of(one.state) and pathlib.Path("/sys/fs/cgroup/blkio").exists()
    if limited:
        disk.symlink_to(disk_of(one.state))
    run(one, "box", "/workloads/count", options=("-v", f"{volume}:/srv", "--pids-limit", "50",
                                                 *(("--device-read-bps", f"{disk}:9m") if limited else ())))
    volume.rmdir()
    disk.unlink(missing_ok=True)
    text = pathlib.Path("/proc/meminfo").read_text().splitlines()
    (tmp_path / "meminfo").write_text("\n".join("MemAvailable: 50000 kB" if line.startswith("MemAvailable") else line
                                                for line in text) + "\n")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu\n")
    (tmp_path / "pid_max").write_text("30\n")
    script = POOR.format(folder=tmp_path, godwit=GODWIT)
    poor = two.popen("unshare", "--mount", "sh", "-e", "-c", script, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        assert "listens on" in poor.stdout.readline()
        code, reasons = check(one, "box", "node2:4970")
    finally:
        poor.terminate()
        poor.wait()
        poor.stdout.close()
    told = {r["code"]: r["message"] for r in reasons}
    wanted = {"criu-missing", "volume-missing", "memory-short", "cpu-features", "tasks-short", "rlimit-short"}
    wanted |= {"device-missing"} if limited else set()
    if pathlib.Path("/sys/fs/cgroup/pids").exists():
        wanted.add("limit-unavailable")
    assert code == 1 and set(told) == wanted and codes(reasons, "source") == set()
    assert "lacks: vme de " in told["cpu-features"] and " more" in told["cpu-features"]
    assert not limited or str(disk) in told["device-missing"]
    assert str(volume) in told["volume-missing"] and "nofile=" in told["rlimit-short"]
    has_nothing(two)
    migrate(one, "box", two, check=False)
    assert status(one, "box") == "running"
