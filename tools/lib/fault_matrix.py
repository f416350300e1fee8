"""Which faults there are to try: each fault point that a migration passes, times what can happen there.

A scenario is a migration in which something has gone wrong already, so that the ways back are
walked, too. One run of each with all points traced tells which processes pass which points, and
when; the matrix is made from that, so that no case can miss its point.

A case's name is SCENARIO/POINT@ROLE[+AFTER]/KIND. AFTER is the last point before by which this
passing can be told from the others; SOURCE- or TARGET- is in front of the role where both have it.
"""
import collections
import re

SOURCE, TARGET = "source", "target"

# faults: set from the beginning, by side; deed: a kind, what is done when one of them waits;
# settled: serve settles what is in doubt, and is traced, too; options: of the command.
Scenario = collections.namedtuple("Scenario", "name faults deed settled options",
                                  defaults=(False, ("--forward", "0s")))
NOBODY_SETTLES = "settler-look@settle:fail=EAGAIN"      # but the operator
SCENARIOS = [
    Scenario("move", {}, None),
    Scenario("forwarded", {}, None, False, ("--forward", "500ms")),
    Scenario("refused", {TARGET: ["restore-commit@restore:fail=EIO"]}, None),
    Scenario("failed", {TARGET: ["restore-tasks@restore:fail=EIO"]}, None),
    Scenario("unheard", {TARGET: ["send-RESUMED@receive:reset:MARKER"]}, None),
    Scenario("rejoined", {SOURCE: ["sent-TREE_BEGIN@command:reset:MARKER"]}, None),
    Scenario("abandoned", {SOURCE: ["source-transfer-begin@command:die:MARKER"]}, None),
    Scenario("orphaned", {TARGET: ["restore-decided@restore:die:MARKER"]}, None),
    Scenario("slow", {TARGET: ["restore-mounted@restore:wait:MARKER"]}, "nap"),
    Scenario("swept", {TARGET: ["target-restore-begin@receive:wait:MARKER"]}, "all-of-target"),
    Scenario("doubtful", {SOURCE: ["sent-COMMIT@command:die:MARKER"]}, None, True),
    Scenario("doubted", {SOURCE: ["sent-COMMIT@command:die:MARKER"],
                         TARGET: ["restore-commit@restore:fail=EIO"]}, None, True),
    Scenario("asked", {SOURCE: ["sent-COMMIT@command:die:MARKER", NOBODY_SETTLES]}, None),
    Scenario("asked-back", {SOURCE: ["sent-COMMIT@command:die:MARKER", NOBODY_SETTLES],
                            TARGET: ["restore-commit@restore:fail=EIO"]}, None),
]

KINDS = {
    "die": "the process that passes the point is killed",
    "command": "the migrating command is killed",
    "source-monitor": "the container's monitor on the source is killed",
    "worker": "the target's process for this connection is killed",
    "serve": "the target's daemon is killed; it is started again",
    "daemons": "the target's daemon and its worker are killed; the daemon is started again",
    "restorer": "the monitor of the arriving container is killed",
    "filler": "the process that fills in the memory is killed",
    "fillers": "it and the monitor of the arriving container are killed",
    "both": "the migrating command and the container's monitor on the source are killed",
    "criu": "CRIU is killed, whichever side it is on",
    "reset": "the connection is reset",
    "drop": "the connection is silently dead",
    "corrupt": "a byte of what is sent next is flipped",
    "ENOSPC": "the step fails, as on a full disk",
    "EIO": "the step fails, as fsync(2) on a broken disk",
    "full-source": "the source's disk is really full",
    "full-target": "the target's disk is really full",
    "blink": "the cable is pulled, and back before anybody has given up",
    "cable": "the cable is pulled, and back after both sides have given up",
    "crash-source": "the source's power is cut, and back",
    "crash-target": "the target's power is cut, and back",
}
CUTS = ("blink", "cable", "crash-source", "crash-target")

# who is killed, by the role that it has in a trace and the side
KILLED = {
    "command": (SOURCE, "command"), "source-monitor": (SOURCE, "monitor"), "worker": (TARGET, "receive"),
    "serve": (TARGET, "serve"), "daemons": (TARGET, "receive"), "restorer": (TARGET, "restore"),
    "filler": (TARGET, "filler"),
}

PAIRS = {"both": ("command", "source-monitor"), "fillers": ("filler", "restorer")}

# What is known not to hold yet; such cases are tried, but counted as skipped when they fail.
KNOWN = []              # (pattern, why)
UNPASSED = {                # that no scenario comes to
    "act-sync-removal", "acted-sync-removal", "act-tell-lost", "acted-tell-lost",
    # of containers in networks of their own
    *(f"{when}-{message}" for when in ("send", "sent", "received") for message in ("NETWORK", "PLACES")),
}

