"""What the benchmarks of tools/bench share: options, errors, files and the exit code."""
import argparse
import json
import os
import sys

from bed import Failed, exit_on_signals


def parser_of(what, description, json_holds="all numbers"):
    """With the options of each: --json, and --check, which only looks at the arguments."""
    parser = argparse.ArgumentParser(prog=f"tools/bench {what}", description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", default="", metavar="FILE", help=f"write {json_holds}")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    return parser


def parse(parser):
    """The program's arguments. Where nothing can be written is told before hours of measuring."""
    options = parser.parse_args()
    for file in (options.json, getattr(options, "svg", "")):
        if file and not os.path.isdir(os.path.dirname(os.path.abspath(file))):
            parser.error(f"no folder for {file}")
    return options


def run(options, benchmark):
    """benchmark(options) measures, shows, and returns the numbers and whether all went well;
    this the exit code."""
    if options.check:
        return 0
    exit_on_signals()
    try:
        numbers, sound = benchmark(options)
    except Failed as failed:
        print(f"bench: {failed}", failed.details, sep="\n", file=sys.stderr)
        return 1
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(numbers, file, indent=2)
            file.write("\n")
    return 0 if sound else 1
