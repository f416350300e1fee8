"""What must not get out of a container, and what must not get in: a test for each class of
vulnerability that engines have had."""
import ctypes
import hashlib
import os
import pathlib
import random
import shutil
import threading

import pytest

from conftest import GODWIT
from moving import inspect, until


@pytest.fixture
def secret(tmp_path):
    """A file of this machine that no container may read."""
    path = tmp_path / "secret"
    path.write_text("of the host\n")
    return path


@pytest.fixture(params=["host", "auto"])
def ids(request):
    """Options for run: ids of the host's, or of the container's own."""
    return ["--userns", request.param]


# --- CVE-2024-21626: descriptors of the engine as a working directory, or as a program -------

def test_what_is_open_in_the_engine_is_no_working_directory(node, box, secret, ids):
    name = box("sleep", "1000", options=ids)
    words = ["sh", "-c", f"cat ../../../../../../../../../..{secret} 2>/dev/null; ls -a | head -20"]
    for n in range(3, 18):
        where = f"/proc/self/fd/{n}" + ("", "/../..", "/new")[n % 3]
        for command in (["run", "--rm", *ids, "-w", where, "base"], ["exec", "-w", where, name]):
            done = node.godwit(*command, *words, check=False)
            assert done.returncode == 125 and "of the host" not in done.stdout, done
    # A link in the image that leads there is no way either.
    node.godwit("exec", name, "ln", "-s", "/proc/self/fd/4", "/way")
    assert node.godwit("exec", "-w", "/way", name, "ls", check=False).returncode == 125


def test_what_is_open_in_the_engine_leads_to_no_program(node, box, ids):
    name = box("sleep", "1000", options=ids)
    for n in range(3, 18):
        for command in (["run", "--rm", *ids, "base"], ["exec", name])[n % 2:][:1]:
            done = node.godwit(*command, f"/proc/self/fd/{n}/../../../../../../../usr/bin/dpkg", "--version",
                               check=False)
            assert done.returncode in (126, 127) and "Debian" not in done.stdout, done


# --- CVE-2019-5736: the engine's own program, through /proc/PID/exe ----------------------------

ATTACK = """while :; do for p in /proc/[0-9]*; do (
    exec 3<$p/exe && sleep 0.05 && : >>/proc/self/fd/3 && echo $p >>/tmp/written; : >>$p/exe && echo $p >>/tmp/written
) 2>/dev/null & done; wait; done"""


def test_the_engines_program_cannot_be_written_while_it_enters(node, box):
    before = hashlib.sha256(GODWIT.read_bytes()).digest()
    name = box("sh", "-c", "printf '#!/proc/self/exe\\n' >/evil; chmod 755 /evil; touch /ready; " + ATTACK,
               options=["--health-cmd", "/evil", "--health-interval", "10ms"])
    until(lambda: node.godwit("exec", name, "test", "-e", "/ready", check=False).returncode == 0)
    for _ in range(8):
        node.godwit("exec", name, "/evil", check=False)
    assert node.godwit("exec", name, "test", "-e", "/tmp/written", check=False).returncode == 1
    assert hashlib.sha256(GODWIT.read_bytes()).digest() == before


@pytest.mark.bed(nodes=1)
def test_nor_when_it_was_restored(bed, rootfs, tmp_path):
    node = bed["node1"]
    node.godwit("image", "import", "base", rootfs("base"))
    node.godwit("run", "-d", "--name", "web", "base", "sleep", "1000")
    node.godwit("checkpoint", "web", tmp_path / "saved")
    node.godwit("rm", "web")
    node.godwit("restore", tmp_path / "saved")
    monitor = inspect(node, "web")["state"]["monitor_pid"]
    assert os.statvfs(f"/proc/{monitor}/exe").f_flag & os.ST_RDONLY


# --- CVE-2023-27561, CVE-2019-19921: links of the image where the engine mounts -----------------

