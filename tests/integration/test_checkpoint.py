"""A container in a directory, and back: as often as one likes, and never half."""
import json
import os
import shutil
import time

import pytest

from conftest import GODWIT
from moving import Client, inspect, left_as_found, log_of, moving_bed, run, settled, snapshot, status
from terminal import Terminal

MAGICS = {"inventory.img": (0x58313116,), "pstree.img": (0x54564319, 0x50273030)}


@pytest.fixture
def one(bed):
    """node1, which is afterwards as before."""
    with left_as_found(bed):
        yield bed["node1"]


@pytest.fixture
def web(bed, one):
    """A container with a client; files everywhere."""
    client = Client(bed["node3"], run(one, "web", "/workloads/deleted", options=("-e", "A=b")))
    client.ask()
    one.godwit("exec", "web", "sh", "-c", "echo kept >/tmp/file; echo shared >/dev/shm/file")
    yield client
    client.close()


def refused(node, verb, *args):
    options = ("-q",) if verb == "checkpoint" else ()
    done = node.godwit(verb, *options, *args, check=False)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and lines[0].startswith("godwit: "), done
    assert not lines[1:] or (verb == "checkpoint" and lines[1].endswith("goes on as before")), done
    return done.stderr


def test_it_goes_on_with_leave_running(one, web, tmp_path):
    said = one.godwit("checkpoint", "--leave-running", "web", tmp_path / "c").stdout
    assert "container 'web' is in" in said and "frozen for" in said
    web.ask()
    assert status(one, "web") == "running"
    one.godwit("checkpoint", "--leave-running", "web", tmp_path / "d")
    web.ask()


def test_it_ends_without_and_comes_back_with_its_connections(one, web, tmp_path):
    one.godwit("checkpoint", "web", tmp_path / "c")
    assert status(one, "web") == "exited"
    assert "name is in use" in refused(one, "restore", tmp_path / "c")
    one.godwit("rm", "web")
    assert one.godwit("restore", tmp_path / "c").stdout == "web\n"
    web.ask()
    script = "cat /tmp/file /dev/shm/file; echo $A"
    assert one.godwit("exec", "web", "sh", "-c", script).stdout.split() == ["kept", "shared", "b"]
    assert log_of(one, "web") == "ready\n"


def test_a_shell_on_a_terminal_is_where_it_was(one, tmp_path):
    one.godwit("run", "-dit", "--name", "tty", "work", "/bin/sh")
    for word, say in (("x=kept; echo a", "a"), ("echo $x", "kept")):
        terminal = Terminal(one, GODWIT, "attach", "tty")
        terminal.type(f"{word}\n")
        terminal.expect(f"\n{say}\r\n")
        terminal.type("\x10\x11")
        assert terminal.close() == 0
        one.godwit("checkpoint", "tty", tmp_path / say)
        one.godwit("rm", "tty")
        one.godwit("restore", tmp_path / say)


def test_restored_twice_it_is_twice_the_same(bed, one, web, tmp_path):
    one.godwit("checkpoint", "web", tmp_path / "c")
    address = inspect(one, "web")["network"]["address"].split("/")[0]
    nonce = web.nonce
    for _ in range(2):
        one.godwit("rm", "-f", "web")
        one.godwit("restore", tmp_path / "c")
        fresh = Client(bed["node3"], address)
        fresh.ask()
        assert fresh.nonce == nonce
        fresh.close()


def test_a_paused_one_stays_paused(bed, one, web, tmp_path):
    address = inspect(one, "web")["network"]["address"].split("/")[0]
    one.godwit("pause", "web")
    one.godwit("checkpoint", "-q", "--leave-running", "web", tmp_path / "c")
    assert status(one, "web") == "paused"
    one.godwit("rm", "-f", "web")
    one.godwit("restore", tmp_path / "c")
    assert status(one, "web") == "paused"
    one.godwit("unpause", "web")
    fresh = Client(bed["node3"], address)
    fresh.ask()
    assert fresh.nonce == web.nonce
    fresh.close()


def test_its_log_has_no_gap_and_nothing_twice(one, tmp_path):
    """Though it writes on while its log is being saved."""
    count = "i=0; while :; do i=$((i+1)); echo $i; done"
    one.godwit("run", "-d", "--name", "log", "work", "/bin/sh", "-c", count)
    time.sleep(0.2)
    one.godwit("checkpoint", "-q", "--leave-running", "log", tmp_path / "c")
    one.godwit("rm", "-f", "log")
    one.godwit("restore", tmp_path / "c")
    time.sleep(0.2)
    one.godwit("pause", "log")
    lines = log_of(one, "log").split()
    assert lines == [str(i) for i in range(1, len(lines) + 1)]


