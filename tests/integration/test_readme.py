"""The README is true: its walk works as it is written, and what it names is there."""
import os
import re
import subprocess

import pytest

from conftest import BUILD, GODWIT, TOP, Bed, cgroups_of, numbers, processes_of

README = (TOP / "README.md").read_text()
SETUP = "tools/setup && cmake --preset release && cmake --build build\n"


def walk():
    """The code blocks of the walk, one after the other."""
    text = README.split("## Five minutes by hand")[1].split("\n## ")[0]
    return "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))


def output_of(script):
    """Of each command, in order: (command, what it printed to standard output)."""
    marks = re.split(r"^\+> (.*)\n", script, flags=re.MULTILINE)
    return list(zip(marks[1::2], marks[2::2]))


@pytest.fixture
def walked(tmp_path):
    """What the walk printed, and its bed, which is down again."""
    bed = Bed.__new__(Bed)
    bed.name = f"test{os.getpid()}-readme{next(numbers)}"
    script = walk()
    assert SETUP in script, "the first line of the walk is not what this test leaves out"
    script = script.replace(SETUP, "").replace("--name walk", f"--name {bed.name}")
    script = script.replace("/tmp/walk-", f"{tmp_path}/")
    said = "".join(f"echo '+> {line}'\n{line}\n" for line in script.splitlines())
    try:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", said], cwd=TOP, text=True,
                              timeout=200, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False,
                              env={**os.environ, "GODWIT_BUILD": str(BUILD)})
        assert done.returncode == 0, done.stdout + done.stderr
        assert not processes_of(bed) and not cgroups_of(bed) and not os.listdir(tmp_path)
    finally:
        bed.down()
    return output_of(done.stdout)


def printed(walked, part):
    found = [text for command, text in walked if part in command]
    assert found, f"the walk has no '{part}'"
    return found


def client_line(listing):
    """(id, address) of the client that counts."""
    return [re.match(r"id=(\d+) addr=(\S+)", line).groups() for line in listing.splitlines()
            if "cmd=incr" in line]


def counted(log):
    return [int(line.split()[-1]) for line in log.splitlines()]


def test_the_walk(walked):
    on_node1, after = printed(walked, "on node1 godwit ps")
    assert "web" in on_node1 and "10.88.1.10" in on_node1 and "web" not in after
    assert "10.88.1.10" in printed(walked, "on node2 godwit ps")[0]
    assert "container 'web' runs on node2" in printed(walked, "godwit migrate")[0]
    before, moved = printed(walked, "client list")
    assert client_line(before) == client_line(moved) != []
    first, second = map(counted, printed(walked, "godwit logs"))
    assert first == list(range(first[0], first[0] + 5)) and first[0] > 0
    assert second == list(range(second[0], second[0] + 5)) and second[0] > first[-1]


def test_what_it_names_is_there():
    folders = "engine|criu-glue|proto|migrate|tools|tests|\\.ci"
    for path in re.findall(rf"`((?:{folders})/[^`\s]*)", README):
        assert (TOP / path).exists(), path
    assert (TOP / "LICENSE").read_text().split()[:3] == ["Apache", "License", "Version"]


def test_the_commands_that_it_names_exist():
    words = set(re.findall(r"(?:`|on node\d )godwit ([a-z-]+)", README))
    known = subprocess.run([str(GODWIT), "--help"], capture_output=True, text=True,
                           check=True).stdout
    assert "migrate" in words
    for word in words - {"help"}:       # not all are for everybody's overview
        said = subprocess.run([str(GODWIT), "help", word], capture_output=True, check=False)
        assert said.returncode == 0 or re.search(rf"^  {word}\b", known, re.MULTILINE), word


def test_exit_codes_are_what_godwit_says():
    said = subprocess.run([str(GODWIT), "help", "migrate"], capture_output=True, text=True,
                          check=True).stdout
    assert "3 in doubt" in said
    said = subprocess.run([str(GODWIT), "help", "run"], capture_output=True, text=True,
                          check=True).stdout
    assert "125 when godwit itself" in said and "126" in said and "127" in said


@pytest.mark.bed(nodes=2)
def test_what_cannot_move_goes_on_where_it_is(bed, rootfs):
    node = bed["node1"]
    node.godwit("image", "import", "base", rootfs("base"))
    node.godwit("run", "-d", "--name", "web", "base", "sleep", "1000")
    done = node.godwit("migrate", "web", "node2", check=False)      # nobody serves there
    assert done.returncode == 1 and "node2" in done.stderr, done.stderr
    assert node.godwit("ps", "-q").stdout == "web\n"
    node.godwit("exec", "web", "true")
    node.godwit("rm", "-f", "web")
