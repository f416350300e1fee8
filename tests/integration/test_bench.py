"""tools/bench measures what it says it measures, and leaves nothing."""
import json
import os
import subprocess

import pytest

from conftest import BUILD, TOP


def bench(*arguments):
    return subprocess.run([str(TOP / "tools/bench"), *map(str, arguments)], timeout=200, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, check=False,
                          env={**os.environ, "GODWIT_BUILD": str(BUILD)})


def beds():
    return {name for name in os.listdir("/run/godwit-testbed") if name.startswith("bench-")} \
        if os.path.isdir("/run/godwit-testbed") else set()


def test_start_compares_engines(tmp_path):
    before = beds()
    file = tmp_path / "start.json"
    done = bench("start", "--runs", 3, "--json", file)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(file.read_text())
    assert {"godwit", "godwit-none"} <= set(results)
    for engine in ("godwit", "godwit-none", "crun", "runc"):
        assert engine in done.stdout       # with its numbers, or left out with the reason
    for result in results.values():
        assert result["runs"] == 3 and 0 < result["min_ms"] <= result["median_ms"]
        assert result["peak_rss_kb"] > 500
    assert "ratio" not in results["godwit"] and results["godwit-none"]["ratio"] > 0
    assert not beds() - before


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["start", "--engines", "docker"],
                                       ["start", "--runs", "0"], ["../demo"],
                                       ["start", "--json", "/no/such/folder/file"]])
def test_bad_arguments_are_refused(arguments):
    done = bench(*arguments)
    assert done.returncode == 2 and done.stderr
