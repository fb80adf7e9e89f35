"""Is the desktop there? A full VNC login, the only question that a VNC server's blacklist does not hold against us.

TigerVNC counts every connection that ends before it has authenticated, and only a success clears the count: a bare
connect to a port would after some rounds lock out everybody who comes from this address, which is the whole class.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket

from vncgate import rfb
from vncgate.errors import DesktopError
from vncgate.model import Desktop, Readiness, Secret
from vncgate.rfb import Refusal

_CHUNK = 4096


async def login(desktop: Desktop, password: Secret, *, connect_timeout: float, timeout: float) -> rfb.ServerInit:
    """Log in to `desktop`, say goodbye, and tell what it presented itself as.

    Waits at most `connect_timeout` seconds for the connection and `timeout` for the login. Raises DesktopError with
    Readiness.WRONG_PASSWORD when the server refused the password, with Readiness.OFFLINE and the cause in words
    otherwise. A wrong password counts in the server's blacklist like any failed login: do not repeat it often.
    """
    try:
        async with asyncio.timeout(connect_timeout):
            reader, writer = await _connect(desktop)
    except TimeoutError:
        raise _offline(f"desktop {desktop} did not answer within {connect_timeout:g} s") from None
    except OSError as error:
        raise _offline(explain(desktop, error)) from None
    try:
        async with asyncio.timeout(timeout):
            result = await _shake_hands(reader, writer, password)
    except TimeoutError:
        raise _offline(f"desktop {desktop} did not finish the login within {timeout:g} s") from None
    except OSError as error:
        raise _offline(explain(desktop, error)) from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if isinstance(result, rfb.ServerInit):
        return result
    readiness = Readiness.WRONG_PASSWORD if result.kind is Refusal.WRONG_PASSWORD else Readiness.OFFLINE
    raise DesktopError(f"desktop {desktop} {_words(result)}", readiness)


def explain(desktop: Desktop, error: OSError) -> str:
    """Why `desktop` could not be connected to, or was lost, in words for the person who wanted it."""
    if isinstance(error, socket.gaierror):
        return f"desktop {desktop}: host name {desktop.host} is not known"
    match _number(error):
        case errno.ECONNREFUSED:
            return f"desktop {desktop} refused the connection"
        case errno.ENOENT:
            return f"desktop {desktop} is not there: no such socket"
        case errno.ETIMEDOUT:
            return f"desktop {desktop} did not answer"
        case errno.ECONNRESET | errno.EPIPE:
            return f"desktop {desktop} closed the connection"
        case _:
            return f"desktop {desktop} cannot be reached: {error.strerror or error}"


async def _connect(desktop: Desktop) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if desktop.unix:
        return await asyncio.open_unix_connection(desktop.unix)
    return await asyncio.open_connection(desktop.host, desktop.port)


async def _shake_hands(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, password: Secret
) -> rfb.ServerInit | rfb.Refused:
    handshake = rfb.ClientHandshake(password)
    while handshake.result is None:
        if data := await reader.read(_CHUNK):
            handshake.receive_data(data)
        else:
            handshake.receive_eof()
        writer.write(handshake.data_to_send())
    return handshake.result


def _words(refused: rfb.Refused) -> str:
    match refused.kind:
        case Refusal.WRONG_PASSWORD:
            return "refused the password"
        case Refusal.TOO_MANY_FAILURES:
            return "refuses logins for now after too many failures (its blacklist)"
        case Refusal.NO_COMMON_SECURITY:
            return f"offers no VNC password login ({refused.reason})"
        case Refusal.REJECTED:
            return f"refused the login: {refused.reason or 'it gave no reason'}"
        case Refusal.NOT_RFB:
            return f"does not speak VNC ({refused.reason})"
        case Refusal.CLOSED:
            return "closed the connection during the login"


def _number(error: OSError) -> int | None:
    """The errno; of a name with several addresses, that of the first one tried (asyncio joins their messages)."""
    if error.errno is None and (first := re.search(r"\[Errno (\d+)\]", str(error))):
        return int(first[1])
    return error.errno


def _offline(message: str) -> DesktopError:
    return DesktopError(message, Readiness.OFFLINE)
