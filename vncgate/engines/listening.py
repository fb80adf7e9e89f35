"""The relay's listening sockets: whom a connection comes from, when it is given up, and when none can be accepted.

picows shows a request to the relay, but not the connection that it came by. `caller` does: everything that the loop
calls for a connection runs in the context in which it was accepted.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import logging
import os
import socket
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

RECEIVE_BUFFER = 262144
"""Bytes that the kernel is asked to keep of what a browser sent. Linux takes no more than net.core.rmem_max, and
twice that with its own overhead (socket(7)); left alone it goes to megabytes. picows' read buffer of a connection
grows to what can be read at once, and never shrinks; a quarter of this costs 15 % more CPU a byte.
"""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

caller: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller")
"""The connection that is being served."""

# aiofastnet gives its loop's exception handler a traceback, each second and socket; we say it once, in plain words.
logging.getLogger("asyncio").addFilter(
    lambda record: not record.getMessage().startswith("socket.accept() out of system resource")
)


class Listening(socket.socket):
    """A duplicate of a listening socket, for one server: closing it leaves the other open, and its backlog as it is.

    aiofastnet 1.2 stops accepting for a second when there are no descriptors left, but asks the socket instead of the
    loop to do so; and its `backlog` is both what listen(2) is told and how many
    connections are accepted at once.
    """

    def __init__(self, listener: socket.socket, accepted: Callable[[], None], unheard: Callable[[float], None]) -> None:
        """`accepted` is called for each connection, `unheard` for each that ends before its request was read, with its
        age in seconds.
        """
        super().__init__(fileno=os.dup(listener.fileno()))
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)  # accepted sockets inherit it
        self._accepted = accepted
        self._unheard = unheard
        self._exhausted = False

    def listen(self, backlog: int) -> None:  # type: ignore[override]
        """It listens already."""

    def remove_reader(self, descriptor: int) -> None:
        """As the loop's."""
        asyncio.get_running_loop().remove_reader(descriptor)

    def accept(self) -> tuple[socket.socket, object]:
        """As socket's; the connection is a Caller, and the `caller` of whatever follows from it."""
        try:
            accepted, peer = super().accept()
        except OSError as error:
            if error.errno in _EXHAUSTED and not self._exhausted:
                self._exhausted = True
                log.error("no browsers are accepted until others have gone: %s", os.strerror(error.errno))
            raise
        if self._exhausted:
            self._exhausted = False
            log.info("browsers are accepted again")
        self._accepted()
        connection = Caller(accepted, peer[0] if isinstance(peer, tuple) else "", self._unheard)
        caller.set(connection)
        return connection, peer


class Caller(socket.socket):
    """An accepted connection."""

    __slots__ = ("_since", "_unheard", "heard", "peer")

    def __init__(self, accepted: socket.socket, peer: str, unheard: Callable[[float], None]) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self.peer = peer
        """Address of the other end: the browser's, or that of the proxy before us."""
        self.heard = False
        """Whether its request was read to the end, and answered by us."""
        self._since = time.monotonic()
        self._unheard = unheard

    def close(self) -> None:
        """As socket's."""
        if not self.heard:
            self.heard = True
            self._unheard(time.monotonic() - self._since)
        super().close()
