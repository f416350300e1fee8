"""The disk below a path, and what control groups say about it."""
import os
import pathlib


def disk_of(path):
    """The device of the whole disk that a path is on, or None when the kernel has no such disk (tmpfs)."""
    number = os.stat(path).st_dev
    entry = pathlib.Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not entry.exists():
        return None
    entry = entry.resolve()
    disk = pathlib.Path("/dev", (entry.parent if (entry / "partition").exists() else entry).name)
    return disk if disk.is_block_device() else None


def io_files(node, told):
    """The files of the controller of disk I/O of a container: v1's folder, or v2's; None: no such limits."""
    path = told["cgroup"]["path"]
    v1 = path.replace("/unified/", "/blkio/", 1)
    for folder, file in ((v1, "blkio.throttle.write_bps_device"), (path, "io.max")):
        if node.run("test", "-e", f"{folder}/{file}", check=False).returncode == 0:
            return folder
    return None


def rates(node, told):
    """What the kernel holds a container to: {"read_bps": ...} of the only disk that is limited."""
    folder, found = io_files(node, told), {}
    if folder.split("/")[4] == "blkio":
        for kind in ("read_bps", "write_bps", "read_iops", "write_iops"):
            line = node.run("cat", f"{folder}/blkio.throttle.{kind}_device").stdout.split()
            found.update({kind: int(line[1])} if line else {})
        return found
    names = {"rbps": "read_bps", "wbps": "write_bps", "riops": "read_iops", "wiops": "write_iops"}
    for pair in node.run("cat", f"{folder}/io.max").stdout.split()[1:]:
        name, value = pair.split("=")
        found.update({names[name]: int(value)} if value != "max" else {})
    return found
