"""What a bundle says of namespaces, control groups, devices, seccomp and hooks."""
import json
import os
import pathlib
import socket

import pytest

from moving import until
from oci import feature

PURE_V2 = not pathlib.Path("/sys/fs/cgroup/unified").exists()


def namespaces_of(pid):
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}")
            for kind in ("pid", "net", "mnt", "ipc", "uts", "user", "cgroup", "time")}


# --- namespaces -----------------------------------------------------------------

@feature("linux.namespaces", "linux.namespaces.type", "linux.namespaces.path", "hostname", "domainname")
def test_namespaces_are_made_and_joined_by_path(oci):
    oci.linux["namespaces"] = [{"type": kind} for kind in
                               ("pid", "network", "mount", "ipc", "uts", "cgroup", "time")]
    oci.config.update(hostname="inside", domainname="example")
    first = oci.start("sleep", "1000")
    pid = oci.state(first)["pid"]
    ours, theirs = namespaces_of("self"), namespaces_of(pid)
    assert {kind for kind in ours if ours[kind] == theirs[kind]} == {"user"}
    oci.linux["cgroupsPath"] += "-second"
    oci.linux["namespaces"] = [{"type": "mount"}] + [
        {"type": kind, "path": f"/proc/{pid}/ns/{name}"} for kind, name in
        (("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup"), ("time", "time"))]
    del oci.config["hostname"], oci.config["domainname"]
    second = oci.start("sleep", "2000")
    joined = namespaces_of(oci.state(second)["pid"])
    assert {kind for kind in joined if joined[kind] != theirs[kind]} == {"mnt"}
    assert oci.call("exec", second, "hostname").stdout == "inside\n"
    assert oci.call("exec", second, "cat", "/proc/sys/kernel/domainname").stdout == "example\n"
    oci.call("delete", "--force", second)
    for list_, said in (([{"type": "pid"}], "mount namespace"), ([{"type": "mount"}, {"type": "mount"}], "twice"),
                        ([{"type": "mount", "path": "/proc/self/ns/mnt"}], "runtime's own"),
                        ([{"type": "mount"}, {"type": "pid", "path": "/proc/self/ns/uts"}], "is no pid namespace"),
                        ([{"type": "mount"}, {"type": "moon"}], "'moon'")):
        oci.linux["namespaces"] = list_
        assert said in oci.run("true", check=False).stderr


