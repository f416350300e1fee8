"""How long the commands on a container take that is there already, from the command's start
to its end, on one node of a test bed, in turn: exec, stop, rm, rm -f; and /bin/true run ten
times in a row without a break, for each of the ten.

              godwit                 godwit-oci, crun and runc, all with one bundle
    exec      exec NAME /bin/true    exec NAME /bin/true
    stop      stop NAME              kill NAME TERM, and until its first process has ended
    rm        rm NAME                delete NAME
    end       rm --force NAME        delete --force NAME: what runs ends by SIGKILL
    row       run --rm base true     run NAME (true)

The container is a shell that ends at SIGTERM at once; rm removes one that ended before.
engines.py says what the bundle is; godwit's has an overlay, a log, an exit status that
is kept and, but for godwit-none, an address on a bridge, and stop waits until the monitor
has written down how it ended and has taken these away.

ratio is the median divided by crun's: below 1 is quicker than crun.
"""
import statistics
import sys

from engines import OCI, TO_IT, add_options, check_options, measure, place_of, write_bundle
from benchmark import parse, parser_of, run

VERBS = ("exec", "stop", "rm", "end", "row")
IN_A_ROW = 10
WAITS = ("/bin/sh", "-c", "trap 'exit 0' TERM; echo >/dev/shm/ready; sleep 1000 & wait")
# The trap is set when the file is there.
READY = 'i=0; until [ -e "/proc/$(cat "$0")/root/dev/shm/ready" ]; do [ $((i += 1)) -lt 1000 ] && sleep 0.01 || exit; done'
ENDED = 'read -r pid <"$0"; "$@" && while kill -0 $pid 2>/dev/null; do :; done'
ROW = f'i=0; while [ $((i += 1)) -le {IN_A_ROW} ]; do "$@" || exit; done'


def options_of():
    parser = parser_of("verbs", __doc__, "for each verb and engine median_ms, min_ms, runs, ratio")
    add_options(parser, runs=20)
    parser.add_argument("--only", default=",".join(VERBS), metavar="LIST",
                        help=f"some of {','.join(VERBS)} (the default)")
    options = parse(parser)
    check_options(parser, options)
    options.only = options.only.split(",")
    if set(options.only) - set(VERBS):
        parser.error(f"--only: some of {','.join(VERBS)}")
    return options


def shell(script, *words):
    return ["/bin/sh", "-c", script, *map(str, words)]


class OciVerbs:
    """An OCI runtime's words for all this."""

    def __init__(self, bed, engine, rootfs):
        self.words = [engine, "--root", f"/run/{engine}"]
        self.bundle = write_bundle(bed, engine, rootfs, *WAITS)
        self.true = write_bundle(bed, engine, rootfs, "/bin/true")
        self.name = f"verbs-{engine}"
        self.pid_file = self.bundle / "pid"

    def start(self):
        return [[*self.words, "run", "--detach", "--pid-file", str(self.pid_file), "--bundle",
                 str(self.bundle), self.name], shell(READY, self.pid_file)]

    def exec(self):
        return [*self.words, "exec", self.name, "/bin/true"]

    def stop(self):
        return shell(ENDED, self.pid_file, *self.words, "kill", self.name, "TERM")

    def rm(self):
        return [*self.words, "delete", self.name]

    def end(self):
        return [*self.words, "delete", "--force", self.name]

    def row(self):
        return shell(ROW, "sh", *self.words, "run", "--bundle", self.true, self.name)


class GodwitVerbs:
    def __init__(self, bed, engine, _rootfs):
        self.name = f"verbs-{engine}"
        self.options = ["--network", "none"] if engine == "godwit-none" else []
        self.pid_file = bed.folder / f"pid-{engine}"

    def start(self):
        pid = "sed -n '/\"pid\"/ { s/[^0-9]//gp; q }'"
        script = f'godwit inspect {self.name} | {pid} >"$0"; {READY}'
        return [["godwit", "run", "--detach", "--name", self.name, *self.options, "base", *WAITS],
                shell(script, self.pid_file)]

    def exec(self):
        return ["godwit", "exec", self.name, "/bin/true"]

    def stop(self):
        return ["godwit", "stop", self.name]

    def rm(self):
        return ["godwit", "rm", self.name]

    def end(self):
        return ["godwit", "rm", "--force", self.name]

    def row(self):
        return shell(ROW, "sh", "godwit", "run", "--rm", *self.options, "base", "/bin/true")


def commands_of(options):
    def of_engine(bed, engine, rootfs):
        it = (OciVerbs if engine in OCI else GodwitVerbs)(bed, engine, rootfs)
        place = place_of(bed, engine)
        commands = {"exec": {"before": it.start(), "words": it.exec(), "after": [it.end()]},
                    "stop": {"before": it.start(), "words": it.stop(), "after": [it.rm()]},
                    "rm": {"before": [*it.start(), it.stop()], "words": it.rm()},
                    "end": {"before": it.start(), "words": it.end()},
                    "row": {"words": it.row()}}
        return {f"{verb} {engine}": {**commands[verb], "place": place} for verb in options.only}
    return of_engine


def results_of(measured):
    """Of what worked: {verb: {engine: numbers}}."""
    results = {}
    for name, values in measured.items():
        if "error" in values:
            continue
        verb, engine = name.split()
        times = [ms / IN_A_ROW if verb == "row" else ms for ms in values["ms"]]
        results.setdefault(verb, {})[engine] = {"median_ms": statistics.median(times), "min_ms": min(times),
                                                "runs": len(times)}
    for engines in results.values():
        for engine, result in engines.items():
            if engine != TO_IT and TO_IT in engines:
                result["ratio"] = result["median_ms"] / engines[TO_IT]["median_ms"]
    return results


def show(measured, results):
    print(f"{'verb':<6}{'engine':<12}{'median ms':>11}{'min ms':>9}{'runs':>6}   to {TO_IT}")
    for verb, engines in results.items():
        for engine, result in engines.items():
            ratio = f"{result['ratio']:.2f}" if "ratio" in result else "-"
            print(f"{verb:<6}{engine:<12}{result['median_ms']:11.2f}{result['min_ms']:9.2f}{result['runs']:6}   {ratio}")
    for name, values in measured.items():
        if "error" in values:
            print(f"{name:<18} left out, it does not work here: {values['error']}")


def benchmark(options):
    measured = measure(options, commands_of(options))
    results = results_of(measured)
    show(measured, results)
    return results, results


if __name__ == "__main__":
    sys.exit(run(options_of(), benchmark))
