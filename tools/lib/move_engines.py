"""The engines whose moves tools/bench migrate compares, on one test bed.

Each starts a container called bench on node1, moves it to node2, and removes it:

    engine = Runc(bed)
    if not engine.why_not():
        engine.setup({"base": folder})      # once
        address = engine.start("base", ["/bin/fill", "64"])
        engine.save(folder)                 # a checkpoint; it goes on
        result = engine.move()              # downtime_ms, total_ms, bytes_wire, phases_ms,
                                            # godwit: memory_bytes of source and target
        engine.stop()
"""
import json
import os
import pathlib
import select
import shlex
import shutil
import subprocess

from bed import Failed, call
from move_memory import PeakMemory

HERE = pathlib.Path(__file__).resolve().parent
CRIU = "/usr/local/lib/godwit/criu/usr/sbin/criu"   # where tools/setup puts one
PATIENCE = 900          # seconds for a move


def ready_line(process, what):
    if not select.select([process.stdout], [], [], 20)[0] or not process.stdout.readline():
        raise Failed(f"{what} is not ready after 20 s")


class Godwit:
    """Without TLS, as the others."""
    name = "godwit"
    measured = "downtime: freeze to resume, as its report says"
    port, program = 4967, ("env", "GODWIT_INSECURE=1", "godwit")

    def __init__(self, bed, options=""):
        self.bed = bed
        self.options = shlex.split(options)
        self.serves = {}

    def why_not(self):
        return ""

    def setup(self, roots, targets=("node2",)):
        there = {image["name"] for image in json.loads(self.bed.run("node1", "godwit", "image", "ls", "--json"))}
        for image in roots.keys() - there:
            self.bed.run("node1", "godwit", "image", "import", image, roots[image])
        for node in targets:
            self.serves[node] = self.bed.start(node, *self.program, "serve", "--listen", f":{self.port}",
                                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                               stderr=subprocess.DEVNULL)
            ready_line(self.serves[node], "godwit serve")

    def start(self, image, words):
        self.bed.run("node1", "godwit", "run", "-d", "--name", "bench", image, *words)
        inspected = json.loads(self.bed.run("node1", "godwit", "inspect", "bench"))[0]
        return inspected["network"]["address"].split("/")[0]

    def move(self, source="node1", target="node2"):
        """What the report says, all of it as "report"."""
        mover = self.bed.start(source, *self.program, "migrate", "--quiet", "--json", *self.options,
                               "bench", f"{target}:{self.port}", stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        memory = PeakMemory({"source": mover.pid, "target": self.serves[target].pid})
        try:
            with memory:
                out, errors = mover.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired as late:
            mover.kill()
            raise Failed(f"godwit migrate is not done after {PATIENCE} s") from late
        report = json.loads(out) if out.strip() else {"ok": False}
        if mover.returncode or not report["ok"]:
            raise Failed(report.get("error") or f"godwit migrate: exit {mover.returncode}", errors)
        return {**{key: report[key] for key in ("downtime_ms", "total_ms", "bytes_wire")},
                "phases_ms": report.get("phases_ms", {}), "memory_bytes": memory.peak,
                "report": report}

    def save(self, folder):
        """Into a folder that is not there yet; the container goes on."""
        self.bed.run("node1", "godwit", "checkpoint", "--quiet", "--leave-running", "bench", folder,
                     timeout=PATIENCE)

    def stop(self):
        for node in ("node1", "node2"):
            if self.bed.run(node, "godwit", "ps", "-aq").split():
                self.bed.run(node, "godwit", "rm", "--force", "bench")


class GodwitTls(Godwit):
    name = "godwit-tls"
    measured = "the same over mutual TLS, as nodes do unless they are told otherwise"
    port, program = 4968, ("godwit",)


class Runc:
    name = "runc"
    measured = ("checkpoint --tcp-established into tmpfs, tar over a socket, restore, in a network "
                "namespace that keeps address and MAC; downtime: frozen, as CRIU's stats say, "
                "to the return of restore")
    namespaces = ("pid", "ipc", "uts", "mount", "cgroup")

    def __init__(self, bed):
        self.bed = bed
        self.roots = {}
        self.folder = bed.folder / "runc"
        self.settings = {
            "address": "10.88.200.1", "mac": "02:67:0a:58:c8:01", "target": "node2", "port": 7777,
            "cgroup": f"/godwit-testbed/{bed.name}/",
            "bin": str(self.folder / "bin"), "home": str(self.folder / "home"),
            "nodes": {node: {"bundle": str(self.folder / node)} for node in ("node1", "node2")}}

    def why_not(self):
        if not shutil.which("runc"):
            return "not installed (apt-get install runc)"
        return ""

    def setup(self, roots):
        """CRIU comes with the help that godwit gives it on new kernels (criu-glue/shim), as it
        dumps no socket without; it locks connections by nftables, which need no program."""
        self.roots = roots
        for name in ("bin", "home/.criu"):
            (self.folder / name).mkdir(parents=True)
        criu = CRIU if os.access(CRIU, os.X_OK) else shutil.which("criu")
        shim = pathlib.Path(os.environ["GODWIT_BUILD"]).resolve() / "criu-glue/shim.so"
        wrapper = self.folder / "bin/criu"
        wrapper.write_text(f'#!/bin/sh\nLD_PRELOAD={shim} exec {criu} "$@"\n', encoding="utf-8")
        wrapper.chmod(0o755)
        (self.folder / "home/.criu/default.conf").write_text("network-lock nftables\n",
                                                             encoding="utf-8")
        (self.folder / "settings.json").write_text(json.dumps(self.settings), encoding="utf-8")

    def write_bundle(self, node, image, words):
        """What runc itself proposes, changed where it must be."""
        folder = self.folder / node
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        call("runc", "spec", cwd=folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["process"].update(terminal=False, args=[str(word) for word in words])
        config["root"] = {"path": str(self.roots[image]), "readonly": True}
        config["linux"]["namespaces"] = [{"type": kind} for kind in self.namespaces]
        config["linux"]["namespaces"].append({"type": "network", "path": "/run/bench.net"})
        config["linux"].pop("resources", None)
        config["linux"]["cgroupsPath"] = f"/godwit-testbed/{self.bed.name}/{node}/runc"
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def words(self, verb):
        return ("/usr/bin/python3", "-B", HERE / "move_runc.py", verb,
                self.folder / "settings.json")

    def start(self, image, words):
        for node in ("node1", "node2"):
            self.write_bundle(node, image, words)
        # what runs on must not hold a pipe of ours
        self.bed.run("node1", *self.words("start"))
        return self.settings["address"]

    def move(self):
        receiver = self.bed.start("node2", *self.words("receive"), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            ready_line(receiver, "the receiving side")
            result = json.loads(self.bed.run("node1", *self.words("send"), timeout=PATIENCE))
        except Failed as failed:
            receiver.kill()
            raise Failed(str(failed), failed.details + receiver.communicate()[1]) from failed
        receiver.communicate(timeout=60)
        return result

    def save(self, folder):
        self.bed.run("node1", *self.words("save"), folder, timeout=PATIENCE)

    def stop(self):
        for node in ("node1", "node2"):
            self.bed.run(node, *self.words("stop"))


class Crun:
    """Known, so that it can be said why it is not there."""
    name = "crun"
    measured = ""

    def __init__(self, bed):
        self.bed = bed

    def why_not(self):
        if not shutil.which("crun"):
            return "not installed (apt-get install crun)"
        if "+CRIU" not in self.bed.run("node1", "crun", "--version"):   # it makes a folder in /run
            return "this crun is built without CRIU, so it has no checkpoint"
        return ("its restore is not safe here: where its container's cgroup resolves to the root, "
                "it freezes or kills the whole machine")


ENGINES = {engine.name: engine for engine in (Godwit, GodwitTls, Runc, Crun)}
USUAL = [name for name in ENGINES if name != GodwitTls.name]
