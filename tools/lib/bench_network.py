"""What clients see of a container that moves there and back under load, with the gate and without.

  requests   redis and nginx in one container. Half of --connections each ask, think for
             --think ms and ask again, all the time; each answer is compared with what it
             must be. --moves moves with frames held for the target (hold), then as many
             with frames dropped (--gate drop). A pause is the longest time from a
             question to its answer on one connection around one move; beyond is how much
             longer than that move's downtime (freeze to resume, as its report says). A
             pause is late when that is 50 ms or more: a retransmission timer, which is
             200 ms at least, made it
  stream     TCP in either direction for as long as --moves moves take: each byte is
             compared with what it must be; --svg draws the throughput. timeouts are
             retransmission timers that expired (TcpExtTCPTimeouts of nstat) at the
             client, and at the container from its arrival on
  iperf3     the same with iperf3, which looks at no byte, but tells how many segments were sent
             again; some are with no move, too, when the machine is the bottleneck
  datagrams  UDP, --rate questions a second, each with a number: how many were answered,
             twice, or out of turn

The load runs on a third node.
"""
import json
import os
import statistics
import subprocess
import sys
import time

import flow_chart
from bed import Bed, Failed, call
from benchmark import parse, parser_of, run
from move_bed import Children, event, make_roots, started
from move_engines import Godwit

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ("requests", "stream", "iperf3", "datagrams")
WAYS = ("down", "up")
GATES = ("hold", "drop")
NODES = ("node1", "node2")
QUIET = 0.3             # seconds of load before each move, and after it
LATE = 50              # ms
IPERF3_MOVE = 1.2       # seconds that a move may take, with the QUIET before and after it
SERVERS = ("/bin/sh", "-c", "redis-server --bind 0.0.0.0 --protected-mode no --save '' --daemonize yes && "
           "exec nginx -c /etc/nginx/echo.conf")
ECHO = """daemon off;
worker_processes 2;
error_log stderr warn;
events { worker_connections 4096; }
http {
	access_log off;
	keepalive_timeout 1h;
	keepalive_requests 1000000000;
	server { listen 80; return 200 $uri; }
}
"""


def options_of():
    parser = parser_of("network", __doc__)
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART[,...]",
                        help=f"some of {','.join(PARTS)} (all)")
    parser.add_argument("--connections", type=int, default=200, help="of requests (200)")
    parser.add_argument("--think", type=float, default=20, metavar="MS",
                        help="from an answer to the next question (20)")
    parser.add_argument("--rate", type=int, default=1000, help="datagrams a second (1000)")
    parser.add_argument("--moves", type=int, default=10, help="of each (10)")
    parser.add_argument("--options", default="", help="more options for godwit migrate, one word")
    parser.add_argument("--svg", default="", metavar="FILE", help="draw the throughput of streams and iperf3")
    options = parse(parser)
    options.parts = options.only.split(",")
    if set(options.parts) - set(PARTS):
        parser.error(f"--only: some of {', '.join(PARTS)}")
    if not 2 <= options.connections <= 10000 or not 1 <= options.moves <= 1000:
        parser.error("--connections: 2 to 10000; --moves: 1 to 1000")
    if not 0 <= options.think <= 1000 or not 1 <= options.rate <= 20000:
        parser.error("--think: 0 to 1000; --rate: 1 to 20000")
    return options


def tell(client, line):
    client.stdin.write(f"{line}\n")
    client.stdin.flush()


def ended(client, timeout=30):
    tell(client, "end")
    return event(client, "done", timeout)


def moves(engine, count, after_each):
    """There and back, in turn; after_each(downtime_ms, begun, ended)."""
    for turn in range(count):
        source, target = NODES if turn % 2 == 0 else NODES[::-1]
        time.sleep(QUIET)
        begun = time.time()
        moved = engine.move(source, target)
        time.sleep(QUIET)
        after_each(moved["downtime_ms"], begun, time.time())


# --- requests ---------------------------------------------------------------

