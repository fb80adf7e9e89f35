"""Connecting to a desktop, over TCP or a unix socket, and saying in plain words why it did not work.

Names are looked up by the system's resolver, which blocks, for a minute where DNS does not answer. uvloop's own pool
would be full after two of those: no other desktop could be looked up, nor the loop be closed. So each name has a thread
of its own, and only one, however many wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import stat
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future

import aiofastnet

from vncgate.errors import DesktopError
from vncgate.model import Desktop, Readiness

FULL_BACKLOG = 0.02
"""Seconds between two tries to connect to a unix socket that cannot take more at the moment."""

_looking_up: dict[str, Future[list[str]]] = {}


async def connect(
    desktop: Desktop | None, protocol: Callable[[], asyncio.BaseProtocol], timeout: float
) -> asyncio.Transport:
    """Connect to a desktop within `timeout` seconds (name look-up included). Raises DesktopError in plain words."""
    if desktop is None:
        raise DesktopError("no desktop: the token file leaves it to a launcher ('-')", Readiness.OFFLINE)
    try:
        async with asyncio.timeout(timeout):
            return await _connect(desktop, protocol)
    except TimeoutError:
        reason = f"did not answer within {timeout:g} s"
        if desktop.host in _looking_up:
            reason += ": its name is still being looked up"
    except (OSError, UnicodeError) as error:
        reason = why_not(error)
    raise DesktopError(f"desktop {desktop} {reason}", Readiness.OFFLINE)


def why_not(error: OSError | UnicodeError) -> str:
    """Why a connection did not come about, to be read after the name of who was to be reached."""
    match error:
        case ConnectionRefusedError():
            return "refused the connection"
        case FileNotFoundError():
            return "is not there: no such socket"
        case socket.gaierror(errno=socket.EAI_AGAIN):
            return "cannot be looked up now"
        case socket.gaierror():
            return "is not known: no such host"
        case UnicodeError():  # of the idna codec
            return "is not known: that is no host name"
    if error.errno is None and (first := re.search(r"\[Errno (\d+)\]", str(error))):
        # asyncio's of a name with several addresses: what each said is in its text alone.
        return why_not(OSError(int(first[1]), os.strerror(int(first[1]))))
    return f"cannot be reached: {os.strerror(error.errno) if error.errno else error}"


async def _connect(desktop: Desktop, protocol: Callable[[], asyncio.BaseProtocol]) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    if desktop.unix:
        if desktop.owner is not None:
            return await _connect_to_owned(desktop, desktop.owner, protocol)
        return (await aiofastnet.create_unix_connection(loop, protocol, desktop.unix))[0]
    *others, last = await _addresses(desktop.host)
    for address in others:
        try:
            return await _connect_to(address, desktop.port, protocol)
        except OSError:
            continue
    return await _connect_to(last, desktop.port, protocol)


async def _connect_to_owned(
    desktop: Desktop, owner: int, protocol: Callable[[], asyncio.BaseProtocol]
) -> asyncio.Transport:
    """Connect to a socket where a participant may write: who runs the gate may open more sockets than they, and is not
    to do it for them.
    """
    found = os.open(desktop.unix, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            raise DesktopError(f"desktop {desktop} is no socket", Readiness.OFFLINE)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.setblocking(False)
            while True:
                try:
                    sock.connect(f"/proc/self/fd/{found}")  # that very socket, whatever has its name by now
                    break
                except BlockingIOError:  # its backlog is full, and nothing tells when it is not
                    await asyncio.sleep(FULL_BACKLOG)
            _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if owner not in (uid, -1):
                raise DesktopError(f"desktop {desktop} is not its user's", Readiness.OFFLINE)
            return (await aiofastnet.create_unix_connection(asyncio.get_running_loop(), protocol, sock=sock))[0]
        except BaseException:
            sock.close()
            raise
    finally:
        os.close(found)


async def _connect_to(address: str, port: int, protocol: Callable[[], asyncio.BaseProtocol]) -> asyncio.Transport:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        keep_alive(sock)
        await _connect_socket(sock, (address, port))
        transport, _ = await aiofastnet.create_connection(asyncio.get_running_loop(), protocol, sock=sock)
    except BaseException:
        sock.close()
        raise
    return transport


async def _connect_socket(sock: socket.socket, address: tuple[str, int]) -> None:
    """As the loop's sock_connect(); but uvloop's asks its pool of threads to look up even what is a number."""
    error = sock.connect_ex(address)
    if error == errno.EINPROGRESS:
        error = sock.connect_ex(address)  # on this host it is done by now, and the loop need not be asked
    if error == errno.EALREADY:
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(sock, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


async def _addresses(host: str) -> list[str]:
    """The addresses of a host, the best first, and at least one. Raises what socket.getaddrinfo() raises."""
    with contextlib.suppress(socket.gaierror):  # it is a name
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)  # asks nobody
        return [host]
    under_way = _looking_up.get(host)
    if under_way is None:
        under_way = _looking_up[host] = Future()
        under_way.set_running_or_notify_cancel()  # who waits no longer does not end it for the others
        threading.Thread(target=_work, args=(host, under_way), name=f"look up {host}", daemon=True).start()
    return await asyncio.wrap_future(under_way)


def _work(host: str, result: Future[list[str]]) -> None:
    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except Exception as error:  # noqa: BLE001  (it is raised where the result is awaited)
        del _looking_up[host]
        result.set_exception(error)
    else:
        del _looking_up[host]
        result.set_result(found)


def keep_alive(sock: socket.socket) -> None:
    """Notice within about a minute a desktop whose host vanished without a word (tcp(7))."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
