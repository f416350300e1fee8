"""Runs commands in turn and says how long each took and how large its processes grew.

usage: stopwatch.py RUNS <COMMANDS

COMMANDS is a JSON object, name: {"words": [...], "place": [...]}. Each is tried WARM times,
then all run in turn, A B C A B C, RUNS times. The words of place run the command (as nsenter
does); the time begins when they have done their part. The output is a JSON object, name: {"ms": [...],
"rss_kb": [...]}, or {"error": "..."} for a command that does not end with 0.

A time ends with the command. What it leaves running is waited for before the next, and what it
leaves to the kernel (a network namespace takes it some 50 ms) gets SETTLE_S: nobody pays for
whoever came before.
The size is that of the largest process of all that the command started, also of
those that it did not wait for: as a subreaper (prctl(2)) this gets them all. An
exec(2) counts the memory of what called it, so a small shell does, not Python.
"""
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time

WARM = 3
SETTLE_S = 0.1
PR_SET_CHILD_SUBREAPER = 36
STARTER = 'echo ready; read -r _; "$@" </dev/null >/dev/null & echo $!'


class CommandFailed(Exception):
    pass


def reap():
    """Waits for all; for each process (end, exit status, peak KB)."""
    ended = {}
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return ended
        ended[pid] = (time.monotonic(), os.waitstatus_to_exitcode(status), usage.ru_maxrss)


def measure(words, place):
    """(ms, peak KB) of one run."""
    with tempfile.TemporaryFile() as errors:
        starter = subprocess.Popen([*place, "/bin/sh", "-c", STARTER, "sh", *words],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        starter.stdout.readline()
        begun = time.monotonic()
        starter.stdin.write(b"\n")
        starter.stdin.close()
        ended = reap()
        starter.returncode = 0          # reaped already
        pid = int(starter.stdout.readline())
        starter.stdout.close()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    time.sleep(SETTLE_S)
    end, code, _ = ended[pid]
    if code:
        raise CommandFailed(said.splitlines()[-1] if said else f"exit {code}")
    return (end - begun) * 1e3, max(it[2] for other, it in ended.items() if other != starter.pid)


def run(commands, runs):
    results = {name: {"ms": [], "rss_kb": []} for name in commands}
    for turn in range(WARM + runs):
        for name, command in commands.items():
            if "error" in results[name]:
                continue
            try:
                ms, rss_kb = measure(**command)
            except CommandFailed as failed:
                results[name] = {"error": str(failed)}
                continue
            if turn >= WARM:
                results[name]["ms"].append(ms)
                results[name]["rss_kb"].append(rss_kb)
    return results


def main():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    json.dump(run(json.load(sys.stdin), int(sys.argv[1])), sys.stdout)


if __name__ == "__main__":
    main()
