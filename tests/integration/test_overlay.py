"""Networks that have names: on one node, and over several."""
import concurrent.futures
import json
import threading
import time

import pytest

from conftest import links_of
from moving import Client, bed_of_three, inspect, left_as_found, migrate, remove_all, run, serve, until, without_serve

SERVE = ("/bin/busybox", "nc", "-ll", "-p", "80", "-e", "/bin/busybox", "hostname")
SLEEP = ("/bin/busybox", "sleep", "600")
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
    run(node, "a", *SLEEP, options=("--network", "lan"))
    address = run(node, "b", *SERVE, options=("--network", "lan"))
    run(node, "other", *SLEEP)
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


def create(bed, *options, name="lan"):
    """A network over all nodes."""
    bed["node1"].godwit("network", "create", name, *SUBNETS, "--peer", "node2", "--peer", "node3", *options)


@pytest.mark.usefixtures("gone")
def test_what_a_network_is_can_be_said(bed):
    node, two = bed["node1"], bed["node2"]
    node.godwit("network", "create", "narrow", "--driver", "bridge", "--mtu", "1400")
    assert [(n["driver"], n["mtu"]) for n in listed(node)] == [("bridge", 1400)]
    own = node.run("sh", "-c", "getent ahostsv4 node1").stdout.split()[0]
    create(bed, "--driver", "vxlan", "--vni", "4242", "--mtu", "1300", "--address", f"{own}:4967")
    lan = listed(two)[0]
    assert (lan["driver"], lan["vni"], lan["mtu"]) == ("vxlan", 4242, 1300)
    assert lan["nodes"][0]["address"] == f"{own}:4967"
    for wrong in (["--driver", "odd"], ["--driver", "bridge", "--vni", "7"], ["--address", own]):
        done = node.godwit("network", "create", "odd", *wrong, check=False)
        assert done.returncode == 2 and len(listed(node)) == 2, done


def on(bed, number, name, *command):
    """Starts a container on the network there, and returns its two addresses, when all nodes know them."""
    node = bed[f"node{number}"]
    run(node, name, *(command or SLEEP), options=("--network", "lan"))
    known = until(lambda: all(name in places(n) for n in bed.nodes.values()) and places(node)[name],
                  say=f"not all nodes have heard of {name}")
    return known["address"].split("/")[0], known["address2"].split("/")[0]


def vxlan_packets(node):
    """What has gone through its vxlan devices, either way."""
    links = json.loads(node.run("ip", "-j", "-s", "-d", "link", "show", "type", "vxlan").stdout)
    assert links
    return sum(link["stats64"][way]["packets"] for link in links for way in ("rx", "tx"))


@pytest.mark.usefixtures("gone")
def test_containers_on_two_nodes_and_none_of_it_on_the_third(bed):
    create(bed)
    on(bed, 1, "a")
    addresses = on(bed, 2, "b", *SERVE)
    until(lambda: "\tb\n" in hosts(bed["node1"], "a"))
    before = vxlan_packets(bed["node3"])
    for whom in ("b", *addresses):
        assert ask(bed["node1"], "a", whom) == "b"
    assert ask(bed["node1"], "a", "10.70.0.77") == ""     # nobody's: asked for, and not flooded
    assert vxlan_packets(bed["node3"]) == before
    assert vxlan_packets(bed["node2"]) > 0
    bed["node2"].godwit("rm", "-f", "b")
    until(lambda: "b" not in places(bed["node1"]) and "\tb\n" not in hosts(bed["node1"], "a"))
    assert "dst 10.88.0.2" not in bed["node1"].run("bridge", "fdb").stdout


@pytest.mark.usefixtures("gone")
def test_full_packets_go_through_uncut(bed):
    """A connection does path MTU discovery (tcp(7)), so what is too large for the way would not arrive."""
    create(bed)
    on(bed, 1, "a")
    on(bed, 2, "b", "/bin/busybox", "sh", "-c", "busybox tail -f /dev/null | busybox nc -l -p 80 | busybox wc -c")
    until(lambda: "\tb\n" in hosts(bed["node1"], "a"))
    mtus = bed["node1"].godwit("exec", "a", "/bin/busybox", "cat", "/sys/class/net/eth0/mtu").stdout.split()
    listed_mtu = listed(bed["node2"])[0]["mtu"]
    fragments = bed["node1"].run("nstat", "-asz", "IpFragCreates").stdout
    bed["node1"].godwit("exec", "a", "/bin/busybox", "sh", "-c",
                        "busybox head -c 8000000 /dev/zero | busybox nc b 80")
    until(lambda: bed["node2"].godwit("logs", "b").stdout.strip() == "8000000")
    assert listed_mtu == 1450 and mtus == ["1450"]
    assert bed["node1"].run("nstat", "-asz", "IpFragCreates").stdout == fragments