def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def ask_clients(bed, children, address, options):
    program = os.path.join(os.environ["GODWIT_BUILD"], "tests/clients/ask")
    half = options.connections // 2
    clients = {kind: children.start(bed, "node3", program, kind, address, port, count,
                                    int(options.think * 1e3), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
               for kind, port, count in (("redis", 6379, options.connections - half), ("http", 80, half))}
    for client in clients.values():
        event(client, "ready", 60)
    return clients


def requests_of(samples, totals):
    """samples: (downtime_ms, [pause_ms of each connection]) of each move."""
    pauses = [pause for _, of_move in samples for pause in of_move]
    beyond = [pause - downtime for downtime, of_move in samples for pause in of_move]
    errors = [total["first_error"] for total in totals if total["errors"]]
    return {"connections": sum(total["connections"] for total in totals), "moves": len(samples),
            "requests": sum(total["requests"] for total in totals),
            "errors": sum(total["errors"] for total in totals),
            "unanswered": sum(total["waiting"] for total in totals), "first_errors": errors,
            "retransmitted": sum(total["retransmitted"] for total in totals),
            "downtime_ms": statistics.median(downtime for downtime, _ in samples),
            "pause_ms": {"p50": percentile(pauses, 0.5), "p99": percentile(pauses, 0.99), "max": max(pauses)},
            "beyond_ms": {"p50": percentile(beyond, 0.5), "p99": percentile(beyond, 0.99), "max": max(beyond)},
            "late": sum(each >= LATE for each in beyond)}


def one_gate(bed, engine, gate, options):
    samples = []
    engine.options = [*options.options.split(), "--gate", gate]
    with started(engine, "servers", SERVERS) as address, Children() as children:
        clients = ask_clients(bed, children, address, options)

        def look(downtime, begun, done):
            pauses = []
            for client in clients.values():
                tell(client, f"window {begun!r} {done!r}")
                pauses += event(client, "window", 30)["pauses_ms"]
            samples.append((downtime, pauses))
        moves(engine, options.moves, look)
        time.sleep(2 * QUIET)
        return requests_of(samples, [ended(client) for client in clients.values()])


def show_requests(results):
    print(f"{'':<6}{'moves':>6}{'connections':>12}{'requests':>10}{'errors':>8}{'downtime ms':>12}"
          f"{'pause ms p50':>13}{'p99':>8}{'max':>8}{'beyond p50':>12}{'p99':>8}{'max':>8}{'late':>6}"
          f"{'retransmitted':>15}")
    for gate in GATES:
        it = results[gate]
        pause, beyond = it["pause_ms"], it["beyond_ms"]
        print(f"{gate:<6}{it['moves']:6}{it['connections']:12}{it['requests']:10}{it['errors']:8}"
              f"{it['downtime_ms']:12.1f}{pause['p50']:13.1f}{pause['p99']:8.1f}{pause['max']:8.1f}"
              f"{beyond['p50']:12.1f}{beyond['p99']:8.1f}{beyond['max']:8.1f}{it['late']:6}{it['retransmitted']:15}")
        for error in it["first_errors"]:
            print(f"{gate}: {error}")


# --- streams and datagrams --------------------------------------------------

NETSTAT = ("cat", "/proc/net/netstat")


def timeouts_of(netstat):
    names, values = (line.split() for line in netstat.splitlines()[:2])
    return int(values[names.index("TCPTimeouts")])


def timeouts(engine):
    """Of the container, since it came to where it is."""
    for node in NODES:
        if engine.bed.run(node, "godwit", "ps", "-q").split():
            return timeouts_of(engine.bed.run(node, "godwit", "exec", "bench", *NETSTAT))
    raise Failed("the container runs on no node")


def moves_of(engine, options):
    """Of a flow: what there is to tell of each."""
    samples = []

    def look(downtime, begun, done):
        samples.append({"downtime_ms": downtime, "begun": begun, "ended": done,
                        "container_timeouts": timeouts(engine)})
    moves(engine, options.moves, look)
    return samples


def one_flow(bed, engine, kind, options):
    engine.options = options.options.split()
    with started(engine, "base", ("/bin/stream",)) as address, Children() as children:
        client = children.start(bed, "node3", "/usr/bin/python3", "-B", os.path.join(HERE, "flow_client.py"), kind,
                                address, options.rate, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        event(client, "ready", 60)
        samples = moves_of(engine, options)
        seen = ended(client)
    return {**seen, "moves": samples, "container_timeouts": sum(each["container_timeouts"] for each in samples)}


def one_iperf3(bed, engine, way, root, options):
    engine.options = options.options.split()
    with started(engine, "iperf3", ("iperf3", "-s")) as address, Children() as children:
        before = timeouts_of(bed.run("node3", *NETSTAT))
        client = children.start(bed, "node3", "chroot", root, "iperf3", "-c", address, "-J", "-i", "0.1", "-t",
                                str(int(IPERF3_MOVE * options.moves + 1)), *(["-R"] if way == "down" else []),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        samples = moves_of(engine, options)
        said = json.loads(client.communicate(timeout=options.moves * 10 + 60)[0] or "{}")
        after = timeouts_of(bed.run("node3", *NETSTAT))
    if said.get("error") or client.returncode:
        raise Failed(f"iperf3: {said.get('error', 'it failed')}")
    begun = said["start"]["timestamp"]["timesecs"]
    parts = [each["sum"] for each in said["intervals"]]
    return {"bytes": said["end"]["sum_received"]["bytes"], "retransmits": said["end"]["sum_sent"]["retransmits"],
            "begun": begun, "ended": begun + parts[-1]["end"],
            "samples": [(begun + part["end"], part["bytes"]) for part in parts],
            "timeouts": after - before, "moves": samples,
            "container_timeouts": sum(each["container_timeouts"] for each in samples)}


def show_iperf3(results):
    for way, it in results.items():
        rates = sorted(each[1] for each in it["samples"])
        print(f"iperf3 {way}: {it['bytes'] / 1e6:,.0f} MB in {it['ended'] - it['begun']:.1f} s and {len(it['moves'])} "
              f"moves, in a tenth of a second {rates[len(rates) // 2] / 1e6:,.0f} MB (median; at least "
              f"{rates[0] / 1e6:,.0f}), {it['retransmits']} segments sent again, retransmission timeouts: client "
              f"{it['timeouts']}, container {it['container_timeouts']}")


def show_stream(results):
    for kind, it in results.items():
        span = it["ended"] - it["begun"]
        print(f"stream {kind}: {it['bytes'] / 1e6:,.0f} MB in {span:.1f} s and {len(it['moves'])} moves, "
              f"{it['wrong']} bytes wrong, retransmission timeouts: client {it['timeouts']}, "
              f"container {it['container_timeouts']}; longest time without a byte {it['gap_ms']:.1f} ms, "
              f"downtime {statistics.median(each['downtime_ms'] for each in it['moves']):.1f} ms")


def show_datagrams(it):
    print(f"datagrams: {it['sent']} sent at {it['rate']:.0f} a second in {len(it['moves'])} moves, {it['answered']} "
          f"answered, {it['twice']} twice, {it['late']} out of turn, longest wait {it['pause_ms']:.1f} ms")


# --- all of them ------------------------------------------------------------

def measure(options):
    results = {}
    with Bed("bench", nodes=3) as bed:
        kinds = [kind for kind, parts in (("servers", {"requests"}), ("base", {"stream", "datagrams"}),
                                          ("iperf3", {"iperf3"})) if parts & set(options.parts)]
        roots = make_roots(bed, kinds)
        if "servers" in roots:
            (roots["servers"] / "etc/nginx/echo.conf").write_text(ECHO, encoding="ascii")
        engine = Godwit(bed)
        engine.setup(roots, NODES)
        if "requests" in options.parts:
            results.update({gate: one_gate(bed, engine, gate, options) for gate in GATES})
        if "stream" in options.parts:
            results["stream"] = {kind: one_flow(bed, engine, kind, options) for kind in WAYS}
        if "iperf3" in options.parts:
            call("cp", "-a", "/dev/urandom", roots["iperf3"] / "dev")      # the client draws a cookie
            results["iperf3"] = {way: one_iperf3(bed, engine, way, roots["iperf3"], options) for way in WAYS}
        if "datagrams" in options.parts:
            results["datagrams"] = one_flow(bed, engine, "datagrams", options)
    return results


def show(results):
    if "hold" in results:
        show_requests(results)
    if "stream" in results:
        show_stream(results["stream"])
    if "iperf3" in results:
        show_iperf3(results["iperf3"])
    if "datagrams" in results:
        show_datagrams(results["datagrams"])


def sound(results):
    """No client saw anything but a pause."""
    flows = results.get("stream", {}).values()
    return (not any(results[gate]["errors"] for gate in GATES if gate in results)
            and not results.get("hold", {}).get("unanswered")
            and not any(flow["wrong"] for flow in flows)
            and ("datagrams" not in results or results["datagrams"]["sent"] == results["datagrams"]["answered"]))


def benchmark(options):
    results = measure(options)
    show(results)
    flows = results.get("stream", {}) | {f"iperf3 {way}": it for way, it in results.get("iperf3", {}).items()}
    if options.svg and flows:
        with open(options.svg, "w", encoding="utf-8") as file:
            file.write(flow_chart.draw(flows))
    return results, sound(results)


if __name__ == "__main__":
    sys.exit(run(options_of(), benchmark))
