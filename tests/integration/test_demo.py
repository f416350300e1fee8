"""The demo as a newcomer runs it: it holds, twice, beside another bed, and leaves nothing."""
import json
import os
import signal
import subprocess
import time

import pytest

from conftest import BUILD, TOP, cgroups_of, numbers, processes_of

SIZE = 32


class Place:
    """Where the demo whose process has this id keeps what it makes."""

    def __init__(self, pid):
        self.name = f"demo-{pid}"

    def left(self):
        folders = [f"{top}/godwit-testbed/{self.name}" for top in ("/run", "/var/lib")]
        return processes_of(self) or cgroups_of(self) or [it for it in folders
                                                          if os.path.exists(it)]


def start(*options):
    """tools/demo with this build; its bed has the process id as its name."""
    return subprocess.Popen([str(TOP / "tools/demo"), "--size", str(SIZE), *map(str, options)],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "GODWIT_BUILD": str(BUILD)})


def wait_until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.mark.bed(nodes=1)
def test_it_holds_twice_beside_another_bed(bed, tmp_path):
    for _ in range(2):
        file = tmp_path / f"result{next(numbers)}.json"
        demo = start("--json", file)
        out, errors = demo.communicate(timeout=200)
        assert demo.returncode == 0, out + errors
        check_result(json.loads(file.read_text()), out)
        assert not Place(demo.pid).left()
    assert bed["node1"].run("hostname").stdout == "node1\n"


def check_result(result, summary):
    assert result["ok"] is True and result["connection_survived"] is True
    assert result["acked_writes_lost"] == 0 and result["acked_writes"] > SIZE * 100
    assert result["data_bytes"] >= SIZE << 20 and result["bytes_raw"] > SIZE << 20
    assert 0 < result["bytes_wire"] < result["bytes_raw"] * 1.1
    assert 0 < result["downtime_ms"] < result["total_ms"]
    assert abs(sum(result["phases_ms"].values()) - result["total_ms"]) < 0.1 * result["total_ms"]
    assert result["client_longest_pause_ms"] > result["client_median_ms"] > 0
    assert min(result["requests"].values()) > 0
    assert all(check["held"] for check in result["checks"])
    assert "All of it held." in summary and f"{result['downtime_ms']:,.1f} ms" in summary


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_it_leaves_nothing(number):
    demo = start()
    place = Place(demo.pid)
    wait_until(lambda: [it for it in processes_of(place) if "demo_client" in it[1]])
    demo.send_signal(number)
    demo.communicate(timeout=60)
    assert demo.returncode in (128 + number, -number)
    wait_until(lambda: not place.left())


def test_without_its_client_it_says_what_did_not_hold(tmp_path):
    file = tmp_path / "result.json"
    demo = start("--json", file)
    place = Place(demo.pid)
    wait_until(lambda: [it for it in processes_of(place) if "godwit serve" in it[1]])
    for pid, command in processes_of(place):
        if "demo_client" in command:
            os.kill(pid, signal.SIGKILL)
    out, errors = demo.communicate(timeout=200)
    result = json.loads(file.read_text())
    assert demo.returncode == 1 and result["ok"] is False, out + errors
    assert result["connection_survived"] is False and result["acked_writes_lost"] is None
    assert [check["what"] for check in result["checks"] if not check["held"]]
    assert "Not all of it held" in out
    assert not place.left()


@pytest.mark.parametrize("options", [["--size", "0"], ["--size", "much"], ["--size"], ["--colour"],
                                     ["--json", "/no/such/folder/file"]])
def test_bad_arguments_are_refused(options):
    done = subprocess.run([str(TOP / "tools/demo"), *options], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr
