"""Published ports and the way out: what nftables does with them, before, after and during a move."""
import json

import pytest

from moving import inspect, left_as_found, migrate, moving_bed, remove_all, status

PORT = 18080
ECHO = ("/bin/busybox", "nc", "-ll", "-p", "80", "-e", "/bin/busybox", "hostname")

ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], sys.argv[2]), 2) as s:
    print(s.makefile().readline())
"""
LISTEN = """
import socket
with socket.create_server(("192.0.2.9", 7000)) as s:
    s.settimeout(20)
    connection, peer = s.accept()
    print(peer[0], connection.makefile().readline())
"""


def rules(node):
    return node.run("nft", "list", "ruleset").stdout


@pytest.fixture
def gone(bed):
    """Containers, rules and links are as before afterwards."""
    before = {node.name: rules(node) for node in bed.nodes.values()}
    with left_as_found(bed):
        yield
        remove_all(bed)
        assert before == {node.name: rules(node) for node in bed.nodes.values()}


def publish(node, name, *ports, check=True):
    options = [word for port in ports for word in ("-p", port)]
    return node.godwit("run", "-d", "--name", name, "--hostname", name, *options, "work", *ECHO, check=check)


def ask(node, address, port=PORT):
    """What answers there, '' when nobody does."""
    return node.run("/usr/bin/python3", "-c", ASK, address, str(port), check=False).stdout.strip()


def answers(node, address, port=PORT):
    for _ in range(20):
        if said := ask(node, address, port):
            return said
    return ""


def test_reaches_the_container(bed, gone):
    """From another machine, from the node itself, and by the container's own address."""
    one, three = bed["node1"], bed["node3"]
    publish(one, "web", f"{PORT}:80")
    address = inspect(one, "web")["network"]["address"].split("/")[0]
    assert answers(three, one.address) == "web"
    assert answers(one, one.address) == "web"
    assert answers(three, address, 80) == "web"
    assert inspect(one, "web")["network"]["ports"] == f"{PORT}:80/tcp"
    assert ask(three, bed["node2"].address) == ""
    one.godwit("stop", "-t", "0", "web")
    assert "godwit" not in rules(one)
    assert ask(three, one.address) == ""
    one.godwit("start", "web")
    assert answers(three, one.address) == "web"


def test_moves_along(bed, gone):
    """After the move the port is the new node's; the old one's is closed."""
    one, two, three = bed["node1"], bed["node2"], bed["node3"]
    publish(one, "web", f"{PORT}:80")
    assert answers(three, one.address) == "web"
    migrate(one, "web", two)
    assert answers(three, two.address) == "web"
    assert ask(three, one.address) == ""
    assert "godwit" not in rules(one)


def test_one_port_one_container(bed, gone):
    one, two = bed["node1"], bed["node2"]
    publish(one, "first", f"{PORT}:80", f"{one.address}:18081:80")
    refused = publish(one, "second", f"{PORT}:81", check=False)
    assert refused.returncode == 125 and f"port {PORT}/tcp" in refused.stderr, refused
    assert status(one, "second") is None
    publish(two, "there", f"{PORT}:80")
    moved = migrate(one, "first", two, check=False)
    assert moved.returncode == 1 and "port-taken" in moved.stderr, moved
    assert status(one, "first") == "running"
    assert answers(bed["node3"], one.address) == "first"
    assert answers(bed["node3"], one.address, 18081) == "first"
    one.godwit("rm", "-f", "first")
    publish(one, "second", f"{PORT}:80")
    assert answers(bed["node3"], one.address) == "second"


def test_two_containers_share_the_table(bed, gone):
    """What one leaves is not the other's."""
    one, three = bed["node1"], bed["node3"]
    publish(one, "a", f"{PORT}:80")
    publish(one, "b", f"{PORT + 1}:80")
    one.godwit("rm", "-f", "a")
    assert answers(three, one.address, PORT + 1) == "b"
    assert ask(three, one.address) == ""


def test_way_out_behind_the_node(bed, gone):
    """With the node as gateway a container reaches the outside with the node's address."""
    one, three = bed["node1"], bed["node3"]
    settings = one.state / "node.json"
    before = settings.read_text()
    try:
        settings.write_text(json.dumps(json.loads(before) | {"gateway": one.address}))
        three.run("ip", "addr", "add", "192.0.2.9/32", "dev", "lo")
        one.run("ip", "route", "add", "192.0.2.9", "via", three.address)
        with three.popen("/usr/bin/python3", "-c", LISTEN, stdout=-1) as heard:
            one.godwit("run", "--rm", "work", "/bin/sh", "-c",
                       "until echo hello | nc -w 2 192.0.2.9 7000; do sleep 0.2; done", timeout=20)
            said, _ = heard.communicate(timeout=30)
        assert "hello" in said and one.address in said, said
        assert "godwit" not in rules(one)
    finally:
        settings.write_text(before)
        one.run("ip", "route", "del", "192.0.2.9", check=False)
        three.run("ip", "addr", "del", "192.0.2.9/32", "dev", "lo", check=False)


@pytest.mark.parametrize("port, words", [
    ("80", "write [ADDRESS:]PORT:CONTAINER-PORT"), ("1:2/icmp", "1:2/icmp"), ("[::1]:80:80", "can't lead to it")])
def test_nonsense_is_refused(bed, gone, port, words):
    done = publish(bed["node1"], "web", port, check=False)
    assert done.returncode == 125 and words in done.stderr, done
    assert status(bed["node1"], "web") is None
