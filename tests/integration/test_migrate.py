"""A container with a connected client moves, and is what it was before."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from conftest import GODWIT
from disks import disk_of, rates
from moving import (Client, end_bed, has_nothing, inspect, left_as_found, log_of, make_bed, migrate, run, settled,
                    snapshot, status, until)
from redis_client import Redis, import_redis, redis
from terminal import Terminal

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
STATUS = ("Uid", "Gid", "Groups", "Umask", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
          "Seccomp", "Seccomp_filters", "SigBlk", "SigIgn", "SigCgt", "NSpid", "NSpgid", "NSsid", "Threads")


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    it = make_bed(tmp_path_factory)
    import_redis(it["node1"], tmp_path_factory.mktemp("redis") / "redis")
    yield it
    end_bed(it)


@pytest.fixture
def gone(bed):
    """Whatever a test starts, both nodes are as before after it."""
    with left_as_found(bed):
        yield


# --- what a container is, from outside ---------------------------------------

def tasks_of(node, name):
    """The host's pids of all its processes, by their pids inside."""
    init = inspect(node, name)["state"]["pid"]
    space = os.readlink(f"/proc/{init}/ns/pid")
    found = {}
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(proc / "ns/pid") == space:
                inside = re.search(r"^NSpid:.*\s(\d+)$", (proc / "status").read_text(), re.M)
                found[int(inside.group(1))] = int(proc.name)
        except OSError:
            pass
    return found


def descriptors_of(pid):
    """Where its descriptors lead, with the numbers that the kernel gives out cut off."""
    found = {}
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        flags = re.search(r"^flags:\s*(\d+)", pathlib.Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text(), re.M)
        large = 0o100000  # how it was opened: says nothing
        found[int(fd.name)] = (re.sub(r":\[\d+\]", "", os.readlink(fd)), int(flags.group(1), 8) & ~large)
    return found


def task_is(pid):
    """Everything about one process that a move must not change."""
    proc = pathlib.Path(f"/proc/{pid}")
    lines = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    # the outer numbers differ from node to node
    inner = {key: lines[key].split()[-1] if key.startswith("NS") else lines[key].split()
             for key in STATUS if key in lines}
    if "zombie" in lines["State"]:  # of which nothing is left but the exit code
        return {"NSpid": inner["NSpid"], "exit code": (proc / "stat").read_text().split()[-1]}
    return {
        **inner,
        "limits": (proc / "limits").read_text(),
        "environment": (proc / "environ").read_bytes(),
        "command": (proc / "cmdline").read_bytes(),
        "program": os.readlink(proc / "exe"),
        "folder": os.readlink(proc / "cwd"),
        "root": os.readlink(proc / "root"),
        "oom": (proc / "oom_score_adj").read_text(),
        "descriptors": descriptors_of(pid),
        "cgroup inside": inside_cgroup(pid),
    }


def inside_cgroup(pid):
    """What the process itself reads in /proc/self/cgroup: the root of each hierarchy."""
    return subprocess.run(["nsenter", "--target", str(pid), "--cgroup", "cat", f"/proc/{pid}/cgroup"],
                          stdout=subprocess.PIPE, text=True, check=True).stdout


def mounts_of(pid):
    """Mount points, file systems and options, in order; not ids and devices."""
    found = []
    for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        words, kind = left.split(), right.split()
        options = ",".join(o for o in kind[2].split(",") if not o.startswith(("lowerdir", "upperdir", "workdir", "uuid")))
        found.append((words[4], words[5], " ".join(words[6:]).replace("master:", "shared:"), kind[0], options))
    return sorted(re.sub(r"shared:\d+", "shared", str(m)) for m in found)


def container_is(node, name):
    """Everything about a container that a move must not change."""
    told = inspect(node, name)
    tasks = tasks_of(node, name)
    init = told["state"]["pid"]
    show = node.run("nsenter", "--target", str(init), "--net", "--", "ip", "-o", "addr").stdout
    addresses = sorted(re.sub(r"^\d+: |valid_lft.*|@if\d+", "", line) for line in show.splitlines())
    routes = node.run("nsenter", "--target", str(init), "--net", "--", "ip", "route").stdout
    link = node.run("nsenter", "--target", str(init), "--net", "--", "ip", "-o", "link").stdout
    return {
        "tasks": {inside: task_is(pid) for inside, pid in tasks.items()},
        "mounts": mounts_of(init),
        "limits": told["cgroup"]["limits"],
        "limits in force": limits_in_force(init),
        "spec": told["spec"],
        "started": told["state"].get("started_us"),
        "hostname": node.run("nsenter", "--target", str(init), "--uts", "hostname").stdout,
        "addresses": addresses, "routes": routes, "mac": re.findall(r"link/\S+ (\S+)", link),
    }


def limits_in_force(pid):
    """As the kernel has them, in whatever hierarchy the controllers are."""
    found = {}
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        for mount in ("/sys/fs/cgroup/unified", *(f"/sys/fs/cgroup/{c}" for c in controllers.split(","))):
            for name in ("memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "cpu.max", "pids.max",
                         "memory.memsw.limit_in_bytes", "cpu.shares"):
                file = pathlib.Path(mount + path) / name
                if file.exists():
                    found[name] = file.read_text()
    return found


def private(node, name):
    """Its namespaces are its own: neither the node's, nor this machine's."""
    holder = pathlib.Path("/run/godwit-testbed", node.bed.name, node.name).read_text().split()[0]
    init = inspect(node, name)["state"]["pid"]
    for pid in tasks_of(node, name).values():
        if "(zombie)" in pathlib.Path(f"/proc/{pid}/status").read_text():
            continue
        for kind in KINDS:
            mine = os.readlink(f"/proc/{pid}/ns/{kind}")
            assert mine == os.readlink(f"/proc/{init}/ns/{kind}"), kind
            assert mine not in (os.readlink(f"/proc/{holder}/ns/{kind}"), os.readlink(f"/proc/self/ns/{kind}")), kind


def same(before, after):
    """Compares part by part, so that a failure says what differs."""
    for what, then in before.items():
        if what == "tasks":
            assert then.keys() == after[what].keys(), "processes"
            for pid, task in then.items():
                for key, value in task.items():
                    assert after["tasks"][pid][key] == value, f"{key} of process {pid}"
        else:
            assert after[what] == then, what


# --- redis with a client that writes -----------------------------------------

@pytest.mark.parametrize("user", [None, "redis"])
def test_redis_moves_while_a_client_writes(bed, gone, user):
    one, two = bed["node1"], bed["node2"]
    two.godwit("image", "rm", "redis", check=False)
    address = redis(one, "--hostname", "cache", "--memory", "256m", "--cpus", "0.8", "--pids-limit", "50",
                    "-e", "COLOUR=blue", user=user)
    writer = Redis(bed["node3"], address)
    writer.start()
    until(lambda: writer.acknowledged > 500)
    before, log = container_is(one, "web"), log_of(one, "web")
    report = json.loads(migrate(one, "web", two, "--json").stdout)
    at = writer.acknowledged
    until(lambda: writer.acknowledged > at + 500)
    writer.stop()
    assert writer.lost() == []
    assert writer.longest < 2
    assert status(one, "web") is None and status(two, "web") == "running"
    has_nothing(one)
    same(before, container_is(two, "web"))
    private(two, "web")
    assert inspect(two, "web")["network"]["address"].split("/")[0] == address
    assert log_of(two, "web").startswith(log) and "Ready to accept" in log
    assert report["ok"] and report["downtime_ms"] > 0, report
    told(report)
    # and the log goes on there
    assert writer.command("CONFIG", "SET", "loglevel", "debug") == "OK"
    until(lambda: len(log_of(two, "web")) > len(log))
    writer.client.close()
    two.godwit("rm", "-f", "web")
    two.godwit("image", "rm", "redis")


def told(report):
    """Where each millisecond of the downtime went, on both sides."""
    frozen, restore, resume = (report[key] for key in ("frozen_ms", "frozen_restore_ms", "frozen_resume_ms"))
    assert {"last-pages", "dump", "restore", "resume"} <= set(frozen), report
    assert {"page-store", "filler", "criu-tasks"} <= set(restore) and {"decide", "thaw"} <= set(resume), report
    assert abs(sum(frozen.values()) - report["downtime_ms"]) < 0.1, report
    assert sum(resume.values()) < frozen["decide"] + frozen["resume"], report


def test_the_image_is_sent_when_the_target_lacks_it(bed, gone):
    one, two = bed["node1"], bed["node2"]
    one.godwit("image", "import", "rare", bed.folder)
    try:
        address = run(one, "web", "/workloads/changes", image="rare")
        client = Client(bed["node3"], address)
        client.ask()
        migrate(one, "web", two)
        client.ask()
        client.close()
        digests = {node.godwit("image", "ls").stdout.split("rare")[1].split()[0] for node in (one, two)}
        assert len(digests) == 1
    finally:
        for node in (one, two):
            node.godwit("rm", "-f", "web", check=False)
            node.godwit("image", "rm", "rare", check=False)


def test_users_capabilities_and_namespaces_are_the_same(bed, gone):
    """Processes of several users; every part of each is compared, there and back."""
    one, two = bed["node1"], bed["node2"]
    address = run(one, "mixed", "/workloads/users",
                  options=("--memory", "64m", "--cpus", "0.5", "--pids-limit", "40", "-w", "/var"))
    client = Client(bed["node3"], address)
    client.ask()
    before = container_is(one, "mixed")
    private(one, "mixed")
    assert {t["Uid"][0] for t in before["tasks"].values() if "Uid" in t} == {"0", "101", "1000", "65534"}
    for source, target in ((one, two), (two, one)):
        migrate(source, "mixed", target)
        client.ask()
        same(before, container_is(target, "mixed"))
        private(target, "mixed")
    client.close()


def test_a_program_of_another_user_moves(bed, gone):
    one, two = bed["node1"], bed["node2"]
    address = run(one, "user", "/workloads/mapped", options=("-u", "user", "-w", "/home/user"))
    client = Client(bed["node3"], address)
    client.ask()
    before = container_is(one, "user")
    migrate(one, "user", two)
    client.ask()
    after = container_is(two, "user")
    same(before, after)
    assert after["tasks"][1]["Uid"] == ["1000"] * 4
    client.close()


def test_limits_are_in_force_after_the_move(bed, gone):
    one, two = bed["node1"], bed["node2"]
    disk = disk_of(one.state)
    disks = ("--device-write-bps", f"{disk}:2m") if disk and pathlib.Path("/sys/fs/cgroup/blkio").exists() else ()
    run(one, "tight", "sleep", "1000", options=("--pids-limit", "5", "--memory", "32m", *disks))
    migrate(one, "tight", two)
    assert not disks or rates(two, inspect(two, "tight")) == {"write_bps": 2 << 20}
    # more than its memory: the kernel kills it
    done = two.godwit("exec", "tight", "/workloads/count", "64", check=False, timeout=30)
    assert done.returncode == 137
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done"
    done = two.godwit("exec", "tight", "sh", "-c", script, check=False)
    assert "fork" in done.stderr


def test_a_paused_container_arrives_paused(bed, gone):
    one, two = bed["node1"], bed["node2"]
    address = run(one, "still", "/workloads/count")
    client = Client(bed["node3"], address)
    client.ask()
    one.godwit("pause", "still")
    migrate(one, "still", two)
    assert status(two, "still") == "paused"
    two.godwit("unpause", "still")
    client.ask()
    client.close()


def test_input_output_and_the_log_go_on(bed, gone):
    one, two = bed["node1"], bed["node2"]
    script = "i=0; while :; do i=$((i+1)); echo line $i; echo error $i >&2; sleep 0.01; done"
    run(one, "talk", "sh", "-c", script)
    until(lambda: "line 20" in log_of(one, "talk"))
    for source, target in ((one, two), (two, one)):
        at = log_of(source, "talk").count("line")
        migrate(source, "talk", target)
        until(lambda: log_of(target, "talk").count("line") > at + 20)
    one.godwit("stop", "-t", "0", "talk")
    lines = [line for line in log_of(one, "talk").splitlines() if line.startswith("line")]
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
    errors = [line for line in one.godwit("logs", "talk").stderr.splitlines() if line.startswith("error")]
    assert len(errors) >= len(lines) - 1


def test_one_whose_monitor_was_killed_is_a_container_like_any_other(bed, gone):
    one, two = bed["node1"], bed["node2"]
    script = "trap '' PIPE; trap 'exit 3' TERM; i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done"
    run(one, "orphan", "sh", "-c", script)
    for source, target in ((one, two), (two, one)):
        before = inspect(source, "orphan")["state"]
        os.kill(before["monitor_pid"], signal.SIGKILL)

        def has_another():
            source.godwit("ps")
            now = inspect(source, "orphan")["state"]
            return now["monitor_alive"] and now["monitor_pid"] != before["monitor_pid"] and now["pid"] == before["pid"]
        until(has_another)
        at = log_of(source, "orphan").count("line")
        until(lambda: log_of(source, "orphan").count("line") > at + 5)      # pylint: disable=cell-var-from-loop
        assert source.godwit("exec", "orphan", "echo", "inside").stdout == "inside\n"
        migrate(source, "orphan", target)
        at = log_of(target, "orphan").count("line")
        until(lambda: log_of(target, "orphan").count("line") > at + 5)      # pylint: disable=cell-var-from-loop
    os.kill(inspect(one, "orphan")["state"]["monitor_pid"], signal.SIGKILL)
    one.godwit("stop", "orphan")
    state = inspect(one, "orphan")["state"]
    assert state["exit_code"] == -1 and "not known" in state["reason"]


def test_all_verbs_work_after_the_move(bed, gone):
    one, two = bed["node1"], bed["node2"]
    run(one, "verbs", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.02; done", options=("-e", "A=b"))
    migrate(one, "verbs", two)
    assert two.godwit("exec", "verbs", "sh", "-c", "echo $A; hostname").stdout.split() == ["b", "verbs"]
    two.godwit("pause", "verbs")
    assert status(two, "verbs") == "paused"
    two.godwit("unpause", "verbs")
    two.godwit("stop", "verbs")
    assert inspect(two, "verbs")["state"]["exit_code"] == 3
    two.godwit("start", "verbs")
    assert status(two, "verbs") == "running"
    migrate(two, "verbs", one)
    one.godwit("kill", "verbs")
    until(lambda: status(one, "verbs") == "exited")


def test_a_container_that_removes_itself_does_so_where_it_is(bed, gone):
    one, two = bed["node1"], bed["node2"]
    address = run(one, "brief", "/workloads/count", options=("--rm",))
    client = Client(bed["node3"], address)
    client.ask()
    migrate(one, "brief", two)
    client.ask()
    client.close()
    assert status(one, "brief") is None
    two.godwit("kill", "brief")
    until(lambda: status(two, "brief") is None)


def test_called_as_migrate(bed, gone, tmp_path):
    from conftest import GODWIT
    one, two = bed["node1"], bed["node2"]
    link = tmp_path / "migrate"
    link.symlink_to(GODWIT)
    run(one, "short", "/workloads/count")
    one.run(link, "short", "node2")
    assert status(two, "short") == "running"


def test_ten_times_back_and_forth(bed):
    one, two = bed["node1"], bed["node2"]
    before = snapshot(bed)
    address = run(one, "swift", "/workloads/events")
    other = run(one, "calm", "/workloads/count")
    client = Client(bed["node3"], address)
    client.ask()
    synced = []
    for source, target in ((one, two), (two, one)) * 5:
        moved = json.loads(migrate(source, "swift", target, "--quiet", "--json").stdout)
        synced.append(moved["phases_ms"]["sync"])
        client.ask()
    assert min(synced) < 100, f"its gate opened only when the patience for the last frames ended: {synced}"
    told = inspect(one, "swift")
    assert told["state"].get("migrations", 10) == 10
    client.close()
    assert status(one, "calm") == "running" and other != address
    one.godwit("rm", "-f", "swift", "calm")
    settled(bed, before)


def test_four_from_each_side_at_once(bed, gone):
    one, two = bed["node1"], bed["node2"]
    clients = {}
    for node, name in [(one, name) for name in "abcd"] + [(two, name) for name in "efgh"]:
        clients[name] = Client(bed["node3"], run(node, name, "/workloads/count", "20"))
        clients[name].ask()
    moves = [node.popen("godwit", "migrate", "-q", name, to.name, stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE)
             for here, there in zip("abcd", "efgh") for node, name, to in ((one, here, two), (two, there, one))]
    for move in moves:
        _, err = move.communicate(timeout=90)
        assert move.returncode == 0, err
    for client in clients.values():
        client.ask()
        client.close()
    assert {n for n in "abcdefgh" if status(two, n)} == set("abcd")
    assert {n for n in "abcdefgh" if status(one, n)} == set("efgh")


# --- a terminal ----------------------------------------------------------------

def attach(node, name):
    return Terminal(node, GODWIT, "attach", name)


def detach(terminal):
    terminal.type("\x10\x11")
    assert terminal.close() == 0


def test_a_shell_on_a_terminal_goes_on(bed, gone):
    """Its variables, what is typed but not entered, its jobs, what it has written, its size."""
    one, two = bed["node1"], bed["node2"]
    one.godwit("run", "-dit", "--name", "tty", "work", "/bin/sh")
    here = attach(one, "tty")
    here.set_size(33, 99)
    here.type("word=kept; sleep 2000 & stty size\nech")
    here.expect("33 99\r\n")
    here.expect("ech")
    detach(here)
    before = container_is(one, "tty")
    migrate(one, "tty", two)
    assert two.godwit("exec", "tty", "stty", "-F", "/dev/pts/0", "size").stdout == "33 99\n"
    after = container_is(two, "tty")
    assert after["tasks"] == before["tasks"] and after == before
    there = attach(two, "tty")
    there.type("o $word; sleep 1000\n")
    there.expect("kept\r\n")
    there.type("\x03")  # to the job in the foreground
    there.type("echo $?-$word; jobs\n")
    there.expect("130-kept\r\n[1]+  Running")
    detach(there)
    assert "33 99\n" in log_of(two, "tty") and "\n130-kept\n" in log_of(two, "tty")
    migrate(two, "tty", one)
    back = attach(one, "tty")
    back.type("kill %1; exit 7\n")
    back.expect("exit 7\r\n")
    assert back.close() == 7
