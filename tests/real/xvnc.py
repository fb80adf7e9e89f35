"""A real Xvnc for a test, in a folder of the test's own, with openbox and an xterm in it when asked.

with Xvnc(tmp_path, session=True) as server:
    server.desktop, server.password    # what a token file needs
    (server.folder / "typed.txt")      # the xterm's shell works in this folder

`stop()` and `start()` again give a dead desktop that comes back at the same address.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_ports
from vncgate import rfb
from vncgate.model import Desktop, Secret

PATIENCE = 20.0
"""Seconds until a program that does not come up, or does not end, fails the test."""


class Xvnc:
    """One Xvnc, on a TCP port of 127.0.0.1 that the kernel chose (or `port`), or on a unix socket.

    `blacklist` leaves TigerVNC's blacklist as it comes, switched on; else it is off. Start it as a context
    manager, or with `start()` and `stop()`; both may be called again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        password: str = "secret01",
        port: int = 0,
        unix: bool = False,
        blacklist: bool = False,
        session: bool = False,
        geometry: str = "800x600",
    ) -> None:
        self.folder = folder
        self.password = Secret(password)
        self.display = ""
        self._port = port
        self._unix = folder / "rfb.sock" if unix else None
        self._options = [f"-UseBlacklist={int(blacklist)}", "-geometry", geometry]
        self._session = session
        self._processes: list[subprocess.Popen] = []

    @property
    def desktop(self) -> Desktop:
        return Desktop(unix=str(self._unix)) if self._unix else Desktop("127.0.0.1", self._port)

    @property
    def log(self) -> str:
        """What Xvnc itself said."""
        return (self.folder / "xvnc.log").read_text(errors="replace")

    def start(self) -> Xvnc:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "passwd").write_bytes(rfb.password_file(self.password))
        (self.folder / "passwd").chmod(0o600)
        if self._unix or self._port:
            self._launch()
        else:  # another program may take the port before Xvnc does
            for _ in range(3):
                (self._port,) = free_ports(1)
                self._launch()
                if self.display:
                    break
        if not self.display:
            raise AssertionError(f"Xvnc did not start:\n{self.log}")
        if self._session:
            self._start_session()
        return self

    def stop(self) -> None:
        """End the session and the server; the address stays reserved for `start()` by nothing but luck."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self.display = ""

    def kill(self) -> None:
        """End the server as a crash would."""
        self._processes[0].kill()
        self._processes[0].wait()
        Path("/tmp/.X11-unix", "X" + self.display[1:]).unlink(missing_ok=True)
        self.stop()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server hangs: it accepts connections (the kernel does) and says nothing."""
        self._processes[0].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._processes[0].send_signal(signal.SIGCONT)

    def spawn(self, *argv: str) -> subprocess.Popen:
        """A program on this display, working in the folder; it ends with the server."""
        home = str(self.folder)
        environment = os.environ | {"DISPLAY": self.display, "HOME": home, "TMPDIR": home, "SHELL": "/bin/sh"}
        with (self.folder / "session.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(argv, env=environment, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
        return self._processes[-1]

    def _launch(self) -> None:
        where = ["-rfbport", "-1", "-rfbunixpath", str(self._unix)] if self._unix else ["-rfbport", str(self._port)]
        auth = ["-SecurityTypes", "VncAuth", "-PasswordFile", str(self.folder / "passwd")]
        told, tell = os.pipe()
        with (self.folder / "xvnc.log").open("ab") as log:
            process = subprocess.Popen(
                ["Xvnc", "-displayfd", str(tell), *where, *auth, "-localhost", "-AlwaysShared", *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[tell],
            )
        os.close(tell)
        with os.fdopen(told, "rb") as pipe:
            number = pipe.readline().strip().decode()  # empty when Xvnc ended instead
        if number:
            self.display = f":{number}"
            self._processes.append(process)
        else:
            process.wait(PATIENCE)

    def _start_session(self) -> None:
        ready = self.folder / "session.ready"
        ready.unlink(missing_ok=True)
        shell = "touch session.ready; exec /bin/sh"
        # Only a window that openbox sees appear gets the focus, so it starts the xterm itself.
        self.spawn("openbox", "--startup", shlex.join(["xterm", "-maximized", "-e", "/bin/sh", "-c", shell]))
        deadline = time.monotonic() + PATIENCE
        while not ready.exists():
            if time.monotonic() > deadline:
                raise AssertionError(f"xterm did not start:\n{(self.folder / 'session.log').read_text()}")
            time.sleep(0.02)

    def __enter__(self) -> Xvnc:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
