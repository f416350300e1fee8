"""What a container is: its own namespaces, mounts, rights and limits, and nothing else."""
import json
import os
import pathlib
import subprocess

import pytest

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "uts")

# What podman 4 and 5 give by default, as bits of capabilities(7).
PODMAN_CAPABILITIES = "00000000800405fb"


def run(node, *args, **options):
    return node.godwit("run", "--rm", *args, **options)


def shell(node, script, *options, **more):
    return run(node, *options, "base", "sh", "-c", script, **more).stdout


def inspect(node, name):
    return json.loads(node.godwit("inspect", name).stdout)[0]


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def has_controllers(node):
    """False on the v2 bed of a machine whose controllers all belong to cgroup v1."""
    v1 = node.run("test", "-d", "/sys/fs/cgroup/memory", check=False).returncode == 0
    return v1 or "memory" in node.run("cat", "/sys/fs/cgroup/cgroup.controllers").stdout


# --- start and end ----------------------------------------------------------

def test_run_prints_what_the_program_prints_and_ends_as_it_does(node):
    done = run(node, "base", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_a_program_that_a_signal_ended_gives_128_and_the_signal(node):
    # Not the first process: that ignores what it has no handler for.
    assert run(node, "base", "sh", "-c", "sh -c 'kill -9 $$'; exit $?", check=False).returncode == 137


def test_run_rm_leaves_nothing(node):
    before = node.bed.snapshot()
    for program in (["/bin/true"], ["no-such-program"], ["/etc"]):
        run(node, "base", *program, check=False)
    assert node.bed.snapshot() == before


def test_input_of_any_size_reaches_the_program(node):
    text = "0123456789abcdef" * 200000
    assert run(node, "-i", "base", "cat", input=text).stdout == text
    assert run(node, "-i", "base", "wc", "-c", input=text).stdout.strip() == str(len(text))


def test_a_program_that_does_not_read_its_input_ends_all_the_same(node):
    done = run(node, "-i", "base", "head", "-c", "3", input="abc" * 1000000)
    assert (done.stdout, done.stderr) == ("abc", "")


def test_without_i_the_input_is_empty(node):
    assert run(node, "base", "cat", input="something").stdout == ""


# --- namespaces and mounts --------------------------------------------------

def test_all_namespaces_are_its_own(node, box):
    names = [box("sleep", "1000"), box("sleep", "1000")]
    inodes = [inspect(node, name)["namespaces"] for name in names]
    for kind in KINDS:
        host = os.stat(f"/proc/self/ns/{kind}").st_ino
        own = int(node.run("stat", "-Lc", "%i", f"/proc/self/ns/{kind}").stdout)
        assert len({host, own, inodes[0][kind], inodes[1][kind]}) == 4 - (host == own), kind


def test_it_is_the_first_process_and_sees_no_other(node):
    first, *names = shell(node, "echo $$; ls /proc; true").split()
    assert first == "1" and {name for name in names if name.isdigit()} == {"1", "2"}


def test_its_cgroups_look_like_roots(node):
    for line in shell(node, "cat /proc/self/cgroup").splitlines():
        assert line.endswith(":/"), line


def test_it_has_three_descriptors(node):
    # The fourth is the folder that ls reads.
    assert shell(node, "ls /proc/self/fd").split() == ["0", "1", "2", "3"]
    links = shell(node, "exec 2>/dev/null; readlink /proc/$$/fd/0; readlink /proc/$$/fd/1").split()
    assert links[0] == "/dev/null" and links[1].startswith("pipe:")


def test_its_mounts_are_those_of_the_table_only(node):
    points = [line.split()[4] for line in shell(node, "cat /proc/self/mountinfo").splitlines()]
    assert points[0] == "/"
    expected = {"/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"}
    assert expected <= set(points)
    for point in points[1:]:
        assert point.startswith(("/proc", "/dev", "/sys")), point
    assert len(points) == len(set(points))


@pytest.mark.parametrize("path", ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger",
                                  "/sys/kernel/mm/ksm/run"])
