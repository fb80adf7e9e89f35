"""`vncgate run` as a process of its own, with a token file that a test edits.

with RunningGate(folder, config_lines) as gate:
    gate.write(gate.line("ws01", server))
    gate.status()

tests/live.py has people at its desktops.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.ports import free_ports
from tests.real.xvnc import Xvnc
from vncgate import control

PATIENCE = 60.0
ME = pwd.getpwuid(os.geteuid()).pw_name
"""Who runs the tests, and so the desktops of a gate that is told nothing else: root must be named for that."""


class RunningGate:
    """A gate on kernel-chosen ports; `settings` are further lines of its TOML file, `under` a command that runs it."""

    def __init__(self, folder: Path, settings: str = "", *flags: str) -> None:
        self.folder = folder
        self.tokens = folder / "workshop.tokens"
        self.control = folder / "control"
        self.web, self.shared = free_ports(2)
        self.config = folder / "vncgate.toml"
        self.settings = settings
        self.environ = {"PATH": os.environ["PATH"], "VNCGATE_CONTROL": str(self.control)}
        self.under: list[str | Path] = []
        self._flags = flags
        self._process: subprocess.Popen | None = None
        self._log = folder / "gate.log"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    @staticmethod
    def line(name: str, server: Xvnc, port: int | str = "-", more: str = "") -> str:
        desktop = server.desktop
        return f"{name} {desktop.host} path-{name} {port} {desktop.port} {server.password.reveal()} {more}"

    def write(self, *lines: str) -> None:
        """Replace the token file, as an editor does."""
        new = self.folder / "new.tokens"
        new.write_text("".join(line + "\n" for line in lines))
        new.chmod(0o600)
        new.rename(self.tokens)

    def start(self) -> RunningGate:
        """Start it and wait until it serves."""
        self.configure()
        self.launch()
        self.until(lambda: "serving" in self.log)
        return self

    def configure(self, more: str = "") -> Path:
        """Write the settings file, with `more` lines."""
        if "[desktops.kinds." in self.settings and "[desktops.places.local]" not in self.settings:
            more += f'\n[desktops.places.local]\ntype = "local"\nuser = "{ME}"\n'
        head = f'web = "127.0.0.1:{self.web}"\nshared_port = {self.shared}\nprobe_interval = 2.0\n'
        self.config.write_text(head + self.settings + more)
        return self.config

    def launch(self) -> None:
        """Start the process, whatever becomes of it."""
        argv = [sys.executable, "-m", "vncgate", "run", self.tokens, "--config", self.config, *self._flags]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.under, *argv],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> float:
        """SIGTERM; returns the seconds that it took to end."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(PATIENCE) == 0, self.log
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL; ends when it is dead."""
        self._process.kill()
        self._process.wait()

    def command(self, *args: str) -> subprocess.CompletedProcess:
        """Run an operator's command against it."""
        argv = [sys.executable, "-m", "vncgate", *args, "--control", str(self.control)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE)

    def status(self) -> dict:
        """What `vncgate status --json` tells; no process is started for it."""
        return control.call(self.control, "/status")

    def account(self, name: str) -> dict:
        return next(account for account in self.status()["accounts"] if account["name"] == name)

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is true; the log is shown when it does not come true."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            ended = self._process.poll()
            assert ended is None, f"the gate ended with {ended}:\n{self.log}"
            assert time.monotonic() < deadline, f"waited in vain:\n{self.log}"
            time.sleep(0.05)

    def __enter__(self) -> RunningGate:
        try:
            return self.start()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
