"""What a bundle says of mounts, devices and paths."""
import os
import pathlib
import shutil
import stat
import subprocess

import pytest

from oci import feature


def options_of(oci, path, before=""):
    """The mount's own flags, as /proc/self/mountinfo has them, and its propagation."""
    line = [line for line in oci.sh(f"{before} cat /proc/self/mountinfo").splitlines() if line.split()[4] == path][-1]
    words = line.split()
    return set(words[5].split(",")), words[6] if words[6] != "-" else "private"


def add(oci, destination, source, *options, **more):
    oci.config["mounts"].append({"destination": destination, "source": str(source), "type": "bind",
                                 "options": list(options), **more})


@pytest.fixture(name="tree")
def tree_of_two(tmp_path):
    """A folder that has another file system mounted inside."""
    top = tmp_path / "tree"
    (top / "inner").mkdir(parents=True)
    (top / "file").write_text("outer\n")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", top / "inner"], check=True)
    (top / "inner" / "file").write_text("inner\n")
    yield top
    subprocess.run(["umount", top / "inner"], check=True)


@feature("mounts", "mounts.destination", "mounts.source", "mounts.type", "mounts.options", "cli option bind",
         "cli option rbind", "cli option ro", "cli option rro")
def test_binds_alone_and_with_all_below(oci, tree):
    add(oci, "/mnt/one", tree, "bind")
    add(oci, "/mnt/all", tree, "rbind", "ro")
    add(oci, "/mnt/dead", tree, "rbind", "rro", "rnoexec")
    add(oci, "/mnt/one/file", "/etc/hostname", "bind")
    oci.config["root"]["readonly"] = False
    seen = oci.sh("ls /mnt/one/inner; cat /mnt/all/inner/file; touch /mnt/all/x 2>/dev/null || echo ro; "
                  "touch /mnt/all/inner/x && echo rw; touch /mnt/dead/inner/x 2>/dev/null || echo rro")
    assert seen == "inner\nro\nrw\nrro\n"
    assert {"ro", "noexec"} <= options_of(oci, "/mnt/dead/inner")[0]


@feature("cli option nosuid", "cli option nodev", "cli option noexec", "cli option noatime", "cli option nodiratime",
         "cli option strictatime", "cli option nosymfollow")
@pytest.mark.parametrize("given, shown", [
    (["nosuid", "nodev", "noexec"], {"nosuid", "nodev", "noexec"}), (["noatime"], {"noatime"}),
    (["nodiratime"], {"nodiratime"}), (["relatime"], {"relatime"}), (["nosymfollow"], {"nosymfollow"}),
    (["nosuid", "suid", "ro", "rw"], {"rw"})])
def test_flags_of_mounts(oci, given, shown):
    oci.config["mounts"].append({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": given})
    flags, _ = options_of(oci, "/mnt")
    assert shown <= flags
    if "suid" in given:
        assert "nosuid" not in flags


@feature("cli option private", "cli option slave", "cli option shared", "cli option unbindable",
         "linux.rootfsPropagation")
def test_propagation(oci, tree):
    subprocess.run(["mount", "--make-shared", tree / "inner"], check=True)
    for number, how in enumerate(("private", "rslave", "rshared", "unbindable")):
        add(oci, f"/tmp/{number}", tree / "inner", "rbind", how)
    add(oci, "/tmp", "/tmp", "rbind")
    oci.config["mounts"].insert(-5, oci.config["mounts"].pop())
    kinds = ["private", "master:", "shared:", "unbindable"]
    for folder in range(4):
        pathlib.Path(f"/tmp/{folder}").mkdir(exist_ok=True)
    try:
        for number, kind in enumerate(kinds):
            assert options_of(oci, f"/tmp/{number}")[1].startswith(kind)
    finally:
        for folder in range(4):
            pathlib.Path(f"/tmp/{folder}").rmdir()
    for how, kind in (("shared", "shared:"), ("unbindable", "unbindable"), ("private", "private")):
        oci.linux["rootfsPropagation"] = how
        assert options_of(oci, "/")[1].startswith(kind)
    add(oci, "/mnt", tree, "bind", "shared", "slave")
    oci.refused("mounts: /mnt: 'slave' after another propagation")


@feature("mounts.uidMappings", "mounts.uidMappings.containerID", "mounts.uidMappings.hostID",
         "mounts.uidMappings.size", "mounts.gidMappings", "mounts.gidMappings.containerID",
         "mounts.gidMappings.hostID", "mounts.gidMappings.size", "cli option idmap", "cli option ridmap")
def test_ids_of_a_mount_are_mapped(oci, tree):
    os.chown(tree / "file", 0, 0)
    os.chown(tree / "inner" / "file", 0, 0)
    maps = {"uidMappings": [{"containerID": 0, "hostID": 3000, "size": 10}],
            "gidMappings": [{"containerID": 0, "hostID": 4000, "size": 10}]}
    add(oci, "/mnt", tree, "rbind", "ridmap", **maps)
    assert oci.sh("stat -c %u:%g /mnt/file /mnt/inner/file") == "3000:4000\n3000:4000\n"
    oci.config["mounts"][-1]["options"] = ["rbind", "idmap"]
    assert oci.sh("stat -c %u:%g /mnt/file /mnt/inner/file") == "3000:4000\n0:0\n"
    del oci.config["mounts"][-1]["gidMappings"]
    oci.refused("uidMappings and gidMappings go together")


@feature("cli option tmpcopyup")
def test_a_tmpfs_can_begin_with_what_it_covers(oci):
    oci.config["mounts"].append({"destination": "/etc", "type": "tmpfs", "source": "tmpfs",
                                 "options": ["tmpcopyup", "size=1m", "mode=755"]})
    assert oci.sh("grep -c root: /etc/passwd; touch /etc/new && echo written") == "1\nwritten\n"
    oci.config["mounts"][-1]["options"].append("ro")
    assert oci.sh("grep -c root: /etc/passwd; touch /etc/new 2>/dev/null || echo ro") == "1\nro\n"
    oci.config["mounts"][-1]["type"] = "ramfs"
    oci.refused("tmpcopyup is for tmpfs")


def test_mounts_that_can_not_be_are_refused_by_name(oci):
    for mount, said in (({"type": "tmpfs", "options": ["magic=1"]}, "magic"), ({"type": "nofs"}, "nofs"),
                        ({"type": "bind", "source": "/no/such", "options": []}, "/no/such"),
                        ({"type": "bind", "options": ["rbind"]}, "needs a source"),
                        ({"type": "bind", "source": "/tmp", "options": ["sync"]}, "'sync'"), ({}, "no type")):
        kept = list(oci.config["mounts"])
        oci.config["mounts"].append({"destination": "/mnt", **mount})
        assert "mounts: /mnt" in oci.refused(said)
        oci.config["mounts"] = kept


def test_links_of_the_root_lead_nowhere_outside(oci, tmp_path):
    root = tmp_path / "evil"
    subprocess.run(["cp", "-a", f"{(oci.bundle / 'rootfs').resolve()}/.", root], check=True)
    (tmp_path / "target").mkdir()
    shutil.rmtree(root / "mnt")
    (root / "mnt").symlink_to("/opt")
    (root / "opt").rmdir()
    (root / "opt").symlink_to(f"../../../../{tmp_path.relative_to('/')}/target")
    oci.config["root"] = {"path": str(root), "readonly": False}
    add(oci, "/mnt/inside", "/etc", "bind")
    oci.run("true", check=False)
    assert not any((tmp_path / "target").iterdir())
    (root / "opt").unlink()
    (root / "opt").symlink_to("../../../../../../srv")
    assert oci.sh("ls /srv/inside/hostname") == "/srv/inside/hostname\n"
    assert (root / "srv" / "inside").is_dir() and not pathlib.Path("/srv/inside").exists()


@feature("root.readonly", "linux.maskedPaths", "linux.readonlyPaths")
def test_paths_can_be_covered_or_closed(oci):
    oci.linux["maskedPaths"] = ["/proc/version", "/etc", "/no/such/path"]
    oci.linux["readonlyPaths"] = ["/proc/sys", "/dev/shm", "/nothing/here"]
    assert oci.sh("cat /proc/version; ls /etc; touch /dev/shm/x 2>/dev/null || echo closed; "
                  "touch /x 2>/dev/null || echo root") == "closed\nroot\n"
    oci.config["root"]["readonly"] = False
    oci.config["mounts"].append({"destination": "/var", "type": "tmpfs", "source": "tmpfs"})
    assert "rw" in options_of(oci, "/")[0]


@feature("linux.devices", "linux.devices.path", "linux.devices.type", "linux.devices.major", "linux.devices.minor",
         "linux.devices.fileMode", "linux.devices.uid", "linux.devices.gid")
def test_devices(oci):
    oci.linux["devices"] = [
        {"path": "/dev/mine/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/disk", "type": "b", "major": 7, "minor": 3}, {"path": "/dev/pipe", "type": "p"}]
    name = oci.start("sleep", "1000")
    root = pathlib.Path(f"/proc/{oci.state(name)['pid']}/root/dev")
    tun, disk, pipe = ((root / path).stat() for path in ("mine/tun", "disk", "pipe"))
    assert (tun.st_mode, tun.st_rdev, tun.st_uid, tun.st_gid) == (stat.S_IFCHR | 0o640, os.makedev(10, 200), 7, 8)
    assert (stat.S_ISBLK(disk.st_mode), disk.st_rdev, stat.S_ISFIFO(pipe.st_mode)) == (True, os.makedev(7, 3), True)
    # What every container has: runtime-spec's default devices and links.
    for path, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
        assert (root / path).stat().st_rdev == os.makedev(1, minor)
    assert {path: os.readlink(root / path) for path in ("fd", "stdin", "ptmx")} == {
        "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "ptmx": "pts/ptmx"}
    oci.call("delete", "--force", name)
    oci.linux["devices"] = [{"path": "/dev/x", "type": "z"}]
    oci.refused("linux.devices: /dev/x: 'z'")


@feature("cli mount cgroup")
def test_the_control_groups_that_it_sees_are_its_own(oci):
    assert oci.sh("cat /proc/self/cgroup | cut -d: -f3 | sort -u") == "/\n"
    oci.linux["namespaces"] = [n for n in oci.linux["namespaces"] if n["type"] != "cgroup"]
    assert oci.cgroup in oci.sh("cat /proc/self/cgroup")
    own = "/sys/fs/cgroup/unified" if pathlib.Path("/sys/fs/cgroup/unified").exists() else "/sys/fs/cgroup"
    assert oci.sh(f"wc -l <{own}/cgroup.procs; mkdir {own}/x 2>/dev/null || echo ro").split() == ["2", "ro"]
    for mount in oci.config["mounts"]:
        if mount["type"] == "cgroup":
            mount["options"].remove("ro")
    assert oci.sh(f"mkdir {own}/x && rmdir {own}/x && echo rw") == "rw\n"
