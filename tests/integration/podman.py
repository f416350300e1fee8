"""podman, with godwit as its runtime."""
import contextlib
import os
import pathlib
import subprocess
import tempfile

from conftest import BUILD, TOP

CRIU = pathlib.Path("/usr/local/lib/godwit/criu/usr/sbin")
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


class Podman:
    """podman with stores of its own, in a folder with a short path."""

    def __init__(self, folder, manager="cgroupfs"):
        self.folder = folder
        self.manager = manager
        self.runtime = folder / "godwit-oci"
        self.runtime.symlink_to(BUILD / "tools" / "godwit")
        self.cgroup = f"/godwit-podman-{os.getpid()}"
        # CRIU for podman's own look at its version.
        self.environment = {**os.environ, "PATH": f"{CRIU}:{os.environ['PATH']}"}

    def words(self, *args):
        return ["podman", "--root", self.folder / "store", "--runroot", self.folder / "run", "--tmpdir",
                self.folder / "tmp", "--storage-driver", "vfs", "--cgroup-manager", self.manager, "--events-backend",
                "none", "--runtime", self.runtime, *args]

    def __call__(self, *args, check=True, **options):
        out = self.folder / "out"
        # Files and not pipes: what podman leaves running would hold them.
        with out.open("w+", encoding="utf8") as file:
            done = subprocess.run(self.words(*args), check=False, timeout=120, env=self.environment,
                                  stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, **options)
        text = out.read_text()
        assert not check or done.returncode == 0, text
        return text if check else (done.returncode, text)

    def run(self, *args, options=(), **more):
        parent = ("--cgroup-parent", self.cgroup) if self.manager == "cgroupfs" else ()
        return self("run", "--network", "none", *parent, *LIMITS, *options, *args, **more)

    def close(self):
        self("rm", "--all", "--force", "--time", "0", check=False)
        for place in (pathlib.Path("/sys/fs/cgroup"), *pathlib.Path("/sys/fs/cgroup").iterdir()):
            top = pathlib.Path(f"{place}{self.cgroup}")
            for path in sorted(top.glob("**/"), reverse=True) if top.is_dir() else ():
                path.rmdir()


@contextlib.contextmanager
def podman_of_its_own(manager="cgroupfs"):
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        made = Podman(pathlib.Path(folder), manager)
        subprocess.run([TOP / "tests" / "lib" / "rootfs", "make", "base", made.folder / "base"], check=True,
                       capture_output=True)
        yield made
        made.close()