@feature("linux.timeOffsets", "linux.timeOffsets.secs", "linux.timeOffsets.nanosecs")
def test_clocks_can_be_set_off(oci):
    oci.linux["namespaces"].append({"type": "time"})
    oci.linux["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 5}, "monotonic": {"secs": 7}}
    uptime = float(oci.sh("cat /proc/uptime").split()[0])
    assert 999999 <= uptime - float(pathlib.Path("/proc/uptime").read_text().split()[0]) < 1000100
    oci.linux["timeOffsets"] = {"realtime": {"secs": 1}}
    oci.refused("linux.timeOffsets: no clock is called 'realtime'")
    oci.linux["timeOffsets"] = {"boottime": {"secs": 1}}
    oci.linux["namespaces"].pop()
    oci.refused("linux.timeOffsets")


@feature("linux.uidMappings", "linux.uidMappings.containerID", "linux.uidMappings.hostID", "linux.uidMappings.size",
         "linux.gidMappings", "linux.gidMappings.containerID", "linux.gidMappings.hostID", "linux.gidMappings.size")
def test_a_user_namespace_maps_ids(oci):
    oci.linux["namespaces"].append({"type": "user"})
    oci.linux["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    oci.linux["gidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    assert oci.sh("id -u; cat /proc/self/uid_map /proc/self/gid_map; echo x >/dev/null && [ -c /dev/zero ] && echo dev"
                  ).split() == ["0", "0", "100000", "65536", "0", "200000", "65536", "dev"]
    name = oci.start("sleep", "1000")
    status = pathlib.Path(f"/proc/{oci.state(name)['pid']}/status").read_text()
    assert "Uid:\t100000\t" in status and "Gid:\t200000\t" in status
    assert oci.call("exec", name, "id", "-u").stdout == "0\n"
    oci.call("delete", "--force", name)
    del oci.linux["uidMappings"]
    oci.refused("linux.uidMappings")


@feature("linux.sysctl")
def test_sysctls_of_the_container(oci):
    oci.linux["sysctl"] = {"net.ipv4.ip_default_ttl": "77", "kernel.msgmax": "9000"}
    assert oci.sh("cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax") == "77\n9000\n"
    assert pathlib.Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() != "77\n"
    oci.linux["namespaces"] = [n for n in oci.linux["namespaces"] if n["type"] != "network"]
    oci.refused("linux.sysctl: 'net.ipv4.ip_default_ttl' needs a namespace")


def test_the_loopback_interface_is_up(oci):
    assert "LOOPBACK,UP" in oci.sh("ip link show lo")


# --- control groups --------------------------------------------------------------

def limited(oci, resources):
    oci.linux["resources"].update(resources)
    oci.start("sleep", "1000")


def says(oci, v1, v2):
    """The files of this host's kind of control groups, controller/file, say what is expected."""
    expected = v2 if PURE_V2 else v1
    assert {path: oci.setting(*path.split("/")) for path in expected} == expected


@feature("linux.resources", "linux.resources.memory", "linux.resources.memory.limit", "linux.resources.memory.swap",
         "linux.resources.memory.reservation", "linux.resources.memory.swappiness",
         "linux.resources.memory.disableOOMKiller", "linux.resources.memory.useHierarchy",
         "linux.resources.memory.checkBeforeUpdate", "linux.resources.memory.kernelTCP")
def test_memory(oci):
    both = {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20, "useHierarchy": True}
    only_v1 = {"swappiness": 7, "disableOOMKiller": True, "kernelTCP": 16 << 20}
    if PURE_V2:
        for name, value in only_v1.items():
            oci.linux["resources"]["memory"] = {**both, name: value}
            oci.refused(f"linux.resources.memory.{name}: cgroup v2 has nothing like it")
    limited(oci, {"memory": both if PURE_V2 else {**both, **only_v1}})
    says(oci, {"memory/memory.limit_in_bytes": str(64 << 20), "memory/memory.memsw.limit_in_bytes": str(96 << 20),
               "memory/memory.soft_limit_in_bytes": str(32 << 20), "memory/memory.swappiness": "7",
               "memory/memory.use_hierarchy": "1", "memory/memory.kmem.tcp.limit_in_bytes": str(16 << 20)},
         {"memory/memory.max": str(64 << 20), "memory/memory.swap.max": str(32 << 20),
          "memory/memory.low": str(32 << 20)})
    if not PURE_V2:
        assert "oom_kill_disable 1" in oci.setting("memory", "memory.oom_control")
    (oci.folder / "r.json").write_text('{"memory": {"limit": 4096, "checkBeforeUpdate": true}}')
    done = oci.call("update", "--resources", oci.folder / "r.json", oci.ids[-1], check=False)
    assert "checkBeforeUpdate" in done.stderr


@feature("linux.resources.cpu", "linux.resources.cpu.shares", "linux.resources.cpu.quota",
         "linux.resources.cpu.period", "linux.resources.cpu.burst", "linux.resources.cpu.cpus",
         "linux.resources.cpu.mems", "linux.resources.pids", "linux.resources.pids.limit")
def test_processors_and_processes(oci):
    limited(oci, {"cpu": {"shares": 512, "quota": 40000, "period": 80000, "burst": 10000, "cpus": "0", "mems": "0"},
                  "pids": {"limit": 77}})
    says(oci, {"cpu/cpu.shares": "512", "cpu/cpu.cfs_quota_us": "40000", "cpu/cpu.cfs_period_us": "80000",
               "cpu/cpu.cfs_burst_us": "10000", "cpuset/cpuset.cpus": "0", "cpuset/cpuset.mems": "0",
               "pids/pids.max": "77"},
         {"cpu/cpu.weight": "20", "cpu/cpu.max": "40000 80000", "cpu/cpu.max.burst": "10000",
          "cpuset/cpuset.cpus": "0", "cpuset/cpuset.mems": "0", "pids/pids.max": "77"})
    assert oci.call("exec", oci.ids[-1], "grep", "Cpus_allowed_list", "/proc/self/status").stdout.split()[1] == "0"


@feature("linux.resources.cpu.idle")
def test_an_idle_container(oci):
    limited(oci, {"cpu": {"idle": 1}})
    assert oci.setting("cpu", "cpu.idle") == "1"


def block_device():
    """major, minor of a disk that can be throttled; None: there is none."""
    for path in sorted(pathlib.Path("/sys/block").iterdir()):
        if (path / "queue" / "scheduler").exists():
            return [int(number) for number in (path / "dev").read_text().split(":")]
    return None


@feature("linux.resources.blockIO", "linux.resources.blockIO.throttleReadBpsDevice",
         "linux.resources.blockIO.throttleReadBpsDevice.major", "linux.resources.blockIO.throttleReadBpsDevice.minor",
         "linux.resources.blockIO.throttleReadBpsDevice.rate", "linux.resources.blockIO.throttleWriteBpsDevice",
         "linux.resources.blockIO.throttleWriteBpsDevice.major", "linux.resources.blockIO.throttleWriteBpsDevice.minor",
         "linux.resources.blockIO.throttleWriteBpsDevice.rate", "linux.resources.blockIO.throttleReadIOPSDevice",
         "linux.resources.blockIO.throttleReadIOPSDevice.major", "linux.resources.blockIO.throttleReadIOPSDevice.minor",
         "linux.resources.blockIO.throttleReadIOPSDevice.rate", "linux.resources.blockIO.throttleWriteIOPSDevice",
         "linux.resources.blockIO.throttleWriteIOPSDevice.major",
         "linux.resources.blockIO.throttleWriteIOPSDevice.minor",
         "linux.resources.blockIO.throttleWriteIOPSDevice.rate")
def test_throttled_disks(oci):
    device = block_device()
    assert device, "no disk"
    kinds = {"throttleReadBpsDevice": "read_bps", "throttleWriteBpsDevice": "write_bps",
             "throttleReadIOPSDevice": "read_iops", "throttleWriteIOPSDevice": "write_iops"}
    limited(oci, {"blockIO": {kind: [{"major": device[0], "minor": device[1], "rate": 4096 + number}]
                              for number, kind in enumerate(kinds)}})
    where = f"{device[0]}:{device[1]}"
    says(oci, {f"blkio/blkio.throttle.{file}_device": f"{where} {4096 + number}" for number, file in
               enumerate(kinds.values())},
         {"io/io.max": f"{where} rbps=4096 wbps=4097 riops=4098 wiops=4099"})


@feature("linux.resources.memory.kernel", "linux.resources.cpu.realtimeRuntime", "linux.resources.cpu.realtimePeriod",
         "linux.resources.blockIO.weight", "linux.resources.blockIO.leafWeight", "linux.resources.blockIO.weightDevice",
         "linux.resources.hugepageLimits", "linux.resources.network", "linux.resources.network.classID",
         "linux.resources.network.priorities", "linux.resources.rdma")
def test_what_this_host_has_no_controller_for_is_refused_by_name(oci):
    wanted = {"memory.kernel": {"memory": {"kernel": 1 << 20}},
              "cpu.realtime": {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 900000}},
              "blockIO.weight": {"blockIO": {"weight": 500}},
              "blockIO.leafWeight": {"blockIO": {"leafWeight": 500}},
              "blockIO.weightDevice": {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 500}]}},
              "hugepageLimits": {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]},
              "network.classID": {"network": {"classID": 1048577}},
              "network.priorities": {"network": {"priorities": [{"name": "lo", "priority": 3}]}},
              "rdma": {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}}}}
    refused = 0
    for name, resources in wanted.items():
        oci.linux["resources"] = {**resources}
        done = oci.run("true", check=False)
        assert done.returncode == 0 or f"linux.resources.{name}" in done.stderr, done.stderr
        refused += done.returncode != 0
    assert refused > 0
    oci.linux["resources"] = {"blockIO": {"weight": 5}}
    oci.refused("linux.resources.blockIO.weight: 5 is not within")


