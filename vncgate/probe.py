"""Is the desktop there? A full VNC login, the only question that a VNC server's blacklist does not hold against us.

TigerVNC counts every connection that ends before it has authenticated, and only a success clears the count: a bare
connect to a port would after some rounds lock out everybody who comes from this address, which is the whole class.
"""

from __future__ import annotations

import asyncio
from typing import cast

from vncgate import rfb
from vncgate.dial import connect
from vncgate.errors import DesktopError
from vncgate.model import Desktop, Readiness, Secret
from vncgate.rfb import Refusal


async def login(desktop: Desktop | None, password: Secret, *, connect_timeout: float, timeout: float) -> rfb.ServerInit:
    """Log in to `desktop`, hang up, and tell what it presented itself as.

    Waits at most `connect_timeout` seconds for the connection and `timeout` for the login. Raises DesktopError with
    Readiness.WRONG_PASSWORD when the server refused the password, with Readiness.OFFLINE and the cause in words
    otherwise. A wrong password counts in the server's blacklist like any failed login: do not repeat it often.
    """
    attempt = _Login(password)
    transport = await connect(desktop, lambda: attempt, connect_timeout)
    try:
        async with asyncio.timeout(timeout):
            result = await attempt.result
    except TimeoutError:
        raise DesktopError(
            f"desktop {desktop} did not finish the login within {timeout:g} s", Readiness.OFFLINE
        ) from None
    finally:
        transport.close()
        await attempt.closed.wait()
    if isinstance(result, rfb.ServerInit):
        return result
    readiness = Readiness.WRONG_PASSWORD if result.kind is Refusal.WRONG_PASSWORD else Readiness.OFFLINE
    raise DesktopError(f"desktop {desktop} {result}", readiness)


class _Login(asyncio.Protocol):
    """Carries one handshake over one connection."""

    def __init__(self, password: Secret) -> None:
        self.result: asyncio.Future[rfb.ServerInit | rfb.Refused] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        self._handshake = rfb.ClientHandshake(password)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._handshake.receive_data(data)
        self._transport.write(self._handshake.data_to_send())
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it ended, it ended
        self._handshake.receive_eof()
        self._settle()
        self.closed.set()

    def _settle(self) -> None:
        if self._handshake.result is not None and not self.result.done():
            self.result.set_result(self._handshake.result)
