"""What the daemon says to systemd and hears from it: sd_notify(3) and the watchdog, through systemd-python.

Silent where nobody listens: without `NOTIFY_SOCKET` nothing is imported and nothing is sent.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from vncgate.errors import SettingsError
from vncgate.text import printable

log = logging.getLogger(__name__)


class Notifier:
    """The daemon's voice to the service manager that `environ` names, if any.

    `environ` is the process's own environment: systemd-python reads NOTIFY_SOCKET there itself. Raises
    SettingsError where systemd waits to be told but systemd-python is missing. A message that cannot be
    delivered is logged and never stops the daemon. A status is shown in one line; it must hold no secret.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._send = _library() if environ.get("NOTIFY_SOCKET") else None
        self._interval = watchdog_interval(environ, os.getpid()) if self._send else None

    def ready(self, status: str) -> None:
        """The daemon serves (at start, and again after `reloading()`), and `status` says what."""
        self._notify("READY=1", f"STATUS={one_line(status)}")

    def status(self, text: str) -> None:
        """What `systemctl status` shows from now on."""
        self._notify(f"STATUS={one_line(text)}")

    def reloading(self) -> None:
        """The daemon takes a new token file or roster; `ready()` must follow."""
        self._notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The daemon has begun to end."""
        self._notify("STOPPING=1")

    def keep(self, name: str, sock: socket.socket) -> None:
        """Have systemd hold a duplicate of a socket, across a crash and a restart (sd_notify(3), FDSTORE=).

        How many it holds, the unit's FileDescriptorStoreMax= says.
        """
        self._notify("FDSTORE=1", f"FDNAME={name}", sockets=[sock.fileno()])

    def forget(self, name: str) -> None:
        """Have systemd close what it holds under `name`."""
        self._notify("FDSTOREREMOVE=1", f"FDNAME={name}")

    async def watchdog(self) -> None:
        """Feed systemd's watchdog twice in each of its intervals, until cancelled; return at once where there is none.

        Only this task feeds it, so a loop that no longer turns starves it, and systemd restarts the daemon.
        """
        while self._interval is not None:
            self._notify("WATCHDOG=1")
            await asyncio.sleep(self._interval / 2)

    def _notify(self, *assignments: str, sockets: Sequence[int] = ()) -> None:
        if self._send is None:
            return
        try:
            self._send("\n".join(assignments), **({"fds": list(sockets)} if sockets else {}))
        except OSError as error:
            log.warning("systemd cannot be told %s: %s", assignments[0], error.strerror)


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which systemd wants to hear from process `pid`, or None (sd_watchdog_enabled(3))."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None


def one_line(text: str) -> str:
    """`text` fit for an assignment of sd_notify(3): line ends and all else not printable become blanks."""
    return " ".join(printable(text, " ").split())


def _library() -> Callable[..., object]:
    try:
        send: Callable[..., object] = importlib.import_module("systemd.daemon").notify
    except ImportError:
        raise SettingsError(
            "systemd waits for this service to say that it is ready (NOTIFY_SOCKET is set), but systemd-python is "
            "missing: install vncgate[systemd], or the distribution's python3-systemd"
        ) from None
    return send
