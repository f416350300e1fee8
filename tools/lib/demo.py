"""What tools/demo does once godwit is built (see there)."""
import argparse
import json
import os
import select
import subprocess
import sys
import time

import demo_summary
from bed import Bed, Failed, exit_on_signals

CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "demo_client.py")
PATIENCE = 900          # seconds for the move
QUIET = 1               # seconds that the client works before the move
SERVER = ("redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "")
IDENTITY = {"inode": "socket", "port": "port", "client_id": "client id in redis",
            "run_id": "run id of redis"}
WHEN = ("before", "moving", "after")


class Steps:
    """One line a step on standard error, with the time that it took."""

    def __init__(self):
        self.begun = time.monotonic()

    def done(self, text):
        now = time.monotonic()
        print(f"  {now - self.begun:6.1f} s  {text}", file=sys.stderr, flush=True)
        self.begun = now


def next_event(client, name, timeout):
    """The client's next JSON line, which must be this one."""
    if not select.select([client.stdout], [], [], timeout)[0]:
        raise Failed(f"the client did not say '{name}' within {timeout} s")
    line = client.stdout.readline()
    event = json.loads(line) if line else {"event": "ended", "error": "it ended"}
    if event["event"] != name:
        raise Failed(f"the client: {event.get('error', event)}")
    return event


def inspect(bed, node):
    return json.loads(bed.run(node, "godwit", "inspect", "web"))[0]


def looks(inspected):
    """What must be the same on the other node."""
    return {"address": inspected["network"]["address"], "mac": inspected["network"]["mac"],
            "limits": inspected["cgroup"]["limits"], "spec": inspected["spec"]}


def start_redis(bed):
    bed.make_image("node1", "redis")
    bed.run("node1", "godwit", "run", "-d", "--name", "web", "--hostname", "web", "redis", *SERVER)
    return looks(inspect(bed, "node1"))


def start_client(bed, address, size):
    return bed.start("node3", "/usr/bin/python3", "-B", CLIENT, address, 6379, size,
                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def start_serve(bed):
    serve = bed.start("node2", "godwit", "serve", stdin=subprocess.DEVNULL,
                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if not select.select([serve.stdout], [], [], 20)[0] or not serve.stdout.readline():
        raise Failed("godwit serve on node2 does not listen")
    return serve


def migrate(bed):
    """The report of godwit migrate, and what it said when it failed."""
    mover = bed.start("node1", "godwit", "migrate", "--quiet", "--json", "web", "node2",
                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, errors = mover.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"godwit migrate is not done after {PATIENCE} s") from late
    report = json.loads(out) if out.strip() else {"ok": False}
    report["ok"] = report["ok"] and mover.returncode == 0
    return report, errors.strip()


def finish(client, moved):
    """Lets the client read everything back."""
    try:
        client.stdin.write(" ".join(map(repr, moved)) + "\n")
        client.stdin.flush()
    except BrokenPipeError as broken:
        raise Failed("the client has ended") from broken
    return next_event(client, "done", 600)


def play(bed, size, steps):
    """The whole story; what was seen, not yet judged."""
    seen = {"size": size, "before": start_redis(bed)}
    steps.done("a redis container runs on node1")
    client = start_client(bed, seen["before"]["address"].split("/")[0], size)
    seen["loaded"] = next_event(client, "loaded", 60 + size)
    size, keys = seen["loaded"]["bytes"] / (1 << 20), seen["loaded"]["keys"]
    steps.done(f"a client on node3 has stored {size:,.0f} MiB in it, as {keys:,} values, and keeps "
               "writing and reading")
    start_serve(bed)
    time.sleep(QUIET)
    moved_from = time.time()
    seen["report"], seen["errors"] = migrate(bed)
    moved_to = time.time()
    steps.done("godwit migrate web node2")
    try:
        seen["client"] = finish(client, (moved_from, moved_to))
        steps.done("the client has read every acknowledged write back")
    except Failed as failed:
        seen["client_error"] = str(failed)
    seen["ps"] = {node: bed.run(node, "godwit", "ps") for node in ("node1", "node2")}
    seen["names"] = {node: bed.run(node, "godwit", "ps", "-aq").split() for node in seen["ps"]}
    running = bed.run("node2", "godwit", "ps", "-q").split()
    seen["after"] = looks(inspect(bed, "node2")) if "web" in running else None
    return seen


def same(client):
    """True when nothing shows that the connection, or the server, is another one."""
    return all(client["before"][key] == client["after"][key] for key in IDENTITY)


def check_connection(client, error):
    if not client:
        return error
    pairs = []
    for key, words in IDENTITY.items():
        before, after = str(client["before"][key])[:10], str(client["after"][key])[:10]
        pairs.append(f"{words} {after}" + (f", was {before}" if before != after else ""))
    return ", ".join(pairs)


def check_writes(client):
    if not client:
        return "not known: the client did not get so far"
    return (f"{client['loaded']:,} before, {client['live']:,} around the move; {client['lost']:,} "
            f"not there, {client['wrong_reads']:,} wrong answers on the way")


def check_place(seen):
    before, after = seen["before"], seen["after"]
    if not after:
        return "it does not run on node2"
    changed = [key for key in before if before[key] != after[key]]
    return f"{', '.join(changed)} changed" if changed else before["address"]


def check_requests(client):
    return client and " / ".join(f"{client[f'requests_{when}']:,}" for when in WHEN)


def check(what, held, said=""):
    return {"what": what, "held": bool(held), "said": said}


def judge(seen):
    """The list of what must hold, each with what was seen."""
    client, error = seen.get("client"), seen.get("client_error", "")
    loaded = seen["loaded"]["used_memory"]
    on_target_only = seen["names"] == {"node1": [], "node2": ["web"]}
    return [
        check(f"redis held at least {seen['size']} MiB before the move",
              loaded >= seen["size"] << 20, f"{loaded / (1 << 20):,.0f} MiB, as redis says"),
        check("godwit migrate succeeded", seen["report"]["ok"], seen["errors"]),
        check("the container is on node2 and no longer on node1", on_target_only),
        check("same address, hostname, limits and settings",
              seen["after"] and seen["before"] == seen["after"], check_place(seen)),
        check("the client's connection survived: the same socket, never connected again",
              client and same(client), check_connection(client, error)),
        check("no acknowledged write is lost",
              client and client["lost"] == 0 and client["wrong_reads"] == 0, check_writes(client)),
        check("the client wrote and read before, during and after the move",
              client and all(client[f"requests_{when}"] for when in WHEN), check_requests(client)),
    ]


def result_of(seen):
    """What --json writes and the summary shows."""
    client, report, checks = seen.get("client"), seen["report"], judge(seen)
    of_client = (client or {}).get
    return {
        "ok": all(check["held"] for check in checks),
        "connection_survived": bool(client and same(client)),
        "acked_writes": client["loaded"] + client["live"] if client else None,
        "acked_writes_lost": of_client("lost"),
        "client_longest_pause_ms": of_client("longest_pause_ms"),
        "client_longest_pause_otherwise_ms": of_client("longest_pause_otherwise_ms"),
        "client_median_ms": of_client("median_ms"),
        "client_retransmitted": of_client("retransmitted"),
        "requests": client and {when: client[f"requests_{when}"] for when in WHEN},
        "data_bytes": seen["loaded"]["bytes"],
        "redis_used_memory": seen["loaded"]["used_memory"],
        **{key: report.get(key) for key in ("downtime_ms", "total_ms", "bytes_raw", "bytes_wire",
                                            "restore_ms", "resume_ms")},
        "phases_ms": report.get("phases_ms", {}),
        "timeline": of_client("timeline"),
        "checks": checks,
        "ps": seen["ps"],
    }


def run(size):
    steps = Steps()
    try:
        with Bed("demo", nodes=3) as bed:
            steps.done("a test bed of three nodes is up")
            seen = play(bed, size, steps)
        steps.done("everything is cleaned up")
    except Failed as failed:
        print(f"demo: {failed}", failed.details, sep="\n", file=sys.stderr)
        return {"ok": False, "error": str(failed)}
    return result_of(seen)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    exit_on_signals()
    result = run(options.size)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")
    if "error" not in result:
        demo_summary.show(result)
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
