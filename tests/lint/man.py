"""tools/godwit.8 has a section for each command, a line for each option and one for each reason
that keeps a container from moving, and no others."""
import pathlib
import re
import sys

sources = [path.read_text() for path in sorted(pathlib.Path("tools").glob("*.c"))]
page = pathlib.Path("tools/godwit.8").read_text()
sections = dict(re.findall(r"^\.Ss (.+)\n((?:(?!\.S[sh] ).*\n)*)", page, re.M))
bad = []


def rows_of(text, name):
    """The long options of the table called name."""
    table = re.search(r"struct option_row " + name + r"\[\] = \{(.*?)OPTION_END", text, re.S)
    return set(re.findall(r'(?:OPTION|ROW)\([^,]+, "([a-z-]+)"', table.group(1)))


commands = {}
for text in sources:
    for body in re.findall(r"const struct command command_\w+ = \{(.*?)\n\};", text, re.S):
        rows = re.search(r"\.options = (\w+)", body)
        name = re.search(r'\.name = "([^"]+)"', body).group(1)
        commands[name] = rows_of(text, rows.group(1)) if rows else set()

for name in sorted(commands.keys() - sections.keys()):
    bad.append(f"no section for the command '{name}' (.Ss {name})")
for name in sorted(sections.keys() - commands.keys()):
    bad.append(f"a section for '{name}', which is no command")
for name in sorted(commands.keys() & sections.keys()):
    written = {word.replace("\\-", "-") for word in re.findall(r"Fl (?:\\-|-)([a-z-]+)", sections[name])}
    for option in sorted(commands[name] - written):
        bad.append(f"{name}: nothing about --{option} (.It ... Fl -{option})")
    for option in sorted(written - commands[name]):
        bad.append(f"{name}: --{option} is no option of it")
table = re.search(r"codes\[REASON_MAX_\] = \{(.*?)\n\};", pathlib.Path("migrate/admission/reasons.c").read_text(), re.S)
codes = set(re.findall(r'\] = \{ "([a-z-]+)"', table.group(1)))
written = set(re.findall(r"^\.It Li (.+)", page[page.index(".Sh REASONS"):], re.M))
for code in sorted(codes ^ written):
    bad.append(f"REASONS: {code} is {'not described' if code in codes else 'no code of migrate/admission/reasons.c'}")
for line in bad:
    print(f"tools/godwit.8: {line}")
if len(codes) < 20:
    bad.append(print("found too few codes in migrate/admission/reasons.c: has the table's form changed?"))
if len(commands) < 15:
    bad.append(print("found too few commands in tools/*.c: has the table's form changed?"))
sys.exit(bool(bad))