def test_under_another_name_the_address_is_still_taken(bed, one, web, tmp_path):
    address = inspect(one, "web")["network"]["address"].split("/")[0]
    one.godwit("checkpoint", "--leave-running", "web", tmp_path / "c")
    said = refused(one, "restore", "--name", "other", tmp_path / "c")
    assert address in said and "'web'" in said
    web.ask()
    one.godwit("rm", "-f", "web")
    assert one.godwit("restore", "--name", "other", tmp_path / "c").stdout == "other\n"
    fresh = Client(bed["node3"], address)
    fresh.ask()
    assert fresh.nonce == web.nonce
    fresh.close()
    assert status(one, "other") == "running" and status(one, "web") is None


def test_on_another_node(bed, one, web, tmp_path):
    two = bed["node2"]
    one.godwit("checkpoint", "web", tmp_path / "c")
    one.godwit("rm", "web")
    two.godwit("restore", tmp_path / "c")
    web.ask()
    two.godwit("rm", "-f", "web")


def test_bad_names_and_places(one, web, tmp_path):
    one.godwit("checkpoint", "--leave-running", "web", tmp_path / "c")
    assert "'no/name'" in refused(one, "restore", "--name", "no/name", tmp_path / "c")
    assert "exists already" in refused(one, "checkpoint", "web", tmp_path / "c")
    assert "No such file" in refused(one, "checkpoint", "web", tmp_path / "no" / "such")
    assert "No such file" in refused(one, "restore", tmp_path / "nothing")
    assert "no container 'nobody'" in refused(one, "checkpoint", "nobody", tmp_path / "d")
    assert not (tmp_path / "d").exists()
    web.ask()


def test_after_the_image_changed_it_is_refused(bed, one, web, tmp_path):
    one.godwit("checkpoint", "web", tmp_path / "c")
    one.godwit("rm", "web")
    one.godwit("image", "rm", "work")
    try:
        assert "import the image" in refused(one, "restore", tmp_path / "c")
        (tmp_path / "other").mkdir()
        one.godwit("image", "import", "work", tmp_path / "other")
        assert "image 'work' has changed since the checkpoint" in refused(one, "restore", tmp_path / "c")
        one.godwit("image", "rm", "work")
    finally:
        one.godwit("image", "import", "work", bed.folder)
    one.godwit("restore", tmp_path / "c")
    web.ask()


def test_a_dump_that_fails_leaves_it_running(bed, one, tmp_path):
    client = Client(bed["node3"], run(one, "odd", "/workloads/odd", "watch-deleted"))
    client.ask()
    said = refused(one, "checkpoint", "odd", tmp_path / "c")
    assert "checkpoint 'odd': " in said and "CRIU's log: /var/lib/godwit/logs/odd-dump.log" in said
    client.ask()
    client.close()
    assert status(one, "odd") == "running" and not (tmp_path / "c").exists()


def test_criu_is_absent(one, web, tmp_path):
    for verb in (("checkpoint", "web"), ("restore",)):
        done = one.run("env", "GODWIT_CRIU=/no/such/criu", "godwit", *verb, tmp_path / "c", check=False)
        assert done.returncode == 1
    web.ask()