def test_kernel_settings_cannot_be_written(node, path):
    done = run(node, "base", "sh", "-c", f"[ ! -e {path} ] || echo 1 >{path}; echo $?", check=False)
    assert done.stdout.strip() != "0" or not os.path.exists(path)


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list"])
def test_files_that_tell_of_the_host_are_empty(node, path):
    assert shell(node, f"[ ! -e {path} ] || wc -c <{path}").strip() in ("", "0")


@pytest.mark.parametrize("path", ["/proc/acpi", "/sys/firmware", "/sys/dev/block"])
def test_folders_that_tell_of_the_host_are_empty(node, path):
    assert shell(node, f"[ ! -e {path} ] || ls -A {path}") == ""


def test_devices_are_the_usual_ones_and_others_cannot_be_used(node):
    assert shell(node, "cat /dev/null; head -c 4 /dev/zero | wc -c").strip() == "4"
    assert set(shell(node, "ls /dev").split()) == {
        "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "urandom", "zero"}
    # mknod needs a capability that containers do not have.
    assert run(node, "base", "mknod", "/tmp/sda", "b", "8", "0", check=False).returncode != 0


def test_hostname_hosts_and_environment(node):
    out = shell(node, "hostname; cat /etc/hostname; grep -c walrus /etc/hosts; env | sort; pwd",
                "--hostname", "walrus", "-e", "A=1", "-e", "B=two words", "-e", "A=3", "-w", "/new/one")
    lines = out.splitlines()
    assert lines[:3] == ["walrus", "walrus", "1"]
    assert {"A=3", "B=two words", "HOME=/root", "HOSTNAME=walrus", "PWD=/new/one"} < set(lines[3:])
    assert lines[-1] == "/new/one"
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in lines)


def test_a_variable_without_value_is_passed_on(node):
    done = node.run("env", "FROM_US=yes", node_godwit(), "run", "--rm", "-e", "FROM_US", "-e", "NOT_SET",
                    "base", "env")
    assert "FROM_US=yes" in done.stdout and "NOT_SET" not in done.stdout


def node_godwit():
    from conftest import GODWIT
    return str(GODWIT)


# --- rights -----------------------------------------------------------------

def test_capabilities_seccomp_and_no_new_privs_are_podmans_defaults(node, box):
    status = status_of(inspect(node, box("sleep", "1000"))["state"]["pid"])
    assert status["CapBnd"] == status["CapPrm"] == status["CapEff"] == PODMAN_CAPABILITIES
    assert status["CapInh"] == status["CapAmb"] == "0" * 16
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"


def test_another_user_has_no_capabilities(node, box):
    status = status_of(inspect(node, box("sleep", "1000", options=["-u", "user"]))["state"]["pid"])
    assert status["Uid"].split() == ["1000"] * 4 and status["Gid"].split() == ["1000"] * 4
    assert status["CapPrm"] == status["CapEff"] == "0" * 16
    assert status["CapBnd"] == PODMAN_CAPABILITIES


@pytest.mark.parametrize("user, ids", [
    ("user", "1000:1000"), ("redis", "101:101"), ("1000", "1000:1000"), ("4242", "4242:0"),
    ("user:tty", "1000:5"), ("0:7", "0:7"), ("4242:4343", "4242:4343")])
def test_user_by_name_and_number(node, user, ids):
    assert shell(node, "echo $(id -u):$(id -g)", "-u", user).strip() == ids


def test_mount_is_forbidden(node):
    done = run(node, "base", "mount", "-t", "tmpfs", "none", "/mnt", check=False)
    assert done.returncode != 0 and "permi" in done.stderr.lower()