@pytest.mark.parametrize("where", ["proc", "sys", "dev", "etc"])
def test_a_link_in_the_image_leads_no_mount_out(node, rootfs, tmp_path, where, ids):
    outside = tmp_path / "outside"
    outside.mkdir()
    image = rootfs("base")
    shutil.rmtree(image / where)
    (image / where).symlink_to("../" * 12 + str(outside).lstrip("/"))
    node.godwit("image", "import", "evil", image)
    try:
        done = node.godwit("run", "--rm", *ids, "evil", "cat", "/proc/keys", "/proc/timer_list", check=False)
        assert done.stdout == "" and (done.returncode == 125 or where != "proc")
        assert not list(outside.iterdir()) and not os.path.ismount(outside)
    finally:
        node.godwit("image", "rm", "evil")


# --- CVE-2021-30465: a path that another container changes while it is mounted on ---------------

def test_a_path_that_changes_leads_no_volume_out(node, box, tmp_path):
    shared, data = tmp_path / "shared", tmp_path / "data"
    (shared / "d").mkdir(parents=True)
    data.mkdir()
    (data / "mark").write_text("x")
    target = tmp_path / "target"
    target.mkdir()
    link = "../" * 12 + str(target).lstrip("/")
    box("sh", "-c", f"cd /s; while :; do rm -rf d; ln -s {link} d; rm d; mkdir d; done",
        options=["-v", f"{shared}:/s"])
    for _ in range(12):
        done = node.godwit("run", "--rm", "-v", f"{shared}:/s", "-v", f"{data}:/s/d/x", "base", "true", check=False)
        assert done.returncode in (0, 125)
    assert not list(target.iterdir())
    assert str(target) not in pathlib.Path(f"/proc/{node_pid(node)}/mountinfo").read_text()


def node_pid(node):
    """A process in the node's mount namespace."""
    return pathlib.Path("/run/godwit-testbed", node.bed.name, node.name).read_text().split()[0]


def test_names_of_users_are_not_read_outside(node, box, tmp_path):
    (tmp_path / "passwd").write_text("evil:x:0:0::/:/bin/sh\n")
    name = box("sleep", "1000")
    link = "../" * 12 + str(tmp_path / "passwd").lstrip("/")
    node.godwit("exec", name, "ln", "-sf", link, "/etc/passwd")
    done = node.godwit("exec", "-u", "evil", name, "id", check=False)
    assert done.returncode == 125 and "evil" in done.stderr and "uid=" not in done.stdout


# --- the same class: what others put where the engine looks ---------------------------------------

def swap(stop, one, other):
    """Exchanges two names until it is told to stop: renameat2(2), RENAME_EXCHANGE."""
    libc = ctypes.CDLL(None)
    while not stop.is_set():
        libc.renameat2(-100, bytes(one), -100, bytes(other), 2)
        stop.wait(random.random() / 500)


