"""tools/bench measures what it says it measures, and leaves nothing."""
import json
import os
import subprocess
import xml.dom.minidom

import pytest

from conftest import BUILD, TOP


def bench(*arguments):
    """Exit code, output, errors; the bed, which has the process id as its name, is gone."""
    child = subprocess.Popen([str(TOP / "tools/bench"), *map(str, arguments)], text=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env={**os.environ, "GODWIT_BUILD": str(BUILD)})
    out, errors = child.communicate(timeout=200)
    for top in ("/run", "/var/lib"):
        assert not os.path.exists(f"{top}/godwit-testbed/bench-{child.pid}")
    return child.returncode, out, errors


def test_start_compares_engines(tmp_path):
    file = tmp_path / "start.json"
    code, out, errors = bench("start", "--runs", 3, "--json", file)
    assert code == 0, out + errors
    results = json.loads(file.read_text())
    assert {"godwit-oci", "godwit", "godwit-none"} <= set(results)
    for engine in ("crun", "runc"):
        assert engine in out       # with its numbers, or left out with the reason
    for result in results.values():
        assert result["runs"] == 3 and 0 < result["min_ms"] <= result["median_ms"]
        assert result["peak_rss_kb"] > 500
    if "crun" in results:
        assert all(result["ratio"] > 0 for name, result in results.items() if name != "crun")


def test_verbs_compares_engines(tmp_path):
    file = tmp_path / "verbs.json"
    code, out, errors = bench("verbs", "--runs", 1, "--engines", "godwit-oci,crun,godwit", "--json", file)
    assert code == 0, out + errors
    results = json.loads(file.read_text())
    assert set(results) == {"exec", "stop", "rm", "end", "row"}
    for engines in results.values():
        assert {"godwit-oci", "godwit"} <= set(engines)
        assert "crun" in engines or "crun" in out       # with its numbers, or left out with the reason
        for engine, result in engines.items():
            assert result["runs"] == 1 and 0 < result["min_ms"] <= result["median_ms"]
            assert engine == "crun" or "crun" not in engines or result["ratio"] > 0


def test_migrate_compares_engines(tmp_path):
    file, drawing = tmp_path / "migrate.json", tmp_path / "migrate.svg"
    code, out, errors = bench("migrate", "--only", "idle:16,writer:16,redis:8", "--runs", 1,
                              "--engines", "godwit,godwit-tls,runc,crun", "--rate", 20, "--json", file, "--svg", drawing)
    assert code == 0, out + errors
    results = json.loads(file.read_text())
    godwit = {result["workload"]: result for result in results if result["engine"] == "godwit"}
    assert set(godwit) == {"idle", "writer", "redis"}
    for engine in ("runc", "crun"):
        assert engine in {result["engine"] for result in results} or f"{engine}: left out: " in out
    for result in results:
        assert result["runs"] == 1
        assert result["memory_mb"] == (8 if result["workload"] == "redis" else 16)
        for metric in ("pause_ms", "downtime_ms", "total_ms", "bytes_wire"):
            assert 0 < result[metric]["min"] <= result[metric]["median"] <= result[metric]["max"]
        assert result["downtime_ms"]["median"] < result["total_ms"]["median"]
        assert result["bytes_wire"]["median"] > 8 << 20   # nothing in it compresses
    for result in godwit.values():
        for side in ("source", "target"):
            assert 1 << 20 < result["memory_bytes"][side]["max"] < 64 << 20
    for kind in ("idle", "writer"):     # the program's own clock sees the same gap
        assert godwit[kind]["gap_ms"]["median"] > godwit[kind]["downtime_ms"]["median"] / 2
    assert all(each["bytes"] >= each["sent_bytes"] >= 0 for each in godwit["writer"]["rounds"])
    assert max(each["bytes"] for each in godwit["writer"]["rounds"]) > 8 << 20
    assert xml.dom.minidom.parse(str(drawing)).documentElement.tagName == "svg"


def test_overhead_measures_throughput(tmp_path):
    file = tmp_path / "overhead.json"
    code, out, errors = bench("overhead", "--runs", 1, "--mb", 16, "--json", file)
    assert code == 0, out + errors
    run = json.loads(file.read_text())["runs"][0]
    assert run["without"] > 100 and run["after"] > 100     # the load works before and after
    assert 0 < run["window_ms"] < run["total_ms"]


def test_network_sees_what_clients_see(tmp_path):
    file, drawing = tmp_path / "network.json", tmp_path / "network.svg"
    code, out, errors = bench("network", "--moves", 2, "--connections", 20, "--rate", 100, "--json",
                              file, "--svg", drawing)
    assert code == 0, out + errors
    results = json.loads(file.read_text())
    for gate in ("hold", "drop"):
        it = results[gate]
        assert it["errors"] == 0 and it["connections"] == 20 and it["requests"] > 200
        assert 0 < it["pause_ms"]["p50"] <= it["pause_ms"]["p99"] <= it["pause_ms"]["max"]
    # what was dropped was sent again, and waited for that
    assert results["drop"]["retransmitted"] > results["hold"]["retransmitted"]
    assert results["drop"]["pause_ms"]["p50"] > 200
    for flow in results["stream"].values():
        assert flow["bytes"] > 10 ** 7 and flow["wrong"] == 0 and len(flow["moves"]) == 2
    for flow in results["iperf3"].values():
        assert flow["bytes"] > 10 ** 7 and len(flow["samples"]) > 10 and len(flow["moves"]) == 2
    it = results["datagrams"]
    assert it["sent"] == it["answered"] > 50 and it["twice"] == it["late"] == 0
    assert xml.dom.minidom.parse(str(drawing)).documentElement.tagName == "svg"


def test_checkpoint_compares_engines(tmp_path):
    file = tmp_path / "checkpoint.json"
    code, out, errors = bench("checkpoint", "--mb", "8", "--runs", 1, "--json", file)
    assert code == 0, out + errors
    results = {result["engine"]: result for result in json.loads(file.read_text())}
    assert "godwit" in results and ("runc" in results or "runc: left out: " in out)
    for result in results.values():
        assert result["runs"] == 1 and result["memory_mb"] == 8
        assert 0 < result["gap_ms"]["median"] < result["total_ms"]["median"]
        assert 0 < result["pause_ms"]["median"]


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["start", "--engines", "docker"],
                                       ["start", "--runs", "0"], ["../demo"],
                                       ["verbs", "--only", "stop,jump"], ["engines"],
                                       ["start", "--json", "/no/such/folder/file"],
                                       ["overhead", "--mb", "0"],
                                       ["checkpoint", "--mb", "64,x"],
                                       ["checkpoint", "--runs", "0"],
                                       ["network", "--only", "all"],
                                       ["network", "--connections", "1"],
                                       ["migrate", "--only", "idle"],
                                       ["migrate", "--only", "web:64"],
                                       ["migrate", "--only", "idle:0"],
                                       ["migrate", "--engines", "docker"],
                                       ["migrate", "--region", "101"],
                                       ["migrate", "--svg", "/no/such/folder/file"]])
def test_bad_arguments_are_refused(arguments):
    code, _, errors = bench(*arguments)
    assert code == 2 and errors
