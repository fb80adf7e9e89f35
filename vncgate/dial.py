"""Connecting to a desktop, over TCP or a unix socket, and saying in plain words why it did not work."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import aiofastnet

from vncgate.errors import DesktopError
from vncgate.model import Desktop, Readiness


async def connect(
    desktop: Desktop | None, protocol: Callable[[], asyncio.BaseProtocol], timeout: float
) -> asyncio.Transport:
    """Connect to a desktop within `timeout` seconds (name look-up included). Raises DesktopError in plain words."""
    if desktop is None:
        raise DesktopError("no desktop: the token file leaves it to a launcher ('-')", Readiness.OFFLINE)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            if desktop.unix:
                transport, _ = await aiofastnet.create_unix_connection(loop, protocol, desktop.unix)
            else:
                transport, _ = await aiofastnet.create_connection(loop, protocol, desktop.host, desktop.port)
                keep_alive(transport.get_extra_info("socket"))
    except TimeoutError:
        reason = f"did not answer within {timeout:g} s"
    except ConnectionRefusedError:
        reason = "refused the connection"
    except FileNotFoundError:
        reason = "is not there: no such socket"
    except socket.gaierror as error:
        reason = "cannot be looked up now" if error.errno == socket.EAI_AGAIN else "is not known: no such host"
    except UnicodeError:  # of the idna codec
        reason = "is not known: that is no host name"
    except OSError as error:
        reason = f"cannot be reached: {os.strerror(error.errno) if error.errno else error}"
    else:
        return transport
    raise DesktopError(f"desktop {desktop} {reason}", Readiness.OFFLINE)


def keep_alive(sock: socket.socket) -> None:
    """Notice within about a minute a desktop whose host vanished without a word (tcp(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
