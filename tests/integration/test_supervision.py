"""Limits, figures, restart policies and health checks: what an operator relies on when nobody looks."""
import json
import os
import signal

import pytest

from conftest import GODWIT
from moving import inspect, until
from test_engine import has_controllers

POLICIES = ("always", "unless-stopped", "on-failure")


def entry(node, name):
    return {c["name"]: c for c in json.loads(node.godwit("ps", "-a", "--json").stdout)}[name]


def status(node, name):
    return entry(node, name)["status"]


def kill_init(node, name):
    """Ends it as a fault would: not by a command of godwit's."""
    os.kill(entry(node, name)["pid"], signal.SIGKILL)


# --- figures ------------------------------------------------------------------

def test_stats_tell_what_is_used(node, box):
    name = box("sh", "-c", "dd if=/dev/zero of=/f bs=64k count=16 conv=fsync 2>/dev/null; while :; do :; done")
    until(lambda: inspect(node, name)["cgroup"]["usage"]["cpu_us"] > 200000)
    [now] = json.loads(node.godwit("stats", "--no-stream", "--json", "-i", "300ms", name).stdout)
    assert now["name"] == name and now["cpu_pct"] > 5 and now["cpu_us"] > 200000
    assert now["oom_kills"] == 0 and now["cpu_limit_millis"] == 0
    if has_controllers(node):
        assert now["memory_working_bytes"] <= now["memory_bytes"] <= now["memory_peak_bytes"]
        assert now["memory_bytes"] > 4096 and now["pids"] == 1 and now["pids_limit"] == 2048
    table = node.godwit("stats", "--no-stream", "-i", "10ms").stdout.splitlines()
    assert table[0].split()[:2] == ["NAME", "CPU%"] and [line.split()[0] for line in table[1:]] == [name]
    assert "no container 'nobody'" in node.godwit("stats", "--no-stream", "nobody", check=False).stderr


def test_stats_go_on_until_they_are_stopped(node, box):
    name = box("sleep", "1000")
    live = node.popen(GODWIT, "stats", "--json", "-i", "20ms", stdout=-1)
    try:
        looks = [json.loads(live.stdout.readline()) for _ in range(3)]
        assert [look[0]["name"] for look in looks] == [name] * 3
    finally:
        live.send_signal(signal.SIGTERM)
        live.communicate(timeout=30)


def test_top_lists_processes_with_both_numbers(node, box):
    name = box("sh", "-c", "sleep 1234 & wait")
    tasks = until(lambda: [t for t in json.loads(node.godwit("top", "--json", name).stdout)
                           if t["command"] == "sleep 1234"])
    assert tasks[0]["inside"] == 2 and tasks[0]["parent"] == entry(node, name)["pid"]
    assert os.readlink(f"/proc/{tasks[0]['pid']}/ns/pid") == os.readlink(f"/proc/{entry(node, name)['pid']}/ns/pid")
    assert "sleep 1234" in node.godwit("top", name).stdout


# --- limits -------------------------------------------------------------------

def test_out_of_memory_is_told(node, box):
    if not has_controllers(node):
        return
    hog = ("sh", "-c", "x=a; while :; do x=$x$x; done")
    done = node.godwit("run", "--rm", "-m", "16m", "base", *hog, check=False)
    assert done.returncode == 137 and "out of memory" in done.stderr
    done = node.godwit("run", "--rm", "-m", "64k", "base", "true", check=False)
    assert done.returncode == 125 and "memory limit is too small" in done.stderr
    name = box(*hog, options=["-m", "16m"])
    until(lambda: status(node, name) == "exited")
    state = inspect(node, name)["state"]
    assert state["exit_code"] == 137 and state["oom_kills"] == 1 and "out of memory" in state["reason"]
    assert "exited (137, out of memory)" in node.godwit("ps", "-a").stdout
    name = box("sh", "-c", "sh -c 'x=a; while :; do x=$x$x; done'; sleep 1000", options=["-m", "16m"])
    until(lambda: inspect(node, name)["cgroup"]["usage"]["oom_kills"] == 1)
    assert status(node, name) == "running"


def test_update_changes_limits_now_and_for_the_next_start(node, box):
    name = box("sleep", "1000")
    if not has_controllers(node):
        assert "no memory controller" in node.godwit("update", "-m", "64m", name, check=False).stderr
        assert "memory" not in inspect(node, name)["spec"]["linux"]["resources"]
        return
    node.godwit("update", "-m", "64m", "--cpus", "0.5", "--pids-limit", "7", name)
    limits = {"memory_bytes": 64 << 20, "cpu_millis": 500, "pids": 7}
    assert inspect(node, name)["cgroup"]["limits"] == limits
    assert "more than" in node.godwit("update", "-m", "4k", name, check=False).stderr
    node.godwit("update", "--pids-limit", "0", name)
    assert inspect(node, name)["cgroup"]["limits"] == {**limits, "pids": 0}
    node.godwit("stop", "-t", "0", name)
    node.godwit("update", "--cpus", "0.25", name)
    node.godwit("start", name)
    assert inspect(node, name)["cgroup"]["limits"] == {**limits, "pids": 0, "cpu_millis": 250}


