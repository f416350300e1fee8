"""What must not get out of a container, and what must not get in: a test for each class of
vulnerability that engines have had."""
import pytest


@pytest.fixture
def secret(tmp_path):
    """A file of this machine that no container may read."""
    path = tmp_path / "secret"
    path.write_text("of the host\n")
    return path


# --- CVE-2024-21626: descriptors of the engine as a working directory, or as a program -------

def test_what_is_open_in_the_engine_is_no_working_directory(node, box, secret):
    name = box("sleep", "1000")
    words = ["sh", "-c", f"cat ../../../../../../../../../..{secret} 2>/dev/null; ls -a | head -20"]
    for n in range(3, 18):
        where = f"/proc/self/fd/{n}" + ("", "/../..", "/new")[n % 3]
        for command in (["run", "--rm", "-w", where, "base"], ["exec", "-w", where, name]):
            done = node.godwit(*command, *words, check=False)
            assert done.returncode == 125 and "of the host" not in done.stdout, done
    # A link in the image that leads there is no way either.
    node.godwit("exec", name, "ln", "-s", "/proc/self/fd/4", "/way")
    assert node.godwit("exec", "-w", "/way", name, "ls", check=False).returncode == 125


def test_what_is_open_in_the_engine_leads_to_no_program(node, box):
    name = box("sleep", "1000")
    for n in range(3, 18):
        for command in (["run", "--rm", "base"], ["exec", name])[n % 2:][:1]:
            done = node.godwit(*command, f"/proc/self/fd/{n}/../../../../../../../usr/bin/dpkg", "--version",
                               check=False)
            assert done.returncode in (126, 127) and "Debian" not in done.stdout, done
