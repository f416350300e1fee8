"""Networks that have names: on one node, and over several."""
import json

import pytest

from conftest import links_of
from moving import left_as_found, moving_bed, remove_all, run, until

SERVE = ("/bin/busybox", "nc", "-ll", "-p", "80", "-e", "/bin/busybox", "hostname")
SUBNETS = ("--subnet", "10.70.0.0/16", "--subnet", "fd00:70::/64")


@pytest.fixture
def gone(bed):
    """When containers and networks are removed, the machine is as before."""
    with left_as_found(bed):
        yield
        remove_all(bed)
        for node in bed.nodes.values():
            networks = [n["name"] for n in listed(node)]
            if networks:
                node.godwit("network", "rm", *networks)
            assert not node.run("nft", "list", "ruleset").stdout


def listed(node):
    return json.loads(node.godwit("network", "ls", "--json").stdout)


def places(node, network="lan"):
    """The containers on the network as the node knows them, by name."""
    found = json.loads(node.godwit("network", "inspect", network).stdout)[0]
    return {c["name"]: c for c in found["containers"]}


def ask(node, name, whom):
    """What a container gets from port 80 of another, "" when nobody answers."""
    return node.godwit("exec", name, "/bin/busybox", "nc", "-w", "2", whom, "80", check=False).stdout.strip()


def hosts(node, name):
    return node.godwit("exec", name, "/bin/busybox", "cat", "/etc/hosts").stdout


@pytest.mark.usefixtures("gone")
def test_names_and_both_families_on_one_node(bed):
    node = bed["node1"]
    node.godwit("network", "create", "lan", *SUBNETS)
    run(node, "a", "/bin/busybox", "sleep", "600", options=("--network", "lan"))
    address = run(node, "b", *SERVE, options=("--network", "lan"))
    run(node, "other", "/bin/busybox", "sleep", "600")
    second = places(node)["b"]["address2"].split("/")[0]
    assert address == "10.70.0.3" and second == "fd00:70::3"
    assert [ask(node, "a", whom) for whom in ("b", address, second)] == ["b"] * 3
    assert "other" not in hosts(node, "a")
    node.godwit("rm", "-f", "b")
    until(lambda: "b" not in places(node) and address not in hosts(node, "a"))
    refused = node.godwit("network", "rm", "lan", check=False)
    assert refused.returncode == 1 and "used by a" in refused.stderr


@pytest.mark.usefixtures("gone")
def test_a_network_is_made_once_and_is_needed(bed):
    node = bed["node1"]
    node.godwit("network", "create", "lan")
    assert listed(node)[0]["subnets"][0]["subnet"] == "10.89.0.0/24"
    again = node.godwit("network", "create", "lan", check=False)
    assert again.returncode == 1 and "there already" in again.stderr
    overlap = node.godwit("network", "create", "wan", "--subnet", "10.89.0.128/25", check=False)
    assert overlap.returncode == 1 and "overlaps" in overlap.stderr
    missing = node.godwit("run", "--network", "nowhere", "work", "/bin/true", check=False)
    assert missing.returncode == 125 and "network create" in missing.stderr
    bad = node.godwit("network", "create", "small", "--subnet", "10.1.0.0/31", check=False)
    assert bad.returncode == 1 and "too small" in bad.stderr


def test_a_container_finds_its_network_after_a_reboot(bed):
    node = bed["node3"]
    node.godwit("network", "create", "lan", *SUBNETS)
    run(node, "b", *SERVE, options=("--network", "lan"))
    node.crash()
    node.boot()
    node.godwit("start", "b")
    run(node, "a", "/bin/busybox", "sleep", "600", options=("--network", "lan"))
    assert ask(node, "a", "b") == "b"
    node.godwit("rm", "-f", "a", "b")
    node.godwit("network", "rm", "lan")
    assert links_of(node) == ["eth0", "godwit0", "lo"]
