"""A real Apache for a test, with TLS, in a folder of its own; the system's Apache is not touched.

    with Apache(example("vncgate.conf", VNCGATE_WEB=f"127.0.0.1:{port}", VNCGATE_SNIPPET=snippet)) as apache:
        apache.url("/")                 # https://127.0.0.1:PORT/
        apache.client_context()         # an ssl.SSLContext that trusts its certificate
        apache.settings(snippet=...)    # ApacheSettings whose commands test and reload this Apache

The virtual host comes as text. It may use these variables, which the instance defines for it:
${TEST_HTTP} and ${TEST_HTTPS} (its ports, chosen by the kernel; it listens on them already),
${TEST_FOLDER} (readable for Apache's workers), ${TEST_CERTIFICATE} and ${TEST_KEY}.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import ipaddress
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.ports import free_ports
from tests.real.conftest import find, need
from vncgate.settings import ApacheSettings

HOST = "workshop.example.org"
"""The host that the example virtual hosts serve; the certificate is for it, localhost and 127.0.0.1."""
PATIENCE = 20.0
"""Seconds until an Apache that does not come up, reload or end fails the test."""
EXAMPLES = Path(__file__).parents[2] / "apache"
MODULES = """
    mpm_event authn_core authz_core mime dir autoindex alias headers setenvif filter deflate reqtimeout
    socache_shmcb ssl proxy proxy_http
"""
"""What Debian and RHEL load by default, as far as it meets what passes here, and what the examples ask for."""
MAIN = """\
Define TEST_FOLDER {folder}
Define TEST_HTTP {http}
Define TEST_HTTPS {https}
Define TEST_CERTIFICATE {folder}/certificate.pem
Define TEST_KEY {folder}/key.pem
Define APACHE_LOG_DIR {folder}
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
LogLevel warn
ServerName localhost
{modules}
{user}
Listen 127.0.0.1:{http}
Listen 127.0.0.1:{https} https
TypesConfig /etc/mime.types
LogFormat "%h %t \\"%r\\" %>s" combined
SSLSessionCache shmcb:{folder}/ssl(65536)
StartServers 1
MinSpareThreads 5
{extra}
<Directory />
    Require all denied
