"""Many containers on one machine: all start, run and stop, and each costs little.

GODWIT_DENSITY=200 makes it many; -s prints the figures."""
import os
import pathlib
import re
import statistics
import time

import pytest

from conftest import GODWIT
from moving import inspect

COUNT = int(os.environ.get("GODWIT_DENSITY", "24"))
PRIVATE_MAX_KB = 1024


def private_kb(pid):
    """What a process has of memory that nobody shares."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_(?:Clean|Dirty): +(\d+)", text, re.M))


def timed(what):
    start = time.monotonic()
    result = what()
    return (time.monotonic() - start) * 1000, result


@pytest.mark.bed(nodes=1)
def test_many_containers_start_run_and_stop(bed, rootfs):
    node = bed["node1"]
    node.godwit("image", "import", "base", rootfs("base"))
    node.godwit("run", "--rm", "base", "true")
    before = bed.snapshot()
    names = [f"c{i}" for i in range(COUNT)]
    script = 'for n in "$@"; do "$G" run -d --name $n base sleep 1000 >/dev/null || exit 1; done'
    started, _ = timed(lambda: node.run("env", f"G={GODWIT}", "sh", "-c", script, "sh", *names,
                                        timeout=600))
    done = node.godwit("ps", "-q")
    assert sorted(done.stdout.split()) == sorted(names)
    looks = [timed(lambda: node.godwit("ps"))[0] for _ in range(5)]
    nothing = [timed(lambda: node.run("true"))[0] for _ in range(5)]
    monitors = [inspect(node, name)["state"]["monitor_pid"] for name in names[::max(1, COUNT // 20)]]
    private = [private_kb(pid) for pid in monitors]
    stopped, _ = timed(lambda: node.godwit("stop", "-t", "0", *names, timeout=600))
    removed, _ = timed(lambda: node.godwit("rm", *names, timeout=600))
    print(f"\n{COUNT} containers: start {started / COUNT:.1f} ms each, stop {stopped / COUNT:.1f}, rm "
          f"{removed / COUNT:.1f}; ps {statistics.median(looks) - statistics.median(nothing):.1f} ms "
          f"(median of 5, less what entering the node takes); monitor's private memory "
          f"{statistics.median(private)} KB (median), {max(private)} KB (most)")
    assert max(private) <= PRIVATE_MAX_KB
    assert bed.snapshot() == before
