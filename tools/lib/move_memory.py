"""How much memory a move takes on either side, beside what moves.

    with PeakMemory({"source": mover.pid, "target": daemon.pid}) as memory:
        ... the move ...
    memory.peak         # {"source": bytes, "target": bytes}

Counted are the processes with these pids and their descendants that are godwit's own
(the container's are not): anonymous memory and mapped files, each shared page divided
by those who share it. The page store is a file in memory, and so is left out. A sample
is taken twenty times a second, and the highest counts; only with processor time that
nobody else wants, for the kernel looks at each page, and what is measured must not wait.
"""
import os
import pathlib
import threading

EVERY = 0.05
OURS = ("godwit", "criu")
COUNTED = ("Pss_Anon:", "Pss_File:")


def children_of(pid):
    found = []
    try:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass        # it has just ended
    return found


def size_of(pid):
    """Bytes of one process; None when it is not godwit's or gone."""
    try:
        if not pathlib.Path(f"/proc/{pid}/comm").read_text().startswith(OURS):
            return None
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(COUNTED))


def size_of_all(pid):
    size = size_of(pid)
    if size is None:
        return 0
    return size + sum(size_of_all(child) for child in children_of(pid))


class PeakMemory:
    def __init__(self, roots):
        self.roots = roots
        self.peak = dict.fromkeys(roots, 0)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))     # this thread
        while not self.ended.wait(EVERY):
            for side, pid in self.roots.items():
                self.peak[side] = max(self.peak[side], size_of_all(pid))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