</Directory>
Include {folder}/site.conf
"""


def example(name: str, **defines: object) -> str:
    """One of our example virtual hosts, with the values of its Define lines replaced.

    Its ports become the instance's, and its certificate and logs the instance's too; a Define that the
    example carries as a comment (VNCGATE_EXPORT) is switched on by naming it here.
    """
    text = (EXAMPLES / name).read_text()
    values = {
        "VNCGATE_CERTIFICATE": "${TEST_CERTIFICATE}",
        "VNCGATE_KEY": "${TEST_KEY}",
        "VNCGATE_LOGS": "${TEST_FOLDER}",
        "VNCGATE_SNIPPET": "${TEST_FOLDER}/snippet.conf",
    } | defines
    for define, value in values.items():
        text, count = re.subn(
            rf"^#?Define {define} .*$", f"Define {define} {value}".replace("\\", r"\\"), text, flags=re.MULTILINE
        )
        assert count == 1, f"{name} has no line `Define {define} ...`"
    for port, variable in (("80", "TEST_HTTP"), ("443", "TEST_HTTPS")):
        assert f"<VirtualHost *:{port}>" in text
        text = text.replace(f"<VirtualHost *:{port}>", f"<VirtualHost 127.0.0.1:${{{variable}}}>")
    return text


class Apache:
    """One Apache with `site` as its virtual hosts, and `extra` lines for the whole server.

    Start it as a context manager, or with `start()` and `stop()`. Where a test fails inside it, its error log is
    printed. Skips the test where there is no apache2 (see need()).
    """

    def __init__(self, site: str, *, extra: str = "") -> None:
        need("apache2")
        self.site = site
        self.extra = extra
        self.http = 0
        self.https = 0
        # Not pytest's folder: that is closed to the user whom Apache's workers run as.
        self.folder = Path(tempfile.mkdtemp(prefix="vncgate-apache-"))
        self.folder.chmod(0o755)
        self._process: subprocess.Popen | None = None

    @property
    def snippet(self) -> Path:
        """Where the example virtual hosts expect the ProxyPass lines, if not told otherwise."""
        return self.folder / "snippet.conf"

    @property
    def log(self) -> str:
        """The error log."""
        path = self.folder / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def command(self) -> tuple[str, ...]:
        """The apache2 command of this instance, to be followed by `-t` or `-k graceful`."""
        return (find("apache2"), "-d", str(self.folder), "-f", str(self.folder / "httpd.conf"))

    @property
    def pid(self) -> int:
        """The parent process, the one that is signalled."""
        assert self._process is not None
        return self._process.pid

    def settings(self, **values: object) -> ApacheSettings:
        """Settings of a publisher that tests and reloads this Apache; more settings by name."""
        commands = {"configtest": (*self.command, "-t"), "reload": (*self.command, "-k", "graceful")}
        return ApacheSettings(**({"snippet": self.snippet} | commands | values))

    def url(self, path: str = "/", scheme: str = "https") -> str:
        """An address of this Apache: scheme https, wss or http."""
        return f"{scheme}://127.0.0.1:{self.http if scheme == 'http' else self.https}{path}"

    def client_context(self) -> ssl.SSLContext:
        """For a client: trusts this Apache's certificate and nothing else."""
        return ssl.create_default_context(cafile=self.folder / "certificate.pem")

    def start(self) -> Apache:
        """Start it; ends when it accepts connections. Another program may take a port first: tried three times."""
        public, key = certificate()
        (self.folder / "certificate.pem").write_bytes(public)
        (self.folder / "key.pem").write_bytes(key)
        (self.folder / "site.conf").write_text(self.site)
        for _ in range(3):
            self.http, self.https = free_ports(2)
            (self.folder / "httpd.conf").write_text(self._main())
            if self._launch():
                return self
            if "could not bind" not in self.log + self._said():
                break
        raise AssertionError(f"Apache did not start:\n{self._said()}{self.log}")

    def reload(self) -> None:
        """A graceful reload; ends when only the new configuration serves."""
        before = self.moment()
        os.kill(self.pid, signal.SIGUSR1)
        self.wait_for_reload(before)

    @property
    def generations(self) -> int:
        """How often it began to serve: 1 after the start, one more after each reload."""
        return self.log.count("resuming normal operations")

    def moment(self) -> tuple[int, set[str]]:
        """What `wait_for_reload()` compares with: take it before a reload that another program makes."""
        return self.generations, set(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())

    def wait_for_reload(self, before: tuple[int, set[str]]) -> None:
        """Wait until it was reloaded after that moment, and no process of then accepts connections any more.

        Those with open websockets stay, but let go of the listening sockets a little after the reload.
        """
        generations, old = before
        deadline = time.monotonic() + PATIENCE
        while self.generations <= generations or self._listening(self.pid) & set().union(*map(self._listening, old)):
            if time.monotonic() > deadline:
                raise AssertionError(f"Apache did not reload:\n{self.log}")
            time.sleep(0.02)

    def _listening(self, pid: int | str) -> set[str]:
        """The listening sockets of a process, by inode."""
        ports = {f":{port:04X}" for port in (self.http, self.https)}
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        inodes = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and row[1][-5:] in ports}
        held = set()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    held.add(str(descriptor.readlink()))
        return held & inodes

    def stop(self) -> None:
        """End it and remove its folder."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _main(self) -> str:
        folder = Path("/usr/lib/apache2/modules")
        return MAIN.format(
            folder=self.folder,
            http=self.http,
            https=self.https,
            modules="\n".join(f"LoadModule {name}_module {folder}/mod_{name}.so" for name in MODULES.split()),
            user="User www-data\nGroup www-data" if os.getuid() == 0 else "",
            extra=self.extra,
        )

    def _said(self) -> str:
        return (self.folder / "said.log").read_text(errors="replace")

    def _launch(self) -> bool:
        with (self.folder / "said.log").open("wb") as said:
            self._process = subprocess.Popen(
                [*self.command, "-DFOREGROUND"],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            if self.generations and _accepts(self.http) and _accepts(self.https):
                return True
            time.sleep(0.02)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._process = None
        return False

    def __enter__(self) -> Apache:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            print(f"Apache's error log:\n{self.log}", file=sys.stderr)
        self.stop()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@functools.cache
def certificate() -> tuple[bytes, bytes]:
    """A certificate and its key, both PEM, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(HOST), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        signed.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