@feature("linux.resources.unified", "linux.resources.hugepageLimits", "linux.resources.hugepageLimits.pageSize",
         "linux.resources.hugepageLimits.limit")
def test_files_of_the_v2_directory(oci):
    # With controllers there: files that no other field has, and large pages.
    more = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]} if PURE_V2 else {}
    limited(oci, {"unified": {"cgroup.max.depth": "3", **({"memory.high": str(48 << 20)} if PURE_V2 else {})}, **more})
    says(oci, {"unified/cgroup.max.depth": "3"},
         {"unified/cgroup.max.depth": "3", "memory/memory.high": str(48 << 20), "hugetlb/hugetlb.2MB.max": str(4 << 20)})
    oci.call("delete", "--force", oci.ids[-1])
    oci.linux["resources"]["unified"] = {"../x": "1"}
    assert "linux.resources.unified: '../x'" in oci.run("true", check=False).stderr


@feature("linux.resources.devices", "linux.resources.devices.allow", "linux.resources.devices.type",
         "linux.resources.devices.major", "linux.resources.devices.minor", "linux.resources.devices.access")
def test_device_rules_are_a_program(oci):
    script = "mknod /dev/x c 10 200; (dd if=/dev/x bs=1 count=0 && echo read; : >/dev/x && echo written) 2>/dev/null; true"
    oci.process["capabilities"]["bounding"].append("CAP_MKNOD")
    for kind in ("effective", "permitted"):
        oci.process["capabilities"][kind].append("CAP_MKNOD")
    deny = {"allow": False, "access": "rwm"}
    make = {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "m"}
    for rules, seen in (([deny, make], ""), ([deny, make, {**make, "access": "r"}], "read\n"),
                        ([{"allow": True, "access": "rwm"}], "read\nwritten\n"),
                        ([deny, {**make, "access": "rwm"}, {**make, "allow": False, "access": "r"}], "written\n")):
        oci.linux["resources"] = {"devices": rules}
        assert oci.sh(script) == seen, rules
    oci.linux["resources"] = {"devices": [{"allow": True, "type": "x"}]}
    oci.refused("linux.resources.devices: type 'x'")


