"""checkpoint --criu-images: what CRIU and its tools, alone, make of a checkpoint."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

from conftest import GODWIT, TOP
from moving import Client, left_as_found, moving_bed, run, until

CRIT = TOP / "tests/lib/crit"
PREFIX = pathlib.Path("/usr/local/lib/godwit/criu/usr/sbin/criu")
CRIU = os.environ.get("GODWIT_CRIU") or (str(PREFIX) if PREFIX.exists() else "criu")


@pytest.fixture
def one(bed):
    with left_as_found(bed):
        yield bed["node1"]


def crit(folder, *args):
    return subprocess.run([CRIT, folder, *args], check=True, text=True, timeout=120,
                          stdout=subprocess.PIPE).stdout


def checkpoint(bed, one, folder, program, *options):
    """Of a container that somebody has spoken with before."""
    client = Client(bed["node3"], run(one, "web", f"/workloads/{program[0]}", *program[1:], options=options))
    client.ask()
    client.close()
    one.godwit("exec", "web", "sh", "-c", "echo kept >/tmp/file; echo shared >/dev/shm/file")
    time.sleep(0.2)
    one.godwit("checkpoint", "-q", "--criu-images", "web", folder)
    one.godwit("rm", "web")


def test_crit_reads_all_of_it(bed, one, tmp_path):
    checkpoint(bed, one, tmp_path / "c", ("forks",))
    images = tmp_path / "c" / "criu"
    for name in ("inventory", "pstree", "files", "core-1", "mm-1"):
        assert json.loads(crit(images, "decode", "-i", f"{name}.img"))["entries"], name
    for pagemap in sorted(images.glob("pagemap-*.img"))[:4]:
        head, *entries = json.loads(crit(images, "decode", "-i", pagemap.name))["entries"]
        pages = images / f"pages-{head['pages_id']}.img"
        assert sum(entry["nr_pages"] for entry in entries) * 4096 == pages.stat().st_size, pagemap.name
    listed = crit(images, "x", ".", "ps")
    assert re.search(r"^ +1 .* forks$", listed, re.MULTILINE) and listed.count("forks") > 2, listed


class Restored:
    """What restore.sh of a checkpoint made, with a root file system put together for it."""

    def __init__(self, bed, one, folder, top):
        self.root = top / "root"
        shutil.copytree(bed.folder, self.root, symlinks=True)
        subprocess.run(["tar", "-C", self.root, "--warning=no-unknown-keyword", "-xpf", folder / "upper.tar"],
                       check=True)
        with open(top / "said", "wb") as said:
            done = one.run("env", f"ROOT={self.root}", f"CRIU={CRIU}", "sh", folder / "criu" / "restore.sh",
                           "-v4", "--work-dir", top, "-o", "restore.log", "--pidfile", "pid",
                           stdout=said, stderr=said, check=False)
        log = (top / "restore.log").read_text(errors="replace") if (top / "restore.log").exists() else ""
        assert done.returncode == 0, (top / "said").read_text() + log[-3000:]
        self.pid = (top / "pid").read_text().strip()

    def run(self, script):
        return subprocess.run(["nsenter", "-t", self.pid, "-a", "/bin/sh", "-c", script], check=True, text=True,
                              timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout

    def end(self):
        os.kill(int(self.pid), 9)
        until(lambda: not pathlib.Path("/proc", self.pid, "exe").exists(), 10)


@pytest.mark.parametrize("program", [("regions", "2", "8"), ("forks",), ("shared", "anonymous"), ("shared", "memfd"),
                                     ("shared", "sysv")],
                         ids=" ".join)
def test_criu_restores_it_without_us(bed, one, tmp_path, program):
    """Its memory verifies itself, its files are there, and nothing of it needs godwit."""
    checkpoint(bed, one, tmp_path / "c", program)
    shutil.rmtree(tmp_path / "c" / "memory")
    restored = Restored(bed, one, tmp_path / "c", tmp_path)
    try:
        for _ in range(2):
            said = restored.run("ip link set lo up; (echo '?'; sleep 1) | nc 127.0.0.1 7000")
            assert re.match(r"[0-9a-f]+ \d+ ok", said), said
        assert restored.run("cat /tmp/file /dev/shm/file; hostname").split() == ["kept", "shared", "web"]
    finally:
        restored.end()


def test_restore_does_not_need_it(bed, one, tmp_path):
    checkpoint(bed, one, tmp_path / "c", ("regions", "2", "8"))
    shutil.rmtree(tmp_path / "c" / "criu")
    one.run(GODWIT, "restore", "--verify", tmp_path / "c")
    client = Client(bed["node3"], json.loads(one.godwit("inspect", "web").stdout)[0]
                    ["network"]["address"].split("/")[0])
    client.ask()
    client.close()
