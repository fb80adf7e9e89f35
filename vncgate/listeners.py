"""The gate's listening sockets. They are bound here, belong to the daemon, and outlive every proxy."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Mapping
from typing import Protocol

from vncgate.errors import ListenError

BACKLOG = 512
"""Connections that wait in the kernel while a proxy is away; the kernel caps it at net.core.somaxconn."""


class Keeper(Protocol):
    """Keeps sockets by name for the process that comes after this one."""

    def keep(self, name: str, sock: socket.socket) -> None:
        """Keep a duplicate of `sock` until it is forgotten; again for the same name and socket does nothing."""

    def forget(self, name: str) -> None:
        """Let go of it: it was closed here, and must not live on elsewhere."""


class Forgetful:
    """The keeper where nobody keeps anything."""

    def keep(self, name: str, sock: socket.socket) -> None:
        """See Keeper."""

    def forget(self, name: str) -> None:
        """See Keeper."""


class Listeners:
    """Listening TCP sockets by address and port.

    `inherited` are those of the process before this one, by the names under which they were kept. They are taken up in
    place of binding anew, so that what waits in their backlogs is served.
    """

    def __init__(
        self, address: str, keeper: Keeper | None = None, inherited: Mapping[str, socket.socket] | None = None
    ) -> None:
        self._address = address
        self._keeper = keeper or Forgetful()
        self._sockets: dict[str, socket.socket] = {}
        self._left = False
        self._inherited = dict(inherited or {})

    def open(self, port: int, owner: str, address: str | None = None) -> socket.socket:
        """The socket of `port`, bound now if it was not yet, at `address` (None: the one that all have in common).

        Raises ListenError that names port and reason.
        """
        address = address or self._address
        name = name_of(address, port)
        if name not in self._sockets:
            inherited = self._inherited.pop(name, None)
            self._sockets[name] = bind(address, port, owner) if inherited is None else inherited
            self._keeper.keep(name, self._sockets[name])
        return self._sockets[name]

    def leave(self) -> None:
        """Leave all ports to the process after this one: `close()` closes none of them any more."""
        self._left = True

    def close(self, port: int) -> None:
        """Close a port; clients that wait in its backlog are reset. Does nothing for one that is not open."""
        if self._left:
            return
        name = name_of(self._address, port)
        if sock := self._sockets.pop(name, None):
            self._keeper.forget(name)
            sock.close()

    def settled(self) -> None:
        """Everything that is needed is open: close what was inherited and is not."""
        while self._inherited:
            name, sock = self._inherited.popitem()
            self._keeper.forget(name)
            sock.close()

    def all(self) -> dict[str, socket.socket]:
        """Every open socket, by the name under which it is kept."""
        return dict(self._sockets)

    def close_all(self) -> None:
        """Close every port here; what is kept stays kept, for the next process to take up."""
        for sock in (*self._sockets.values(), *self._inherited.values()):
            sock.close()
        self._sockets.clear()
        self._inherited.clear()


def name_of(address: str, port: int) -> str:
    """The name under which a listening socket is kept, as FDNAME= of sd_notify(3) allows it: without a colon."""
    return f"listen-{address.replace(':', '_')}-{port}"


def bind(address: str, port: int, owner: str) -> socket.socket:
    """A listening socket, not inherited by children. Raises ListenError in words for the operator."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ListenError(f"{owner}: port {port} on {address} {_why(error)}") from None
    return sock


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "is in use by another program (ss -ltnp shows which)"
        case errno.EACCES:
            return "may not be opened by this user; take a port from 1024 on"
        case errno.EADDRNOTAVAIL:
            return "cannot be opened: this machine does not have that address"
        case _:
            return f"cannot be opened: {error.strerror or os.strerror(error.errno or 0)}"


def raise_descriptor_limit(wanted: int = 262144) -> int:
    """Lift the soft limit of open files to `wanted`, or as far as the hard one allows; returns what it is now.

    Each desktop in use takes two. Not further than that: children inherit it, and old programs walk through it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(soft, wanted if hard == resource.RLIM_INFINITY else min(hard, wanted))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit
