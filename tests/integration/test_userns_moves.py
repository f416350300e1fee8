"""Containers with ids of their own move, are saved and come back: inside nothing changes."""
import contextlib
import json
import os
import pathlib
import signal

import pytest

from moving import (Client, end_bed, has_nothing, inspect, left_as_found, log_of, make_bed, migrate, run,
                    serve_with_faults, status, until)
from redis_client import Redis, import_redis, redis

AUTO = ("--userns", "auto")
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
# a file in the container's layer, and some in memory; whose they are as seen inside
MAKE = ("touch /tmp/layer /dev/shm/memory; chown 33:34 /tmp/layer /dev/shm/memory; chmod 2750 /dev/shm/memory;"
        "mkdir /dev/shm/folder; chown 1000:5 /dev/shm/folder; echo kept >/dev/shm/folder/file")
SHOW = ("stat -c '%n %u:%g %a' / /tmp/layer /dev /dev/null /dev/shm /dev/shm/memory /dev/shm/folder"
        " /dev/shm/folder/file /dev/stdout /proc/self/fd/1 /etc/hosts; id; cat /dev/shm/folder/file")


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    it = make_bed(tmp_path_factory)
    for node in ("node1", "node2"):
        import_redis(it[node], tmp_path_factory.mktemp(node) / "redis")
    serve_with_faults(it, "node2", tmp_path_factory.mktemp("faults"))
    yield it
    end_bed(it)


@pytest.fixture
def gone(bed):
    """Whatever a test starts, both nodes are as before after it."""
    with left_as_found(bed):
        yield


def range_of(node, name):
    """The first uid and gid of this machine that it has."""
    linux = inspect(node, name)["spec"]["linux"]
    first = [linux[kind][0]["hostID"] for kind in ("uidMappings", "gidMappings")]
    pid = inspect(node, name)["state"]["pid"]
    if pid:
        mapped = [int(pathlib.Path(f"/proc/{pid}/{kind}").read_text().split()[1]) for kind in ("uid_map", "gid_map")]
        assert mapped == first, "it has other ids than its record says"
    return first


def occupy(node, ids):
    """Another container, which has not run, gets one of these."""
    node.godwit("run", "--name", "other", "--network", "none", "--uidmap", f"0:{ids[0] + 7}:1", "--gidmap",
                f"0:{ids[1] + 9}:1", "work", "/bin/true")


def shown(node, name):
    return node.godwit("exec", name, "sh", "-c", SHOW).stdout


def private(node, name):
    """What it is to this machine: nobody, in namespaces that are its own and belong to one another."""
    pid = inspect(node, name)["state"]["pid"]
    first = range_of(node, name)
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    assert [int(text.split(f"{kind}:")[1].split()[0]) for kind in ("Uid", "Gid")] == first
    for kind in KINDS:
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    for command in ("umount /proc/keys", "umount /dev/shm", "mount -t tmpfs none /mnt", "hostname other"):
        assert node.godwit("exec", name, "sh", "-c", command, check=False).returncode not in (0, 125), command
    memory = os.stat(f"/proc/{pid}/root/dev/shm/memory")
    assert [memory.st_uid - first[0], memory.st_gid - first[1]] == [33, 34]
    layer = os.stat(node.state / "containers" / name / "upper/tmp/layer")
    assert [layer.st_uid, layer.st_gid] == [33, 34]


def test_redis_moves_there_and_back_while_a_client_writes(bed, gone):
    one, two = bed["node1"], bed["node2"]
    address = redis(one, *AUTO, "--memory", "256m", "--pids-limit", "20", user="redis")
    writer = Redis(bed["node3"], address)
    writer.start()
    for source, target in ((one, two), (two, one)):
        at = writer.acknowledged
        until(lambda: writer.acknowledged > at + 300)
        report = json.loads(migrate(source, "web", target, "--json").stdout)
        assert report["ok"], report
        assert status(source, "web") is None and status(target, "web") == "running"
        has_nothing(source)
        assert target.godwit("exec", "web", "id", "-u").stdout == "101\n"
    at = writer.acknowledged
    until(lambda: writer.acknowledged > at + 300)
    writer.stop()
    assert writer.lost() == []
    writer.client.close()


def test_its_ids_are_free_there_and_the_same_inside(bed, gone, tmp_path):
    """Also when its old range is another's on the other node; and it may be stopped and started there."""
    one, two = bed["node1"], bed["node2"]
    (tmp_path / "mine").touch()
    (tmp_path / "mine").chmod(0o600)
    address = run(one, "web", "/workloads/mapped", options=(*AUTO, "-v", f"{tmp_path}:/vol:idmap"))
    client = Client(bed["node3"], address)
    client.ask()
    one.godwit("exec", "web", "sh", "-c", MAKE)
    first, then = range_of(one, "web"), shown(one, "web")
    private(one, "web")
    occupy(two, first)
    migrate(one, "web", two)
    assert all(a != b for a, b in zip(range_of(two, "web"), first))
    assert shown(two, "web") == then
    private(two, "web")
    two.godwit("exec", "web", "sh", "-c", "test -O /vol/mine && touch /vol/there && chown 5:6 /vol/there")
    assert ((tmp_path / "there").stat().st_uid, (tmp_path / "there").stat().st_gid) == (5, 6)
    assert log_of(two, "web") == "ready\n"
    client.ask()
    second = range_of(two, "web")
    migrate(two, "web", one)        # what it has is free here: it stays
    assert range_of(one, "web") == second and shown(one, "web") == then
    private(one, "web")
    client.ask()
    client.close()
    one.godwit("stop", "-t", "0", "web")
    one.godwit("start", "web")
    assert range_of(one, "web") == second
    assert one.godwit("exec", "web", "stat", "-c", "%u:%g", "/tmp/layer").stdout == "33:34\n"


def test_a_map_given_by_hand_is_the_same_there_or_refused_by_name(bed, gone):
    one, two = bed["node1"], bed["node2"]
    run(one, "web", "sleep", "1000", options=("--uidmap", "0:300000:100", "--uidmap", "1000:7:1",
                                              "--gidmap", "0:400000:2000"))
    occupy(two, [300000, 400000])
    done = one.godwit("migrate", "--check", "--json", "web", "node2", check=False)
    reasons = json.loads(done.stdout)["reasons"]
    assert done.returncode == 1 and [r["code"] for r in reasons] == ["ids-taken"], reasons
    assert "belong to container 'other' on node2" in reasons[0]["message"]
    assert "ids-taken" in migrate(one, "web", two, "-q", check=False).stderr
    assert status(one, "web") == "running" and status(two, "web") is None
    two.godwit("rm", "other")
    migrate(one, "web", two)
    linux = inspect(two, "web")["spec"]["linux"]
    assert [(m["containerID"], m["hostID"], m["size"]) for m in linux["uidMappings"]] == \
        [(0, 300000, 100), (1000, 7, 1)]
    assert two.godwit("exec", "-u", "1000:5", "web", "id", "-u").stdout == "1000\n"


