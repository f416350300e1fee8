"""Containers that take what they can get: their limits hold, and another container goes on.

GODWIT_HOG_SECONDS=10 makes the measured part longer, for figures that mean something; -s prints them."""
import json
import os
import statistics
import time

import pytest

from moving import inspect, until
from test_engine import has_controllers

SECONDS = float(os.environ.get("GODWIT_HOG_SECONDS", "0.3"))
HOGS = {
    "forks": "trap 'exec sleep 1000' EXIT; b() { while :; do sh -c 'while :; do sleep 1000 & done' & done; }; b",
    "memory": "while :; do sh -c 'x=aaaaaaaa; while :; do x=$x$x; done'; done",
    "cpu": "for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done; wait",
    "disk": "while :; do dd if=/dev/zero of=/big bs=64k count=2048 2>/dev/null; done",
    "descriptors": "exec 2>/dev/null; "
                   "while :; do i=3; while eval \"command exec $i</dev/null\"; do i=$((i + 1)); done; done",
}
LIMITS = ("-m", "64m", "--cpus", "0.5", "--pids-limit", "64")
# Each line: the machine's clock before and after 20000 turns of a loop and a write to a file.
WORK = ("while :; do read a rest </proc/uptime; i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done; "
        "echo x >/file; read b rest </proc/uptime; echo $a $b; done")


def pace(node, name, seconds):
    """The median time, in seconds, of what the other container does again and again."""
    before = len(node.godwit("logs", name).stdout.splitlines())
    time.sleep(seconds)
    until(lambda: len(node.godwit("logs", name).stdout.splitlines()) > before + 5, seconds=60)
    pairs = [line.split() for line in node.godwit("logs", name).stdout.splitlines()[before:]]
    return statistics.median(float(b) - float(a) for a, b in pairs)


def is_at_it(hog, usage):
    return usage["pids"] >= 60 if hog == "forks" else usage["cpu_us"] > 50000


def used(node, name):
    [now] = json.loads(node.godwit("stats", "--no-stream", "--json", "-i", f"{SECONDS}s", name).stdout)
    return now


@pytest.mark.parametrize("hog", HOGS)
def test_a_hog_stays_within_its_limits_and_others_go_on(node, box, hog):
    if not has_controllers(node):
        return
    other = box("sh", "-c", WORK)
    until(lambda: len(node.godwit("logs", other).stdout.splitlines()) > 2)
    alone = pace(node, other, SECONDS)
    name = box("sh", "-c", HOGS[hog], options=LIMITS)
    until(lambda: is_at_it(hog, inspect(node, name)["cgroup"]["usage"]), seconds=30)
    now, beside = used(node, name), pace(node, other, SECONDS)
    print(f"\n{hog}: other container {alone * 1000:.0f} ms a turn alone, {beside * 1000:.0f} ms beside; hog "
          f"{now['cpu_pct']:.0f}% cpu, {now['memory_peak_bytes'] >> 20} MB peak, {now['pids']} processes, "
          f"{now['oom_kills']} killed for memory, {now['written_bytes'] >> 20} MB written")
    assert now["pids"] <= 64 and now["memory_peak_bytes"] <= 64 << 20
    if hog == "memory":
        until(lambda: inspect(node, name)["cgroup"]["usage"]["oom_kills"] > 0, seconds=30)
    if hog == "cpu":
        until(lambda: used(node, name)["cpu_throttled_us"] > 0, seconds=60)
    # The other one has not been killed or stopped, and a third can be started.
    assert inspect(node, other)["state"]["oom_kills"] == inspect(node, other)["cgroup"]["usage"]["oom_kills"] == 0
    assert node.godwit("run", "--rm", "base", "echo", "third").stdout == "third\n"
    assert node.godwit("exec", other, "echo", "fourth").stdout == "fourth\n"


def test_the_processor_limit_holds_over_a_while(node, box):
    """Measured from another side: what the kernel has given, against the clock."""
    if not has_controllers(node):
        return
    name = box("sh", "-c", HOGS["cpu"], options=["--cpus", "0.2"])
    start, before = time.monotonic(), inspect(node, name)["cgroup"]["usage"]["cpu_us"]
    until(lambda: time.monotonic() > start + SECONDS)
    after, seconds = inspect(node, name)["cgroup"]["usage"]["cpu_us"], time.monotonic() - start
    # One period's share, 20 ms, more at either end.
    assert (after - before) / 1e6 <= 0.2 * seconds + 0.1
