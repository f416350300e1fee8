"""Whoever dies, whatever breaks, at whatever moment of a migration: one copy, which goes on.

Containers are moved between two nodes of a test bed, and at each fault point (godwit fault-points)
each thing that can happen there happens once. Then the operator does what operators do: dead
daemons are started again, and what is in doubt is asked for with 'godwit resolve'. After each case

  - exactly one node has the container, and it runs, with its memory and files, and its client's
    connection; at no time were there two copies that ran, and none has gone back (the container
    appends its count to a file that both nodes share, some hundred times a second);
  - nothing else is left on either node: no mount, cgroup, namespace, interface, filter, process, file.

Where what is killed had what nobody else has (a machine; the process that fills in the memory) the
container may have ended; the line says 'lost'. What is known not to hold yet is 'known', and counts
as skipped. The other notes are what was done by hand. Without
an option a sample is tried, with each point and each kind in it; the seed chooses.
"""
import argparse
import collections
import fnmatch
import multiprocessing
import os
import queue
import random
import signal
import sys
import time
import traceback

from bed import Failed, call, exit_on_signals
from fault_bed import GODWIT, NODES, FaultBed, Problem, other, until
from fault_case import Missed, Play, play
from fault_matrix import (KINDS, NOBODY_SETTLES, SCENARIOS, SOURCE, TARGET, Case, Passing, known, matrix_of,
                          name_of)