Case = collections.namedtuple("Case", "scenario side role point after kind")
# What was traced; time in us.
Passing = collections.namedtuple("Passing", "side role point pid time")
# A point as one process passes it, told from others.
Site = collections.namedtuple("Site", "side role point after time")

DECISIVE = re.compile(r"sent-COMMIT|received-COMMIT|send-RESUMED|received-RESUMED|handover.json-renamed|token-linked"
                      r"|restore-decided|original-gone|monitor-discard|folder-vanished|handover-removed")
DATA = re.compile(r"(send|sent|received)-(TREE_BEGIN|TREE_END|DATA)")
WRITES = re.compile(r"(config.json|state.json|handover.json|checkpoint.json|token|record)-create|target-\w+-begin")


def name_of(case):
    side = f"{case.side}-" if case.role == "monitor" else ""
    after = f"+{case.after}" if case.after else ""
    return f"{case.scenario}/{case.point}@{side}{case.role}{after}/{case.kind}"


def known(case):
    """Why it may fail, or None."""
    name = name_of(case)
    return next((why for pattern, why in KNOWN if pattern.fullmatch(name)), None)


class Presence:
    """When which process was there in a scenario."""

    def __init__(self, passed):
        self.spans = {}
        for side, role, point, _, time in passed:
            self.extend((side, role), time)
            if point.startswith("criu-"):
                self.extend((side, "criu"), time)
        for who in ((SOURCE, "monitor"), (TARGET, "serve")):
            self.spans[who] = [0, float("inf")]
        if (TARGET, "restore") in self.spans and (TARGET, "monitor") in self.spans:
            self.spans[TARGET, "restore"][1] = float("inf")

    def extend(self, who, time):
        first, last = self.spans.get(who, (time, time))
        self.spans[who] = [min(first, time), max(last, time)]

    def has(self, who, time):
        first, last = self.spans.get(who, (1, 0))
        return first <= time <= last


def kinds_at(site, presence, fails):
    yield "die"
    for kind, who in KILLED.items():
        itself = who == (site.side, site.role) or (kind == "restorer" and (site.side, site.role) == (TARGET, "monitor"))
        if presence.has(who, site.time) and not (itself and kind != "daemons"):
            yield kind
    for kind, (one, another) in PAIRS.items():
        if presence.has(KILLED[one], site.time) and presence.has(KILLED[another], site.time):
            yield kind
    if any(presence.has((side, "criu"), site.time) for side in (SOURCE, TARGET)):
        yield "criu"
    if site.role in ("command", "receive", "settle", "resolve"):
        yield from ("reset", "drop")
        if re.match(r"send-|(source|target)-\w+-begin", site.point):
            yield "corrupt"
    if fails:
        yield from ("ENOSPC", "EIO")
    if DECISIVE.fullmatch(site.point) or re.fullmatch(r"source-\w+-(begin|undo)", site.point):
        yield from CUTS
    if WRITES.fullmatch(site.point):
        yield f"full-{site.side}"


def sites_of(passed, listed):
    """Each passing once: passed is in order of time. One that is not the first of its role
    needs a point before it, in the same process, that only this one passes, and only once."""
    times = collections.Counter(p[:3] for p in passed)
    marks, first, seen = {}, set(), set()
    for side, role, point, pid, time in passed:
        if point not in listed:
            continue
        after = None
        if (side, role, point) in first:
            after = marks.get(pid)
        if times[side, role, point] == 1:
            marks[pid] = point
        if point == "settler-look" and after:
            continue            # it looks all the time
        site = Site(side, role, point, after, time)
        if DATA.fullmatch(point) and after and not after.endswith("-begin"):
            continue            # frames that came for it, if any
        if site[:4] not in seen and (after or (side, role, point) not in first):
            seen.add(site[:4])
            yield site
        first.add((side, role, point))


def matrix_of(traces, points):
    """All cases, and the points that nothing passes. traces: {scenario: [Passing, ...]}, in order
    of time; points: {name: fails}."""
    cases, done = [], set()
    for scenario in SCENARIOS:
        presence = Presence(traces[scenario.name])
        for site in sites_of(traces[scenario.name], points):
            if site[:4] in done:
                continue
            done.add(site[:4])
            cases += [Case(scenario.name, *site[:4], kind)
                      for kind in kinds_at(site, presence, points[site.point])]
    return cases, sorted(set(points) - {site[2] for site in done} - UNPASSED)
