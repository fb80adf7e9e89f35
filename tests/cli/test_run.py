"""`vncgate run` as a process: flags, variables and file, what it cannot begin with, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vncgate import control
from vncgate.cli import main
from vncgate.errors import ControlError

PATIENCE = 20.0
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("VNCGATE_")}
HANDSHAKE = b"""GET /websockify HTTP/1.1\r
Host: x\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
Sec-WebSocket-Version: 13\r
\r
"""
FAREWELL = b"\x03\xe9the gate is being stopped"
CLOSE = b"\x88\x80" + bytes(4)
"""A browser's close frame, masked and empty (RFC 6455, section 5.5.1)."""


class Daemon:
    """`vncgate run` with a token file; what it writes to stderr lies in a file."""

    def __init__(self, tokens: Path, *flags: object, environ: dict[str, str] | None = None) -> None:
        self._log = tokens.with_name("stderr")
        argv = [sys.executable, "-m", "vncgate", "run", tokens, *flags]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*map(str, argv)],
                env=CLEAN | (environ or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def serves(self, path: Path) -> dict:
        """Wait until every account runs; the status that its control socket gives."""
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            try:
                status = control.call(path, "/status")
            except ControlError:
                status = {"accounts": []}
            if status["accounts"] and all(account["state"] == "RUNNING" for account in status["accounts"]):
                return status
            time.sleep(0.02)

    @property
    def children(self) -> list[Path]:
        pid = self.process.pid
        return [Path(f"/proc/{child}") for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    @property
    def uses_inotify(self) -> bool:
        descriptors = Path(f"/proc/{self.process.pid}/fd").iterdir()
        return any(str(each.readlink()) == "anon_inode:inotify" for each in descriptors)

    def end(self, number: int | None = None) -> int:
        """Send a signal; the exit status."""
        if number is not None:
            self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=PATIENCE)
        assert out == b"", "a daemon has nothing to say on stdout"
        assert "Traceback" not in self.log
        return self.process.returncode


@pytest.fixture
def start(tmp_path):
    """Starts a daemon for lines of a token file (None: no file); one that a failed test leaves is killed."""
    daemons = []

    def start(lines, *flags, environ=None):
        tokens = tmp_path / "workshop.tokens"
        if lines is not None:
            tokens.write_text(lines)
            tokens.chmod(0o600)
        daemons.append(Daemon(tokens, *flags, environ=environ))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.process.kill()
        daemon.process.communicate()


def answers(host, port):
    with socket.socket() as sock:
        return sock.connect_ex((host, port)) == 0


# ---- where settings come from


@pytest.mark.parametrize("layer", ["file", "variable", "flag"])
def test_a_flag_beats_a_variable_which_beats_the_file(layer, start, tmp_path, free_port):
    own, *ports = free_port.many(7)
    layers = {
        "file": {"engine": "relay", "watch": "inotify", "log_level": "warning"},
        "variable": {"engine": "websockify", "watch": "poll", "log_level": "error"},
        "flag": {"engine": "relay", "watch": "inotify", "log_level": "debug"},
    }
    for number, (name, values) in enumerate(layers.items()):
        values |= {
            "web": f"127.0.0.1:{ports[2 * number]}",
            "shared_port": ports[2 * number + 1],
            "listen": f"127.0.0.{number + 2}",
            "control": str(tmp_path / f"{name}.socket"),
        }
    config = tmp_path / "vncgate.toml"
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in layers["file"].items()) + "probe = false\n")
    environ, flags = {"VNCGATE_CONFIG": str(config)}, []
    if layer != "file":
        environ |= {f"VNCGATE_{name.upper()}": str(value) for name, value in layers["variable"].items()}
    if layer == "flag":
        environ["VNCGATE_CONFIG"] = "/none"
        flags += ["--config", config]
        for name, value in layers["flag"].items():
            flags += ["--" + name.replace("_", "-"), value]

    daemon = start(f"ws01 127.0.0.1 ws01 {own} 5901 Canary88\n", *flags, environ=environ)
    wanted = layers[layer]
    status = daemon.serves(Path(wanted["control"]))
    relay = wanted["engine"] == "relay"
    assert status["engine"] == wanted["engine"]
    assert status["web"] == wanted["web"]
    assert status["shared_port"] == (wanted["shared_port"] if relay else 0)
    assert [address for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4") if answers(address, own)] == [
        wanted["listen"]
    ]
    assert answers(wanted["listen"], wanted["shared_port"]) is relay
    assert daemon.uses_inotify is (wanted["watch"] == "inotify")
    assert daemon.end(signal.SIGTERM) == 0
    assert ("serving 1 account" in daemon.log) is (wanted["log_level"] == "debug")
    assert "Canary88" not in daemon.log


# ---- what it cannot begin with


