"""What an operator does with containers: exec, logs, stop, kill, rm, pause, start, attach."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest

from conftest import GODWIT
from moving import inspect, until
from terminal import Terminal

LOOP = ("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.02; done")


def ps(node, *options):
    return {c["name"]: c for c in json.loads(node.godwit("ps", "--json", *options).stdout)}


def refused(node, *args, code=1):
    """Runs a command that must fail, and returns its one line of complaint."""
    done = node.godwit(*args, check=False)
    assert done.returncode == code and done.stderr.count("\n") == 1, done
    assert done.stderr.startswith("godwit: ")
    return done.stderr


# --- ps, inspect ------------------------------------------------------------

def test_ps_tells_what_runs_and_ps_a_what_has_run(node, box):
    running, ended = box("sleep", "1000"), box("sh", "-c", "exit 5")
    until(lambda: ps(node, "-a")[ended]["status"] == "exited")
    assert list(ps(node)) == [running] and ps(node, "-a")[ended]["exit_code"] == 5
    assert node.godwit("ps", "-q").stdout == running + "\n"
    table = node.godwit("ps", "-a").stdout
    assert "running" in table and "exited (5)" in table
    entry = ps(node)[running]
    assert entry["image"] == "base" and entry["address"].startswith("10.88.1.")
    assert pathlib.Path(f"/proc/{entry['pid']}/comm").read_text() == "sleep\n"


def test_a_container_that_is_not_there(node):
    for verb in ("inspect", "logs", "stop", "kill", "rm", "pause", "unpause", "start", "attach"):
        assert "no container 'nobody'" in refused(node, verb, "nobody")
    assert "no container 'nobody'" in refused(node, "exec", "nobody", "true", code=125)


def test_nothing_of_a_container_that_has_ended_is_given_up(node, box):
    name = box("true")
    until(lambda: ps(node, "-a")[name]["status"].startswith("exited"))
    assert "there is nothing to give up" in refused(node, "migrate", "--cancel", name)


def test_one_bad_name_does_not_stop_the_others(node, box):
    name = box("sleep", "1000")
    assert "'nobody'" in refused(node, "rm", "-f", "nobody", name)
    assert name not in ps(node, "-a")


# --- exec -------------------------------------------------------------------

def test_exec_is_in_the_same_place_with_the_same_rights(node, box):
    name = box("sleep", "1000", options=["-e", "A=b", "-w", "/tmp"])
    script = ("for k in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$k /proc/1/ns/$k; done | "
              "sort | uniq -c | grep -vc ' 2 '; cmp /proc/self/cgroup /proc/1/cgroup && echo same; "
              "for k in Cap Secc NoNew; do grep ^$k /proc/self/status /proc/1/status | cut -d: -f2-; "
              "done | sort -u | wc -l; echo $A; pwd")
    assert node.godwit("exec", name, "sh", "-c", script, check=False).stdout.split() == [
        "0", "same", "8", "b", "/tmp"]


def test_exec_passes_input_output_and_exit_code(node, box):
    name = box("sleep", "1000")
    text = "0123456789abcdef" * 100000
    assert node.godwit("exec", "-i", name, "cat", input=text).stdout == text
    done = node.godwit("exec", name, "sh", "-c", "echo out; echo err >&2; exit 9", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 9)
    assert node.godwit("exec", name, "sh", "-c", "kill -9 $$", check=False).returncode == 137
    assert node.godwit("exec", "-u", "user", "-w", "/home", "-e", "X=1", name, "sh", "-c",
                       "id -u; pwd; echo $X $HOME").stdout.split() == ["1000", "/home", "1", "/home/user"]


def test_exec_has_three_descriptors_that_lead_nowhere_on_the_host(node, box):
    name = box("sleep", "1000")
    out = node.godwit("exec", name, "sh", "-c", "ls /proc/$$/fd; readlink /proc/$$/fd/1; true").stdout.split()
    assert out[:3] == ["0", "1", "2"] and out[-1].startswith("pipe:")
    assert len(out) == 4


def test_exec_of_what_is_not_there(node, box):
    name = box("sleep", "1000")
    assert "no-such" in refused(node, "exec", name, "no-such", code=127)
    assert "/etc" in refused(node, "exec", name, "/etc", code=126)
    assert "'nobody-here'" in refused(node, "exec", "-u", "nobody-here", name, "true", code=125)


def test_exec_ends_when_its_program_does_and_leaves_the_rest(node, box):
    name = box("sleep", "1000")
    began = time.monotonic()
    node.godwit("exec", name, "sh", "-c", "sleep 1000 & echo started")
    assert time.monotonic() - began < 5
    assert inspect(node, name)["cgroup"]["usage"]["pids"] in (0, 2)


def test_exec_on_a_terminal(node, box):
    name = box("sleep", "1000")
    before = processes(node)
    terminal = Terminal(node, GODWIT, "exec", "-it", name, "sh")
    terminal.type("tty; stty size\n")
    terminal.expect("/dev/pts/")
    terminal.expect("24 80")
    terminal.set_size(40, 100)
    terminal.type("sleep 0.2; stty size\n")
    terminal.expect("40 100")
    terminal.type("sleep 100\n")
    time.sleep(0.2)
    terminal.type("\x03")
    terminal.type("echo interrupted=$?; exit 4\n")
    terminal.expect("interrupted=130")
    assert terminal.close() == 4
    until(lambda: processes(node) == before)


def processes(node):
    return node.bed.snapshot()["processes"]


# --- run and attach ---------------------------------------------------------

def test_run_on_a_terminal(node):
    terminal = Terminal(node, GODWIT, "run", "--rm", "-it", "base", "sh")
    terminal.type("tty; stty size; echo TERM=$TERM; ls -l /proc/$$/fd\n")
    terminal.expect("/dev/pts/0")
    terminal.expect("24 80")
    terminal.expect("TERM=xterm")
    terminal.type("exit 6\n")
    assert terminal.close() == 6


def test_leave_and_attach_again(node, box):
    name = "left"
    terminal = Terminal(node, GODWIT, "run", "-it", "--name", name, "base", "sh")
    try:
        terminal.expect("# ")
        terminal.type("X=kept; echo rea''dy\n")
        terminal.expect("ready")
        terminal.type("\x10\x11")
        assert terminal.close() == 0
        assert ps(node)[name]["status"] == "running"
        terminal = Terminal(node, GODWIT, "attach", name)
        terminal.type("echo still $X; exit 2\n")
        terminal.expect("still kept")
        assert terminal.close() == 2
    finally:
        node.godwit("rm", "-f", name, check=False)


def test_signals_are_passed_on(node):
    process = node.popen(GODWIT, "run", "--rm", "base", "sh", "-c",
                         "trap 'echo got; exit 8' INT; echo ready; while :; do sleep 0.02; done",
                         stdout=subprocess.PIPE)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "got\n" and process.returncode == 8


def test_attached_to_one_that_ends(node, box):
    name = box("sh", "-c", "while ! [ -e /go ]; do echo waits; sleep 0.02; done; echo said; exit 11")
    process = node.popen(GODWIT, "attach", name, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "waits\n"
    node.godwit("exec", name, "touch", "/go", check=False)      # the container may end first, and this with it
    assert process.communicate(timeout=20)[0].endswith("said\n") and process.returncode == 11


# --- logs -------------------------------------------------------------------

def logs_of_ended(node, box, script):
    name = box("sh", "-c", script)
    until(lambda: ps(node, "-a")[name]["status"] == "exited")
    return name


def test_logs_keep_both_streams_and_lines_of_any_length(node, box):
    name = logs_of_ended(node, box, "echo one; echo two >&2; head -c 100000 /dev/zero | tr '\\0' x; echo; "
                         "printf unfinished")
    done = node.godwit("logs", name)
    assert done.stdout == "one\n" + "x" * 100000 + "\nunfinished" and done.stderr == "two\n"


def test_logs_tail_counts_lines_as_the_program_wrote_them(node, box):
    name = logs_of_ended(node, box, "seq 1 50000; head -c 40000 /dev/zero | tr '\\0' x; echo; echo last")
    assert node.godwit("logs", "--tail", "1", name).stdout == "last\n"
    assert node.godwit("logs", "--tail", "2", name).stdout == "x" * 40000 + "\nlast\n"
    assert node.godwit("logs", "--tail", "4", name).stdout.startswith("49999\n50000\nxx")
    assert node.godwit("logs", "--tail", "20000", name).stdout.startswith("30003\n30004\n")
    assert len(node.godwit("logs", "--tail", "90000", name).stdout.splitlines()) == 50002
    assert node.godwit("logs", "--tail", "0", name).stdout == ""


def test_logs_with_times(node, box):
    name = logs_of_ended(node, box, "echo word")
    stamp, word = node.godwit("logs", "-t", name).stdout.split()
    assert word == "word" and stamp.startswith("20") and stamp.endswith("Z") and len(stamp) == 30


def test_logs_f_follows_to_the_end(node, box):
    name = box("sh", "-c", "echo one; while ! [ -e /go ]; do sleep 0.02; done; echo two; printf three")
    process = node.popen(GODWIT, "logs", "-f", name, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "one\n"
    node.godwit("exec", name, "touch", "/go")
    assert process.communicate(timeout=20)[0] == "two\nthree" and process.returncode == 0


# --- stop, kill, rm ---------------------------------------------------------

def test_stop_asks_first(node, box):
    name = box(*LOOP)
    node.godwit("stop", name)
    entry = ps(node, "-a")[name]
    assert (entry["status"], entry["exit_code"]) == ("exited", 3)
    assert "not running" in refused(node, "stop", name)


def test_those_that_are_stopped_together_end_together(node, box, tmp_path):
    """The first one waits for the second, which comes after it."""
    begin = "trap '{}' TERM; touch /v/ready-$0; while :; do sleep 0.02; done"
    volume = ["-v", f"{tmp_path}:/v"]
    first = box("sh", "-c", begin.format("until [ -e /v/told ]; do sleep 0.02; done; exit 3"), "1", options=volume)
    second = box("sh", "-c", begin.format("touch /v/told; exit 4"), "2", options=volume)
    until(lambda: len(list(tmp_path.iterdir())) == 2)
    node.godwit("stop", "-t", "60s", first, second, first)
    assert [inspect(node, name)["state"]["exit_code"] for name in (first, second)] == [3, 4]
    # So many that they are taken in parts; what fails is told, and the others go.
    names = [box("sleep", "1000") for _ in range(3)]
    node.godwit("rm", names[1], "-f")
    done = node.godwit("rm", "-f", *(f"none{i}" for i in range(100)), *names, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 101
    assert not set(names) & set(node.godwit("ps", "-aq").stdout.split())


def test_stop_kills_what_does_not_listen(node, box):
    name = box("sleep", "1000")
    began = time.monotonic()
    node.godwit("stop", "-t", "300ms", name)
    assert 0.3 <= time.monotonic() - began < 5
    assert ps(node, "-a")[name]["exit_code"] == 137


def test_kill_sends_the_signal(node, box):
    name = box("sh", "-c", "trap 'echo hup' HUP; trap 'exit 4' USR1; while :; do sleep 0.02; done")
    for sig in ("HUP", "SIGHUP", "1"):
        node.godwit("kill", "-s", sig, name)
        time.sleep(0.1)
    node.godwit("kill", "-s", "usr1", name)
    until(lambda: ps(node, "-a")[name]["status"] == "exited")
    assert node.godwit("logs", name).stdout == "hup\n" * 3
    assert ps(node, "-a")[name]["exit_code"] == 4
    assert "'NOSUCH'" in refused(node, "kill", "-s", "NOSUCH", name, code=2)


def test_rm_leaves_nothing(node):
    before = node.bed.snapshot()
    for name in ("one", "two"):
        node.godwit("run", "-d", "--name", name, "base", "sh", "-c", "mkdir -p /a/b; sleep 1000")
    assert "stop it first" in refused(node, "rm", "one")
    node.godwit("stop", "-t", "0", "one")
    node.godwit("rm", "one")
    node.godwit("rm", "-f", "two")
    assert node.bed.snapshot() == before


def test_run_rm_is_removed_by_whoever_ends_it(node):
    before = node.bed.snapshot()
    node.godwit("run", "-d", "--rm", "--name", "gone", "base", "sleep", "1000")
    node.godwit("stop", "-t", "0", "gone")
    assert node.bed.snapshot() == before


# --- pause, start -----------------------------------------------------------

def test_pause_stops_the_clock_of_its_work(node, box):
    name = box("sh", "-c", "while :; do echo x; sleep 0.01; done")
    node.godwit("pause", name)
    assert ps(node)[name]["status"] == "paused"
    lines = node.godwit("logs", name).stdout
    time.sleep(0.2)
    assert node.godwit("logs", name).stdout == lines
    assert "paused already" in refused(node, "pause", name)
    assert "unpause" in refused(node, "exec", name, "true", code=125)
    node.godwit("unpause", name)
    until(lambda: len(node.godwit("logs", name).stdout) > len(lines))
    assert "not paused" in refused(node, "unpause", name)


def test_a_paused_container_can_be_stopped_and_removed(node, box):
    name = box(*LOOP)
    until(lambda: "sleep" in node.godwit("top", name).stdout.replace("while :; do sleep", ""))
    node.godwit("pause", name)
    node.godwit("stop", name)
    assert ps(node, "-a")[name]["exit_code"] == 3
    node.godwit("start", name)
    node.godwit("pause", name)
    node.godwit("rm", "-f", name)
    assert name not in ps(node, "-a")


def test_start_again_keeps_files_address_and_log(node, box):
    name = box("sh", "-c", "echo run >>/count; cat /count; sleep 1000")
    address = ps(node)[name]["address"]
    assert "already" in refused(node, "start", name)
    until(lambda: node.godwit("logs", name).stdout == "run\n")
    node.godwit("stop", "-t", "0", name)
    node.godwit("start", name)
    until(lambda: node.godwit("logs", name).stdout == "run\nrun\nrun\n")
    assert ps(node)[name]["address"] == address


# --- the truth --------------------------------------------------------------

def test_the_monitor_was_killed(node, box):
    name = box("sleep", "1000")
    before = inspect(node, name)
    os.kill(before["state"]["monitor_pid"], signal.SIGKILL)
    until(lambda: not inspect(node, name)["state"]["monitor_alive"])
    # It runs on, and whoever asks is told so, and gives it another one.
    assert ps(node)[name]["pid"] == before["state"]["pid"]
    assert inspect(node, name)["state"]["monitor_alive"]
    node.godwit("stop", "-t", "0", name)
    entry = ps(node, "-a")[name]
    assert entry["status"] == "exited" and "monitor" in entry["reason"]
    node.godwit("start", name)
    assert ps(node)[name]["status"] == "running"


def test_everything_of_it_was_killed(node):
    before = node.bed.snapshot()
    node.godwit("run", "-d", "--name", "dead", "base", "sleep", "1000")
    state = inspect(node, "dead")["state"]
    os.kill(state["monitor_pid"], signal.SIGKILL)
    os.kill(state["pid"], signal.SIGKILL)
    until(lambda: ps(node, "-a")["dead"]["status"] == "exited")
    assert "not known" in ps(node, "-a")["dead"]["reason"]
    node.godwit("rm", "dead")
    assert node.bed.snapshot() == before


def test_the_machine_was_restarted(node, box):
    name = box("sleep", "1000")
    record = node.state / "containers" / name / "state.json"
    text = record.read_text()
    state = json.loads(text)
    state["boot_id"] = "00000000-0000-0000-0000-000000000000"
    try:
        record.write_text(json.dumps(state))
        entry = ps(node, "-a")[name]
        assert entry["status"] == "exited" and "restarted" in entry["reason"]
    finally:
        record.write_text(text)


def test_a_record_that_is_damaged_is_named(node, box):
    name = box("sleep", "1000")
    record = node.state / "containers" / name / "state.json"
    text = record.read_text()
    try:
        record.write_text("{")
        assert name in refused(node, "stop", name)
        assert name in node.godwit("ps", "-a", check=False).stderr
    finally:
        record.write_text(text)


# --- races ------------------------------------------------------------------

def test_of_two_runs_with_one_name_one_wins(node):
    processes = [node.popen(GODWIT, "run", "-d", "--name", "race", "base", "sleep", "1000",
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    try:
        done = [(p.communicate(timeout=30), p.returncode) for p in processes]
        assert sorted(code for _, code in done) == [0, 125, 125, 125]
        assert all("'race'" in err and "in use" in err for (_, err), code in done if code)
    finally:
        node.godwit("rm", "-f", "race", check=False)


def test_many_at_once_get_addresses_of_their_own(node):
    names = [f"many{i}" for i in range(8)]
    try:
        for process in [node.popen(GODWIT, "run", "-d", "--name", name, "base", "sleep", "1000",
                                   stdout=subprocess.PIPE) for name in names]:
            process.communicate(timeout=60)
            assert process.returncode == 0
        assert len({c["address"] for c in ps(node).values()}) == len(names)
    finally:
        node.godwit("rm", "-f", *names, check=False)


@pytest.mark.parametrize("args, words", [
    (["frobnicate"], "no command 'frobnicate'"),
    (["image"], "another word"),
    (["ps", "what"], "what"),
    (["rm"], "NAME"),
    (["logs", "--tail", "x", "a"], "'x'"),
    (["stop", "-t", "soon", "a"], "'soon'"),
    (["--nonsense", "ps"], "--nonsense"),
])
def test_bad_usage_says_where_help_is(node, args, words):
    complaint = refused(node, *args, code=2)
    assert words in complaint and "godwit help" in complaint


def test_help_knows_every_command(node):
    overview = node.godwit("help").stdout
    names = [line.split("  ")[1] for line in overview.splitlines() if line.startswith("  ") and
             not line.startswith(("  -", "   "))]
    assert len(names) >= 15
    for name in names:
        text = node.godwit("help", *name.split()).stdout
        assert text.startswith(f"usage: godwit {name}")
        assert node.godwit(*name.split(), "--help").stdout == text
