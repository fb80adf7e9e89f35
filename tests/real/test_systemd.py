"""The units under a real systemd as PID 1: start, ready, STATUS, reload, watchdog, stop, sandbox."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.real.conftest import need
from tests.real.systemd import PYTHON, Machine, need_machine, virtual_environment
from vncgate import rfb
from vncgate.model import Secret

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]  # what the machine runs is installed within the first test

UNITS = Path(__file__).parents[2] / "systemd"
VNCGATE = "/opt/vncgate/bin/vncgate"
TOKENS = "/etc/vncgate/workshop.tokens"
PAGES = "/var/www/vncgate"
PASSWORD = "k3Vq9xTb"
DESKTOP = 5941

BROWSER = r"""
import os, socket, sys
port, path, client, frames = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
s = socket.create_connection(("127.0.0.1", port), 10)
s.sendall((f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           f"X-Forwarded-For: {client}\r\n\r\n").encode())
f = s.makefile("rb")
print(f.readline().decode().split()[1], flush=True)
while f.readline().strip():
    pass
for _ in range(frames):
    head = f.read(2)
    if not head:
        break
    size = head[1] & 127
    if size == 126:
        size = int.from_bytes(f.read(2), "big")
    payload = f.read(size)
    if head[0] & 15 == 8:
        print("close", int.from_bytes(payload[:2], "big"), payload[2:].decode(), flush=True)
        break
    print("data", payload.decode("latin-1").strip(), flush=True)
"""
"""What a browser would see: the status of the upgrade, then a line a frame."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A booted systemd with vncgate, its units, and one desktop at 127.0.0.1:5941."""
    need_machine()
    need("Xvnc", "systemd-run", "curl")
    # Not pytest's own folder: that is closed to other users, whom the services run as.
    with tempfile.TemporaryDirectory(prefix="vncgate-machine-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Machine("units", virtual_environment(tmp_path_factory), folder) as machine:
            for unit in UNITS.glob("vncgate*"):
                shutil.copyfile(unit, machine.path("/etc/systemd/system") / unit.name)
            machine.path("/etc/desktop.passwd").write_bytes(rfb.password_file(Secret(PASSWORD)))
            display = ["Xvnc", ":41", "-rfbport", str(DESKTOP), "-SecurityTypes", "VncAuth"]
            options = ["-PasswordFile", "/etc/desktop.passwd", "-AlwaysShared", "-geometry", "320x240"]
            machine.run("systemctl", "daemon-reload")
            machine.run("systemd-run", "--unit=desktop", *display, *options)
            machine.until(lambda: f":{DESKTOP} " in machine.run("ss", "-ltn").stdout)
            yield machine


class Gate:
    """One of the services in the machine, with its token file."""

    def __init__(self, machine: Machine, unit: str, tokens: str, control: str) -> None:
        self.machine = machine
        self.unit = unit
        self.control = control
        self.tokens = machine.path(tokens)

    def write(self, *accounts: str) -> None:
        """Put the token file in place by rename, as a careful editor does; mode 0600, root's."""
        new = self.tokens.with_name("new")
        new.touch(0o600)
        new.write_text("".join(f"{account}\n" for account in accounts))
        new.rename(self.tokens)

    def start(self) -> None:
        self.machine.run("systemctl", "reset-failed")  # tests start it more often than its start limit allows
        self.machine.run("systemctl", "start", self.unit)

    def drop_in(self, text: str) -> None:
        folder = self.machine.path(f"/etc/systemd/system/{self.unit}.service.d")
        folder.mkdir(exist_ok=True)
        (folder / "test.conf").write_text(text)
        self.machine.run("systemctl", "daemon-reload")

    def systemd_says(self) -> str:
        return self.machine.show(self.unit, "StatusText")[0]

    @property
    def pid(self) -> int:
        return int(self.machine.show(self.unit, "MainPID")[0])

    def accounts(self) -> dict[str, str]:
        """Desktop state by account, as the operator's command has them."""
        said = self.machine.run(VNCGATE, "status", "--json", "--control", self.control).stdout
        return {account["name"]: account["ready"] for account in json.loads(said)["accounts"]}

    def journal(self, *match: str) -> list[dict[str, str]]:
        """This boot's entries of the unit."""
        said = self.machine.run("journalctl", "-b", "-o", "json", "-u", self.unit, *match).stdout
        return [json.loads(line) for line in said.splitlines()]

    def browse(self, port: int, path: str = "/websockify", client: str = "192.0.2.7", frames: int = 1) -> list[str]:
        return self.machine.python(BROWSER, str(port), path, client, str(frames)).splitlines()


def account(number: int, port: int = DESKTOP) -> str:
    return f"ws{number:02} 127.0.0.1 path{number:02} {6000 + number} {port} {PASSWORD}"


@pytest.fixture
def gate(machine):
    """The single workshop's service with two accounts, the second's desktop dead; not yet started."""
    gate = Gate(machine, "vncgate", TOKENS, "/run/vncgate/control")
    gate.write(account(1), account(2, port=1))
    yield gate
    clean(gate)


def clean(gate: Gate) -> None:
    gate.machine.run("systemctl", "stop", gate.unit)
    shutil.rmtree(gate.machine.path(f"/etc/systemd/system/{gate.unit}.service.d"), ignore_errors=True)
    for left in gate.machine.path("/etc/vncgate").iterdir():
        left.unlink()
    gate.machine.run("rm", "-rf", PAGES)
    gate.machine.run("systemctl", "daemon-reload")


def test_it_is_active_when_it_serves(gate):
    gate.start()
    # At once, without a second look: systemctl came back because the daemon said READY=1.
    assert gate.browse(6001) == ["101", "data RFB 003.008"]
    assert gate.machine.show("vncgate", "ActiveState", "Type") == ["active", "notify"]
    gate.machine.until(lambda: gate.accounts() == {"ws01": "ready", "ws02": "offline"})
    shown = gate.machine.run("systemctl", "status", "vncgate").stdout
    assert 'Status: "2 accounts' in shown
    gate.machine.until(lambda: "1 offline" in gate.systemd_says())


def test_it_runs_boxed_in(gate):
    gate.start()
    status = gate.machine.path(f"/proc/{gate.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert 61184 <= int(fields["Uid"].split()[0]) <= 65519  # systemd's range for dynamic users
    assert int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"
    modes = gate.machine.run("stat", "-L", "-c", "%a %F", "/run/vncgate", "/run/vncgate/control").stdout
    assert modes.splitlines() == ["700 directory", "600 socket"]
    assert gate.tokens.stat().st_mode & 0o777 == 0o600
    assert gate.tokens.stat().st_uid == 0
    # /proc has processes only there (ProcSubset=pid); their figures are told all the same.
    metrics = gate.machine.run("curl", "-s", "--unix-socket", gate.control, "http://vncgate/metrics").stdout
    assert re.search(rf'^process_open_fds{{pid="{gate.pid}",role="master"}} [1-9]', metrics, re.MULTILINE), metrics
    assert 'process_open_fds{pid="' in metrics.replace(f'pid="{gate.pid}"', "")  # a worker's


def test_the_journal_has_fields_and_no_secret(gate):
    gate.start()
    assert gate.browse(6002, client="192.0.2.7")[0] == "101"
    (entry, *_) = gate.machine.until(lambda: gate.journal("ACCOUNT=ws02", "CLIENT=192.0.2.7"))
    assert entry["MESSAGE"].startswith("ws02 [192.0.2.7] ")
    assert entry["SYSLOG_IDENTIFIER"] == "vncgate"
    assert entry["LOGGER"].startswith("vncgate")
    assert entry["PRIORITY"] in "3456"
    everything = gate.machine.run("journalctl", "-b", "-o", "export").stdout
    everything += gate.machine.run("systemctl", "show", "vncgate").stdout
    everything += gate.machine.path(f"/proc/{gate.pid}/cmdline").read_text()
    everything += gate.machine.path(f"/proc/{gate.pid}/environ").read_text()
    assert PASSWORD not in everything


def test_reload(gate):
    gate.start()
    pid = gate.pid
    gate.machine.run("systemctl", "stop", "vncgate-tokens.path")  # this test asks by itself
    gate.write(account(1), account(3))
    gate.machine.run("systemctl", "reload", "vncgate")
    assert set(gate.accounts()) == {"ws01", "ws03"}
    assert gate.browse(6003) == ["101", "data RFB 003.008"]

    gate.write(account(1), account(4).replace("6004", "70000"))
    refused = gate.machine.run("systemctl", "reload", "vncgate", check=False)
    assert refused.returncode != 0
    assert gate.machine.show("vncgate", "ActiveState", "SubState") == ["active", "running"]
    assert "1 error; the last good roster stays" in gate.systemd_says()
    assert any(
        "/etc/vncgate/workshop.tokens:2:23: error: websocketport" in entry["MESSAGE"] for entry in gate.journal()
    )
    assert set(gate.accounts()) == {"ws01", "ws03"}

    gate.write(account(1))
    gate.machine.run("systemctl", "reload", "vncgate")
    assert "error" not in gate.systemd_says()
    assert set(gate.accounts()) == {"ws01"}
    assert gate.pid == pid


def edit_in_place(gate, text):
    gate.tokens.write_text(text)


def replace_by_rename(gate, text):
    new = gate.tokens.with_suffix(".new")
    new.write_text(text)
    new.rename(gate.tokens)


def swap_a_link(gate, text):
    """As configuration management does: a folder a version, one link that names the current one."""
    version = gate.tokens.with_name(f"v{time.monotonic_ns()}")
    version.write_text(text)
    link = gate.tokens.with_name("link")
    link.symlink_to(version.name)
    link.rename(gate.tokens)


def remove_and_bring_back(gate, text):
    gate.tokens.unlink()
    gate.tokens.write_text(text)


def burst(gate, text):
    for number in range(300):  # the last one counts
        gate.tokens.write_text(f"# {number}\n")
    gate.tokens.write_text(text)


@pytest.mark.parametrize("change", [edit_in_place, replace_by_rename, swap_a_link, remove_and_bring_back, burst])
def test_a_change_in_etc_reaches_the_sandbox(gate, change):
    gate.start()
    for number in (3, 4):  # the second shows that it goes on watching
        change(gate, f"{account(1)}\n{account(number)}\n")
        gate.machine.until(lambda number=number: set(gate.accounts()) == {"ws01", f"ws{number:02}"})
    assert gate.machine.show("vncgate-tokens.path", "ActiveState") == ["active"]


def test_a_bad_change_is_said_and_a_good_one_mends_it(gate):
    gate.start()
    gate.write(account(1), "ws02 too few")
    gate.machine.until(lambda: "1 error; the last good roster stays" in gate.systemd_says())
    assert set(gate.accounts()) == {"ws01", "ws02"}
    gate.write(account(1))
    gate.machine.until(lambda: set(gate.accounts()) == {"ws01"})


def test_a_hung_daemon_is_killed_and_started_again(gate):
    gate.drop_in("[Service]\nWatchdogSec=1\nRestartSec=100ms\n")
    gate.start()
    first = gate.pid
    gate.machine.run("kill", "-STOP", str(first))
    gate.machine.until(lambda: gate.machine.show("vncgate", "NRestarts", "ActiveState") == ["1", "active"])
    assert gate.pid != first
    assert gate.browse(6001) == ["101", "data RFB 003.008"]
    assert any("Watchdog timeout" in entry["MESSAGE"] for entry in gate.journal())


def test_only_a_turning_loop_feeds_the_watchdog(machine):
    """The process lives and would write to any socket; its loop is blocked, and that is enough."""
    code = (
        "import asyncio, os, time\n"
        "from vncgate.systemd import Notifier\n"
        "async def main():\n"
        "    notifier = Notifier(os.environ)\n"
        "    task = asyncio.create_task(notifier.watchdog())\n"
        "    notifier.ready('turning')\n"
        "    await asyncio.sleep(1.5)\n"  # five intervals: it is fed
        "    notifier.status('blocked')\n"
        "    time.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    options = ["--unit=hung", "-pType=notify", "-pNotifyAccess=main", "-pWatchdogSec=300ms", "-pRemainAfterExit=no"]
    machine.run("systemd-run", *options, "/opt/vncgate/bin/python", "-c", code)
    machine.until(lambda: machine.show("hung", "ActiveState", "Result") == ["failed", "watchdog"])
    assert machine.show("hung", "StatusText") == ["blocked"]


def test_stop_is_quick_and_tells_the_browsers(gate):
    gate.start()
    command = [*gate.machine.enter(), PYTHON, "-c", BROWSER, "6001", "/websockify", "192.0.2.7", "9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as browser:
        assert browser.stdout.readline() == "101\n"
        assert browser.stdout.readline() == "data RFB 003.008\n"
        began = time.monotonic()
        gate.machine.run("systemctl", "stop", "vncgate")
        assert time.monotonic() - began < 5
        assert browser.stdout.readline().startswith("close 1001 ")
    assert gate.machine.show("vncgate", "ActiveState", "Result") == ["inactive", "success"]
    assert gate.machine.show("vncgate-tokens.path", "ActiveState") == ["inactive"]
    assert not os.path.lexists(gate.machine.path("/run/vncgate"))


def test_websockify_processes_run_in_the_sandbox(gate):
    gate.machine.path("/etc/vncgate/vncgate.toml").write_text('engine = "websockify"\n')
    gate.start()
    assert gate.browse(6001) == ["101", "data RFB 003.008"]
    (group,) = gate.machine.show("vncgate", "ControlGroup")
    processes = gate.machine.path(f"/sys/fs/cgroup{group}/cgroup.procs").read_text().split()
    assert len(processes) >= 3  # the gate, and a websockify for each account
    began = time.monotonic()
    gate.machine.run("systemctl", "stop", "vncgate")
    assert time.monotonic() - began < 5
    assert gate.machine.show("vncgate", "Result") == ["success"]


def test_a_unit_a_workshop(machine):
    gates = []
    for number, name in enumerate(("summer", "winter")):
        gate = Gate(machine, f"vncgate@{name}", f"/etc/vncgate/{name}.tokens", f"/run/vncgate-{name}/control")
        gate.write(account(10 + number))
        machine.path(f"/etc/vncgate/{name}.toml").write_text(f'web = "off"\nshared_port = {7000 + number}\n')
        gates.append(gate)
    summer, winter = gates
    try:
        for gate in gates:
            gate.start()
        assert summer.browse(6010) == ["101", "data RFB 003.008"]
        assert winter.browse(7001, "/ws/path11") == ["101", "data RFB 003.008"]
        summer.write(account(12))
        machine.until(lambda: set(summer.accounts()) == {"ws12"})
        assert set(winter.accounts()) == {"ws11"}
    finally:
        machine.run("systemctl", "stop", "vncgate@winter")
        clean(summer)


def www_data(machine: Machine, *argv: str) -> str:
    """What a program prints that runs as Apache's user; nothing where that may not."""
    alone = ("setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups", "--")
    return machine.run(*alone, *argv, check=False).stdout


def published(machine: Machine) -> set[str]:
    """The paths that Apache's user finds on the landing page, where each of them has its viewer's page."""
    paths = set(re.findall(r'data-path="([^"]*)"', www_data(machine, "cat", f"{PAGES}/index.html")))
    return paths if all(www_data(machine, "cat", f"{PAGES}/desk/{path}/index.html") for path in paths) else set()


def test_apaches_user_reads_the_static_pages_and_they_follow_the_tokens(gate):
    gate.machine.path("/etc/vncgate/vncgate.toml").write_text('[landing]\ntitle = "Summer school"\n')
    gate.drop_in((UNITS / "static-pages.conf").read_text())
    gate.start()
    assert published(gate.machine) == {"path01", "path02"}
    assert "<title>Summer school" in www_data(gate.machine, "cat", f"{PAGES}/index.html")
    gate.write(account(1), account(3))
    gate.machine.until(lambda: published(gate.machine) == {"path01", "path03"})
    gate.write(account(1), "ws02 too few")
    gate.machine.until(lambda: "1 error" in gate.systemd_says())
    gate.machine.run("systemctl", "stop", "vncgate")
    assert published(gate.machine) == {"path01", "path03"}
    # The gate's own user may change them no more than Apache's.
    assert gate.machine.run("find", PAGES, "-not", "-user", "root", "-o", "-perm", "/022").stdout == ""


def test_pages_that_cannot_be_written_keep_no_gate_from_starting(gate):
    gate.machine.path(PAGES).write_text("a file is in the way")
    gate.drop_in((UNITS / "static-pages.conf").read_text())
    gate.start()
    assert gate.browse(6001) == ["101", "data RFB 003.008"]
    assert any(f"{PAGES}/" in entry["MESSAGE"] for entry in gate.journal())
    gate.write(account(1), account(3))
    gate.machine.until(lambda: set(gate.accounts()) == {"ws01", "ws03"})


def test_a_system_user_watches_by_itself(gate):
    watcher = gate.machine.path("/etc/systemd/system/vncgate-tokens.path")
    watcher.unlink()  # so that nobody else asks for a reload
    gate.machine.run("useradd", "--system", "--home-dir", "/var/lib/vncgate", "--shell", "/usr/sbin/nologin", "vncgate")
    try:
        gate.machine.run("chgrp", "vncgate", TOKENS)
        gate.tokens.chmod(0o640)
        gate.machine.run("install", "-d", "-o", "vncgate", PAGES)
        gate.machine.path("/etc/vncgate/vncgate.toml").write_text(f'[landing]\nexport = "{PAGES}"\n')
        gate.drop_in((UNITS / "own-user.conf").read_text())
        gate.start()
        assert gate.browse(6001) == ["101", "data RFB 003.008"]
        gate.tokens.write_text(account(5) + "\n")
        gate.machine.until(lambda: set(gate.accounts()) == {"ws05"})
        gate.machine.until(lambda: published(gate.machine) == {"path05"})
        gate.machine.run("systemctl", "reload", "vncgate")
    finally:
        gate.machine.run("systemctl", "stop", "vncgate")
        shutil.copyfile(UNITS / "vncgate-tokens.path", watcher)
        gate.machine.run("rm", "-rf", "/var/lib/vncgate", "/var/lib/private/vncgate")
        gate.machine.run("userdel", "vncgate")


def test_what_is_missing_is_said(gate):
    gate.tokens.unlink()
    assert gate.machine.run("systemctl", "start", "vncgate", check=False).returncode != 0
    assert f"AssertPathExists={TOKENS}" in gate.machine.run("systemctl", "status", "vncgate", check=False).stdout

    gate.write(account(1))
    run = f"from vncgate.cli import main; sys.exit(main(['run', '{TOKENS}', '--web', 'off']))"
    without = f"import sys; sys.modules['systemd.daemon'] = None; {run}"
    socket = "NOTIFY_SOCKET=/run/systemd/notify"
    done = gate.machine.run("env", socket, "/opt/vncgate/bin/python", "-c", without, check=False)
    assert done.returncode == 1
    assert "install vncgate[systemd]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("unit", ["vncgate.service", "vncgate@.service"])
def test_the_sandbox_is_tight(machine, unit):
    path = f"/etc/systemd/system/{unit}"
    done = machine.run("systemd-analyze", "security", "--offline=true", "--threshold=15", path, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""


def test_systemd_has_nothing_to_say_about_the_units(machine):
    units = [f"/etc/systemd/system/{unit.name.replace('@.', '@summer.')}" for unit in sorted(UNITS.glob("vncgate*"))]
    done = machine.run("systemd-analyze", "verify", "--man=no", *units, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_killed_it_comes_back(gate):
    gate.drop_in("[Service]\nRestartSec=100ms\n")
    gate.start()
    gate.machine.run("kill", f"-{signal.SIGKILL}", str(gate.pid))
    gate.machine.until(lambda: gate.machine.show("vncgate", "NRestarts", "ActiveState") == ["1", "active"])
    assert gate.browse(6001) == ["101", "data RFB 003.008"]


LAUNCHED = """
[desktops.kinds.term]
command = "xterm"
policy = "eager"

[desktops.places.local]
type = "local"
user = "{account}"
"""
SERVERS = """
import pathlib
for process in sorted(pathlib.Path("/proc").glob("[0-9]*")):
    if (process / "comm").read_text() in ("Xtigervnc\\n", "Xvnc\\n") and process.owner() != "root":
        print(process.owner(), process.name)
"""
"""Who runs VNC servers, with their process numbers; the machine's own is root's."""


def test_desktops_of_the_accounts_own_users_outlive_a_restart(gate):
    need("xterm", "setpriv")
    gate.drop_in((UNITS / "local-desktops.conf").read_text())
    for name in ("ws01", "ws02"):
        gate.machine.run("useradd", "-m", name)
    gate.machine.path("/etc/vncgate/vncgate.toml").write_text(LAUNCHED)
    gate.write(*(f"{name} - path-{name} - - {PASSWORD}" for name in ("ws01", "ws02")))
    gate.start()
    gate.machine.until(lambda: gate.accounts() == {"ws01": "ready", "ws02": "ready"})
    before = gate.machine.python(SERVERS).splitlines()
    assert sorted(line.split()[0] for line in before) == ["ws01", "ws02"]
    gate.machine.run("systemctl", "restart", "vncgate")
    gate.machine.until(lambda: gate.accounts() == {"ws01": "ready", "ws02": "ready"})
    assert gate.machine.python(SERVERS).splitlines() == before
    gate.machine.run(VNCGATE, "desktop", "stop", "--all", "--control", gate.control)
    assert gate.machine.python(SERVERS).split() == []
