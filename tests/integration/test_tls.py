"""Who belongs to the cluster, and who does not: certificates that are not good enough, peers that do
without, keys that are renewed while the daemon runs. The strangers are OpenSSL's own program, and Python's."""
import contextlib
import json
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

from conftest import GODWIT
from moving import (Client, has_nothing, in_node, migrate, moving_bed, PEER_PORT, run, serve, status, stop,  # noqa
                    until)
from peers import Proxy, frame

CONFIG = """
[ca]
default_ca = own
[own]
database = index
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = sha256
policy = names
x509_extensions = node
[names]
commonName = supplied
[node]
extendedKeyUsage = {usage}
subjectAltName = DNS:{name}
"""
BOTH = "serverAuth,clientAuth"


def openssl(folder, *words):
    subprocess.run(["openssl", *map(str, words)], cwd=folder, check=True, capture_output=True)


def stamp(days):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * 86400))


class Stranger:
    """A folder with ca.pem, cert.pem and key.pem, made by another program."""

    def __init__(self, folder, bed, name="node2", since=-1, until=1, usage=BOTH, own_ca=False):
        self.folder, tls = folder, bed["node1"].state / "tls"
        folder.mkdir()
        (folder / "index").touch()
        (folder / "config").write_text(CONFIG.format(usage=usage, name=name))
        ca, ca_key = tls / "ca.pem", tls / "ca-key.pem"
        if own_ca:
            ca, ca_key = folder / "own.pem", folder / "own-key.pem"
            openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", ca_key, "-out", ca, "-subj", "/CN=another cluster")
        openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", "key.pem", "-out", "request.pem", "-subj", f"/CN={name}")
        openssl(folder, "ca", "-batch", "-notext", "-config", "config", "-in", "request.pem", "-out", "cert.pem",
                "-cert", ca, "-keyfile", ca_key, "-startdate", stamp(since), "-enddate", stamp(until))
        shutil.copy(tls / "ca.pem", folder)

    def sign_itself(self):
        openssl(self.folder, "req", "-x509", "-key", "key.pem", "-out", "cert.pem", "-subj", "/CN=node2")
        return self


@pytest.fixture(scope="module", name="web")
def running_web(bed):
    """A container that would move."""
    run(bed["node1"], "web", "/workloads/count", "5")
    yield
    bed["node1"].godwit("rm", "-f", "web")


def refused(node, *options, to="node2", env=()):
    """It does not move, and runs on; returns what is said."""
    done = node.run("env", *env, GODWIT, "migrate", "-q", *options, "web", to, check=False)
    assert done.returncode == 1, done
    assert status(node, "web") == "running"
    return done.stderr


@contextlib.contextmanager
def instead_of(path):
    """What is at the path is put aside for a while."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        yield path
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        aside.rename(path)


def log_of_serve(node):
    return pathlib.Path(node.log).read_text()


@contextlib.contextmanager
def logs(node, *words):
    """Inside, the daemon says all these words in one line."""
    at = len(log_of_serve(node))
    yield

    def said():
        return [line for line in log_of_serve(node)[at:].splitlines() if all(word in line for word in words)]
    until(said, say=f"not in the log: {words}: {log_of_serve(node)[at:]}")


# --- certificates ------------------------------------------------------------------

KINDS = {
    "expired": (lambda folder, bed: Stranger(folder, bed, since=-9, until=-3), "expired on"),
    "of next week": (lambda folder, bed: Stranger(folder, bed, since=5, until=9), "is not valid before"),
    "signed by itself": (lambda folder, bed: Stranger(folder, bed).sign_itself(), "not signed by the CA"),
    "of another cluster": (lambda folder, bed: Stranger(folder, bed, own_ca=True), "not signed by the CA"),
    "for something else": (lambda folder, bed: Stranger(folder, bed, usage="codeSigning"), "unsuitable certificate purpose"),
}


def connect_as(node, folder):
    """A handshake with node2's daemon, and a byte from it: ssl.SSLError when it refuses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder / "ca.pem")
    if (folder / "cert.pem").exists():
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with in_node(node, lambda: socket.create_connection(("10.88.0.2", PEER_PORT), 20)) as bare, \
            context.wrap_socket(bare, server_hostname="node2") as connection:
        first = connection.recv(4)
        return first, connection.getpeercert()["serialNumber"]


