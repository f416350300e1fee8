"""What the benches that move containers share: root file systems, room, and clients' events."""
import contextlib
import json
import os
import pathlib
import select
import shutil

from bed import ROOTFS, Failed, call

REDIS = ("redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "")
PROGRAMS = ("fill", "stream")     # of tests/workloads, in the image base
COPIES = 3.3            # of the memory that there must be room for: source, on its way, target


class Children:
    """Programs in nodes, which end with the block."""

    def __init__(self):
        self.children = []

    def start(self, bed, *words, **options):
        self.children.append(bed.start(*words, **options))
        return self.children[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.communicate()


@contextlib.contextmanager
def started(engine, image, words):
    """The address of a container, which is removed afterwards, unless the bed goes anyway."""
    try:
        yield engine.start(image, words)
    except Failed:
        with contextlib.suppress(Failed):   # the first failure is the one to tell
            engine.stop()
        raise
    engine.stop()


def make_roots(bed, kinds):
    roots = {}
    for kind in kinds:
        roots[kind] = bed.folder / f"rootfs-{kind}"
        call(ROOTFS, "make", kind, roots[kind])
    for name in PROGRAMS if "base" in roots else ():
        program = pathlib.Path(os.environ["GODWIT_BUILD"]) / "tests/workloads" / name
        if not program.exists():
            raise Failed(f"{program} is not there: build the target workload-{name}")
        shutil.copy(program, roots["base"] / "bin")
    return roots


def check_memory(size):
    with open("/proc/meminfo", encoding="ascii") as file:
        values = dict(line.split(":") for line in file)
    free = int(values["MemAvailable"].split()[0]) >> 10
    if free < size * COPIES:
        raise Failed(f"{free} MB of memory are free, {size * COPIES:.0f} are needed")


def event(client, name, timeout):
    if not select.select([client.stdout], [], [], timeout)[0]:
        raise Failed(f"the client did not say '{name}' within {timeout} s")
    line = client.stdout.readline()
    said = json.loads(line) if line else {"event": "ended", "error": "it ended"}
    if said.pop("event") != name:
        raise Failed(f"the client: {said.get('error', said)}")
    return said