def test_the_program_itself_cannot_be_written_from_inside(node, box):
    # What enters a container has our program as its /proc/self/exe until it executes another.
    name = box("sleep", "1000")
    inside = node.popen(node_godwit(), "exec", "-i", name, "cat", stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE)
    try:
        inside.stdin.write("x\n")
        inside.stdin.flush()
        assert inside.stdout.readline() == "x\n"
        for pid in (inspect(node, name)["state"]["monitor_pid"], inside.pid):
            assert os.statvfs(f"/proc/{pid}/exe").f_flag & os.ST_RDONLY
    finally:
        inside.communicate()


# --- limits -----------------------------------------------------------------

LIMITS = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "32")


def test_limits_are_in_force(node, box):
    if not has_controllers(node):
        refused = run(node, "--memory", "64m", "base", "/bin/true", check=False)
        assert refused.returncode == 125 and "no memory controller" in refused.stderr
        return
    limits = inspect(node, box("sleep", "1000", options=LIMITS))["cgroup"]["limits"]
    assert limits == {"memory_bytes": 64 << 20, "cpu_millis": 500, "pids": 32}


def test_too_much_memory_kills(node):
    if has_controllers(node):
        done = run(node, "--memory", "32m", "base", "sh", "-c", "x=$(head -c 200000000 /dev/zero | "
                   "tr '\\0' x); echo ${#x}", check=False)
        assert "200000000" not in done.stdout and done.returncode in (2, 137)


def test_too_many_processes_are_refused(node):
    if has_controllers(node):
        done = run(node, "--pids-limit", "8", "base", "sh", "-c",
                   "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo all", check=False)
        assert "fork" in done.stderr and "all" not in done.stdout


def test_the_processor_limit_slows_down(node):
    if not has_controllers(node):
        return
    cpu = json.loads(run_busy(node, ["--cpus", "0.2"]))
    assert cpu < 0.6


def run_busy(node, options):
    """Processor seconds of a loop that runs for one second of real time."""
    out = shell(node, "sh -c 'while :; do :; done' & p=$!; sleep 1; cat /proc/$p/stat; kill -9 $p",
                *options)
    fields = out.rsplit(")", 1)[1].split()
    return str((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))


# --- network ----------------------------------------------------------------

def test_containers_reach_one_another_and_the_node(node, box):
    name = box("sh", "-c", "while :; do echo hello | nc -l -p 7000; done")
    address = inspect(node, name)["network"]["address"].split("/")[0]
    script = f"for i in 1 2 3 4 5 6 7 8 9; do nc -w 2 {address} 7000 </dev/null && break; sleep 0.1; done"
    assert shell(node, script).strip() == "hello"
    assert node.run("sh", "-c", f"for i in 1 2 3 4 5; do nc -w 2 {address} 7000 </dev/null 2>/dev/null "
                    "&& break; sleep 0.1; done || true", check=False) is not None


def test_the_address_that_was_asked_for(node, box):
    name = box("sleep", "1000", options=["--ip", "10.88.1.77"])
    assert inspect(node, name)["network"]["address"] == "10.88.1.77/16"
    assert "10.88.1.77/16" in node.godwit("exec", name, "ip", "addr", "show", "eth0").stdout
    taken = run(node, "--ip", "10.88.1.77", "base", "/bin/true", check=False)
    assert taken.returncode == 125 and f"'{name}'" in taken.stderr and "10.88.1.77" in taken.stderr


def test_no_network_but_loopback(node, box):
    assert shell(node, "ls /sys/class/net", "--network", "none").split() == ["lo"]
    name = box("sleep", "1000", options=["--network", "none"])
    assert node.godwit("exec", name, "ls", "/sys/class/net").stdout.split() == ["lo"]
    for verb in (["stop", "-t", "0"], ["start"], ["rm", "-f"]):
        node.godwit(*verb, name)


# --- volumes ----------------------------------------------------------------

def test_volumes_read_write_and_read_only(node, tmp_path):
    (tmp_path / "file").write_text("from outside")
    out = shell(node, "cat /data/file; echo inside >/data/new; cat /conf/file; echo x >/conf/no || echo refused",
                "-v", f"{tmp_path}:/data", "-v", f"{tmp_path}:/conf:ro")
    assert out == "from outsidefrom outsiderefused\n"
    assert (tmp_path / "new").read_text() == "inside\n"


