"""How a container of runc is moved today: checkpoint, tar over a socket, restore.

usage: move_runc.py start|send|receive|stop SETTINGS
       move_runc.py save SETTINGS FOLDER    a checkpoint on disk; the container goes on

It runs in a node of the test bed, whose name chooses its part of SETTINGS, a JSON file.
start runs the container in a network namespace that was made for it; receive, on the
other node, has one ready, prints "ready" and waits for send, which prints a JSON line
with times and bytes. stop removes what there is, and never fails.

The best is done that stock tools allow: images in memory (tmpfs), tar straight from and
into the socket with large blocks, address and MAC in a namespace that is external to
CRIU, so that the connections survive. The port joins the bridge after the restore: a
packet that came before would find no socket, and be answered with a reset.
"""
import ctypes
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import threading
import time

NETNS = "/run/bench.net"
PORT_NAME = "bench0"
IMAGES = pathlib.Path("/run/bench.images")
WORK = pathlib.Path("/run/bench.work")
BLOCKING = "--blocking-factor=1024"
OPTIONS = ("--tcp-established", "--image-path", IMAGES, "--work-path", WORK)
CLONE_NEWNET = 0x40000000
STATS_HEAD = 12         # two magics and the length, before the message of stats-dump
FROZEN_TIME = 2         # field of DumpStatsEntry: microseconds


def run(*words, **options):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "check": True, **options}
    return subprocess.run([str(word) for word in words], **options)


def runc(*words, **options):
    return run("runc", "--root", "/run/runc", *words, **options)


def quietly(function, *words):
    try:
        function(*words, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        pass


# --- the network ------------------------------------------------------------

def make_network(settings):
    pathlib.Path(NETNS).touch()
    run("unshare", f"--net={NETNS}", "true")
    run("ip", "link", "add", PORT_NAME, "type", "veth", "peer", "name", "eth0",
        "address", settings["mac"], "netns", NETNS)
    run("ip", "link", "set", PORT_NAME, "up")
    inside = f"link set lo up\naddr add {settings['address']}/16 dev eth0\nlink set eth0 up\n"
    run("nsenter", f"--net={NETNS}", "ip", "-batch", "-", input=inside.encode(), stdin=None)


def socket_inside():
    """A packet socket in the container's network; only one thread ever goes there."""
    made = []

    def make():
        libc = ctypes.CDLL(None, use_errno=True)
        with open(NETNS, "rb") as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET) == 0:
                made.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
                made[0].bind(("eth0", 0))
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def announce(link, settings):
    """A gratuitous ARP reply, so that the bridges learn where the address is (RFC 5227)."""
    mac = bytes.fromhex(settings["mac"].replace(":", ""))
    address = socket.inet_aton(settings["address"])
    head = b"\xff" * 6 + mac + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 2)
    link.send(head + mac + address + b"\xff" * 6 + address)


def join_network(link, settings):
    run("ip", "link", "set", PORT_NAME, "master", "godwit0")
    announce(link, settings)


def remove_network():
    quietly(run, "ip", "link", "del", PORT_NAME)
    quietly(run, "umount", NETNS)
    pathlib.Path(NETNS).unlink(missing_ok=True)


# --- the four parts ---------------------------------------------------------

def check_cgroups(settings):
    """CRIU takes a container's cgroups along with all that is below them. Of a container in
    the root of a hierarchy that would be everybody's, made again where it is restored."""
    state = json.loads(runc("state", "bench", stdout=subprocess.PIPE).stdout)
    lines = pathlib.Path(f"/proc/{state['pid']}/cgroup").read_text(encoding="utf-8").splitlines()
    outside = [line for line in lines if settings["cgroup"] not in line.split(":", 2)[2]]
    if outside:
        raise RuntimeError(f"runc left the container in a cgroup of others: {outside}")


def start(settings, mine):
    make_network(settings)
    runc("run", "-d", "--bundle", mine["bundle"], "bench", stderr=subprocess.DEVNULL)
    check_cgroups(settings)
    join_network(socket_inside(), settings)


