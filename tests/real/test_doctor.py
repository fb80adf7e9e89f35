"""`vncgate doctor` with Xvnc, Apache with TLS and a gate: all well, and then one thing after the other broken.

What is broken is a copy (of the token file, the settings, Apache's configuration), so that one set-up serves all.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import re
import socket
import ssl
import subprocess
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.doctor.cases import case, told
from tests.ports import free_ports
from tests.real.apache import Apache, example
from tests.real.conftest import need
from tests.real.gate import RunningGate
from tests.real.xvnc import Xvnc
from vncgate.doctor import public
from vncgate.errors import DesktopError
from vncgate.model import Secret
from vncgate.probe import login

need("Xvnc", "apache2")
pytestmark = pytest.mark.real


class Healthy:
    """A gate of two desktops behind Apache, and the doctor that looks at it, or at broken copies of its files."""

    def __init__(self, folder, one, two):
        self.folder, self.one, self.two = folder, one, two
        self.gate = RunningGate(folder)
        self.apache = Apache(example("vncgate.conf", VNCGATE_WEB=f"127.0.0.1:{self.gate.web}"))
        self.lines = [RunningGate.line("ws01", one), RunningGate.line("ws02", two)]
        self.config = folder / "vncgate.toml"

    def __enter__(self):
        self.gate.write(*self.lines)
        self.gate.settings = self.settings(self.apache.folder / "httpd.conf")
        self.gate.start()
        rendered = self.vncgate("render", "apache", self.gate.tokens, "--config", self.config)
        self.apache.snippet.write_text(rendered.stdout)
        self.apache.start()
        return self

    def __exit__(self, *exc):
        self.gate.__exit__()
        self.apache.stop()

    def settings(self, main, snippet=None):
        command = json.dumps([self.apache.command[0], "-d", str(self.apache.folder), "-f", str(main), "-t"])
        return f'[apache]\nsnippet = "{snippet or self.apache.snippet}"\nconfigtest = {command}\n'

    def vncgate(self, *argv, **environ):
        environ = {"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(self.apache.folder / "certificate.pem")} | environ
        command = [sys.executable, "-m", "vncgate", *map(str, argv)]
        return subprocess.run(command, capture_output=True, text=True, timeout=90, env=environ)

    def doctor(self, *flags, tokens=None, config=None, **environ):
        """What it finds: (exit status, [(step, result, message)])."""
        tokens, config = tokens or self.gate.tokens, config or self.config
        argv = ["doctor", tokens, "--config", config, "--control", self.gate.control, "--json", *flags]
        done = self.vncgate(*argv, **environ)
        assert "Traceback" not in done.stdout + done.stderr
        assert self.one.password.reveal() not in done.stdout
        found = json.loads(done.stdout)
        assert all(each["advice"] for each in found if each["result"] in ("warning", "error"))
        return done.returncode, [(each["step"], each["result"], each["message"]) for each in found]

    def errors(self, *flags, **values):
        status, found = self.doctor(*flags, **values)
        errors = [(step, message) for step, result, message in found if result == "error"]
        assert status == (1 if errors else 0)
        return errors

    def changed_apache(self, change):
        """Settings that name a copy of Apache's configuration in which `change` was made to the text."""
        text = (self.apache.folder / "httpd.conf").read_text()
        site = (self.apache.folder / "site.conf").read_text()
        whole = text.replace(f"Include {self.apache.folder}/site.conf", site)
        changed = change(whole)
        assert changed != whole
        (self.folder / "httpd.conf").write_text(changed)
        head = self.config.read_text().partition("[apache]")[0]
        config = self.folder / "changed.toml"
        config.write_text(head + self.settings(self.folder / "httpd.conf"))
        return config


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    with (
        Xvnc(tmp_path_factory.mktemp("one"), password="secret01") as one,
        Xvnc(tmp_path_factory.mktemp("two"), password="secret02") as two,
        Healthy(tmp_path_factory.mktemp("gate"), one, two) as healthy,
    ):
        yield healthy


def test_all_is_well(healthy):
    status, found = healthy.doctor("--url", healthy.apache.url("/"))
    assert status == 0
    told = [each for each in found if each[0] not in ("systemd", "clock", "limits", "files")]
    assert told == [
        ("settings", "ok", f"{healthy.config}: good"),
        ("token file", "ok", f"{healthy.gate.tokens}: 2 accounts, good"),
        ("gate", "ok", f"process {healthy.gate.pid} serves 2 accounts, 0 in use"),
        ("ports", "ok", "2 ports: 2 held by our gate, 0 free"),
        ("desktops", "ok", "all 2 let us in"),
        ("Apache", "ok", next(m for _, _, m in found if m.startswith("version 2.4."))),
        ("Apache", "ok", "config test passed"),
        ("Apache", "ok", "modules: proxy, proxy_http, ssl, headers, setenvif, deflate"),
        ("Apache", "ok", f"passes the websockets on: {healthy.apache.snippet}"),
        ("Apache", "ok", "quiet websockets live 90 s, we ping every 30 s"),
        ("Apache", "ok", "it serves 400 at once (MaxRequestWorkers), 2 participants need 54"),
        ("public URL", "warning", "the certificate ends in 2 days"),
        ("public URL", "ok", "the landing page is there, with 2 accounts"),
        ("public URL", "ok", "2 desktops reached all the way: ws01, ws02"),
    ]


