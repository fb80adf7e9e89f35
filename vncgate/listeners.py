"""The gate's listening sockets. They are bound here, belong to the daemon, and outlive every proxy."""

from __future__ import annotations

import errno
import os
import resource
import socket

from vncgate.errors import ListenError

BACKLOG = 512
"""Connections that wait in the kernel while a proxy is away; the kernel caps it at net.core.somaxconn."""


class Listeners:
    """Listening TCP sockets by port, on one address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._sockets: dict[int, socket.socket] = {}

    def open(self, port: int, owner: str) -> socket.socket:
        """The socket of `port`, bound now if it was not yet. Raises ListenError that names port and reason."""
        if port not in self._sockets:
            self._sockets[port] = bind(self._address, port, owner)
        return self._sockets[port]

    def close(self, port: int) -> None:
        """Close a port; clients that wait in its backlog are reset. Does nothing for one that is not open."""
        if sock := self._sockets.pop(port, None):
            sock.close()

    def close_all(self) -> None:
        """Close every port."""
        for port in list(self._sockets):
            self.close(port)


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