def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7f) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def frozen_us():
    """How long the tasks were frozen until the dump was done, as CRIU says."""
    data = (WORK / "stats-dump").read_bytes()[STATS_HEAD:]
    _, at = read_varint(data, 0)        # field 1, a message
    end, at = read_varint(data, at)
    end += at
    while at < end:
        key, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if key >> 3 == FROZEN_TIME:
            return value
    raise RuntimeError("stats-dump has no frozen_time")


def explain(log):
    """The errors that CRIU logged."""
    lines = (WORK / log).read_text(errors="replace").splitlines() if (WORK / log).exists() else []
    return "\n".join(line for line in lines if "Error" in line)


def checkpoint(images=IMAGES, *more):
    images.mkdir()
    WORK.mkdir()
    done = runc("checkpoint", "--tcp-established", "--image-path", images, "--work-path", WORK, *more,
                "bench", stderr=subprocess.PIPE, check=False)
    if done.returncode:
        raise RuntimeError(f"runc checkpoint: {done.stderr.decode()}\n{explain('dump.log')}")


def save(_, __, folder):
    """Until all of it is on disk."""
    checkpoint(pathlib.Path(folder), "--leave-running")
    run("rm", "-rf", WORK)
    run("sync", "--file-system", folder)


def bytes_acknowledged(link):
    """tcpi_bytes_acked of tcp(7)'s TCP_INFO."""
    info = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
    return struct.unpack_from("=Q", info, 120)[0]


def send(settings, _):
    begun = time.time()
    checkpoint()
    dumped = time.time()
    quietly(run, "ip", "link", "del", PORT_NAME)
    with socket.create_connection((settings["target"], settings["port"])) as link:
        run("tar", "-C", IMAGES, BLOCKING, "-cf", "-", ".", stdout=link)
        link.shutdown(socket.SHUT_WR)
        said = link.makefile().readline()
        sent = bytes_acknowledged(link)
    if not said:
        raise RuntimeError("the other side failed")
    there = json.loads(said)
    frozen = dumped - frozen_us() / 1e6
    print(json.dumps({
        "downtime_ms": (there["resumed"] - frozen) * 1e3,
        "total_ms": (time.time() - begun) * 1e3, "bytes_wire": sent,
        "phases_ms": {"checkpoint": (dumped - begun) * 1e3,
                      "copy": (there["received"] - dumped) * 1e3,
                      "restore": (there["resumed"] - there["received"]) * 1e3}}))


def restore(settings, mine, link):
    IMAGES.mkdir()
    WORK.mkdir()
    run("tar", "-C", IMAGES, BLOCKING, "--read-full-records", "-xf", "-", stdin=link)
    received = time.time()
    done = runc("restore", "-d", *OPTIONS, "--bundle", mine["bundle"], "bench",
                stderr=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RuntimeError(f"runc restore: {explain('restore.log')}")
    return received


def receive(settings, mine):
    make_network(settings)
    inside = socket_inside()
    with socket.create_server(("", settings["port"])) as server:
        print("ready", flush=True)
        link, _ = server.accept()
    with link:
        received = restore(settings, mine, link)
        join_network(inside, settings)
        link.sendall(json.dumps({"received": received, "resumed": time.time()}).encode() + b"\n")


def stop(_, __):
    quietly(runc, "kill", "bench", "KILL")
    quietly(runc, "delete", "--force", "bench")
    remove_network()
    quietly(run, "rm", "-rf", IMAGES, WORK)


def main():
    verb, file, *more = sys.argv[1:]
    settings = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
    os.environ["PATH"] = f"{settings['bin']}:{os.environ['PATH']}"
    os.environ["HOME"] = settings["home"]
    part = {"start": start, "send": send, "receive": receive, "save": save, "stop": stop}[verb]
    try:
        part(settings, settings["nodes"][socket.gethostname()], *more)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"{verb}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
