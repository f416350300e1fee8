"""What a move that loses a write would do, done from outside to a paused container.

    before = pages_of(node, name)       # all that its programs could write
    ...                                 # they go on
    put_back(node, name, before)        # one page is what it was then
"""
import contextlib
import os
import pathlib
import random
import re
import time

from moving import inspect

PAGE = 4096
DEAD_BELOW, IN_USE_ABOVE = 256 * 1024, 64 * 1024
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ (\S+) \S+ *(.*)")
LARGEST = 64 << 20


def tasks(node, name):
    """The host's pids of its processes."""
    space = os.readlink(f"/proc/{inspect(node, name)['state']['pid']}/ns/pid")
    found = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(proc / "ns/pid") == space:
                found.append(int(proc.name))
    return sorted(found)


def stacks(pid):
    """What is around the stack pointers: what lies below one is nobody's."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError, IndexError, ValueError):
            pointer = int((task / "syscall").read_text().split()[-2], 16)
            yield pointer - DEAD_BELOW, pointer + IN_USE_ABOVE


def mappings(pid):
    """(start, end) of what is writable and holds data of the program."""
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        start, end, access, _, what = MAPPING.match(line).groups()
        first, last = int(start, 16), int(end, 16)
        if access.startswith("rw") and what not in ("[stack]", "[heap]") and last - first <= LARGEST:
            yield first, last


@contextlib.contextmanager
def paused(node, name):
    node.godwit("pause", name)
    try:
        yield
    finally:
        node.godwit("unpause", name)


def read_pages(pid):
    found, avoid = {}, list(stacks(pid))
    # A process that has ended and was not waited for yet has no memory.
    with contextlib.suppress(ProcessLookupError), open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for first, last in mappings(pid):
            for at in range(first, last, PAGE):
                if any(low <= at < high for low, high in avoid):
                    continue
                memory.seek(at)
                with contextlib.suppress(OSError):
                    found[at] = memory.read(PAGE)
    return found


def pages_of(node, name):
    """Contents of all pages by process and address."""
    with paused(node, name):
        return {pid: read_pages(pid) for pid in tasks(node, name)}


def differs(old, new):
    """Most of the page was rewritten: not some counter, but data."""
    return old != new and sum(a != b for a, b in zip(old[::8], new[::8])) > PAGE // 8 * 0.9


def put_back(node, name, before):
    """One page is what it was before. Returns which."""
    with paused(node, name):
        changed = [(pid, at) for pid in tasks(node, name) if pid in before
                   for at, page in read_pages(pid).items()
                   if at in before[pid] and differs(before[pid][at], page)]
        assert changed, "nothing has changed"
        pid, at = random.choice(changed)
        with open(f"/proc/{pid}/mem", "r+b", 0) as memory:
            memory.seek(at)
            memory.write(before[pid][at])
    return f"{at:#x} of process {pid}, one of {len(changed)}"


def tracked(node, name, flag):
    """How many mappings have a userfaultfd: "uw" for writes, "um" for missing pages."""
    count = 0
    for pid in tasks(node, name):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
                count += line.startswith("VmFlags:") and flag in line.split()
    return count


def cpu_limits(node, name):
    """The cpu controller's settings of a container, wherever the controller is."""
    pid, found = inspect(node, name)["state"]["pid"], {}
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for mount in ("/sys/fs/cgroup/unified", *(f"/sys/fs/cgroup/{c}" for c in controllers.split(","))):
            for file in ("cpu.cfs_quota_us", "cpu.max"):
                with contextlib.suppress(OSError):
                    found[file] = pathlib.Path(mount + path, file).read_text()
    return found


def interrupt(process, number):
    """Sends a signal to the program that a node's Popen has become."""
    os.kill(process.pid, number)


def wait_changes():
    time.sleep(0.3)
