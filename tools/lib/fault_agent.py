"""In a node of the fault matrix's bed: answers questions, a line of JSON each, without
starting a shell each time.

    ["godwit", "ps", "-a"]  ->  [exit code, stdout, stderr]
    null                    ->  what the node has: mounts, links, files, ...
"""
import json
import os
import subprocess
import sys

STATE = "/var/lib/godwit"
OWN = sys.argv[1:]      # folders in which nobody else works
# of the last move; not there before the first, or after one that was taken back
KEPT_OR_NOT = ("box/meta/checkpoint.json", "box/token", "box/reservation")
SKIPPED = {"images", "cache", "logs", "node.json"}


def run(words):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def mounts():
    """Without the numbers that the kernel gives out."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return sorted(" ".join(line.split()[3:6] + line.split(" - ")[1].split()) for line in file)


def files():
    found = []
    for top in sorted(set(os.listdir(STATE)) - SKIPPED):
        for folder, folders, names in os.walk(os.path.join(STATE, top)):
            found += [os.path.relpath(os.path.join(folder, name), STATE) for name in folders + names]
    return sorted(path for path in found if not path.endswith(KEPT_OR_NOT))


def listed(folder):
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def look():
    return {
        "mounts": mounts(),
        "links": listed("/sys/class/net"),
        # where the gate's program hangs; the default ones don't count
        "filters": sorted(line.split(" dev ")[1].split()[0] for line in
                          run(["tc", "qdisc", "show"])[1].splitlines() if "clsact" in line),
        "netns": listed("/run/netns"),
        "bpf": listed("/sys/fs/bpf"),
        "temporary": [name for folder in ("/run", *OWN) for name in listed(folder)
                      if name != "criu.kdat"],      # CRIU's cache
        "files": files(),
    }


for line in sys.stdin:
    question = json.loads(line)
    print(json.dumps(look() if question is None else run(question)), flush=True)
