"""Limits of disk I/O: given, changed, lifted, refused; and a hog that writes past the page cache is held."""
import time

import pytest

from disks import disk_of, io_files, rates
from moving import inspect, until

HOG = "while :; do dd if=/dev/zero of=/big bs=256k count=64 oflag=direct conv=notrunc 2>/dev/null; done"
MIB = 1 << 20


@pytest.fixture
def disk(node, box):
    """The disk that the node's containers write to, where its I/O can be limited; else that is said clearly."""
    where = disk_of(node.state)
    if where and io_files(node, inspect(node, box("sleep", "1000"))):
        return where
    done = node.godwit("run", "--rm", "--device-write-bps", f"{where or '/dev/vda'}:1m", "base", "true", check=False)
    assert done.returncode == 125 and ("leave the limit out" in done.stderr or "/dev/vda:" in done.stderr), done.stderr
    return None


def spec_of(node, name):
    return inspect(node, name)["spec"]["linux"]["resources"].get("blockIO", {})


def test_limits_are_given_changed_and_lifted(node, box, disk):
    if not disk:
        return
    name = box("sleep", "1000", options=("--device-read-bps", f"{disk}:3m", "--device-write-bps", f"{disk}:2m",
                                         "--device-read-iops", f"{disk}:30", "--device-write-iops", f"{disk}:20"))
    wanted = {"read_bps": 3 * MIB, "write_bps": 2 * MIB, "read_iops": 30, "write_iops": 20}
    assert rates(node, inspect(node, name)) == wanted
    assert spec_of(node, name)["throttleWriteBpsDevice"] == [{"path": str(disk), "rate": 2 * MIB}]
    node.godwit("update", "--device-write-bps", f"{disk}:5m", "--device-read-iops", f"{disk}:0", name)
    wanted = {"read_bps": 3 * MIB, "write_bps": 5 * MIB, "write_iops": 20}
    assert rates(node, inspect(node, name)) == wanted and "throttleReadIOPSDevice" not in spec_of(node, name)
    node.godwit("update", "-m", "64m", name)
    assert rates(node, inspect(node, name)) == wanted
    node.godwit("stop", "-t", "0", name)
    node.godwit("start", name)
    assert rates(node, inspect(node, name)) == wanted
    # what is refused changes nothing, of what came before it either
    done = node.godwit("update", "--device-write-bps", f"{disk}:9m", "--device-read-bps", "/dev/null:1m", name, check=False)
    assert done.returncode == 1 and "no block device" in done.stderr
    assert rates(node, inspect(node, name)) == wanted
    for kind in ("read-bps", "write-bps", "write-iops"):
        node.godwit("update", f"--device-{kind}", f"{disk}:0", name)
    assert rates(node, inspect(node, name)) == {} and spec_of(node, name) == {}


@pytest.mark.parametrize("options, words", [
    (("--device-read-bps", "/dev/sda"), "write PATH:RATE, like /dev/sda:10m"),
    (("--device-read-bps", "dev/sda:1m"), "must be absolute"),
    (("--device-write-iops", "/dev/sda:1m"), "no number of operations"),
    (("--device-write-bps", "/no/such:1m"), "/no/such: No such file"),
    (("--device-write-bps", "/dev/null:1m"), "no block device"),
    (("--blkio-weight", "9"), "not within 10 and 1000"),
])
def test_what_is_no_limit_is_refused(node, options, words):
    done = node.godwit("run", "--rm", *options, "base", "true", check=False)
    assert done.returncode == 125 and words in done.stderr


def test_a_weight_is_given_and_changed_or_refused(node, box):
    def weight(name):
        told = inspect(node, name)
        for file in ("blkio.bfq.weight", "io.bfq.weight", "io.weight"):
            done = node.run("cat", f"{io_files(node, told)}/{file}", check=False)
            if done.returncode == 0:
                return int(done.stdout.split()[-1])
        return None
    plain = box("sleep", "1000")
    if weight(plain) is None:
        done = node.godwit("run", "--rm", "--blkio-weight", "300", "base", "true", check=False)
        assert done.returncode == 125 and "weight of disk I/O" in done.stderr and "leave the limit out" in done.stderr
        return
    name = box("sleep", "1000", options=("--blkio-weight", "300"))
    before = weight(name)
    assert before > weight(plain)
    node.godwit("update", "--blkio-weight", "600", name)
    assert weight(name) > before and spec_of(node, name)["weight"] == 600


def test_a_hog_that_writes_directly_is_held_to_the_rate(node, box, disk):
    """Bounded by bytes, over a time as long as it happened to be; then the limit is lifted."""
    if not disk:
        return

    def written():
        return inspect(node, name)["cgroup"]["usage"]["written_bytes"]
    name = box("sh", "-c", HOG, options=("--device-write-bps", f"{disk}:1m"))
    until(lambda: written() > MIB, seconds=60)
    start, before = time.monotonic(), written()
    until(lambda: written() >= before + 3 * MIB // 2, seconds=60)
    now = written()
    seconds = time.monotonic() - start
    assert now - before <= 2 * MIB * (seconds + 1)
    # far more than the limit would let through until then
    node.godwit("update", "--device-write-bps", f"{disk}:0", name)
    until(lambda: written() > now + 160 * MIB, seconds=60)
