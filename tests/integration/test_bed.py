"""The test bed itself: nodes are apart from one another, and nothing of a bed stays."""
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

from conftest import TESTBED, Bed, cgroups_of, processes_of


def wait_until(what, seconds=10):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def reaches(client, server):
    """True when a TCP connection from one node to another carries a byte."""
    listener = server.popen("/usr/bin/python3", "-c", "import socket; "
                            "s = socket.create_server(('', 7000)); print('up', flush=True); "
                            "s.settimeout(3); s.accept()[0].send(b'x')",
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert listener.stdout.readline() == "up\n"
        done = client.run("/usr/bin/python3", "-c", "import socket; print(socket.create_connection"
                          f"(('{server.name}', 7000), 2).recv(1))", check=False)
        return done.stdout == "b'x'\n"
    finally:
        listener.kill()
        listener.communicate()


def left_of(bed):
    return (processes_of(bed) or cgroups_of(bed)
            or [path for path in (f"/run/godwit-testbed/{bed.name}",
                                  f"/var/lib/godwit-testbed/{bed.name}") if os.path.exists(path)])


def test_nodes_are_machines_of_their_own(bed):
    one, two = bed["node1"], bed["node2"]
    assert one.run("hostname").stdout == "node1\n"
    assert '"name":"node2"' in two.run("cat", "/var/lib/godwit/node.json").stdout
    one.run("touch", "/run/mine", "/var/lib/godwit/mine")
    assert two.run("ls", "/run/mine", check=False).returncode != 0
    assert (one.state / "mine").exists() and not (two.state / "mine").exists()
    assert one.run("ls", "/sys/class/net").stdout.split() == ["eth0", "godwit0", "lo"]
    assert socket.gethostname() != "node1"


def test_exec_is_transparent(bed):
    node = bed["node1"]
    assert node.run("sh", "-c", "exit 7", check=False).returncode == 7
    assert node.run("cat", input="in and out").stdout == "in and out"
    assert node.run("sh", "-c", "echo $COLOUR", env={**os.environ, "COLOUR": "blue"}).stdout == \
        "blue\n"
    assert node.run("echo", "--name", "-v").stdout == "--name -v\n"
    assert node.run("pwd", cwd="/usr/lib").stdout == "/usr/lib\n"


def test_the_cable_can_be_pulled(bed):
    one, three = bed["node1"], bed["node3"]
    assert reaches(one, three)
    three.link("down")
    assert not reaches(one, three)
    three.link("up")
    assert reaches(one, three)


def test_a_node_crashes_and_boots_with_its_state(bed):
    node = bed["node2"]
    node.run("touch", "/var/lib/godwit/kept", "/run/lost")
    node.daemon("sleep", "1000")
    node.crash()
    assert not [it for it in processes_of(bed) if "sleep 1000" in it[1] or "node2" in it[1]]
    assert node.run("true", check=False).returncode == 1
    node.boot()
    node.run("ls", "/var/lib/godwit/kept")
    assert node.run("ls", "/run/lost", check=False).returncode != 0
    assert reaches(bed["node1"], node)


@pytest.mark.bed(nodes=1, cgroup="v2")
def test_pure_v2_view(bed):
    node = bed["node1"]
    assert "cgroup.controllers" in node.run("ls", "/sys/fs/cgroup").stdout.split()
    node.run("mkdir", f"/sys/fs/cgroup/godwit-testbed/{bed.name}/node1/web")
    assert [path for path in cgroups_of(bed) if path.endswith("/node1/web")]


@pytest.mark.parametrize("how", ["daemon", "namespaces", "cgroup"])
def test_down_finds_whatever_hides(how):
    bed = Bed(1, "host")
    try:
        hidden = {
            "daemon": ["setsid", "--fork", "sleep", "1000"],
            "namespaces": ["setsid", "--fork", "unshare", "-mipf", "--mount-proc", "env", "-i",
                           "/bin/sleep", "1000"],
            "cgroup": ["sh", "-c", "d=$(awk '$3 == \"cgroup2\" { print $2; exit }' "
                       f"/proc/self/mounts)/godwit-testbed/{bed.name}/node1/web; mkdir $d; "
                       "echo $$ > $d/cgroup.procs; echo 1 > $d/cgroup.freeze & sleep 0.1; "
                       "exec setsid --fork unshare -mnuipf env -i /bin/sleep 1000"],
        }[how]
        child = bed["node1"].popen(*hidden, stdout=subprocess.DEVNULL)
        if how != "cgroup":  # there it is frozen
            child.wait(10)
    finally:
        bed.down()
    child.wait(10)
    assert not left_of(bed)
    bed.down()


def test_an_up_that_was_killed_leaves_nothing_after_down():
    for moment in range(0, 200, 25):
        bed = Bed.__new__(Bed)
        bed.name = f"test{os.getpid()}-killed{moment}"
        up = subprocess.Popen([str(TESTBED), "--name", bed.name, "up", "3"],
                              stderr=subprocess.DEVNULL)
        time.sleep(moment / 1000)
        up.send_signal(signal.SIGKILL)
        up.wait()
        bed.down()
        wait_until(lambda bed=bed: not left_of(bed))


def test_bed_of_a_dead_owner_is_swept():
    owner = subprocess.Popen(["sleep", "1000"])
    bed = Bed.__new__(Bed)
    bed.name = f"test{os.getpid()}-orphan"
    try:
        bed.testbed("up", "1", "--owner", str(owner.pid))
    finally:
        owner.kill()
        owner.wait()
    other = Bed(1, "host")
    other.down()
    assert not left_of(bed)


def test_the_machine_itself_gets_nothing(bed):
    mounts = pathlib.Path("/proc/self/mounts").read_text()
    links = os.listdir("/sys/class/net")
    assert bed.name not in mounts
    assert not {"godwit0", "node1", "node2"} & set(links)


def test_snapshot_sees_what_is_left_behind(bed):
    node = bed["node1"]
    before = bed.snapshot()
    assert bed.snapshot() == before
    node.run("ip", "link", "add", "left", "type", "bridge")
    node.run("mount", "-t", "tmpfs", "left", "/mnt")
    node.run("touch", "/var/lib/godwit/left")
    node.daemon("unshare", "-n", "sleep", "1000")
    after = bed.snapshot()
    assert [key for key in before if before[key] != after[key]] == \
        ["processes", "namespaces", "mounts", "links", "files"]