def test_a_path_that_changes_leads_no_volume_out_at_a_restore(node, tmp_path):
    """Somebody who shares a volume makes a link of the folder that another volume lies in, and back."""
    shared, data, outside = tmp_path / "shared", tmp_path / "data", tmp_path / "outside"
    for folder in (shared / "d/x", data, outside / "x"):
        folder.mkdir(parents=True)
    (data / "mark").write_text("data\n")
    node.godwit("run", "-d", "--name", "moved", "-v", f"{shared}:/s", "-v", f"{data}:/s/d/x",
                "-v", f"{data}/mark:/srv/mark:ro", "base", "sleep", "1000")
    node.godwit("exec", "moved", "mkdir", "-p", outside / "x")    # so that the link leads somewhere inside, too
    node.godwit("checkpoint", "moved", tmp_path / "saved")
    node.godwit("rm", "-f", "moved")
    node.godwit("restore", tmp_path / "saved")    # while nobody does that, all is as it was
    script = "cat /s/d/x/mark /srv/mark; echo new >/s/d/x/mark && ! echo new >/srv/mark"
    assert node.godwit("exec", "moved", "sh", "-c", script).stdout == "data\ndata\n"
    assert (data / "mark").read_text() == "new\n"
    node.godwit("rm", "-f", "moved")
    (shared / "link").symlink_to("../" * 30 + str(outside).lstrip("/"))
    stop = threading.Event()
    swapper = threading.Thread(target=swap, args=(stop, shared / "d", shared / "link"))
    swapper.start()
    try:
        for _ in range(16):
            if node.godwit("restore", tmp_path / "saved", check=False).returncode:
                continue
            init = inspect(node, "moved")["state"]["pid"]
            roots = [line.split()[3] for line in pathlib.Path(f"/proc/{init}/mountinfo").read_text().splitlines()]
            node.godwit("rm", "-f", "moved")
            assert not [root for root in roots if str(outside) in root]
    finally:
        stop.set()
        swapper.join()
        node.godwit("rm", "-f", "moved", check=False)


@pytest.mark.parametrize("put", ["ln -s /proc/self/fd/5", "ln -s /etc/hostname", "mkdir", "mkfifo"])
def test_a_session_gets_nothing_else_for_null(node, box, put):
    """It would be opened by a process that has descriptors of the machine's."""
    name = box("sleep", "1000")
    node.godwit("exec", name, "sh", "-c", f"rm /dev/null && {put} /dev/null")
    done = node.godwit("exec", name, "readlink", "/proc/self/fd/0", check=False, timeout=30)
    assert done.returncode == 125 and done.stdout == "" and "/dev/null" in done.stderr


@pytest.mark.parametrize("link", ["/dev/zero", "/dev/ptmx", "/tmp/huge"])
def test_names_of_users_come_from_plain_files_only(node, box, link):
    name = box("sleep", "1000")
    node.godwit("exec", name, "sh", "-c", f"truncate -s 1T /tmp/huge; ln -sf {link} /etc/passwd")
    done = node.godwit("exec", "-u", "evil", name, "id", check=False, timeout=30)
    assert done.returncode == 125 and "'evil' is not in" in done.stderr


