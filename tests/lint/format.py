"""Compares C sources with what clang-format makes of them: format.py FILE...

Spacing and indentation must agree. Some things stay the author's choice, because
clang-format is a poor judge of them: where a statement or a table is broken into
lines, how far the continuation goes in, the column of a trailing comment, and
the insides of a macro.
"""
import concurrent.futures
import difflib
import re
import subprocess
import sys


CONTINUED = re.compile(r"([,(\"?|&+=<>-]| :)$")


def normal(line):
    line = re.sub(r"[ \t]+(/\*|\\$)", r" \1", line)
    # what it takes for a call or for arithmetic
    line = re.sub(r"(\w) \(\*", r"\1(*", line.replace(') "', ')"').replace("} * ", "} *"))
    line = line.replace("; )", ";)")
    return re.sub(r"CLEANUP_(\w+)_ ", r"CLEANUP(\1) ", line)


def formatted(text):
    # A placeholder as long as the macro: clang-format takes CLEANUP(x) for a call.
    text = re.sub(r"\bCLEANUP\((\w+)\) ", r"CLEANUP_\1_ ", text)
    return subprocess.run(["clang-format", "--style=file", "--assume-filename=x.c"], input=text,
                          stdout=subprocess.PIPE, check=True, text=True).stdout


def joined(lines):
    return re.sub(r"\s+", " ", " ".join(line.rstrip("\\").strip() for line in lines)).strip()


def continues(lines, number):
    line = lines[number].strip()
    return (line[:1] in ("*", '"') or in_macro(lines, number)
            or number and CONTINUED.search(lines[number - 1].rstrip()))


def in_macro(lines, number):
    return (lines[number:number + 1] or [""])[0].startswith("#define") or \
        number and lines[number - 1].endswith("\\")


def complaints(path):
    """All (line, ours, theirs) of a file that differ in what clang-format decides."""
    with open(path, encoding="utf-8") as source:
        text = source.read()
    ours = [normal(line) for line in text.splitlines()]
    theirs = [normal(line) for line in formatted(text).splitlines()]
    found = []
    matcher = difflib.SequenceMatcher(None, [line.strip() for line in ours],
                                      [line.strip() for line in theirs], autojunk=False)
    for kind, first, last, other, other_last in matcher.get_opcodes():
        if kind == "equal":
            for mine, its in zip(range(first, last), theirs[other:other_last]):
                if ours[mine] != its and not continues(ours, mine):
                    found.append((mine + 1, ours[mine], its))
        elif not in_macro(ours, first) and joined(ours[first:last]) != joined(theirs[other:other_last]):
            found.append((first + 1, "\n".join(ours[first:last]),
                          "\n".join(theirs[other:other_last])))
    return found


def main(paths):
    bad = 0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for path, found in zip(paths, pool.map(complaints, paths)):
            for line, mine, its in found:
                bad += 1
                print(f"{path}:{line}:\n-{mine}\n+{its}".replace("\t", "⇥\t"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
