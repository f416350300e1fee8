"""godwit doctor: what works on a machine, what does not, what to do."""
import json

from conftest import GODWIT, snapshot_of_machine
from test_engine import has_controllers


def findings(node, *command, **options):
    done = node.run(*command, GODWIT, "doctor", "--json", **options)
    report = json.loads(done.stdout)
    return report["grade"], {f"{f['area']}/{f['name']}": f for f in report["findings"]}, done.returncode


def test_what_works_is_told_and_nothing_is_left(node):
    node.godwit("run", "--rm", "base", "true")  # makes what all containers share
    before = snapshot_of_machine(node.bed)
    grade, found, code = findings(node)
    assert grade in ("good", "limited") and code == 0
    assert not [f for f in found.values() if f["grade"] == "bad"]
    assert all(f["found"] and (f["remedy"] or f["grade"] == "good") for f in found.values())
    assert found["cgroups/limits"]["grade"] == ("good" if has_controllers(node) else "limited")
    assert found["CRIU/program"]["found"].startswith("CRIU 4.")
    table = node.godwit("doctor").stdout
    assert all(f["found"] in table and f["remedy"] in table for f in found.values())
    assert snapshot_of_machine(node.bed) == before


def test_what_does_not_work_is_told_with_a_remedy(node):
    grade, found, code = findings(node, "env", "GODWIT_CRIU=/nowhere/criu", check=False)
    assert (grade, code) == ("bad", 1) and found["CRIU/program"]["grade"] == "bad"
    assert "tools/setup" in found["CRIU/program"]["remedy"] and found["CRIU/kernel"]["grade"] == "bad"
    assert found["network/interfaces"]["grade"] == "good"
    _, found, code = findings(node, "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", check=False)
    assert code == 1 and "CAP_NET_ADMIN" in found["privileges/capabilities"]["found"]
    assert found["network/interfaces"]["grade"] == "bad" and found["file system/overlay"]["grade"] == "good"
    _, found, code = findings(node, "prlimit", "--nofile=256:256", check=False)
    assert found["privileges/open files"]["grade"] == "limited"
