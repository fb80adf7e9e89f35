"""Live sessions under a real systemd: a class of sixty that outlives an upgrade, a reload, a restart and kills."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.real.systemd import PYTHON, Machine, need_machine, virtual_environment

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]  # what the machine runs is installed within the first test

UNITS = Path(__file__).parents[2] / "systemd"
VNCGATE = "/opt/vncgate/bin/vncgate"
CLASS = 60

DESKTOPS = r"""
import asyncio, sys

async def serve(reader, writer):
    writer.write(b"RFB 003.008\n")
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except OSError:
        pass
    writer.close()

async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=512) as server:
        await server.serve_forever()

asyncio.run(main())
"""
"""A program that takes the part of all VNC servers: it greets and echoes."""

BROWSERS = r"""
import asyncio, os, sys

async def frame(reader):
    head = await reader.readexactly(2)
    size = head[1] & 127
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    return head[0] & 15, await reader.readexactly(size)

class Again(Exception):
    pass

class Browser:
    async def come(self, number):
        while True:
            try:
                return await self.connect(number)
            except Again:  # as the viewer does
                self.writer.close()

    async def connect(self, number):
        # Half of them through the account's own port: neighbours' ports are different workers'.
        port, path = (6000 + number, "websockify") if number % 4 < 2 else (8081, f"ws/path{number:02}")
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.writer.write((f"GET /{path} HTTP/1.1\r\nHost: x\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode())
        answer = await self.reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in answer, answer
        await self.hears(b"RFB 003.008\n")

    async def hears(self, wanted):
        heard = b""
        while len(heard) < len(wanted):
            kind, data = await frame(self.reader)
            if kind == 8:
                code = int.from_bytes(data[:2], "big")
                raise Again if code == 1001 and not heard else ConnectionError(f"close {code}")
            heard += data if kind in (0, 2) else b""
        assert heard == wanted, heard

    async def types(self, text):
        self.writer.write(b"\x82" + bytes([128 | len(text)]) + b"\0\0\0\0" + text)
        await self.hears(text)

async def works(deed):
    try:
        async with asyncio.timeout(15):
            await deed
        return True
    except (OSError, EOFError, AssertionError, TimeoutError, Again) as error:
        print(repr(error), file=sys.stderr)
        return False

async def main():
    browsers, commands = [], asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := (await commands.readline()).split():
        if line[0] == b"come":
            new = [Browser() for _ in range(int(line[1]))]
            came = await asyncio.gather(*(works(b.come(n % 60)) for n, b in enumerate(new)))
            browsers += [browser for browser, here in zip(new, came) if here]
            print(sum(came), flush=True)
        if line[0] == b"type":
            done = await asyncio.gather(*(works(browser.types(os.urandom(8).hex().encode())) for browser in browsers))
            browsers = [browser for browser, fine in zip(browsers, done) if fine]
            print(sum(done), flush=True)
        if line[0] == b"leave":
            for browser in browsers:
                browser.writer.close()
            browsers.clear()
            print(0, flush=True)

asyncio.run(main())
"""
"""A class: `come N`, `type` and `leave` on stdin are answered by how many came, or still have their desktop."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A booted systemd with vncgate's units, a token file of sixty accounts, and what takes the part of desktops."""
    need_machine()
    with tempfile.TemporaryDirectory(prefix="vncgate-machine-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Machine("sessions", virtual_environment(tmp_path_factory), folder) as machine:
            for unit in UNITS.glob("vncgate*"):
                shutil.copyfile(unit, machine.path("/etc/systemd/system") / unit.name)
            tokens = machine.path("/etc/vncgate/workshop.tokens")
            tokens.touch(0o600)
            tokens.write_text("".join(token_lines()))
            machine.path("/etc/vncgate/vncgate.toml").write_text("probe = false\nworkers = 2\n")
            machine.run("systemctl", "daemon-reload")
            machine.run("systemd-run", "--unit=desktops", PYTHON, "-c", DESKTOPS, "5999")
            yield machine


def token_lines():
    return [f"ws{n:02} 127.0.0.1 path{n:02} {6000 + n} 5999 k3Vq9xTb\n" for n in range(CLASS)]


@pytest.fixture
def gate(machine):
    machine.run("systemctl", "reset-failed")
    machine.run("systemctl", "start", "vncgate")
    yield Gate(machine)
    machine.run("systemctl", "stop", "vncgate")
    machine.run("systemctl", "kill", "--kill-who=all", "-s", "KILL", "vncgate", check=False)


class Gate:
    def __init__(self, machine):
        self.machine = machine

    @property
    def pid(self):
        return int(self.machine.show("vncgate", "MainPID")[0])

    def status(self):
        return json.loads(self.machine.run(VNCGATE, "status", "--json", "--control", "/run/vncgate/control").stdout)

    def workers(self, state="serving"):
        return {worker["pid"]: worker for worker in self.status()["workers"] if worker["state"] == state}

    def kept(self):
        """How many sockets systemd keeps."""
        return int(self.machine.show("vncgate", "NFileDescriptorStore")[0])


@pytest.fixture
def people(gate):
    """Sixty people, each at a desktop, spread over both workers."""
    with school(gate.machine) as people:
        assert people("come", CLASS) == CLASS
        counts = [worker["connections"] for worker in gate.workers().values()]
        assert sum(counts) == CLASS
        assert min(counts) >= 10
        yield people


@contextlib.contextmanager
def school(machine):
    command = [*machine.enter(), PYTHON, "-c", BROWSERS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def tell(*words):
            process.stdin.write(" ".join(map(str, words)) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield tell
        process.stdin.close()


def new_code(machine):
    """As an upgrade of the package: a file of it is new."""
    machine.run("sh", "-c", "touch /opt/vncgate/lib/python3.*/site-packages/vncgate/__init__.py")


@pytest.mark.parametrize("how", ["vncgate upgrade", "systemctl reload"])
def test_sixty_live_sessions_survive(gate, people, how):
    pid, before = gate.pid, set(gate.workers())
    if how == "systemctl reload":
        new_code(gate.machine)
        gate.machine.run("systemctl", "reload", "vncgate")
    else:
        said = gate.machine.run(VNCGATE, "upgrade", "--control", "/run/vncgate/control").stdout
        assert f"{CLASS} connections go on in older workers" in said
    assert gate.pid == pid
    assert set(gate.workers("draining")) == before
    assert not before & set(gate.workers())
    assert people("type") == CLASS
    assert people("come", 10) == 10  # to the new workers
    assert people("type") == CLASS + 10
    assert sum(worker["connections"] for worker in gate.workers().values()) == 10
    assert gate.machine.show("vncgate", "ActiveState", "NRestarts") == ["active", "0"]
    people("leave")
    gate.machine.until(lambda: not gate.workers("draining"))


def test_a_reload_without_news_changes_no_worker(gate, people):
    before = set(gate.workers())
    gate.machine.run("systemctl", "reload", "vncgate")
    assert set(gate.workers()) == before
    assert people("type") == CLASS


def test_what_cannot_start_changes_nothing(gate, people):
    config = gate.machine.path("/etc/vncgate/vncgate.toml")
    good = config.read_text()
    try:
        config.write_text("shared_prot = 1\n")
        refused = gate.machine.run("systemctl", "reload", "vncgate", check=False)
        assert "no such setting" in gate.status()["upgrade_error"]
        # The token file is taken all the same, now and whenever it changes.
        tokens, lines = gate.machine.path("/etc/vncgate/workshop.tokens"), token_lines()
        tokens.write_text("".join([*lines, "late 127.0.0.1 late - 5999 k3Vq9xTb\n"]))
        gate.machine.until(lambda: gate.status()["totals"]["accounts"] == CLASS + 1)
        tokens.write_text("".join(lines))
        gate.machine.until(lambda: gate.status()["totals"]["accounts"] == CLASS)
    finally:
        config.write_text(good)
    assert refused.returncode != 0
    assert people("type") == CLASS
    assert len(gate.workers()) == 2
    assert not gate.workers("draining")
    journal = gate.machine.run("journalctl", "-b", "-u", "vncgate", "-o", "cat").stdout
    assert "/etc/vncgate/vncgate.toml: shared_prot: no such setting; did you mean shared_port?" in journal


def test_a_killed_worker_takes_only_its_own(gate, people):
    before = gate.workers()
    victim, other = before
    gate.machine.run("kill", "-KILL", str(victim))
    assert people("type") == before[other]["connections"]
    gate.machine.until(lambda: len(gate.workers()) == 2, patience=5)
    assert victim not in gate.workers()
    assert people("come", 30) == 30


def test_a_killed_master_costs_no_session_and_the_next_one_takes_all_up(gate, people):
    assert gate.kept() >= CLASS + 2 + 2  # own ports, the shared one, the pages', two workers
    pid, before = gate.pid, set(gate.workers())
    gate.machine.run("kill", "-KILL", str(pid))
    assert people("come", 5) == 5  # nobody is refused meanwhile
    gate.machine.until(lambda: gate.machine.show("vncgate", "ActiveState", "NRestarts") == ["active", "1"])
    assert gate.pid != pid
    assert set(gate.workers("draining")) == before
    assert people("type") == CLASS + 5
    assert people("come", 5) == 5
    people("leave")
    gate.machine.until(lambda: not gate.workers("draining"))
    gate.machine.until(lambda: gate.kept() == CLASS + 2 + 2)  # what is gone is kept no more


def test_a_restart_refuses_nobody(gate):
    with school(gate.machine) as early:
        assert early("come", CLASS) == CLASS
        gate.machine.run("systemctl", "--no-block", "restart", "vncgate")
        with school(gate.machine) as late:
            for _ in range(10):  # before, while and after: each waits in a backlog, if need be, and is served;
                # a session that began just before the end is told of it, and its browser comes again
                late("leave")
                assert late("come", 10) == 10
        gate.machine.until(lambda: gate.machine.show("vncgate", "ActiveState", "Job") == ["active", ""])
        assert early("type") == 0  # they were told to come again
        assert early("come", CLASS) == CLASS


def test_a_port_that_goes_is_kept_no_more(gate):
    tokens = gate.machine.path("/etc/vncgate/workshop.tokens")
    before, lines = gate.kept(), tokens.read_text()
    try:
        tokens.write_text("".join(lines.splitlines(keepends=True)[:-10]))
        gate.machine.until(lambda: gate.kept() == before - 10)
    finally:
        tokens.write_text(lines)
    gate.machine.until(lambda: gate.kept() == before)
