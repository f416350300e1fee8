"""Runs commands in turn and says how long each took and how large its processes grew.

usage: stopwatch.py RUNS <COMMANDS

COMMANDS is a JSON object, name: {"words": [...], "place": [...], "before": [[...]...], "after":
[[...]...]}. Each is tried WARM times, then all run in turn, A B C A B C, RUNS times. The words of
place run the command (as nsenter does); the time begins when they have done their part. What is
to be done before and after takes no part in it. The output is a JSON object, name: {"ms": [...],
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
TRIES = 5
SETTLE_S = 0.1
PR_SET_CHILD_SUBREAPER = 36
STARTER = 'echo ready; read -r _; "$@" </dev/null >/dev/null & echo $!'


class CommandFailed(Exception):
    pass


def reap(wanted=None):
    """Waits until all of these have ended (default: all that there are); for each process that
    ended (end, exit status, peak KB)."""
    ended = {}
    while wanted is None or not wanted <= set(ended):
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            break
        ended[pid] = (time.monotonic(), os.waitstatus_to_exitcode(status), usage.ru_maxrss)
    return ended


def prepare(place, commands):
    """What is done before or after; what it leaves running stays."""
    for words in commands:
        with tempfile.TemporaryFile() as errors:
            child = subprocess.Popen([*place, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=errors)
            child.returncode = reap({child.pid})[child.pid][1]
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
        if child.returncode:
            raise CommandFailed(said.splitlines()[-1] if said else f"{' '.join(words)}: exit {child.returncode}")


def timed(words, place):
    """(ms, what reap says) of one run; None when another process than this one has reaped it."""
    with tempfile.TemporaryFile() as errors:
        starter = subprocess.Popen([*place, "/bin/sh", "-c", STARTER, "sh", *words],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        starter.stdout.readline()
        begun = time.monotonic()
        starter.stdin.write(b"\n")
        starter.stdin.close()
        pid = int(starter.stdout.readline())
        ended = reap({pid, starter.pid})
        starter.returncode = 0          # reaped already
        starter.stdout.close()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if pid not in ended:
        return None
    end, code, _ = ended[pid]
    if code:
        raise CommandFailed(said.splitlines()[-1] if said else f"exit {code}")
    return (end - begun) * 1e3, ended


def measure(words, place, before=(), after=()):
    """(ms, peak KB) of one run, with all around it."""
    for _ in range(TRIES):
        prepare(place, before)
        took = timed(words, place)
        prepare(place, after)
        rest = reap()
        if took:
            break
    else:
        raise CommandFailed("its end was seen by another process")
    ms, ended = took
    ended.update(rest)
    time.sleep(SETTLE_S)
    return ms, max(it[2] for it in ended.values())


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