# --- restart policies ---------------------------------------------------------

@pytest.mark.parametrize("policy", POLICIES)
def test_a_killed_container_is_started_again(node, box, policy):
    name = box("sh", "-c", "echo life; sleep 1000", options=["--restart", policy])
    kill_init(node, name)
    until(lambda: entry(node, name)["restarts"] == 1 and status(node, name) == "running")
    until(lambda: node.godwit("logs", name).stdout == "life\nlife\n")
    node.godwit("stop", "-t", "0", name)
    assert status(node, name) == "exited" and inspect(node, name)["state"]["stopped"]
    node.godwit("start", name)
    node.godwit("kill", name)
    until(lambda: status(node, name) == "exited")


@pytest.mark.parametrize("policy", POLICIES)
def test_who_replaces_a_killed_monitor_keeps_the_policy(node, box, policy):
    name = box("sh", "-c", "echo life; sleep 1000", options=["--restart", policy])
    os.kill(inspect(node, name)["state"]["monitor_pid"], signal.SIGKILL)
    until(lambda: status(node, name) == "running" and inspect(node, name)["state"]["monitor_alive"])
    kill_init(node, name)
    until(lambda: entry(node, name)["restarts"] == 1 and status(node, name) == "running")
    node.godwit("stop", "-t", "0", name)
    assert status(node, name) == "exited"


def test_on_failure_counts_and_an_end_without_failure_is_the_end(node, box):
    name = box("sh", "-c", "exit 3", options=["--restart", "on-failure:2"])
    until(lambda: status(node, name) == "exited")
    assert entry(node, name)["restarts"] == 2 and entry(node, name)["exit_code"] == 3
    name = box("true", options=["--restart", "on-failure"])
    until(lambda: status(node, name) == "exited")
    assert entry(node, name)["restarts"] == 0


def test_one_that_waits_to_be_started_again_obeys(node, box):
    name = box("sh", "-c", "exit 1", options=["--restart", "always"])
    until(lambda: entry(node, name)["restarts"] >= 2 and status(node, name) == "restarting")
    assert "restarting" in node.godwit("ps").stdout
    assert "is restarting" in node.godwit("rm", name, check=False).stderr
    node.godwit("stop", name)
    assert status(node, name) == "exited" and entry(node, name)["exit_code"] == 1
    name = box("sh", "-c", "exit 1", options=["--restart", "always"])
    node.godwit("rm", "-f", name)
    assert name not in node.godwit("ps", "-a", "-q").stdout.split()


def test_update_changes_the_policy(node, box):
    name = box("sleep", "1000")
    node.godwit("update", "--restart", "always", name)
    kill_init(node, name)
    until(lambda: entry(node, name)["restarts"] == 1 and status(node, name) == "running")
    node.godwit("update", "--restart", "no", name)
    kill_init(node, name)
    until(lambda: status(node, name) == "exited")
    for policy in ("sometimes", "on-failure:0", "always:3"):
        assert "is no restart policy" in node.godwit("update", "--restart", policy, name, check=False).stderr
    assert node.godwit("run", "--rm", "--restart", "always", "base", "true", check=False).returncode == 2


@pytest.mark.bed(nodes=1)
def test_after_a_boot_policies_say_what_starts(bed, rootfs):
    node = bed["node1"]
    node.godwit("image", "import", "base", rootfs("base"))
    for policy in (*POLICIES, "no"):
        for how in ("runs", "stopped"):
            node.godwit("run", "-d", "--name", f"{policy}-{how}", "--restart", policy, "base", "sleep", "1000")
        node.godwit("stop", "-t", "0", f"{policy}-stopped")
    node.crash()
    node.boot()
    assert node.godwit("ps", "-q").stdout == ""
    node.godwit("start", "--boot")
    assert node.godwit("ps", "-q").stdout.split() == ["always-runs", "always-stopped", "unless-stopped-runs"]
    node.godwit("start", "--boot")
    assert node.godwit("start", "--boot", "always-runs", check=False).returncode == 2


# --- health checks ------------------------------------------------------------

HEALTH = ("--health-cmd", "test -f /tmp/well", "--health-interval", "20ms", "--health-retries", "2")