def test_files_of_etc_on_a_volume_are_not_replaced(node, tmp_path):
    (tmp_path / "etc").mkdir()
    for name in ("hosts", "hostname", "resolv.conf"):
        (tmp_path / "etc" / name).write_text("the host's\n")
    show = ("cat", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    for mode in ("rw", "ro"):
        done = node.godwit("run", "--rm", "-v", f"{tmp_path}/etc:/etc:{mode}", "base", *show)
        assert done.stdout == "the host's\n" * 3
    done = node.godwit("run", "--rm", "-v", f"{tmp_path}/etc/hosts:/etc/hosts", "--hostname", "own", "base", *show[:3])
    assert done.stdout == "the host's\nown\n"
    assert all(path.read_text() == "the host's\n" for path in (tmp_path / "etc").iterdir())


# --- CVE-2022-0847: what is only read may not be written through the page cache -----------------

SPLICE = """
import os, sys
r, w = os.pipe()
os.write(w, b'x' * 65536)
os.read(r, 65536)
f = os.open(sys.argv[1], os.O_RDONLY)
os.splice(f, w, 1, offset_src=0)
os.write(w, b'OVERWRITTEN')
print(open(sys.argv[1], 'rb').read(12))
"""


@pytest.mark.bed(nodes=1)
def test_files_of_the_image_and_read_only_volumes_stay_as_they_are(bed, rootfs, tmp_path):
    node = bed["node1"]
    node.godwit("image", "import", "python", rootfs("python"))
    (tmp_path / "data").write_text("as it was, all of it\n")
    volume = ["-v", f"{tmp_path}/data:/data:ro"]
    passwd = node.godwit("run", "--rm", "python", "cat", "/etc/passwd").stdout
    for path in ("/data", "/etc/passwd"):
        done = node.godwit("run", "--rm", *volume, "python", "python3", "-c", SPLICE, path)
        assert "OVERWRITTEN" not in done.stdout
    assert (tmp_path / "data").read_text() == "as it was, all of it\n"
    node.godwit("run", "--rm", "python", "sh", "-c", "echo changed >/etc/passwd")
    assert node.godwit("run", "--rm", "python", "cat", "/etc/passwd").stdout == passwd
    for command in ("echo x >/data", "mount -o remount,rw,bind /data", "rm /data"):
        done = node.godwit("run", "--rm", *volume, "python", "sh", "-c", command, check=False)
        assert done.returncode not in (0, 125), done
    assert (tmp_path / "data").read_text() == "as it was, all of it\n"


# --- leaks: descriptors, environment, keys, signals, mounts --------------------------------------

STATUS = "sh", "-c", ("echo $(ls /proc/self/fd); echo OURS=$OURS; "
                      "grep -E 'SigBlk|SigIgn' /proc/self/status; kill -0 2 2>/dev/null; echo end")
CALLER = "trap '' INT HUP USR1; export OURS=secret; exec 7</ 8</etc/hostname; exec \"$@\""


@pytest.mark.parametrize("verb", ["run", "exec", "start"])
def test_nothing_of_the_caller_gets_in(node, box, verb, ids):
    name = box(*(STATUS if verb == "start" else ("sleep", "1000")), options=ids)
    if verb == "start":
        until(lambda: node.godwit("ps", "-q").stdout == "")
    command = {"run": ["run", "--rm", *ids, "base", *STATUS], "exec": ["exec", name, *STATUS],
               "start": ["start", name]}[verb]
    text = node.run("sh", "-c", CALLER, "sh", GODWIT, *command).stdout
    if verb == "start":
        text = until(lambda: node.godwit("logs", name).stdout.split("end\n")[1:-1])[0]
        until(lambda: node.godwit("ps", "-q").stdout == "")
    lines = text.splitlines()
    assert lines[0] == "0 1 2 3"  # 3 is of ls itself
    assert lines[1:4] == ["OURS=", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]


KEYS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for call in (248, 249, 250):
    print(libc.syscall(call, b'user', b'ours', b'secret', 6, -3), ctypes.get_errno())
print(open('/proc/keys').read())
"""
WITH_KEY = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.syscall(250, 1, 0)
assert libc.syscall(248, b'user', b'ours', b'secret', 6, -3) > 0
assert b'ours' in open('/proc/keys', 'rb').read()
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.bed(nodes=1)
def test_keys_of_the_caller_are_out_of_reach(bed, rootfs):
    node = bed["node1"]
    node.godwit("image", "import", "python", rootfs("python"))
    done = node.run("/usr/bin/python3", "-c", WITH_KEY, GODWIT, "run", "--rm", "python", "python3", "-c", KEYS)
    assert done.stdout.split() == ["-1", "1"] * 3


@pytest.mark.parametrize("command", [
    "echo x >/proc/sys/kernel/core_pattern", "echo b >/proc/sysrq-trigger", "echo x >/sys/kernel/uevent_helper",
    "for f in /sys/fs/cgroup/release_agent /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/cgroup.procs "
    "/sys/fs/cgroup/*/cgroup.procs; do if echo 1 >$f; then exit 0; fi; done; exit 1",
    "mount -t cgroup none /mnt", "mount --bind / /mnt", "unshare -m true", "chroot /proc/1/root mount -t proc p /mnt",
    "mknod /dev/sda b 8 0", "grep -q . /proc/kcore", "hostname other"])
def test_ways_out_that_are_known_are_closed(node, command, ids):
    done = node.godwit("run", "--rm", *ids, "base", "sh", "-c", command, check=False)
    assert done.returncode not in (0, 125), done