def test_a_volume_may_be_a_file_or_relative(node, tmp_path):
    (tmp_path / "file").write_text("text")
    assert shell(node, "cat /etc/motd", "-v", "file:/etc/motd", cwd=tmp_path) == "text"


def test_a_symlink_in_the_image_does_not_lead_a_volume_out(node, box, tmp_path):
    (tmp_path / "secret").write_text("host")
    name = box("sh", "-c", f"ln -s {tmp_path} /evil; sleep 1000")
    node.godwit("exec", name, "sh", "-c", "until [ -L /evil ]; do :; done")
    node.godwit("stop", "-t", "0", name)
    node.godwit("start", name)
    assert node.godwit("exec", name, "cat", "/evil/secret", check=False).returncode != 0


# --- images -----------------------------------------------------------------

def test_images_from_a_folder_and_from_an_archive(node, rootfs, tmp_path):
    folder = rootfs("base")
    archive = tmp_path / "base.tar.xz"
    subprocess.run(["tar", "-C", folder, "-cJf", archive, "."], check=True)
    node.godwit("image", "import", "packed", archive)
    try:
        images = {i["name"]: i for i in json.loads(node.godwit("image", "ls", "--json").stdout)}
        assert images["packed"]["digest"] == images["base"]["digest"]
        assert run(node, "packed", "/bin/echo", "hi").stdout == "hi\n"
    finally:
        node.godwit("image", "rm", "packed")
    assert "packed" not in node.godwit("image", "ls").stdout


def test_an_image_in_use_stays(node, box):
    name = box("sleep", "1000")
    done = node.godwit("image", "rm", "base", check=False)
    assert done.returncode == 1 and name in done.stderr
    assert run(node, "base", "/bin/echo", "still").stdout == "still\n"


# --- bad input --------------------------------------------------------------

@pytest.mark.parametrize("args, code, words", [
    (["no-such-image", "true"], 125, "no image 'no-such-image'"),
    (["base", "no-such-program"], 127, "no-such-program"),
    (["base", "/etc/passwd"], 126, "/etc/passwd"),
    (["-u", "nobody-here", "base", "true"], 125, "'nobody-here'"),
    (["-v", "/no/such/path:/data", "base", "true"], 125, "/no/such/path"),
    (["-v", "data", "base", "true"], 125, "SOURCE:DESTINATION"),
    (["-v", "/tmp:/data:rx", "base", "true"], 125, "'rx'"),
    (["-v", "/tmp:/", "base", "true"], 125, "root"),
    (["-w", "relative", "base", "true"], 125, "not absolute"),
    (["-e", "=x", "base", "true"], 125, "no name"),
    (["--name", "../up", "base", "true"], 125, "'../up'"),
    (["--hostname", "a b", "base", "true"], 125, "'a b'"),
    (["--ip", "300.1.1.1", "base", "true"], 125, "300.1.1.1"),
    (["--ip", "192.168.7.7", "base", "true"], 125, "192.168.7.7"),
    (["--ip", "10.88.1.5", "--network", "none", "base", "true"], 2, "--ip"),
    (["--network", "host", "base", "true"], 125, "no network 'host'"),
    (["--memory", "lots", "base", "true"], 2, "'lots'"),
    (["--cpus", "0", "base", "true"], 2, "'0'"),
    (["--nonsense", "base", "true"], 2, "--nonsense"),
    (["base"], 2, "COMMAND"),
])
def test_what_cannot_be_run_is_refused_in_one_line(node, args, code, words):
    before = node.bed.snapshot()
    done = run(node, *args, check=False)
    assert done.returncode == code, done.stderr
    assert words in done.stderr and done.stderr.startswith("godwit: ")
    assert done.stderr.count("\n") == 1
    assert node.bed.snapshot() == before