def health(node, name):
    return inspect(node, name)["state"]["health"]


def test_a_health_check_tells(node, box):
    name = box("sleep", "1000", options=HEALTH)
    until(lambda: health(node, name) == "unhealthy")
    assert "running (unhealthy)" in node.godwit("ps").stdout
    assert inspect(node, name)["state"]["health_failures"] >= 2
    node.godwit("exec", name, "touch", "/tmp/well")
    until(lambda: health(node, name) == "healthy")
    assert "running (healthy)" in node.godwit("ps").stdout and entry(node, name)["health"] == "healthy"
    node.godwit("exec", name, "rm", "/tmp/well")
    until(lambda: health(node, name) == "unhealthy")
    node.godwit("stop", "-t", "0", name)
    node.godwit("start", name)
    assert health(node, name) in ("starting", "unhealthy")


def test_a_check_that_hangs_is_a_failure_and_goes(node, box):
    name = box("sleep", "1000", options=["--health-cmd", "sleep 4321", "--health-timeout", "50ms",
                                         "--health-interval", "20ms", "--health-retries", "1"])
    until(lambda: health(node, name) == "unhealthy")
    node.godwit("pause", name)
    assert health(node, name) == "unhealthy"
    node.godwit("unpause", name)
    node.godwit("stop", "-t", "0", name)
    assert node.run("pgrep", "-f", "^sleep 4321", check=False).stdout == ""


def test_failures_while_it_starts_do_not_count(node, box):
    name = box("sleep", "1000", options=[*HEALTH[:-1], "1", "--health-start-period", "1h"])
    before = inspect(node, name)["cgroup"]["usage"]["cpu_us"]
    until(lambda: inspect(node, name)["cgroup"]["usage"]["cpu_us"] > before + 20000)
    assert health(node, name) == "starting" and inspect(node, name)["state"]["health_failures"] == 0


# --- and all that moves -------------------------------------------------------

@pytest.mark.bed(nodes=2)
def test_policy_health_and_counts_move_along(bed, rootfs, tmp_path):
    one, two = bed["node1"], bed["node2"]
    one.godwit("image", "import", "base", rootfs("base"))
    two.daemon(GODWIT, "serve")
    until(lambda: "4967" in two.run("ss", "-ltn").stdout)
    one.godwit("run", "-d", "--name", "web", "--restart", "always", "--health-cmd", "sleep 0.02; test -f /tmp/well",
               "--health-interval", "5ms", "--health-retries", "1", "base", "sleep", "1000")
    kill_init(one, "web")
    until(lambda: entry(one, "web")["restarts"] == 1 and status(one, "web") == "running")
    one.godwit("exec", "web", "touch", "/tmp/well")
    until(lambda: health(one, "web") == "healthy")
    one.godwit("migrate", "web", "node2")
    assert one.godwit("ps", "-a", "-q").stdout == ""
    there = entry(two, "web")
    assert (there["status"], there["restarts"], there["health"]) == ("running", 1, "healthy")
    kill_init(two, "web")
    until(lambda: entry(two, "web")["restarts"] == 2 and status(two, "web") == "running")
    until(lambda: health(two, "web") == "healthy")
    two.godwit("checkpoint", "web", tmp_path / "saved")
    assert status(two, "web") == "exited"
    two.godwit("rm", "web")
    two.godwit("restore", tmp_path / "saved")
    assert entry(two, "web")["restarts"] == 2
    kill_init(two, "web")
    until(lambda: entry(two, "web")["restarts"] == 3 and status(two, "web") == "running")
    assert one.godwit("ps", "-a", "-q").stdout == ""


@pytest.mark.bed(nodes=2)
def test_nobody_starts_it_again_while_it_is_being_moved(bed, rootfs):
    """Killed at the freeze: the migration fails, and only then the policy has its turn."""
    one, two = bed["node1"], bed["node2"]
    one.godwit("image", "import", "base", rootfs("base"))
    two.daemon(GODWIT, "serve")
    until(lambda: "4967" in two.run("ss", "-ltn").stdout)
    one.godwit("run", "-d", "--name", "web", "--restart", "always", "base", "sleep", "1000")
    mover = one.popen("env", "GODWIT_FAULT=sent-FROZEN@command:hang", GODWIT, "migrate", "web", "node2")
    until(lambda: status(one, "web") == "migrating")
    kill_init(one, "web")
    lives = entry(one, "web")["restarts"]
    assert lives == 0
    mover.kill()
    mover.wait()
    until(lambda: entry(one, "web")["restarts"] == 1 and status(one, "web") == "running")
    assert two.godwit("ps", "-q").stdout == ""