@pytest.mark.parametrize(
    ("flags", "variables", "lines", "told"),
    [
        (["--web", "8080"], {}, "", ["--web: write it as "]),
        (["--web", "127.0.0.1:99999"], {}, "", ["--web: "]),
        (["--listen", "everywhere"], {}, "", ["--listen: write an IP address"]),
        (["--shared-port", "70000"], {}, "", ["--shared-port: "]),
        (["--engine", "relais"], {}, "", ["--engine: "]),
        (["--watch", "always"], {}, "", ["--watch: "]),
        (["--log-level", "loud"], {}, "", ["--log-level: "]),
        ([], {"VNCGATE_SHARED_PORT": "many"}, "", ["VNCGATE_SHARED_PORT: "]),
        ([], {"VNCGATE_LISTENN": "::1"}, "", ["VNCGATE_LISTENN: no such setting; did you mean VNCGATE_LISTEN?"]),
        ([], {}, "shared-port = 1\n", ["FILE: shared-port: no such setting; did you mean shared_port?"]),
        ([], {}, "[apache]\nform = 'other'\n", ["FILE: apache.form: "]),
        ([], {}, "web = \n", ["FILE: is not TOML: "]),
        (["--config", "/none/vncgate.toml"], {}, "", ["/none/vncgate.toml: cannot be read: No such file or directory"]),
        (
            ["--web", "8080"],
            {"VNCGATE_ENGINE": "x", "VNCGATE_X": ""},
            "probe = 1\n",
            ["VNCGATE_X: no", "--web: ", "VNCGATE_ENGINE: ", "FILE: probe: "],
        ),
    ],
    ids=lambda value: " ".join(value) or "-" if isinstance(value, list) else None,
)
def test_every_bad_setting_is_named(flags, variables, lines, told, tmp_path, monkeypatch, capsys):
    for name in os.environ.keys() - CLEAN.keys():
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "vncgate.toml"
    config.write_text(lines)
    assert main(["run", str(tmp_path / "none.tokens"), "--config", str(config), *flags]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    said = err.removeprefix("vncgate: ").replace(str(config), "FILE").splitlines()
    assert len(said) == len(told)
    assert not [line for line in said if not line.startswith(tuple(told))]


def test_a_flag_of_a_wrong_kind_is_wrong_usage(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run", "workshop.tokens", "--shared-port", "many"])
    assert "argument --shared-port: invalid int value: 'many'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["run"])
    assert "the following arguments are required: TOKENS" in capsys.readouterr().err


def quiet(tmp_path, free_port):
    """Flags of a daemon that harms nobody."""
    web, shared = free_port.many(2)
    return ["--web", f"127.0.0.1:{web}", "--shared-port", shared, "--control", tmp_path / "control"]


def test_a_token_file_with_errors_is_told_line_by_line(start, tmp_path, free_port):
    daemon = start(
        "ws01 node01 ws01 6000 5901 Canary88\nws02\nws01 node01 ws03 0 5902 x\n", *quiet(tmp_path, free_port)
    )
    assert daemon.end() == 1
    said = daemon.log.partition("vncgate: ")[2].splitlines()
    places = [match[1] for line in said if (match := re.match(r"\S*workshop\.tokens:(\d+):\d+: error: ", line))]
    assert places[0] == "2"
    assert set(places) == {"2", "3"}
    assert re.fullmatch(r"\S*workshop\.tokens has \d+ errors", said[-1])
    assert "Canary88" not in daemon.log


def test_a_token_file_that_is_not_there(start, tmp_path, free_port):
    none = tmp_path / "workshop.tokens"
    daemon = start(None, *quiet(tmp_path, free_port))
    assert daemon.end() == 1
    assert daemon.log.splitlines()[-1] == f"vncgate: {none}: cannot be read: No such file or directory"


def test_settings_that_contradict_each_other_and_a_port_in_use(start, tmp_path, free_port):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        flags = ["--web", f"127.0.0.1:{taken}", "--control", tmp_path / "control", "--shared-port"]
        daemon = start("", *flags, taken)
        assert daemon.end() == 1
        assert daemon.log == f"vncgate: shared_port: {taken} is the port of the pages (setting web) already\n"
        daemon = start("", *flags, free_port())
        assert daemon.end() == 1
        assert daemon.log.splitlines()[-1].startswith(
            f"vncgate: the pages (setting web): port {taken} on 127.0.0.1 is in use by another program"
        )
    assert not (tmp_path / "control").exists()


# ---- how it ends


@pytest.mark.parametrize(
    ("number", "engine"),
    [(signal.SIGTERM, "relay"), (signal.SIGTERM, "websockify"), (signal.SIGINT, "relay")],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_signal_ends_it_in_good_order(number, engine, start, tmp_path, free_port):
    """SIGINT too: Ctrl-C in a terminal is how a person ends a daemon, and no failure."""
    own = free_port()
    with socket.create_server(("127.0.0.1", 0)) as desktop:
        port = desktop.getsockname()[1]
        flags = [*quiet(tmp_path, free_port), "--engine", engine]
        daemon = start(f"ws01 127.0.0.1 ws01 {own} {port} Canary88\n", *flags)
        daemon.serves(tmp_path / "control")
        children = daemon.children
        assert bool(children) is (engine == "websockify")
        with socket.create_connection(("127.0.0.1", own), timeout=PATIENCE) as browser:
            browser.sendall(HANDSHAKE)
            assert browser.recv(12) == b"HTTP/1.1 101"
            began = time.monotonic()
            daemon.process.send_signal(number)
            said = b""
            while not said.endswith(FAREWELL) and (data := browser.recv(4096)):
                said += data
            assert said.endswith(FAREWELL) is (engine == "relay")
            if engine == "relay":
                browser.sendall(CLOSE)
            assert daemon.end() == 0
            assert time.monotonic() - began < 5
            assert not [child for child in children if child.exists()]
    assert not (tmp_path / "control").exists()
    assert not answers("127.0.0.1", own)
    assert "info stopping\n" in daemon.log
