"""Containers with ids of their own: root inside is nobody outside."""
import json
import os
import pathlib

import pytest

from moving import inspect, until

POOL = range(1879048192, 2147483648)


def maps(node, name):
    """The ranges of uids and of gids in its record."""
    spec = inspect(node, name)["spec"]["linux"]
    return [[(m["containerID"], m["hostID"], m["size"]) for m in spec.get(k, [])]
            for k in ("uidMappings", "gidMappings")]


def inside(node, name, script, *options):
    return node.godwit("exec", *options, name, "sh", "-c", script).stdout


def test_root_inside_is_nobody_outside(node, box, tmp_path):
    (tmp_path / "secret").write_text("of the host\n")
    (tmp_path / "secret").chmod(0o600)
    tmp_path.chmod(0o755)
    name = box("sh", "-c", "echo said >/dev/stdout; sleep 1000",
               options=["--userns", "auto", "-v", f"{tmp_path}:/vol", "--health-cmd", "test -O /etc/hosts",
                        "--health-interval", "50ms"])
    uids, gids = maps(node, name)
    first = uids[0][1]
    assert uids == gids == [(0, first, 65536)] and first in POOL and (first - POOL[0]) % 65536 == 0
    assert inside(node, name, "cat /proc/self/uid_map /proc/self/gid_map").split() == ["0", str(first), "65536"] * 2
    pid = inspect(node, name)["state"]["pid"]
    assert pathlib.Path(f"/proc/{pid}/status").read_text().split("Uid:")[1].split()[:4] == [str(first)] * 4
    for kind in ("user", "net", "mnt", "pid", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")

    # Its own files are its own, and on disk as if it were the machine's root.
    assert inside(node, name, "id -u; stat -c %u:%g / /etc/hosts /dev /dev/null /dev/shm /root") == \
        "0\n" + "0:0\n" * 6
    inside(node, name, "touch /root/mine; chown 33:34 /root/mine; chmod 600 /etc/passwd; rm -r /srv; mkdir -p /usr/x/y")
    upper = node.state / "containers" / name / "upper"
    assert [(upper / "root/mine").stat().st_uid, (upper / "root/mine").stat().st_gid] == [33, 34]
    assert (upper / "etc/passwd").stat().st_uid == 0 and (upper / "usr/x/y").is_dir()

    # The machine's are not, whatever root inside tries.
    for command in ("cat /vol/secret", "echo x >/vol/new", "chmod 644 /vol/secret", "chown 0 /vol/secret",
                    "rm /vol/secret", "mknod /tmp/sda b 8 0", "mount -t tmpfs none /mnt", "umount /proc/keys",
                    "hostname other; test $(hostname) = other"):
        assert node.godwit("exec", name, "sh", "-c", command, check=False).returncode not in (0, 125), command
    assert (tmp_path / "secret").read_text() == "of the host\n" and len(list(tmp_path.iterdir())) == 1
    assert inside(node, name, "stat -c %u:%g /vol/secret") == "65534:65534\n"

    until(lambda: inspect(node, name)["state"]["health"] == "healthy")
    assert node.godwit("logs", name).stdout == "said\n"
    assert {t["uid"] for t in json.loads(node.godwit("top", "--json", name).stdout)} == {first}
    assert "uid=1000" in inside(node, name, "id", "-u", "1000")
    assert node.godwit("exec", "-u", "70000", name, "true", check=False).returncode == 125
    node.godwit("stop", "-t", "0", name)
    node.godwit("start", name)
    assert maps(node, name) == [uids, gids]
    assert inside(node, name, "stat -c %u:%g /root/mine") == "33:34\n"


def test_ids_are_each_containers_own_and_free_again_when_it_is_removed(node, box):
    names = [box("sleep", "1000", options=["--userns", "auto"]) for _ in range(4)]
    firsts = [maps(node, name)[0][0][1] for name in names]
    assert len(set(firsts)) == 4
    mine = ("--userns", "map", "--uidmap", f"0:{firsts[0] + 65535}:1")
    done = node.godwit("run", "--rm", *mine, "base", "true", check=False)
    assert done.returncode == 125 and f"belong to container '{names[0]}'" in done.stderr
    node.godwit("stop", "-t", "0", names[0])
    assert node.godwit("run", "--rm", *mine, "base", "true", check=False).returncode == 125
    node.godwit("rm", names[0])
    assert node.godwit("run", "--rm", *mine, "base", "id", "-u").stdout == "0\n"


@pytest.mark.bed(nodes=1)
def test_the_pool_is_what_subuid_gives(bed, rootfs, tmp_path):
    node = bed["node1"]
    node.godwit("image", "import", "base", rootfs("base"))
    for file, text in (("subuid", "other:1:9999999\ngodwit:300000:65536\ngodwit:500000:131072\n"),
                       ("subgid", "godwit:900000:200000\n")):
        (tmp_path / file).write_text(text)
        node.run("sh", "-c", f"test -e /etc/{file} || touch /etc/{file}; mount --bind {tmp_path}/{file} /etc/{file}")
    found = []
    for name in ("a", "b", "c"):
        node.godwit("run", "-d", "--name", name, "--userns", "auto", "base", "sleep", "1000")
        found.append([m[0][1] for m in maps(node, name)])
    assert sorted(uid for uid, _ in found) == [300000, 500000, 565536]
    assert sorted(gid for _, gid in found) == [900000, 965536, 1031072]
    done = node.godwit("run", "--rm", "--userns", "auto", "base", "true", check=False)
    assert done.returncode == 125 and "no 65536 ids are left of those that /etc/subuid gives" in done.stderr
    node.godwit("rm", "-f", "b")
    node.godwit("run", "--name", "d", "--userns", "auto", "base", "true")
    assert [m[0][1] for m in maps(node, "d")] == found[1]


def test_maps_given_by_hand(node, box):
    name = box("sleep", "1000", options=["--userns", "map", "--uidmap", "0:300000:100", "--uidmap", "1000:7:1",
                                         "--gidmap", "0:400000:2000"])
    assert maps(node, name) == [[(0, 300000, 100), (1000, 7, 1)], [(0, 400000, 2000)]]
    assert inside(node, name, "touch /tmp/f; stat -c %u:%g /tmp/f", "-u", "1000:5") == "1000:5\n"
    pid = inspect(node, name)["state"]["pid"]
    assert pathlib.Path(f"/proc/{pid}/gid_map").read_text().split() == ["0", "400000", "2000"]
    only = box("sleep", "1000", options=["--uidmap", "0:500000:10"])       # as podman: for groups, too
    assert maps(node, only) == [[(0, 500000, 10)]] * 2
    assert maps(node, box("sleep", "1000", options=["--userns", "host"])) == [[], []]


@pytest.mark.parametrize("options, code, words", [
    (["--userns", "keep-id"], 2, "auto, map or host"),
    (["--userns", "auto", "--nested"], 2, "needs --userns host"),
    (["--userns", "map"], 2, "needs --uidmap"),
    (["--userns", "auto", "--uidmap", "0:1:1"], 2, "need --userns map"),
    (["--uidmap", "0:100000"], 125, "CONTAINER-ID:HOST-ID:SIZE"),
    (["--uidmap", "0:100000:9", "--uidmap", "5:200000:9"], 125, "overlaps"),
    (["--uidmap", "1:100000:9"], 125, "uid 0"),
    (["--uidmap", "0:100000:9", "-u", "9"], 125, "user 9 is not in the uid map"),
    (["-v", "/tmp:/x:idmap"], 125, "idmap needs a user namespace"),
    (["-v", "/tmp:/x:exec"], 125, "neither ro nor rw nor idmap"),
    (["--userns", "auto", "-v", "/proc/sys:/x:idmap"], 125, "can't be idmapped"),
])
def test_what_cannot_be_is_refused_by_name(node, options, code, words):
    done = node.godwit("run", *options, "base", "true", check=False)
    assert done.returncode == code and words in done.stderr, done
    assert node.godwit("ps", "-aq").stdout == ""


def test_an_idmapped_volume_has_the_owners_of_the_host(node, tmp_path):
    (tmp_path / "file").write_text("shared\n")
    (tmp_path / "file").chmod(0o600)

    def run(options, script):
        return node.godwit("run", "--rm", "--userns", "auto", "-v", f"{tmp_path}:/v:{options}", "base", "sh", "-c",
                           script, check=False)
    assert run("idmap", "cat /v/file; touch /v/new; chown 5:6 /v/new; stat -c %u:%g /v/file").stdout == "shared\n0:0\n"
    assert ((tmp_path / "new").stat().st_uid, (tmp_path / "new").stat().st_gid) == (5, 6)
    assert run("ro,idmap", "cat /v/file; echo x >/v/file").returncode == 1
    assert (tmp_path / "file").read_text() == "shared\n"


def test_it_serves_and_may_ping(node, box):
    name = box("/bin/busybox", "nc", "-ll", "-p", "80", "-e", "/bin/busybox", "hostname",
               options=["--userns", "auto", "-p", "8081:80"])
    until(lambda: "0050" in inside(node, name, "cat /proc/net/tcp /proc/net/tcp6"))
    address = inspect(node, name)["network"]["address"].split("/")[0]
    ask = f"import socket; print(socket.create_connection(('{address}', 80), 5).makefile().readline(), end='')"
    assert node.run("/usr/bin/python3", "-c", ask).stdout == name + "\n"
    assert inside(node, name, "cat /proc/sys/net/ipv4/ping_group_range").split() == ["0", "0"]


def test_ids_that_nobody_knows_of_are_not_given_out(node, box):
    """Those of a container whose record is damaged: which they are can't be told."""
    record = node.state / "containers" / box("true", options=["--userns", "auto"]) / "config.json"
    text = record.read_text()
    record.write_text(text[:-20])
    refused = node.godwit("run", "--rm", "--userns", "auto", "base", "true", check=False)
    record.write_text(text)
    assert refused.returncode == 125 and record.parent.name in refused.stderr, refused
    assert node.godwit("run", "--rm", "--userns", "auto", "base", "echo", "on").stdout == "on\n"