def in_container(node, name, address, kind=Client):
    """A client in the container's network."""
    return kind(node, address, namespace=f"/proc/{inspect(node, name)['state']['pid']}/ns/net")


class Echo(Client):
    """A connection to ECHO, which is of IPv6, too."""

    def __init__(self, node, address, namespace):
        super().__init__(node, address, 80, namespace)

    def ask(self, request="?"):
        self.socket.sendall(b"anybody there?\n")
        assert self.socket.recv(100) == b"anybody there?\n"


class Pauses:
    """Asks a workload over one connection until it is stopped; .longest is in seconds."""

    def __init__(self, client):
        self.client, self.longest, self.error = client, 0, None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            while not self.stopped.is_set():
                begin = time.monotonic()
                self.client.ask()
                self.longest = max(self.longest, time.monotonic() - begin)
        except (AssertionError, OSError) as error:
            self.error = error

    def stop(self):
        self.stopped.set()
        self.thread.join()
        assert not self.error, self.error


@pytest.mark.usefixtures("gone")
@pytest.mark.parametrize("forward", ["200ms", "0"])
def test_a_move_under_connections_of_both_families(bed, forward):
    create(bed)
    web = on(bed, 1, "web", "/bin/busybox", "sh", "-c",
             "/workloads/count & exec /bin/busybox nc -ll -p 80 -e /bin/busybox cat")
    on(bed, 3, "c")
    on(bed, 1, "old")
    clients = [in_container(bed["node3"], "c", web[0]), in_container(bed["node3"], "c", web[1], Echo)]
    neighbour = in_container(bed["node1"], "old", web[0])
    for client in (*clients, neighbour):
        client.ask()
    asking = Pauses(clients[0])
    migrate(bed["node1"], "web", bed["node2"], "--forward", forward)
    until(lambda: places(bed["node3"])["web"]["node"] == "10.88.0.2")
    for client in (clients[1], neighbour):
        client.ask()
    asking.stop()
    print(f"longest pause {asking.longest * 1000:.0f} ms")
    until(lambda: places(bed["node1"])["web"]["node"] == "10.88.0.2")
    on(bed, 2, "late", *SERVE)                  # names, after the move
    until(lambda: "\tlate\n" in hosts(bed["node2"], "web"))
    assert ask(bed["node3"], "c", "late") == "late"
    # its address is of node1's part: nobody else gets it, as long as it lives
    assert on(bed, 1, "next")[0] not in web
    migrate(bed["node2"], "web", bed["node1"], "--forward", forward)
    until(lambda: all(places(bed[n])["web"]["node"] == "10.88.0.1" for n in ("node2", "node3")))
    for client in (*clients, neighbour):
        client.ask()
        client.close()


@pytest.mark.usefixtures("gone")
def test_where_the_network_is_not_it_cannot_move(bed):
    bed["node1"].godwit("network", "create", "lan", *SUBNETS)
    run(bed["node1"], "web", *SLEEP, options=("--network", "lan"))
    refused = bed["node1"].godwit("migrate", "--check", "--json", "web", "node2", check=False)
    assert "network-missing" in refused.stdout
    bed["node2"].godwit("network", "create", "lan", "--subnet", "10.71.0.0/16")
    refused = bed["node1"].godwit("migrate", "--check", "--json", "web", "node2", check=False)
    assert "network-differs" in refused.stdout


