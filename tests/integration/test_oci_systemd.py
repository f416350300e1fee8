"""Control groups where systemd manages them: run by tests/lib/systemd, or on a host that systemd manages."""
import contextlib
import os
import pathlib
import signal
import subprocess

import pytest

from conftest import BUILD
from moving import until
from oci import feature
from podman import podman_of_its_own

if not pathlib.Path("/run/systemd/private").exists():
    pytest.skip("no systemd here: tests/lib/systemd pytest ...", allow_module_level=True)

V2 = pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists()
UNIT = "godwit-test-web.scope"
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture(name="scoped")
def bundle_with_a_scope(oci):
    oci.globals = ["--systemd-cgroup"]
    oci.linux["cgroupsPath"] = "godwit-test.slice:godwit-test:web"
    oci.cgroup = f"/godwit.slice/godwit-test.slice/{UNIT}"
    yield oci
    oci.globals = []


def property_of(name, unit=UNIT):
    return subprocess.run(["systemctl", "show", "--value", "--property", name, unit], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


def limit(oci):
    return oci.setting("memory", "memory.max" if V2 else "memory.limit_in_bytes")


@feature("cli --systemd-cgroup", "annotations")
def test_systemd_knows_the_container_and_its_limits(scoped):
    scoped.config["annotations"] = {"org.systemd.property.TimeoutStopSec": "uint64 7",
                                    "org.systemd.property.CollectMode": "'inactive'"}
    scoped.linux["resources"].update(memory={"limit": 64 << 20}, pids={"limit": 50},
                                     cpu={"shares": 512, "quota": 50000, "period": 100000})
    name = scoped.start("sleep", "1000")
    assert property_of("ActiveState") == "active" and property_of("Slice") == "godwit-test.slice"
    assert property_of("TasksMax") == "50" and property_of("CPUQuotaPerSecUSec") == "500ms"
    assert property_of("TimeoutStopUSec") == "7s" and property_of("Delegate") == "yes"
    assert property_of("MemoryMax" if V2 else "MemoryLimit") == limit(scoped) == str(64 << 20)
    place = pathlib.Path(f"/proc/{scoped.state(name)['pid']}/cgroup").read_text()
    assert f"0::{scoped.cgroup}\n" in place
    scoped.call("update", "--memory", str(32 << 20), name)
    # It writes its own values again, which must be ours.
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert property_of("MemoryMax" if V2 else "MemoryLimit") == limit(scoped) == str(32 << 20)
    assert scoped.call("exec", name, "sh", "-c", "echo in").stdout == "in\n"
    scoped.call("pause", name)
    assert scoped.state(name)["status"] == "paused"
    scoped.call("resume", name)
    scoped.call("kill", name, "KILL")
    until(lambda: scoped.state(name)["status"] == "stopped")
    scoped.call("delete", name)
    assert property_of("LoadState") == "not-found"


def test_a_path_without_a_name_is_in_the_slice_of_the_system(scoped):
    del scoped.linux["cgroupsPath"]
    assert scoped.sh("cat /proc/self/cgroup").splitlines()[-1] == "0::/"
    name = scoped.start("sleep", "1000")
    assert property_of("Slice", f"godwit-oci-{name}.scope") == "system.slice"
    scoped.call("delete", "--force", name)
    assert property_of("LoadState", f"godwit-oci-{name}.scope") == "not-found"


def test_a_name_that_is_taken_is_refused_and_its_owner_lives(scoped):
    first = scoped.start("sleep", "1000")
    done = scoped.run("true", check=False)
    assert done.returncode == 1 and UNIT in done.stderr and "linux.cgroupsPath" in done.stderr
    assert scoped.state(first)["status"] == "running"
    assert scoped.call("list", "-q").stdout == first + "\n"


def test_what_systemd_can_not_be_asked_for_is_refused(scoped):
    for path in ("/a/path", "a:b:c", "a.slice:b:c.slice", "a.slice:b:", "a.slice:b:c:d", "a.slice:b:*"):
        scoped.linux["cgroupsPath"] = path
        scoped.refused("linux.cgroupsPath")
    scoped.linux["cgroupsPath"] = "godwit-test.slice:godwit-test:web"
    for name, value in (("CollectMode", "['list']"), ("x", "true"), ("NoSuchProperty", "true"), ("TimeoutStopSec", "'x'")):
        scoped.config["annotations"] = {f"org.systemd.property.{name}": value}
        scoped.refused(name if name != "NoSuchProperty" else UNIT)
    assert property_of("LoadState") == "not-found"


def test_a_create_that_is_killed_leaves_a_scope_that_delete_ends(scoped):
    scoped.config["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}
    scoped.write("true")
    scoped.ids.append("dead")
    with subprocess.Popen(scoped.words("create", "--bundle", scoped.bundle, "dead"), stdin=subprocess.DEVNULL, **QUIET,
                          start_new_session=True) as creating:
        until(lambda: property_of("ActiveState") == "active" and property_of("ControlGroup"))
        until(lambda: (pathlib.Path("/proc") / str(creating.pid) / "task" / str(creating.pid) / "children").read_text())
        os.killpg(creating.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            creating.wait()
    scoped.call("delete", "--force", "dead")
    until(lambda: property_of("LoadState") == "not-found")


def test_a_checkpoint_becomes_a_scope_again(scoped):
    name = scoped.start("sh", "-c", "n=0; while :; do n=$((n+1)); echo $n >/dev/shm/count; sleep 0.02; done", **QUIET)
    until(lambda: scoped.call("exec", name, "cat", "/dev/shm/count", check=False).stdout.strip() > "3")
    scoped.call("checkpoint", "--image-path", scoped.folder / "images", name)
    scoped.call("delete", name)
    assert property_of("LoadState") == "not-found"
    scoped.ids.append("back")
    scoped.daemon("restore", "--detach", "--bundle", scoped.bundle, "--image-path", scoped.folder / "images", "back",
                  **QUIET)
    place = pathlib.Path(f"/proc/{scoped.state('back')['pid']}/cgroup").read_text()
    assert property_of("ActiveState") == "active" and f"0::{scoped.cgroup}\n" in place
    before = int(scoped.call("exec", "back", "cat", "/dev/shm/count").stdout or 0)
    until(lambda: int(scoped.call("exec", "back", "cat", "/dev/shm/count").stdout or 0) > before)


def test_containers_of_godwit_itself_keep_their_limits(tmp_path, oci_root):
    state = {**os.environ, "GODWIT_STATE": str(tmp_path)}

    def godwit(*args):
        return subprocess.run([BUILD / "tools" / "godwit", *args], env=state, check=True, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout
    godwit("image", "import", "base", oci_root)
    name = f"own{os.getpid()}"
    place = pathlib.Path(f"/sys/fs/cgroup{'' if V2 else '/memory'}/godwit/{name}")
    godwit("run", "--detach", "--name", name, "--memory", "64m", "--network", "none", "base", "sleep", "1000")
    try:
        for words in (["systemctl", "daemon-reload"], ["systemd-run", "--scope", "--property", "MemoryMax=10M", "true"],
                      ["systemctl", "daemon-reexec"]):
            subprocess.run(words, check=True, **QUIET)
        assert (place / ("memory.max" if V2 else "memory.limit_in_bytes")).read_text().strip() == str(64 << 20)
        assert godwit("exec", name, "echo", "in") == "in\n"
    finally:
        godwit("rm", "--force", name)
    assert not place.exists()


@feature("cli podman --cgroup-manager")
def test_podman_as_it_is_on_such_a_host():
    with podman_of_its_own(manager="systemd") as podman:
        rootfs = ("--rootfs", podman.folder / "base")
        seen = podman.run(*rootfs, "sh", "-c", "cat /proc/self/cgroup", options=["--rm", "--cgroupns", "host"])
        assert "0::/machine.slice/libpod-" in seen
        podman.run(*rootfs, "sleep", "1000", options=["--detach", "--name", "web", "--memory", "64m"])
        assert podman("exec", "web", "echo", "in") == "in\n"
        name = podman("inspect", "web", "--format", "{{.Id}}").strip()
        unit = f"libpod-{name}.scope"
        assert property_of("MemoryMax" if V2 else "MemoryLimit", unit) == str(64 << 20)
        podman("stop", "--time", "1", "web")
        podman("rm", "web")
        assert property_of("LoadState", unit) == "not-found"