# --- seccomp ------------------------------------------------------------------------

@feature("linux.seccomp", "linux.seccomp.defaultAction", "linux.seccomp.defaultErrnoRet", "linux.seccomp.architectures",
         "linux.seccomp.flags", "linux.seccomp.syscalls", "linux.seccomp.syscalls.names",
         "linux.seccomp.syscalls.action", "linux.seccomp.syscalls.errnoRet", "linux.seccomp.syscalls.args",
         "linux.seccomp.syscalls.args.index", "linux.seccomp.syscalls.args.value",
         "linux.seccomp.syscalls.args.valueTwo", "linux.seccomp.syscalls.args.op")
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_system_calls_are_filtered(oci, no_new_privileges):
    oci.process["noNewPrivileges"] = no_new_privileges
    call = {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    mode = {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": 0o700, "op": "SCMP_CMP_EQ"}]}
    masked = {"names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0,
              "args": [{"index": 0, "value": 0o77, "valueTwo": 0o55, "op": "SCMP_CMP_MASKED_EQ"}]}
    oci.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                            "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [call, mode, masked]}
    assert "No space left" in oci.sh("mkdir /dev/shm/a 2>&1; true")
    assert oci.sh("touch /dev/shm/a; chmod 600 /dev/shm/a && echo ok; umask 055; umask") == "ok\n0022\n"
    oci.linux["seccomp"]["syscalls"] = [{"names": ["x"], "action": "SCMP_ACT_DREAM"}]
    oci.refused("linux.seccomp.syscalls.action: 'SCMP_ACT_DREAM' is unknown")
    oci.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 3}
    oci.refused("linux.seccomp.defaultAction: SCMP_ACT_ALLOW takes no errno")


def test_a_compiled_filter_serves_again_and_no_other_profile(oci):
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    oci.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    kept = oci.folder / "state/.cache"
    for _ in range(2):
        assert "No space left" in oci.sh("mkdir /dev/shm/a 2>&1; true")
        files = {path: path.stat().st_ino for path in kept.iterdir()}
        assert len(files) == 1
    name = oci.start("sleep", "1000")
    assert "No space left" in oci.call("exec", name, "sh", "-c", "mkdir /dev/shm/a 2>&1; true").stdout
    oci.call("delete", "--force", name)
    assert files == {path: path.stat().st_ino for path in kept.iterdir()}      # none was written anew
    rule["errnoRet"] = 30
    assert "Read-only" in oci.sh("mkdir /dev/shm/a 2>&1; true")
    rule.update(errnoRet=28, names=["mkdirat"], args=[{"index": 2, "value": 0o777, "op": "SCMP_CMP_NE"}])
    oci.sh("mkdir /dev/shm/a")
    for path in kept.iterdir():
        path.write_bytes(path.read_bytes()[:-8])        # damaged: compiled anew
    assert oci.sh("mkdir /dev/shm/a && echo made") == "made\n"


@feature("linux.seccomp.listenerPath", "linux.seccomp.listenerMetadata")
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_listener_hears_of_system_calls(oci, no_new_privileges):
    path = str(oci.folder / "listener")
    oci.process["noNewPrivileges"] = no_new_privileges
    oci.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "words",
                            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()
        name = oci.start("sh", "-c", "mkdir /dev/shm/a; sleep 1000")
        connection, _ = server.accept()
        with connection:
            text, [listener], _, _ = socket.recv_fds(connection, 65536, 1)
    said = json.loads(text)
    assert (said["fds"], said["metadata"], said["state"]["id"]) == (["seccompFd"], "words", name)
    assert said["pid"] == oci.state(name)["pid"] and os.readlink(f"/proc/self/fd/{listener}") == "anon_inode:seccomp notify"
    # Nobody hears any more: the call fails, and the program goes on.
    os.close(listener)
    until(lambda: "sleep" in oci.call("ps", name).stdout)
    oci.call("delete", "--force", name)
    oci.linux["seccomp"]["syscalls"][0]["names"] = ["write"]
    oci.refused("linux.seccomp: SCMP_ACT_NOTIFY of write")


# --- hooks ------------------------------------------------------------------------------

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@feature("hooks", *(f"hooks.{kind}" for kind in ("prestart", "createRuntime", "createContainer", "startContainer",
                                                 "poststart", "poststop")))
def test_hooks_run_in_their_order_with_the_state(oci):
    out = oci.folder / "hooks"
    out.mkdir()
    script = 'IFS= read -r state || true; echo "$1 $X $state" >>"$2"; readlink /proc/self/ns/mnt >>"$2"'
    oci.config["mounts"].append({"destination": str(out), "source": str(out), "type": "bind", "options": ["rw"]})
    oci.config["root"]["readonly"] = False
    for kind in KINDS:
        oci.config.setdefault("hooks", {})[kind] = [
            {"path": "/bin/sh", "args": ["sh", "-c", script, "sh", kind, str(out / "log")],
             "env": [f"X={kind.upper()}", "PATH=/bin:/usr/bin"], "timeout": 30}]
    oci.run("true")
    lines = (out / "log").read_text().splitlines()
    assert [line.split()[:2] for line in lines[::2]] == [[kind, kind.upper()] for kind in KINDS]
    states = [json.loads(line.split(" ", 2)[2]) for line in lines[::2]]
    assert [state["status"] for state in states] == ["creating", "creating", "creating", "created", "running", "stopped"]
    assert len({state["id"] for state in states}) == 1
    assert all(state["pid"] > 0 for state in states[:5])
    ours = os.readlink("/proc/self/ns/mnt")
    assert [line == ours for line in lines[1::2]] == [True, True, False, False, True, True]


@feature("hooks.prestart.path", "hooks.prestart.args", "hooks.prestart.env", "hooks.prestart.timeout")
def test_a_hook_that_fails_or_lasts_stops_everything_but_at_the_end(oci):
    for kind in KINDS[:4]:
        oci.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", "echo some reason; exit 3"]}]}
        said = oci.refused(f"hook {kind}: /bin/sh: exit 3: some reason")
        assert "\n" not in said.strip()
    oci.config["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}
    oci.refused("hook createRuntime: /bin/sleep: took longer than its timeout of 1 s")
    oci.config["hooks"] = {"poststop": [{"path": "/no/such/hook"}]}
    assert oci.sh("echo fine") == "fine\n"
    oci.config["hooks"] = {"prestart": [{"path": "hook"}]}
    oci.refused("hooks.prestart: path 'hook' is not absolute")