@pytest.mark.usefixtures("gone")
def test_no_address_is_given_out_twice(bed):
    """Two nodes start twenty containers at once each."""
    create(bed)

    def start(k):
        run(bed[f"node{k % 2 + 1}"], f"c{k}", *SLEEP, options=("--network", "lan"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(start, range(40)))
    known = until(lambda: len(found := places(bed["node3"])) == 40 and found, seconds=30)
    for key in ("address", "address2", "mac"):
        assert len({place[key] for place in known.values()}) == 40


@pytest.mark.usefixtures("gone")
def test_a_network_is_made_on_all_nodes_or_on_none(bed):
    bed["node3"].godwit("network", "create", "lan", "--subnet", "10.72.0.0/16")
    refused = bed["node1"].godwit("network", "create", "lan", *SUBNETS, "--peer", "node2", "--peer", "node3",
                                  check=False)
    assert refused.returncode == 1 and "on node3" in refused.stderr
    assert not listed(bed["node1"]) and not listed(bed["node2"])
    bed["node3"].godwit("network", "rm", "lan")
    create(bed)


@pytest.mark.usefixtures("gone")
def test_a_daemon_that_was_away_hears_what_it_has_missed(bed):
    create(bed)
    bed.daemons["node2"].kill()
    bed.daemons["node2"].wait(10)
    bed.daemons["node2"].stdout.close()
    run(bed["node1"], "a", *SERVE, options=("--network", "lan"))
    bed.daemons["node2"] = serve(bed["node2"])
    on(bed, 2, "b")
    until(lambda: "\ta\n" in hosts(bed["node2"], "b"))
    assert ask(bed["node2"], "b", "a") == "a"


def test_links_and_containers_come_back_after_a_reboot(bed):
    create(bed)
    one, three = bed["node1"], bed["node3"]
    on(bed, 1, "a")
    on(bed, 3, "b", *SERVE)
    three.crash()
    bed.daemons["node3"].wait(10)
    bed.daemons["node3"].stdout.close()
    three.boot()
    assert links_of(three) == ["eth0", "godwit0", "lo"]
    bed.daemons["node3"] = serve(three)
    until(lambda: len(links_of(three)) == 5)
    three.godwit("start", "b")
    until(lambda: ask(one, "a", "b") == "b")
    remove_all(bed)
    one.godwit("network", "rm", "lan")
    for node in bed.nodes.values():
        assert links_of(node) == ["eth0", "godwit0", "lo"]


@pytest.mark.usefixtures("gone")
def test_a_network_is_removed_from_all_nodes_or_from_none(bed):
    one, two, three = (bed[f"node{k}"] for k in (1, 2, 3))
    create(bed)
    on(bed, 2, "b")
    refused = one.godwit("network", "rm", "lan", check=False)
    assert refused.returncode == 1 and "10.88.0.2" in refused.stderr and "used by b" in refused.stderr, refused
    two.godwit("rm", "-f", "b")
    with without_serve(bed, "node3"):
        refused = one.godwit("network", "rm", "lan", check=False)
    assert refused.returncode == 1 and "10.88.0.3" in refused.stderr, refused
    assert [len(listed(node)) for node in (one, two, three)] == [1, 1, 1]
    on(bed, 1, "a")
    on(bed, 2, "b", *SERVE)
    until(lambda: ask(one, "a", "b") == "b")        # nothing has happened to it
    remove_all(bed)
    three.godwit("network", "rm", "--here", "lan")
    assert [len(listed(node)) for node in (one, two, three)] == [1, 1, 0]
    until(lambda: not places(one) and not places(two))
    two.godwit("network", "rm", "lan")
    for node in (one, two, three):
        assert not listed(node) and links_of(node) == ["eth0", "godwit0", "lo"]


@pytest.mark.usefixtures("gone")
def test_what_was_removed_before_a_node_refused_is_made_again(bed):
    one, two, three = (bed[f"node{k}"] for k in (1, 2, 3))
    create(bed)
    on(bed, 3, "c")
    refused = one.godwit("network", "rm", "lan", check=False)
    assert refused.returncode == 1 and "10.88.0.3" in refused.stderr and "used by c" in refused.stderr, refused
    assert [len(listed(node)) for node in (one, two, three)] == [1, 1, 1]
    on(bed, 2, "b", *SERVE)
    until(lambda: ask(three, "c", "b") == "b")


@pytest.fixture
def second_addresses(bed):
    """Of the nodes on their own network: 10.88.100.K and fd00:88::K."""
    both = [(node, cidr) for k, node in enumerate(bed.nodes.values(), 1)
            for cidr in (f"10.88.100.{k}/16", f"fd00:88::{k}/64")]
    for node, cidr in both:
        node.run("ip", "addr", "add", cidr, "dev", "godwit0", *(["nodad"] if ":" in cidr else []))
    yield
    for node, cidr in both:
        node.run("ip", "addr", "del", cidr, "dev", "godwit0")


WAYS = {"ipv4": ("10.88.100.1", ("node2", "node3"), 1450),
        "ipv6": ("fd00:88::1", ("[fd00:88::2]", "[fd00:88::3]"), 1430)}


@pytest.mark.parametrize("way", WAYS)
def test_the_addresses_that_nodes_are_reached_by(bed, second_addresses, gone, way):
    """The one that was said of the first node, and those of the others; nothing goes to another."""
    own, peers, mtu = WAYS[way]
    bed["node1"].godwit("network", "create", "lan", *SUBNETS, "--address", own,
                        *(word for peer in peers for word in ("--peer", peer)))
    assert listed(bed["node2"])[0]["mtu"] == mtu and listed(bed["node3"])[0]["nodes"][0]["address"] == own
    web = on(bed, 1, "web", "/workloads/count")[0]
    on(bed, 2, "b", *SERVE)
    client = in_container(bed["node2"], "b", web)
    client.ask()
    until(lambda: ask(bed["node1"], "web", "b") == "b")
    assert f"dst {own} " in bed["node2"].run("bridge", "fdb").stdout
    migrate(bed["node1"], "web", bed["node3"])
    client.ask()
    until(lambda: places(bed["node2"])["web"]["node"] in ("10.88.0.3", "fd00:88::3"))
    client.ask()
    client.close()