def test_the_images_are_criu_s_own(one, web, tmp_path):
    one.godwit("checkpoint", "--leave-running", "web", tmp_path / "c")
    for name, magics in MAGICS.items():
        head = (tmp_path / "c" / "images" / name).read_bytes()
        for i, magic in enumerate(magics):
            assert int.from_bytes(head[4 * i:4 * i + 4], "little") == magic, name


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_images_that_changed_are_named(one, web, tmp_path):
    one.godwit("checkpoint", "web", tmp_path / "c")
    one.godwit("rm", "web")
    (tmp_path / "c" / "images" / "note").write_text("of no importance")
    pages = tmp_path / "c" / "images" / "files.img"
    whole = pages.read_bytes()
    size = len(whole)
    for damage, text in ((lambda: os.truncate(pages, size // 2), f"damaged: it has {size // 2} bytes and had {size}"),
                         (lambda: os.truncate(pages, 0), f"damaged: it has 0 bytes and had {size}"),
                         (lambda: flip(pages), "damaged: its content has changed"),
                         (pages.unlink, "missing")):
        damage()
        assert f"images/files.img is {text}" in refused(one, "restore", tmp_path / "c")
        pages.write_bytes(whole)
    one.godwit("restore", tmp_path / "c")
    web.ask()


def damages(folder):
    """(what, how to do it) for a checkpoint in a folder."""
    def cut(name, part):
        path = folder / name
        size = path.stat().st_size
        os.truncate(path, int(size * part))

    def rewrite(name, change):
        data = json.loads((folder / name).read_text())
        change(data)
        (folder / name).write_text(json.dumps(data))
    manifest = "meta/checkpoint.json"
    yield "config", lambda: (folder / "config.json").unlink()
    yield "config cut", lambda: cut("config.json", 0.5)
    yield "image", lambda: (folder / "image.json").unlink()
    yield "image cut", lambda: cut("image.json", 0.5)
    yield "no meta", lambda: shutil.rmtree(folder / "meta")
    yield "no upper", lambda: (folder / "upper.tar").unlink()
    yield "upper cut", lambda: cut("upper.tar", 0.5)
    yield "no tmpfs", lambda: shutil.rmtree(folder / "tmpfs")
    yield "no memory", lambda: shutil.rmtree(folder / "memory")
    yield "no pages of memory", lambda: (folder / "memory" / "pages").unlink()
    yield "pages of memory cut", lambda: cut("memory/pages", 0.9)
    yield "pages of memory are a pipe", lambda: ((folder / "memory" / "pages").unlink(),
                                                 os.mkfifo(folder / "memory" / "pages"))
    yield "no index", lambda: (folder / "memory" / "index").unlink()
    yield "index cut", lambda: cut("memory/index", 0.5)
    yield "no images", lambda: shutil.rmtree(folder / "images")
    yield "no manifest", lambda: (folder / manifest).unlink()
    yield "manifest cut", lambda: cut(manifest, 0.5)
    yield "manifest is a folder", lambda: ((folder / manifest).unlink(), (folder / manifest).mkdir())
    yield "manifest is huge", lambda: (folder / manifest).write_text("[" * 2000000)
    yield "no sums", lambda: (folder / "sums.json").unlink()
    yield "sums cut", lambda: cut("sums.json", 0.5)
    yield "sums of the future", lambda: rewrite("sums.json", lambda s: s.update(version=3))
    yield "sums of somewhere else", lambda: rewrite("sums.json", lambda s: s["files"].update(
        {"images/../../x": s["files"]["config.json"]}))
    for name in ("config.json", "image.json", "images/core-1.img", "images/pagemap-1.img", "memory/index",
                 "meta/checkpoint.json", "meta/log", "sums.json", "tmpfs/dev_shm.tar", "upper.tar"):
        yield f"{name} flipped", lambda name=name: flip(folder / name)
    yield "no pages", lambda: (folder / "images" / "pages-1.img").unlink()
    yield "pstree cut", lambda: cut("images/pstree.img", 0.8)
    yield "inventory empty", lambda: cut("images/inventory.img", 0)
    yield "core cut", lambda: cut("images/core-1.img", 0.5)
    yield "files noise", lambda: (folder / "images" / "files.img").write_bytes(os.urandom(2000))


def test_a_damaged_checkpoint_is_refused_and_leaves_nothing(bed, one, web, tmp_path):
    before = snapshot(bed)
    one.godwit("checkpoint", "web", tmp_path / "c")
    one.godwit("rm", "web")
    after = snapshot(bed)
    assert len(after["processes"]) < len(before["processes"])
    for what, damage in damages(tmp_path / "x"):
        shutil.copytree(tmp_path / "c", tmp_path / "x", symlinks=True)
        damage()
        done = one.run("timeout", "40", GODWIT, "restore", tmp_path / "x", check=False)
        assert done.returncode == 1, what
        assert done.stderr.startswith(f"godwit: restore {tmp_path / 'x'}: "), f"{what}: {done.stderr}"
        assert done.stderr.count("\n") == 1, f"{what}: {done.stderr}"
        settled(bed, after)
        shutil.rmtree(tmp_path / "x")
    one.godwit("restore", tmp_path / "c")
    web.ask()