def options_of(arguments):
    kinds = "\n".join(f"  {kind:15}{what}" for kind, what in KINDS.items())
    parser = argparse.ArgumentParser(prog="tools/faults", description=__doc__, epilog=f"kinds:\n{kinds}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="the whole matrix")
    parser.add_argument("--only", metavar="PATTERN", action="append", default=[],
                        help="cases whose name has this in it, or fits it: 'move/token-link@*/die'")
    parser.add_argument("--cases", metavar="FILE", help="those that the file names, one a line")
    parser.add_argument("--part", metavar="K/N", help="the K-th of N parts of what is chosen")
    parser.add_argument("--list", action="store_true", help="name the cases that are chosen")
    parser.add_argument("--random", metavar="N", type=int, help="N moves back and forth, each with any case")
    parser.add_argument("--seed", type=int, help="what the sample or the random ones follow from [the time]")
    parser.add_argument("--size", type=int, default=150, help="of the sample at most [150]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="beds at once [processors]")
    parser.add_argument("--userns", choices=("auto", "host"), default="host",
                        help="whether the container has ids of its own [host]")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        try:
            k, n = map(int, options.part.split("/"))
        except ValueError:
            k, n = 0, 0
        if not 1 <= k <= n:
            parser.error(f"--part: '{options.part}' is not K/N")
        options.part = (k, n)
    if options.jobs < 1 or options.size < 1 or (options.random is not None and options.random < 1):
        parser.error("--jobs, --size and --random: at least 1")
    if options.seed is None:
        options.seed = int(time.time())
    return options


QUIET = 0.4     # seconds, until serve has told all that it has to tell


# --- the matrix ----------------------------------------------------------------

def listed_points():
    """{name: fails} of the points."""
    lines = [line.split() for line in call(GODWIT, "fault-points").splitlines()]
    return {name: what == "fails" for name, _, what in lines if what != "value"}


def trace(bed, scenario):
    """The passings of a scenario in which nothing else goes wrong."""
    it = Play(bed, Case(scenario.name, SOURCE, "nobody", "nothing", None, "die"))
    faults = it.faults(armed=True)
    for side in faults:         # who else comes by would make the trace another one each time
        if side == TARGET or not scenario.settled:
            faults[side].append(NOBODY_SETTLES)
    for side, node in it.nodes.items():
        faults[side].insert(0, f"*:trace:{bed.path(f'trace-{side}')}")
    it.faults = lambda armed: faults
    bed.clear_faults()
    time.sleep(QUIET)           # what serve has to do still is of the move before
    it.move()
    there = it.settle()
    time.sleep(QUIET)
    bed.clear_faults()
    it.done.add("marker-case")
    it.check(there)
    found = []
    for side in it.nodes:
        path = bed.path(f"trace-{side}")
        for line in path.read_text(encoding="ascii").splitlines():
            when, pid, role, point = line.split()
            found.append(Passing(side, role, point, int(pid), int(when)))
        path.unlink()
    return sorted(found, key=lambda passing: passing.time)


def make_matrix():
    """Some scenarios depend on time: what nothing passed is looked for again."""
    points = listed_points()
    with FaultBed() as bed:
        for _ in range(3):
            cases, unpassed = matrix_of({scenario.name: trace(bed, scenario) for scenario in SCENARIOS}, points)
            if not unpassed:
                break
    return cases, unpassed


def sample(cases, size, seed):
    """Each point, each kind, each scenario; what is missing most comes first."""
    chance = random.Random(seed)
    rest, chosen, seen = list(cases), [], collections.Counter()
    chance.shuffle(rest)

    def dear(case):
        keys = ("point", case.point), ("kind", case.kind), ("role", case.side, case.role), ("in", case.scenario)
        return [seen[keys[0]], seen[keys[1]], seen[keys[2]] + seen[keys[3]]], keys
    while rest and len(chosen) < size:
        best = min(rest, key=lambda case: dear(case)[0])
        for key in dear(best)[1]:
            seen[key] += 1
        rest.remove(best)
        chosen.append(best)
    return chosen


def choose(cases, options):
    for pattern in options.only:
        cases = [case for case in cases if pattern in name_of(case) or fnmatch.fnmatchcase(name_of(case), pattern)]
    if options.cases:
        with open(options.cases, encoding="utf-8") as file:
            named = set(file.read().split())
        cases = [case for case in cases if name_of(case) in named]
        missing = named - {name_of(case) for case in cases}
        if missing:
            raise Failed(f"{options.cases}: there is no case {', '.join(sorted(missing))}")
    if not options.all and not options.only and not options.cases:
        cases = sample(cases, options.size, options.seed)
    if options.part:
        k, n = options.part
        cases = cases[k - 1::n]
    return cases


# --- running -------------------------------------------------------------------

class Beds:
    """Those of one worker, made when they are needed: full disks are small ones."""

    def __init__(self, number):
        self.number, self.beds = number, {}

    def of(self, case):
        small = case.kind.startswith("full-")
        if small not in self.beds:
            self.beds[small] = FaultBed(f"{self.number}{'s' if small else ''}", small).__enter__()
        return self.beds[small]

    def drop(self, case):
        bed = self.beds.pop(case.kind.startswith("full-"), None)
        if bed:
            bed.close()

    def play(self, case):
        """(problem or None, notes, seconds). A bed that is lost by it is made anew for the next one."""
        try:
            return play(self.of(case), case)
        except (Problem, Failed, OSError, KeyError) as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.drop(case)
            return (f"the bed is lost: {error!r} in {where.name}; {error.__context__!r}; "
                    f"{getattr(error, 'details', '').strip()}"), [], 0

    def close(self):
        for bed in self.beds.values():
            bed.close()


def work(number, todo, results):
    """A process: takes cases until there are none."""
    exit_on_signals()
    beds = Beds(number)
    try:
        while True:
            try:
                case = todo.get_nowait()
            except queue.Empty:
                break
            results.put((case, *beds.play(case)))
    finally:
        beds.close()
        results.put(None)


def tell(case, problem, notes, seconds):
    """Prints the line, and returns what it counts as."""
    why = known(case) if problem else None
    if isinstance(problem, Missed):
        why = "others were faster each time"
    result = "known" if why else "FAIL" if problem else "ok"
    notes = f"  ({', '.join(notes)})" if notes else ""
    print(f"{result:5} {name_of(case):70} {seconds:5.1f} s{notes}", flush=True)
    if problem:
        print(f"      {why + ': ' if why else ''}{problem}", flush=True)
    return result


def summary(results):
    """The exit code."""
    count = collections.Counter(results)
    skipped = f", {count['known']} skipped" if count["known"] else ""
    print(f"{count['ok']} passed, {count['FAIL']} failed{skipped}")
    return 1 if count["FAIL"] or not count["ok"] else 0


def run_all(cases, jobs):
    """What each counts as."""
    context = multiprocessing.get_context("fork")
    todo, results = context.Queue(), context.Queue()
    # full disks need a bed of their own: not too many workers should make one
    for case in sorted(cases, key=lambda case: case.kind.startswith("full-")):
        todo.put(case)
    time.sleep(0.1)         # until the queue's thread has written them
    workers = [context.Process(target=work, args=(k, todo, results)) for k in range(min(jobs, len(cases)))]
    for worker in workers:
        worker.start()
    left, counted = len(workers), []
    try:
        while left:
            result = results.get()
            if result is None:
                left -= 1
                continue
            counted.append(tell(*result))
    finally:
        for worker in workers:
            if worker.is_alive():
                os.kill(worker.pid, signal.SIGTERM)
            worker.join()
    return counted + ["FAIL"] * (len(cases) - len(counted))


def run_random(cases, number, seed):
    """One container, moved again and again, each time with any fault."""
    chance, counted = random.Random(seed), []
    beds = Beds("r")
    try:
        for _ in range(number):
            case = chance.choice(cases)
            counted.append(tell(case, *beds.play(case)))
    finally:
        beds.close()
    return counted


def main():
    options = options_of(sys.argv[1:])
    if options.check:
        return 0
    exit_on_signals()
    FaultBed.userns = options.userns
    cases, unpassed = make_matrix()
    for point in unpassed:
        print(f"nothing passes the fault point {point}")
    if options.list:
        chosen = choose(cases, options)
        print("\n".join(map(name_of, chosen)))
        print(f"{len(chosen)} of {len(cases)} cases")
        return 0
    print(f"{len(cases)} cases in all; seed {options.seed}", flush=True)
    if options.random:
        results = run_random([c for c in cases if not c.kind.startswith("full-")], options.random, options.seed)
    else:
        results = run_all(choose(cases, options), options.jobs)
    return summary(results + ["FAIL"] * len(unpassed))


try:
    sys.exit(main())
except (Failed, Problem) as error:
    print(f"faults: {error}", getattr(error, "details", ""), file=sys.stderr)
    sys.exit(1)
