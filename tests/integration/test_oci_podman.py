"""A container engine that is not ours, podman, with godwit as its runtime."""
import contextlib
import subprocess

import pytest

from moving import until
from oci import connected, feature, network_namespace, say
from podman import LIMITS, podman_of_its_own


@pytest.fixture(name="podman")
def podman_fixture():
    with podman_of_its_own() as made:
        yield made


@feature("cli podman run")
def test_podman_runs_and_hears_how_it_ended(podman):
    rootfs = ("--rootfs", podman.folder / "base")
    assert podman.run(*rootfs, "sh", "-c", "echo out; id -u", options=["--rm"]) == "out\n0\n"
    assert podman.run(*rootfs, "sh", "-c", "exit 7", options=["--rm"], check=False)[0] == 7
    code, said = podman.run(*rootfs, "no-such-program", options=["--rm"], check=False)
    assert code == 127 and "no such program" in said
    assert podman.run(*rootfs, "/etc/passwd", options=["--rm"], check=False)[0] == 126
    assert podman.run(*rootfs, "id", options=["--rm", "--user", "1000:100", "--read-only"]).startswith("uid=1000")
    limited = podman.run(*rootfs, "sh", "-c", "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true",
                         options=["--rm", "--pids-limit", "44", "--memory", "64m"])
    assert limited == "44\n"


@feature("cli podman exec", "cli podman stop", "cli podman logs", "cli podman pause", "cli podman top")
def test_podman_keeps_one_running_and_stops_it(podman):
    loop = "trap 'echo bye; exit 3' TERM; n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done"
    podman.run("--rootfs", podman.folder / "base", "sh", "-c", loop, options=["--detach", "--name", "web"])
    until(lambda: "3\n" in podman("logs", "web"))
    assert podman("exec", "--user", "1000", "--env", "A=b", "--workdir", "/tmp", "web", "sh", "-c",
                  "id -u; pwd; echo $A") == "1000\n/tmp\nb\n"
    assert podman("exec", "web", "sh", "-c", "exit 5", check=False)[0] == 5
    podman("pause", "web")
    assert podman("inspect", "web", "--format", "{{.State.Status}}") == "paused\n"
    podman("unpause", "web")
    # podman's own look at processes: one that has just ended makes it fail.
    until(lambda: "trap" in podman("top", "web", "args", check=False)[1])
    podman("stop", "web")
    assert podman("inspect", "web", "--format", "{{.State.Status}} {{.State.ExitCode}}") == "exited 3\n"
    assert podman("logs", "web").endswith("bye\n")
    podman("start", "web")
    podman("kill", "--signal", "KILL", "web")
    assert podman("wait", "web") == "137\n"
    podman("rm", "web")


@feature("cli podman import")
def test_podman_runs_an_image_that_was_imported(podman):
    tar = podman.folder / "base.tar"
    subprocess.run(["tar", "-C", podman.folder / "base", "-cf", tar, "."], check=True)
    podman("import", tar, "base:1")
    assert podman.run("base:1", "sh", "-c", "touch /new; ls /new", options=["--rm"]) == "/new\n"


@feature("cli podman checkpoint", "cli podman restore")
def test_podman_checkpoints_and_restores(podman):
    count = "n=0; while :; do n=$((n+1)); echo $n >/tmp/count; echo $n; sleep 0.05; done"

    def last():
        return int(podman("logs", "--tail", "1", "web").strip() or 0)

    podman.run("--rootfs", podman.folder / "base", "sh", "-c", count, options=["--detach", "--name", "web"])
    until(lambda: last() > 3)
    podman("container", "checkpoint", "--leave-running", "web")
    assert podman("inspect", "web", "--format", "{{.State.Status}}") == "running\n"
    podman("container", "checkpoint", "--tcp-established", "web")
    assert podman("inspect", "web", "--format", "{{.State.Status}}") == "exited\n"
    stopped_at = last()
    podman("container", "restore", "--tcp-established", "web")
    until(lambda: last() > stopped_at)
    assert stopped_at < int(podman("exec", "web", "cat", "/tmp/count")) < stopped_at + 2000
    podman("stop", "--time", "0", "web")
    podman("rm", "web")


@feature("cli podman checkpoint export", "cli podman restore import")
def test_podman_exports_a_checkpoint_and_imports_it_under_another_name(podman):
    """What changed in the root file system goes along, the original goes."""
    tar = podman.folder / "base.tar"
    subprocess.run(["tar", "-C", podman.folder / "base", "-cf", tar, "."], check=True)
    podman("import", tar, "base:2")
    script = "echo kept >/kept; n=0; while :; do n=$((n+1)); echo $n >/count; sleep 0.05; done"
    podman.run("base:2", "sh", "-c", script, options=["--detach", "--name", "first"])

    def count(name):
        code, text = podman("exec", name, "cat", "/count", check=False)
        return int(text) if code == 0 and text.strip() else 0
    until(lambda: count("first") > 3)
    archive = podman.folder / "first.tar.gz"
    podman("container", "checkpoint", "--compress", "gzip", "--export", archive, "first")
    listed = subprocess.run(["tar", "-tzf", archive], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert "checkpoint/inventory.img" in listed and "config.dump" in listed
    podman("rm", "-f", "first")
    podman("container", "restore", "--import", archive, "--name", "second")
    stopped_at = count("second")
    assert stopped_at > 3 and podman("exec", "second", "cat", "/kept") == "kept\n"
    until(lambda: count("second") > stopped_at)
    podman("stop", "--time", "0", "second")
    podman("rm", "second")


@feature("cli podman checkpoint --tcp-established")
def test_podman_keeps_connections_of_a_network_that_stays(podman):
    with network_namespace() as network:
        podman("run", "--network", f"ns:/run/netns/{network}", "--cgroup-parent", podman.cgroup, *LIMITS, "--detach",
               "--name", "echo", "--rootfs", podman.folder / "base", "nc", "-l", "-p", "99", "-e", "cat")
        with contextlib.closing(until(lambda: connected("10.234.5.2", 99))) as client:
            assert say(client, b"one") == b"one"
            podman("container", "checkpoint", "--tcp-established", "echo")
            podman("container", "restore", "--tcp-established", "echo")
            assert say(client, b"two") == b"two"
        podman("wait", "echo")
        podman("rm", "echo")