@contextlib.contextmanager
def impostor(node, folder):
    """Listens at node2:4999 with that certificate."""
    server = node.popen("openssl", "s_server", "-accept", "4999", "-tls1_3", "-cert", folder / "cert.pem",
                        "-key", folder / "key.pem", "-CAfile", folder / "ca.pem", "-Verify", "2", "-quiet",
                        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens():
        with contextlib.suppress(OSError), in_node(node, lambda: socket.create_connection(("10.88.0.2", 4999), 5)):
            return True
    try:
        until(listens)
        yield
    finally:
        server.terminate()
        server.wait(10)
        server.stdin.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_that_is(kind, bed, web, tmp_path):
    """Neither side takes it, and each is told why."""
    make, words = KINDS[kind]
    stranger = make(tmp_path / "stranger", bed)
    with logs(bed["node2"], "connection from 10.88.0.1: ", "of 'node2'", words), \
            pytest.raises((ssl.SSLError, ConnectionError)):
        connect_as(bed["node1"], stranger.folder)
    with impostor(bed["node2"], stranger.folder):
        said = refused(bed["node1"], to="node2:4999")
        assert "node2:4999: " in said and words in said, said


def test_no_certificate_or_one_that_is_good(bed, tmp_path):
    stranger = Stranger(tmp_path / "stranger", bed, name="node1")
    assert connect_as(bed["node1"], stranger.folder)[0] == b"GDWT"
    (stranger.folder / "cert.pem").unlink()
    with logs(bed["node2"], "connection from 10.88.0.1: ", "the peer has no certificate"), \
            pytest.raises((ssl.SSLError, ConnectionError)):
        connect_as(bed["node1"], stranger.folder)


def test_another_node_than_was_called(bed, web, tmp_path):
    """node3's certificate where node2 was called by its name; it may take its place by an address only
    as what it is."""
    with impostor(bed["node2"], Stranger(tmp_path / "stranger", bed, name="node3").folder):
        said = refused(bed["node1"], to="node2:4999")
        assert "'node2' answers as node 'node3'" in said and "tls issue --host node2 node3" in said, said


def test_what_is_wrong_with_a_nodes_own(bed, web, tmp_path):
    one = bed["node1"]
    tls = one.state / "tls"
    (tls / "key.pem").chmod(0o644)
    assert "can be read by others (mode 0644): chmod 0600" in refused(one)
    (tls / "key.pem").chmod(0o600)
    with instead_of(tls):
        said = refused(one)
        assert "'godwit tls init'" in said and "'godwit tls issue node1'" in said, said
        done = one.godwit("serve", check=False)
        assert done.returncode == 1 and "'godwit tls init'" in done.stderr and "'godwit tls issue node1'" in done.stderr
    with instead_of(tls / "cert.pem") as cert, instead_of(tls / "key.pem") as key:
        for name, since, end, words in (("node3", -1, 1, "is of 'node3', but this node is called 'node1'"),
                                        ("node1", -9, -3, "the certificate of this node, 'node1', expired on")):
            stranger = Stranger(tmp_path / name, bed, name, since, end)
            shutil.copy(stranger.folder / "cert.pem", cert)
            shutil.copy(stranger.folder / "key.pem", key)
            key.chmod(0o600)
            assert words in refused(one)
            assert words in one.godwit("doctor", check=False).stdout
        stranger = Stranger(tmp_path / "soon", bed, "node1", -9, 20)
        shutil.copy(stranger.folder / "cert.pem", cert)
        shutil.copy(stranger.folder / "key.pem", key)
        found = json.loads(one.godwit("doctor", "--json", check=False).stdout)["findings"]
        assert [f["grade"] for f in found if f["name"] == "certificate"] == ["limited"], found
        assert "nodes talk without TLS" in one.godwit("--insecure", "doctor", check=False).stdout
    migrate(one, "web", bed["node2"], "--check")


def test_one_that_is_renewed_and_one_that_is_revoked(bed, web, tmp_path):
    """Nothing is started again."""
    one, two = bed["node1"], bed["node2"]
    serial = connect_as(one, one.state / "tls")[1]
    for file in ("cert.pem", "key.pem"):
        shutil.copy(two.state / "tls" / file, tmp_path)
    one.godwit("tls", "issue", "-o", tmp_path / "bundle", "node2")
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o600
    two.godwit("tls", "install", tmp_path / "bundle")
    shown = json.loads(two.godwit("tls", "show", "--json").stdout)
    assert int(connect_as(one, one.state / "tls")[1], 16) == int(shown["serial"], 16) != int(serial, 16)
    try:
        assert "2 certificates of 'node2' revoked here" in one.godwit("tls", "revoke", "node2").stdout
        assert "of 'node2', is revoked (tls/crl.pem, serial " + shown["serial"].lstrip("0") in refused(one)
        one.run("sh", "-c", f"{GODWIT} tls issue node2 > {tmp_path}/again")
        two.godwit("tls", "install", tmp_path / "again")      # the list comes with it
        migrate(one, "web", two, "--check")
        assert (two.state / "tls" / "crl.pem").exists()
        (tmp_path / "ca.pem").write_text((one.state / "tls" / "ca.pem").read_text())
        with logs(two, "of 'node2', is revoked"), pytest.raises((ssl.SSLError, ConnectionError)):
            connect_as(one, tmp_path)
    finally:
        for node in (one, two):
            (node.state / "tls" / "crl.pem").unlink(missing_ok=True)


# --- without TLS -------------------------------------------------------------------

def test_nobody_falls_back(bed, web):
    one, two = bed["node1"], bed["node2"]
    with logs(two, "connection from 10.88.0.1: this node wants TLS, and the one that has connected does without"):
        said = refused(one, env=["GODWIT_INSECURE=1"])
        assert "this node wants TLS" in said and "godwit tls issue" in said
    plain = two.popen("sh", "-c", f"exec {GODWIT} serve --insecure --listen :4970 2>&1", stdout=subprocess.PIPE,
                      stdin=subprocess.DEVNULL)
    try:
        assert "without TLS: who can connect can run code as root" in plain.stdout.readline()
        said = refused(one, to="node2:4970")
        assert "the other node does without TLS ('godwit serve --insecure')" in said and "say --insecure" in said, said
        assert "the peer wants TLS, and this node does without" in plain.stdout.readline()
        done = one.godwit("--insecure", "migrate", "--check", "web", "node2:4970", check=False)
        assert done.returncode == 0, done
    finally:
        stop(plain)


# --- on the way --------------------------------------------------------------------

class Listener(Proxy):
    """Passes all on, and remembers it."""

    def __init__(self, node):
        self.heard = bytearray()
        super().__init__(node)

    def relay(self, connection):
        """Each beside the others."""
        threading.Thread(target=super().relay, args=(connection.dup(),), daemon=True).start()

    def connect(self):
        upstream = super().connect()
        send = upstream.sendall

        class Upstream:
            """The same, but what is sent is kept."""

            def sendall(_, data):       # pylint: disable=no-self-argument
                self.heard += data
                send(data)

            def __getattr__(_, name):   # pylint: disable=no-self-argument
                return getattr(upstream, name)
        return Upstream()


def test_a_move_tells_nothing_and_strangers_do_not_disturb_it(bed):
    """Two connections through somebody who listens, while others without a certificate knock: with a greeting,
    a wrong JOIN, or silence."""
    one, two = bed["node1"], bed["node2"]
    client = Client(bed["node3"], run(one, "talk", "/workloads/count", "50"))
    client.ask()
    listener = Listener(two)
    connections = []
    try:
        process = one.popen(GODWIT, "migrate", "--json", "--connections", "2", "--compress", "none", "--bwlimit", "40m",
                            "talk", "10.88.0.2:4999", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)
        while process.poll() is None:
            it = in_node(bed["node3"], lambda: socket.create_connection(("10.88.0.2", PEER_PORT), 5))
            it.sendall((b"", frame(1), frame(18, b"\x0a\x20" + b"0" * 32 + b"\x12\x04talk"))[len(connections) % 3])
            connections.append(it)
            time.sleep(0.02)
        said, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        report = json.loads(said)
        assert report["reconnects"] == 0 and len(listener.heard) > 50 << 20
        # Short words would come by chance in so much.
        for told in (b"GDWT\x05\x00\x00\x00", b"/workloads/count", bytes(64)):
            assert told not in listener.heard, told
        client.ask()
    finally:
        for it in connections:
            it.close()
        listener.close()
        client.close()
        two.godwit("rm", "-f", "talk", check=False)
        one.godwit("rm", "-f", "talk", check=False)
    has_nothing(two)
