"""A demo desktop that is a real session: TigerVNC's Xvnc with a window manager and an xterm, as far as installed.

It listens on a unix socket alone, its home is a folder of its own, and its X display is open to that session only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shlex
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from vncgate import process, rfb
from vncgate.errors import DesktopError
from vncgate.model import Account, Readiness
from vncgate.roster import X_SOCKETS

log = logging.getLogger(__name__)

SERVERS = ("Xtigervnc", "Xvnc")
WINDOW_MANAGERS = ("openbox", "xfwm4", "icewm", "fluxbox", "twm")
START_TIMEOUT = 20.0
"""Seconds that Xvnc may take to open its display."""
GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL."""

_FAMILY_WILD = 0xFFFF
_COOKIE = b"MIT-MAGIC-COOKIE-1"


def find() -> str | None:
    """TigerVNC's server on PATH; other Xvnc have other options. Blocks for a moment."""
    for name in SERVERS:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            said = subprocess.run([name, "-version"], capture_output=True, timeout=5, check=False)
            if b"TigerVNC" in said.stdout + said.stderr:
                return name
    return None


@contextlib.asynccontextmanager
async def serve(server: str, account: Account, socket: Path) -> AsyncIterator[None]:
    """A desktop for `account` on the unix socket `socket`, by the Xvnc `server`; its files lie beside the socket.

    Raises DesktopError when Xvnc does not start. On leaving, all its processes have ended.
    """
    home = socket.with_suffix(".home")
    _write_secrets(home, account)
    async with contextlib.AsyncExitStack() as stack:
        display = await _start_server(stack, server, account, socket, home)
        environment = {
            **process.inherited(os.environ),
            "DISPLAY": display,
            "XAUTHORITY": str(home / "Xauthority"),
            "HOME": str(home),
            "TMPDIR": str(home),  # an xterm that is ended while it starts leaves a file there
            "HISTFILE": os.devnull,  # a shell that writes its history while it ends would hinder the folder's removal
            "XDG_CONFIG_HOME": str(home),
            "XDG_CACHE_HOME": str(home),
        }
        for command in _session(account.title):
            if shutil.which(command[0]):
                name = f"{account.name}: {command[0]}"
                program = await process.spawn(command, name=name, log=log.debug, env=environment, cwd=home)
                stack.push_async_callback(program.stop, GRACE)
        yield


def _session(title: str) -> Iterator[list[str]]:
    """The programs of a session, some of which may not be installed."""
    look = ["-geometry", "100x30+120+60", "-fn", "10x20", "-bg", "#0f172a", "-fg", "#e2e8f0"]
    terminal = ["xterm", "-title", title, *look]
    yield ["xsetroot", "-solid", "#334155", "-cursor_name", "left_ptr"]
    if shutil.which("openbox") and shutil.which("xterm"):
        yield ["openbox", "--startup", shlex.join(terminal)]  # only a window that it sees appear gets the focus
        return
    for manager in filter(shutil.which, WINDOW_MANAGERS):
        yield [manager]
        break
    yield terminal


def _write_secrets(home: Path, account: Account) -> None:
    """The session's home with Xvnc's password file and an Xauthority that is good for any display (Xau(3))."""
    home.mkdir(mode=0o700)
    parts = (b"", b"", _COOKIE, secrets.token_bytes(16))  # address, display number, name, data
    entry = struct.pack(">H", _FAMILY_WILD) + b"".join(struct.pack(">H", len(part)) + part for part in parts)
    for name, content in (("passwd", rfb.password_file(account.password)), ("Xauthority", entry)):
        file = home / name
        file.touch(mode=0o600)
        file.write_bytes(content)


async def _start_server(
    stack: contextlib.AsyncExitStack, server: str, account: Account, socket: Path, home: Path
) -> str:
    """Start Xvnc on the first free display, and return that."""
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    said: list[str] = []

    def hear(line: str) -> None:
        if line.isdigit() and not told.done():  # what -displayfd 1 writes, once the display is open
            told.set_result(line)
        log.debug("%s: Xvnc: %s", account.name, line)
        if not told.done() and line:
            said.append(line)

    command = [server, "-displayfd", "1", "-rfbport", "-1", "-rfbunixpath", str(socket), "-rfbunixmode", "0600"]
    command += ["-SecurityTypes", "VncAuth", "-PasswordFile", str(home / "passwd"), "-auth", str(home / "Xauthority")]
    command += ["-UseBlacklist=0", "-AlwaysShared", "-geometry", "1280x800", "-depth", "24", "-desktop", account.title]
    xvnc = await process.spawn(command, name=f"{account.name}: Xvnc", log=hear, cwd=home)
    stack.push_async_callback(_stop_server, xvnc, told)
    either: set[asyncio.Future[Any]] = {told, xvnc.exited}
    await asyncio.wait(either, timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
    if not told.done():
        reason = said[-1] if said else "it said nothing"
        raise DesktopError(f"Xvnc of {account.name} did not start: {reason}", Readiness.OFFLINE)
    return f":{told.result()}"


async def _stop_server(xvnc: process.Process, display: asyncio.Future[str]) -> None:
    """End Xvnc, and remove its display's socket where it had to be killed and could not do so itself."""
    await xvnc.stop(GRACE)
    if display.done() and xvnc.exited.done() and xvnc.exited.result() < 0:
        await asyncio.to_thread((X_SOCKETS / f"X{display.result()}").unlink, missing_ok=True)
