"""One case of the fault matrix: a move in which something goes wrong, what an operator would do
about it, and whether all is well then."""
import contextlib
import pathlib
import subprocess
import time

from bed import Failed
from fault_bed import BOX, GODWIT, NODES, Problem, kill, other, until
from fault_matrix import NOBODY_SETTLES, SCENARIOS, SOURCE, TARGET

NAP = 2.3               # seconds, until the target shows that it lives
GIVE_UP = 45            # seconds; no command takes longer when a peer counts as dead after 2
SETTLE = 12             # seconds until one copy is where it shall be
ASK_AFTER = 0.5         # seconds in doubt, until the operator asks where nobody else does,
ASK_LATE = 5.0          # and where serve should have
RESTART_AFTER = 6.0     # seconds that something is incoming, until the operator restarts the daemon
IN_PROCESS = {"die": "die", "reset": "reset", "drop": "drop", "corrupt": "corrupt", "ENOSPC": "fail=ENOSPC",
              "EIO": "fail=EIO"}
LOST_THERE = "ran it and lost it when its machine crashed"
TRIES = 3               # when others were faster
MARKERS = ("marker-case", "marker-after", "marker-scenario")


class Missed(Problem):
    """Somebody else was faster."""


class Play:
    """A case on a bed. notes: what had to be done by hand."""

    def __init__(self, bed, case):
        self.bed, self.case = bed, case
        self.scenario = next(s for s in SCENARIOS if s.name == case.scenario)
        self.notes, self.done, self.back = [], set(), []
        source = bed.where
        self.nodes = {SOURCE: source, TARGET: other(source)}
        self.monitor = bed.record(source)["monitor_pid"]
        self.code, self.said = None, ""
        self.lost_there = False         # with its machine, before it was on disk there

    # --- faults ---

    def marker(self, name):
        return self.bed.path(name)

    def faults(self, armed):
        """By side. A passing that is not the first waits for the point before it."""
        case, found = self.case, {SOURCE: [], TARGET: []}
        for side, faults in self.scenario.faults.items():
            found[side] += [f.replace("MARKER", str(self.marker("marker-scenario"))) for f in faults]
        action = IN_PROCESS.get(case.kind, "wait")
        if case.after and not armed:
            found[case.side].insert(0, f"{case.after}@{case.role}:wait:{self.marker('marker-after')}")
        else:
            found[case.side].insert(0, f"{case.point}@{case.role}:{action}:{self.marker('marker-case')}")
        return found

    def set_faults(self, armed=False):
        for side, faults in self.faults(armed).items():
            self.bed.set_faults(self.nodes[side], *faults)

    def step(self):
        """Whoever waits is served."""
        for name in MARKERS:
            if name in self.done or not self.marker(name).exists():
                continue
            self.done.add(name)
            if name == "marker-after":
                self.set_faults(armed=True)
            elif name == "marker-case" and self.case.kind not in IN_PROCESS:
                self.do(self.case.kind)
            elif name == "marker-scenario" and self.scenario.deed:
                self.do(self.scenario.deed)
            self.marker(f"{name}.go").touch()

    # --- what is done from outside ---

    def do(self, kind):
        bed, source, target = self.bed, self.nodes[SOURCE], self.nodes[TARGET]
        if kind == "command":
            self.command.kill()
        elif kind == "both":
            kill([self.monitor])
            self.command.kill()
        elif kind == "fillers":
            kill(self.restorers() + bed.named(target, "godwit-filler"))
        elif kind == "source-monitor":
            kill([self.monitor])
        elif kind == "worker":
            kill(bed.workers(target))
        elif kind == "restorer":
            kill(self.restorers())
        elif kind == "filler":
            kill(bed.named(target, "godwit-filler"))
        elif kind == "criu":
            kill(pid for pid, (_, command) in bed.processes().items() if " swrk " in command)
        elif kind in ("serve", "daemons", "all-of-target"):
            daemon = bed.daemons[target]
            workers = bed.workers(target)
            daemon.kill()
            daemon.wait()
            if kind == "all-of-target":     # the worker, which would clean up, waits at a fault point
                kill(self.restorers())
            if kind != "serve":
                kill(workers)
        elif kind == "nap":
            time.sleep(NAP)
        elif kind in ("blink", "cable"):
            self.pull_cable(kind)
        elif kind.startswith("full-"):
            self.fill_disk(self.nodes[kind[len("full-"):]])
        else:
            self.cut_power(self.nodes[kind[len("crash-"):]])

    def restorers(self):
        return [pid for pid in self.bed.named(self.nodes[TARGET], "godwit-monitor") if pid != self.monitor]

    def pull_cable(self, kind):
        target = self.nodes[TARGET]
        self.bed.link(target, "down")
        if kind == "blink":
            self.marker("marker-case.go").touch()
            time.sleep(0.3)
            self.bed.link(target, "up")
        else:
            self.back.append(lambda: self.bed.link(target, "up"))

    def fill_disk(self, node):
        full = self.bed.state(node) / "full"
        with open(full, "wb", 0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass
        self.back.append(full.unlink)

    def cut_power(self, node):
        self.bed.crash(node)
        self.back.append(lambda: self.bed.boot(node))

    # --- the story ---

    def move(self):
        self.set_faults()
        self.command = self.bed.move(self.nodes[SOURCE], *self.scenario.options)
        end = time.monotonic() + GIVE_UP
        while self.command.poll() is None:
            self.step()
            self.bed.revive(self.step)
            if time.monotonic() > end:
                where = pathlib.Path(f"/proc/{self.command.pid}/stack").read_text(encoding="ascii")
                self.command.kill()
                raise Problem(f"the command hangs: {' '.join(where.split()[1::2])}")
            time.sleep(0.002)
        try:
            _, self.said = self.command.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self.note("somebody kept its output")
        self.code = self.command.returncode
        self.step()

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def settle(self):
        """Until one copy is left, and nobody works on it: returns {node: status}."""
        begun = time.monotonic()
        while True:
            while self.back:
                self.back[-1]()
                self.back.pop()
            self.bed.revive(self.step)
            self.step()
            if self.back:
                continue
            there = self.bed.statuses()
            passed = time.monotonic() - begun
            if len(there) == 1 and set(there.values()) <= {"running", "exited"} and not self.works(there):
                return there
            if passed > SETTLE:
                raise Problem(f"it does not settle: {there or 'it is nowhere'}")
            if passed > ASK_AFTER:
                self.operate(there, passed)
            time.sleep(0.02)

    def works(self, there):
        """Somebody is still at it, or a decision is open."""
        node = next(iter(there))
        if self.bed.has_decision(node):
            return True
        return bool(self.bed.workers(other(node)) or self.bed.workers(node))

    def operate(self, there, passed):
        bed = self.bed
        for node, status in there.items():
            if bed.has_decision(node):
                if passed < ASK_LATE and not self.needs_operator():
                    continue
                if status == "exited" and bed.try_to(node, GODWIT, "start", BOX)[0] == 0:
                    raise Problem("it could be started although its move is in doubt")
                self.note("resolve")
                self.resolve(node)
                if LOST_THERE in self.said and self.may_be_lost(other(node)):
                    self.lost_there = True
                    bed.do(node, GODWIT, "resolve", "--resume-here", BOX)
            elif status == "paused" and self.case.point == "monitor-thaw":
                self.note("unpause")
                bed.do(node, GODWIT, "unpause", BOX)
            elif status == "incoming" and passed > RESTART_AFTER:
                self.note("restart serve")
                bed.daemons[node].terminate()
                bed.daemons[node].wait()

    def needs_operator(self):
        """Serve has been told to settle nothing, or may not decide this."""
        return NOBODY_SETTLES in self.scenario.faults.get(SOURCE, ()) or LOST_THERE in self.said

    def resolve(self, node):
        """Others may have to serve it meanwhile: a fault may wait in it."""
        process = self.bed.start(node, GODWIT, "resolve", BOX, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, env=self.bed.environment(node))
        end = time.monotonic() + GIVE_UP
        while process.poll() is None:
            self.step()
            if time.monotonic() > end:
                process.kill()
                raise Problem("resolve hangs")
            time.sleep(0.002)
        _, said = process.communicate()
        if process.returncode > 0:
            self.said = said

    def may_be_lost(self, node):
        """What only the dead had known is gone, and the container has ended for it."""
        kind = self.case.kind
        if kind.startswith("crash-"):
            return node == self.nodes[kind[len("crash-"):]]
        return self.case.role == "filler" or kind in ("filler", "fillers")

    def clean_links(self, node):
        if self.case.kind not in ("source-monitor", "both") and (self.case.role, self.case.kind) != ("monitor", "die"):
            return
        baseline = self.bed.baseline[node][f"links of {other(node)}"]
        with contextlib.suppress(Problem):
            until(lambda: self.bed.look(other(node))["links"] == baseline, 0.5, "")
            return
        if self.bed.remove_links(other(node)):
            self.note("interface left")

    def check(self, there):
        bed = self.bed
        node, status = next(iter(there.items()))
        bed.where = node
        if "marker-case" not in self.done:
            raise Missed("the fault did not happen")
        if self.lost_there:
            if status != "running" or node != self.nodes[SOURCE]:
                raise Problem(f"lost on the target, and {status} on {node}")
            self.note("lost there, goes on here")
            bed.renew()
            return
        bed.log.check()
        if status == "running" and self.may_be_lost(node):
            # it may still go
            with contextlib.suppress(Problem):
                bed.ask()
            time.sleep(0.2)
            status = bed.statuses().get(node)
        if status == "exited":
            if not self.may_be_lost(node):
                raise Problem(f"it has ended: {bed.record(node).get('reason')}")
            self.note("lost")
            bed.renew()
            return
        bed.ask()
        until(bed.log.check, 2, "it does not go on")
        self.clean_links(node)
        until(lambda: bed.statuses() and bed.monitor_lives(node), 3, "it has got no new monitor")
        bed.compare(node)

    def run(self):
        self.bed.clear_faults()
        self.move()
        there = self.settle()
        end = time.monotonic() + 1
        while "marker-case" not in self.done and time.monotonic() < end:
            self.step()
            time.sleep(0.005)
        self.bed.revive()
        self.bed.clear_faults()
        self.check(there)


def play_once(bed, case):
    """(Problem or None, notes). Afterwards the bed is fine again."""
    it = Play(bed, case)
    try:
        it.run()
    except (Problem, Failed, OSError, KeyError) as error:
        said = f"; the command (exit {it.code}): {it.said.strip()}" if it.said.strip() else ""
        problem = (Missed if isinstance(error, Missed) else Problem)(f"{error}{said}")
        try:
            repair(bed, it)
        except Failed as worse:
            raise Failed(f"after '{problem}': {worse}", worse.details) from worse
        return problem, it.notes
    return None, it.notes


def play(bed, case):
    """(problem or None, notes, seconds)."""
    begun = time.monotonic()
    for _ in range(TRIES):
        problem, notes = play_once(bed, case)
        if not isinstance(problem, Missed):
            break
    return problem, notes, time.monotonic() - begun


def repair(bed, it):
    """After a failure: all away, and anew."""
    for name in MARKERS:
        it.marker(f"{name}.go").touch()
    for undo in it.back:
        with contextlib.suppress(Problem, Failed, OSError):
            undo()
    for node in NODES:
        if node not in bed.agents:      # its power is off still
            bed.boot(node)
    time.sleep(0.05)
    for node in NODES:
        kill(pid for pid, (name, _) in bed.processes(node).items() if name in ("godwit", "godwit-monitor"))
    for daemon in bed.daemons.values():
        daemon.kill()
        daemon.wait()
    bed.clear_faults()
    bed.revive()
    bed.remove_decisions()
    bed.renew()
