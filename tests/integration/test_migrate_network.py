"""What the network sees of a move: frames that went astray, neighbours that have not heard, routers."""
import json
import pathlib
import socket
import subprocess

import pytest

from moving import Client, holder, in_node, inspect, left_as_found, migrate, moves, moving_bed, run, until


@pytest.fixture
def gone(bed):
    """Whatever a test starts, all nodes are as before after it."""
    with left_as_found(bed):
        yield


def on_switch(bed, *words):
    pid = holder(bed["node1"], "switch")
    return subprocess.run(["nsenter", "--target", pid, "--net", "--", *words], check=True,
                          stdout=subprocess.PIPE, text=True).stdout


def network(node, name):
    return inspect(node, name)["network"]


def mac_of(node, name):
    return network(node, name)["mac"]


def links(node):
    return {link["ifname"] for link in json.loads(node.run("ip", "-j", "link").stdout)}


def answers(client, seconds):
    """True when the workload answers within that time; the question is answered later otherwise."""
    client.socket.settimeout(seconds)
    try:
        client.ask()
        return True
    except TimeoutError:
        return False
    finally:
        client.socket.settimeout(20)


def test_a_switch_that_does_not_hear_of_the_move(bed, gone):
    """Frames go on to the old node, and reach the container as long as that sends them on.
    Interface, gate and the bridge's entry go with the process that does it."""
    one, two = bed["node1"], bed["node2"]
    client = Client(bed["node3"], run(one, "web", "/workloads/count"))
    client.ask()
    mac = mac_of(one, "web")
    link = network(one, "web")["host_interface"].replace("gw", "gf")
    on_switch(bed, "bridge", "fdb", "replace", mac, "dev", "node1", "master", "static", "sticky")
    migrate(one, "web", two, "--forward", "100s")
    for _ in range(20):
        client.ask()
    assert link in links(one) and f"{mac} dev {link}" in one.run("bridge", "fdb", "show").stdout
    for pid in moves(bed):
        subprocess.run(["kill", "-KILL", str(pid)], check=True)
    until(lambda: link not in links(one))
    assert f"dev {link}" not in one.run("bridge", "fdb", "show").stdout
    until(lambda: "frames went to node1 after it had left" in pathlib.Path(two.log).read_text())
    assert not answers(client, 0.5)
    on_switch(bed, "bridge", "fdb", "del", mac, "dev", "node1", "master")
    client.socket.makefile().readline()     # the answer to that question
    client.ask()
    client.close()


def test_the_address_of_one_that_has_left(bed, gone):
    """Nobody else gets it while it is answered for; then it can be given out again, and works."""
    one, two = bed["node1"], bed["node2"]
    address = run(one, "left", "/workloads/count")
    migrate(one, "left", two, "--forward", "100s")
    assert run(one, "next", "sleep", "1000") != address
    wanted = ("run", "-d", "--name", "heir", "--ip", address, "work", "/workloads/count")
    done = one.godwit(*wanted, check=False)
    assert done.returncode == 125 and "is answered for by another machine" in done.stderr
    two.godwit("rm", "-f", "left")
    one.godwit(*wanted)
    client = Client(bed["node3"], address)
    client.ask()
    client.close()
    one.godwit("rm", "-f", "next", "heir")
    for pid in moves(bed):
        subprocess.run(["kill", "-KILL", str(pid)], check=False)


def test_a_neighbour_on_the_old_node(bed, gone):
    """What a container there sends goes straight to the new place, not through a process."""
    one, two = bed["node1"], bed["node2"]
    address = run(one, "web", "/workloads/count")
    run(one, "neighbour", "sleep", "1000")
    ask = f"for i in $(seq 100); do echo '?'; done | nc {address} 7000 | grep -c ok"
    said = len(pathlib.Path(two.log).read_text())
    for seconds in ("100s", "0"):
        migrate(one, "web", two, "--forward", seconds)
        assert int(one.godwit("exec", "neighbour", "timeout", "5", "sh", "-c", ask, check=False).stdout) > 0
        migrate(two, "web", one)
    until(lambda: not moves(bed))
    assert "after it had left" not in pathlib.Path(two.log).read_text()[said:]


def test_neighbours_are_told_twice(bed, gone):
    """One announcement may be lost."""
    one, two, three = bed["node1"], bed["node2"], bed["node3"]
    address = socket.inet_aton(run(one, "web", "/workloads/count"))

    def listen():
        it = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        it.bind(("godwit0", 0x0806))
        it.settimeout(5)
        return it
    with in_node(three, listen) as ears:
        migrate(one, "web", two, "--forward", "0")
        heard = 0
        while heard < 4:        # a request and a reply each time
            frame = ears.recv(2048)
            heard += frame[28:32] == frame[38:42] == address


def test_a_neighbour_that_heeds_no_announcement(bed, gone):
    """Its entry of the container's address is permanent; the MAC has moved, too."""
    one, two, three = bed["node1"], bed["node2"], bed["node3"]
    address = run(one, "web", "/workloads/count")
    three.run("ip", "neigh", "replace", address, "lladdr", mac_of(one, "web"), "dev", "godwit0", "nud", "permanent")
    client = Client(three, address)
    client.ask()
    for source, target in ((one, two), (two, one)):
        migrate(source, "web", target, "--forward", "0")
        client.ask()
    client.close()
    three.run("ip", "neigh", "del", address, "dev", "godwit0")


@pytest.fixture
def far(bed):
    """A network behind node3, which is a router to it, and the way back of containers of node1."""
    three, config = bed["node3"], bed["node1"].state / "node.json"
    before = config.read_text()
    config.write_text(json.dumps({**json.loads(before), "gateway": three.address}))
    for words in ("ip netns add far", "ip link add far type veth peer name eth0 netns far",
                  "ip addr add 192.168.77.1/24 dev far", "ip link set far up",
                  "ip -n far addr add 192.168.77.2/24 dev eth0", "ip -n far link set eth0 up",
                  "ip -n far route add default via 192.168.77.1", "sysctl -qw net.ipv4.ip_forward=1"):
        three.run(*words.split())
    yield f"/proc/{holder(three)}/root/run/netns/far"
    config.write_text(before)
    three.run("ip", "link", "del", "far")
    three.run("ip", "netns", "del", "far")
    three.run("sysctl", "-qw", "net.ipv4.ip_forward=0")


def test_a_client_behind_a_router(bed, far, gone):
    """Only the router is a neighbour of the container; its table is none of the client's."""
    one, two = bed["node1"], bed["node2"]
    client = Client(None, run(one, "web", "/workloads/count"), namespace=far)
    client.ask()
    for source, target in ((one, two), (two, one), (one, two)):
        migrate(source, "web", target, "--forward", "0")
        client.ask()
    client.close()
