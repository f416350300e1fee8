"""tools/bench measures what it says it measures, and leaves nothing."""
import json
import os
import subprocess

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
    assert {"godwit", "godwit-none"} <= set(results)
    for engine in ("godwit", "godwit-none", "crun", "runc"):
        assert engine in out       # with its numbers, or left out with the reason
    for result in results.values():
        assert result["runs"] == 3 and 0 < result["min_ms"] <= result["median_ms"]
        assert result["peak_rss_kb"] > 500
    assert "ratio" not in results["godwit"] and results["godwit-none"]["ratio"] > 0


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["start", "--engines", "docker"],
                                       ["start", "--runs", "0"], ["../demo"],
                                       ["start", "--json", "/no/such/folder/file"]])
def test_bad_arguments_are_refused(arguments):
    code, _, errors = bench(*arguments)
    assert code == 2 and errors
