"""Containers of the OCI runtime as images of CRIU, and back."""
import contextlib
import json
import pathlib
import subprocess

import pytest

from moving import until
from oci import connected, feature, network_namespace, say

# A file of the host as its output could not be found again.
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
COUNT = "n=0; while :; do n=$((n+1)); echo $n >/dev/shm/count; echo $n; sleep 0.02; done"


def count_of(oci, name):
    return int(oci.call("exec", name, "cat", "/dev/shm/count").stdout or 0)


def restore(oci, name, *options):
    oci.ids.append(name)
    oci.daemon("restore", "--detach", "--bundle", oci.bundle, "--image-path", oci.folder / "images", *options, name, **QUIET)


@feature("cli checkpoint", "cli restore", "cli checkpoint --leave-running", "cli checkpoint --image-path",
         "cli restore --pid-file")
def test_a_container_goes_on_where_it_was(oci):
    oci.linux["resources"]["pids"] = {"limit": 40}
    (oci.folder / "volume").mkdir()
    oci.config["mounts"].append({"destination": "/mnt", "source": str(oci.folder / "volume"), "type": "bind"})
    name = oci.start("sh", "-c", COUNT, **QUIET)
    until(lambda: count_of(oci, name) > 3)
    oci.call("checkpoint", "--leave-running", "--image-path", oci.folder / "images", name)
    assert oci.state(name)["status"] == "running"
    oci.call("checkpoint", "--image-path", oci.folder / "images", name)
    assert oci.state(name)["status"] == "stopped"
    oci.call("delete", name)
    restore(oci, "back", "--pid-file", oci.folder / "pid")
    state = oci.state("back")
    assert (state["status"], state["pid"]) == ("running", int((oci.folder / "pid").read_text()))
    before = count_of(oci, "back")
    assert before > 3
    until(lambda: count_of(oci, "back") > before)
    assert oci.setting("pids", "pids.max") == "40"
    # Covered paths, closed ones, and what it sees of control groups are as before.
    seen = oci.call("exec", "back", "sh", "-c", "cat /proc/kcore; ls /sys/firmware; "
                    "touch /proc/sys/kernel/hostname 2>/dev/null || echo ro; ls /mnt /sys/fs/cgroup/cgroup.procs "
                    "/sys/fs/cgroup/*/cgroup.procs 2>/dev/null | wc -l; echo x >/dev/null && echo dev").stdout.split()
    assert seen[0] == "ro" and int(seen[1]) > 1 and seen[2] == "dev"
    oci.call("kill", "back", "KILL")
    until(lambda: oci.state("back")["status"] == "stopped")


@feature("cli checkpoint --tcp-established")
def test_what_was_not_allowed_is_refused_and_it_goes_on(oci):
    listens = "cat /proc/net/tcp /proc/net/tcp6 | grep -q ':0063 .* 0A '"
    name = oci.start("sh", "-c", f"sleep 1000 | nc -l -p 99 & until {listens}; do :; done; sleep 1000 | nc 127.0.0.1 99",
                     **QUIET)
    established = "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 01 '"
    until(lambda: oci.call("exec", name, "sh", "-c", established, check=False).stdout == "2\n")
    done = oci.call("checkpoint", "--image-path", oci.folder / "images", name, check=False)
    assert done.returncode == 1 and "TCP" in done.stderr
    assert oci.state(name)["status"] == "running"
    oci.call("checkpoint", "--file-locks", "--tcp-established", "--image-path", oci.folder / "images", name)
    oci.call("delete", name)
    restore(oci, "again", "--file-locks", "--tcp-established")
    assert oci.call("exec", "again", "sh", "-c", established).stdout == "2\n"


@feature("linux.namespaces.path")
def test_connections_of_a_network_that_was_joined_stay(oci):
    with network_namespace() as network:
        [net] = [ns for ns in oci.linux["namespaces"] if ns["type"] == "network"]
        net["path"] = f"/run/netns/{network}"
        name = oci.start("nc", "-l", "-p", "99", "-e", "cat", **QUIET)
        options = ("--tcp-established", "--image-path", oci.folder / "images")
        with contextlib.closing(until(lambda: connected("10.234.5.2", 99))) as client:
            assert say(client, b"one") == b"one"
            oci.call("checkpoint", "--leave-running", *options, name)
            assert say(client, b"two") == b"two"
            oci.call("checkpoint", *options, name)
            oci.call("delete", name)
            # Nobody is there, and nobody says so.
            client.sendall(b"three")
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.recv(10)
            client.settimeout(30)
            restore(oci, "again", "--tcp-established")
            assert client.recv(10) == b"three"
            assert say(client, b"four") == b"four"
        until(lambda: oci.state("again")["status"] == "stopped")
        rules = subprocess.run(["ip", "netns", "exec", network, "nft", "list", "ruleset"], check=True, text=True,
                               stdout=subprocess.PIPE).stdout
        assert rules == ""
        net["path"] = "/run/netns/nowhere"
        oci.write("true")
        done = oci.call("restore", "--bundle", oci.bundle, "--image-path", oci.folder / "images", "no", check=False)
        assert done.returncode == 1 and "/run/netns/nowhere" in done.stderr


def test_a_restore_that_fails_leaves_nothing(oci):
    oci.write("true")
    (oci.folder / "images").mkdir()
    done = oci.call("restore", "--bundle", oci.bundle, "--image-path", oci.folder / "images", "none", check=False)
    assert done.returncode == 1 and "--image-path" in done.stderr
    (oci.folder / "images" / "mounts.json").write_text("[]")
    (oci.folder / "images" / "descriptors.json").write_text(json.dumps(["", "", ""]))
    done = oci.call("restore", "--bundle", oci.bundle, "--image-path", oci.folder / "images", "none", check=False)
    assert done.returncode == 1 and "restore 'none'" in done.stderr
    assert oci.call("list", "--quiet").stdout == "" and not pathlib.Path(oci.folder / "state" / "none").exists()