def test_its_policy_and_its_health_check_go_on_there(bed, gone):
    one, two = bed["node1"], bed["node2"]
    run(one, "web", "sleep", "1000", options=(*AUTO, "--restart", "always", "--health-cmd", "test $(id -u) = 0",
                                              "--health-interval", "50ms"))
    occupy(two, range_of(one, "web"))
    migrate(one, "web", two)
    until(lambda: inspect(two, "web")["state"]["health"] == "healthy")
    ids, pid = range_of(two, "web"), inspect(two, "web")["state"]["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: inspect(two, "web")["state"]["pid"] not in (0, pid) and status(two, "web") == "running")
    assert range_of(two, "web") == ids
    assert two.godwit("exec", "web", "stat", "-c", "%u:%g", "/", "/dev/null").stdout == "0:0\n" * 2


@contextlib.contextmanager
def gives(node, folder, subuid, subgid):
    """What the node's /etc/subuid and /etc/subgid give meanwhile."""
    files = {"subuid": subuid, "subgid": subgid}
    for file, text in files.items():
        (folder / file).write_text(text)
        node.run("sh", "-c", f"test -e /etc/{file} || touch /etc/{file}; mount --bind {folder}/{file} /etc/{file}")
    try:
        yield
    finally:
        for file in files:
            node.run("umount", f"/etc/{file}")


def test_it_gets_ids_that_the_other_node_has_to_give(bed, gone, tmp_path):
    one, two = bed["node1"], bed["node2"]
    for name in ("web", "late"):
        run(one, name, "sleep", "1000", options=AUTO)
    with gives(two, tmp_path, "godwit:300000:65536\n", "godwit:900000:100000\n"):
        migrate(one, "web", two)
        assert range_of(two, "web") == [300000, 900000]
        done = one.godwit("migrate", "--check", "--json", "late", "node2", check=False)
        reasons = json.loads(done.stdout)["reasons"]
        assert done.returncode == 1 and [r["code"] for r in reasons] == ["ids-taken"], reasons
        assert "no 65536 ids are left of those that /etc/subuid gives" in reasons[0]["message"]
        migrate(two, "web", one)
        assert range_of(one, "web") not in ([300000, 900000], range_of(one, "late"))


def test_a_checkpoint_comes_back_while_another_has_its_range(bed, gone, tmp_path):
    one, two = bed["node1"], bed["node2"]
    address = run(one, "web", "/workloads/mapped", options=AUTO)
    client = Client(bed["node3"], address)
    client.ask()
    one.godwit("exec", "web", "sh", "-c", MAKE)
    first, then = range_of(one, "web"), shown(one, "web")
    one.godwit("checkpoint", "--leave-running", "web", tmp_path / "early")
    client.ask()
    one.godwit("checkpoint", "web", tmp_path / "late")
    one.godwit("rm", "web")
    occupy(one, first)
    one.godwit("restore", "--verify", tmp_path / "late")
    assert all(a != b for a, b in zip(range_of(one, "web"), first)) and shown(one, "web") == then
    private(one, "web")
    client.ask()
    client.close()
    one.godwit("rm", "-f", "web")
    two.godwit("restore", tmp_path / "early")
    assert range_of(two, "web") == first and shown(two, "web") == then
    Client(bed["node3"], address).ask()


@pytest.mark.parametrize("workload", ["forks", "shared memfd", "shared sysv", "shared /dev/shm/object",
                                      "files /dev/shm/file unlinked", "guards"])
def test_not_one_byte_is_wrong(bed, gone, workload):
    nodes = [bed["node1"], bed["node2"]]
    program, *arguments = workload.split()
    client = Client(bed["node3"], run(nodes[0], program, f"/workloads/{program}", *arguments, options=AUTO))
    for _ in range(3):
        client.ask()
        migrate(nodes[0], program, nodes[1], "--verify")
        nodes.reverse()
    client.ask()
    client.close()


# where the process of the target that has the connection, or its monitor, is killed; whether it moves all the same
@pytest.mark.parametrize("fault, moves", [
    ("target-prepare-end@receive:die", False), ("restore-mounted@restore:die", False),
    ("send-RESTORED@receive:die", False), ("act-record-running@restore:die", True),
])
def test_whoever_is_killed_one_has_its_ids(bed, gone, fault, moves):
    one, two = bed["node1"], bed["node2"]
    client = Client(bed["node3"], run(one, "web", "/workloads/count", options=AUTO))
    client.ask()
    first = range_of(one, "web")
    occupy(two, first)
    bed.faults.write_text(fault)
    migrate(one, "web", two, "-q", "--retry-for", "20s" if moves else "0", check=False)
    bed.faults.write_text("")
    here, there = (two, one) if moves else (one, two)
    until(lambda: (status(here, "web"), status(there, "web")) == ("running", None),
          say=f"{status(one, 'web')} here, {status(two, 'web')} there")
    client.ask()
    client.close()
    assert (range_of(here, "web") == first) != moves
    one.godwit("run", "--name", "free", "--uidmap", f"0:{first[0]}:1", "work", "/bin/true", check=moves)
    assert (status(one, "free") == "exited") == moves, "its ids are given back when it has left, and not before"