async def test_desktops_each_broken_in_its_way(healthy, tmp_path):
    with Xvnc(tmp_path / "banned", password="secret03", blacklist=True) as banned:
        for _ in range(5):
            with pytest.raises(DesktopError):
                await login(banned.desktop, Secret("wrong"), connect_timeout=5, timeout=5)
        tokens, closed = tmp_path / "broken.tokens", free_ports(1)[0]
        lines = [
            healthy.lines[0],
            healthy.lines[1].replace("secret02", "mistaken"),
            f"ws03 127.0.0.1 p3 - {closed} other003",
            "ws04 no-such-host.invalid p4 - 5901 other004",
            f"ws05 127.0.0.1 p5 - {healthy.apache.http} other005",
            RunningGate.line("ws06", banned),
        ]
        tokens.write_text("\n".join(lines) + "\n")
        tokens.chmod(0o600)
        errors = healthy.errors("--url", healthy.apache.url("/"), tokens=tokens, VNCGATE_HANDSHAKE_TIMEOUT="1")
    assert [message for step, message in errors if step == "desktops"] == [
        f"ws02: {healthy.two.desktop} refused the password",
        f"ws03: 127.0.0.1:{closed} refused the connection",
        next(
            m for _, m in errors if re.fullmatch(r"ws04: \S+ (is not known: no such host|cannot be looked up now)", m)
        ),
        f"ws05: 127.0.0.1:{healthy.apache.http} did not finish the login within 1 s",
        f"ws06: {banned.desktop} refuses logins for now after too many failures (its blacklist)",
    ]
    # Of these only ws01 may be tried through the public address, too.
    assert not [message for step, message in errors if message.startswith("the desktop of")]


def test_a_port_that_a_stranger_has(healthy, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        config = tmp_path / "c.toml"
        config.write_text(healthy.config.read_text().replace(str(healthy.gate.shared), str(port)))
        errors = healthy.errors(config=config)
    ((_, message),) = [each for each in errors if each[0] == "ports"]
    assert f": port {port} on 127.0.0.1 is in use by another program: " in message
    assert f"process {os.getpid()}" in message


def without_include(text):
    return re.sub(r"^ *IncludeOptional.*$", "", text, flags=re.MULTILINE)


def short_timeout(text):
    line = r'ProxyPassMatch "^/ws/(.*)$" "ws://127.0.0.1:PORT/ws/$1"'
    return without_include(text).replace("ProxyPass /api/", f"{line}\n    Timeout 20\n    ProxyPass /api/")


def include_last(text):
    include = re.search(r"^ *IncludeOptional.*$", text, flags=re.MULTILINE)[0]
    return without_include(text).replace("    ErrorDocument 503", f"{include}\n    ErrorDocument 503")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_include, "nothing in its configuration passes websockets on to our ports"),
        (short_timeout, "it ends quiet websockets after 20 s"),
        (include_last, "(proxypass /) takes the websockets of ws01, ws02"),
        (lambda text: text + "Oops\n", "config test failed: AH00526: Syntax error"),
        (lambda text: text + "ServerLimit 1\nThreadsPerChild 1\nMaxRequestWorkers 1\n", "it serves 1 at once"),
        (lambda text: re.sub("LoadModule proxy_http_module.*", "", text), "nothing is passed on without: proxy_http"),
    ],
    ids=["include", "timeout", "order", "syntax", "workers", "module"],
)
def test_apaches_configuration_broken(healthy, change, words):
    config = healthy.changed_apache(lambda text: change(text).replace("PORT/ws", f"{healthy.gate.shared}/ws"))
    errors = healthy.errors(config=config)
    assert [step for step, _ in errors] == ["Apache"]
    assert words in errors[0][1]


def test_a_certificate_that_nobody_trusts(healthy):
    status, found = healthy.doctor("--url", healthy.apache.url("/"), SSL_CERT_FILE="/dev/null")
    assert status == 1
    assert [each[1:] for each in found if each[0] == "public URL"] == [
        ("error", "browsers do not trust the certificate: self-signed certificate"),
        ("ok", "the landing page is there, with 2 accounts"),
        ("skipped", "desktops: no password is tried where the certificate is not trusted"),
    ]


def test_what_is_not_this_site(healthy):
    errors = healthy.errors("--url", f"http://127.0.0.1:{free_ports(1)[0]}/")
    assert [step for step, _ in errors] == ["public URL"]


def expired():
    """A certificate for 127.0.0.1 that has expired, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return certificate.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)


async def test_a_certificate_that_has_expired(tmp_path, monkeypatch):
    file = tmp_path / "expired.pem"
    file.write_bytes(expired())
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
        found = told(await public.check(case("ws01", url=url)))
    assert found[:2] == [
        ("error", "the certificate has expired"),
        ("error", "the landing page answers 404"),
    ]


def test_a_gate_that_is_down(healthy):  # the last test, because it leaves it so
    healthy.gate.stop()
    status, found = healthy.doctor("--url", healthy.apache.url("/"))
    assert status == 1
    assert [each for each in found if each[0] in ("gate", "ports", "desktops", "public URL")] == [
        ("gate", "warning", f"none runs: there is no control socket {healthy.gate.control}"),
        ("ports", "ok", "2 ports: 2 free"),
        ("desktops", "ok", "all 2 let us in"),
        ("public URL", "warning", "the certificate ends in 2 days"),
        ("public URL", "error", "the landing page answers 503"),
        (
            "public URL",
            "error",
            next(m for _, _, m in found if m.startswith("the desktop of ws01, ws02: the websocket is")),
        ),
    ]
