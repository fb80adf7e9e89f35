"""One end of the socket pair between the master and a worker, in an event loop: whole messages, in order.

The pair is of type SOCK_SEQPACKET (unix(7)): a message is received whole, with the descriptor that was sent beside it,
or not at all. What the other end is too slow to take waits here.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import socket
from collections.abc import Callable

from vncgate.messages import LONGEST, Message, decode, encode

log = logging.getLogger(__name__)

RETRY = 0.01
"""Seconds after which a message that could not be sent though there was room is tried again."""
AT_ONCE = 64
"""Messages that are received before the loop turns to something else."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new channel; neither is inherited by programs that are executed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return ours, theirs


class Channel:
    """Owns `sock`. `receive` is called with each message and the socket that came with it, which is then its own.

    `ended` is called once, when the other end is gone; not after `close()`. A message of an unknown kind is dropped.
    """

    def __init__(
        self,
        sock: socket.socket,
        receive: Callable[[Message, socket.socket | None], None],
        ended: Callable[[], None],
    ) -> None:
        self.sock = sock
        self._receive = receive
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._waiting: collections.deque[tuple[bytes, int]] = collections.deque()
        self._open = True
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._read)

    @property
    def is_behind(self) -> bool:
        """Whether messages wait here, because the other end is slow, or does not listen."""
        return bool(self._waiting)

    def send(self, message: Message, beside: socket.socket | None = None) -> None:
        """Send a message, and a duplicate of the socket `beside` it. Does nothing when the channel has ended.

        Raises OSError where a duplicate would have to wait and there is no descriptor for it.
        """
        if not self._open:
            return
        line = encode(message)
        if not self._waiting and self._sent(line, beside.fileno() if beside else -1):
            return
        duplicate = os.dup(beside.fileno()) if beside else -1
        if not self._waiting:
            self._loop.add_writer(self.sock.fileno(), self._write)
        self._waiting.append((line, duplicate))

    def close(self) -> None:
        """Let go of it; the other end notices."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self.sock.fileno())
        self._loop.remove_writer(self.sock.fileno())
        self.sock.close()
        while self._waiting:
            self._drop(self._waiting.popleft()[1])

    def _sent(self, line: bytes, descriptor: int) -> bool:
        """Whether it need not be tried again: it is sent, or nobody is left to take it (the reader will find that)."""
        try:
            socket.send_fds(self.sock, [line], [descriptor] if descriptor >= 0 else [])
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        except OSError as error:  # no memory, or too many descriptors on their way (unix(7))
            log.warning("a message to the process at the other end has to wait: %s", error.strerror)
            return False
        return True

    def _write(self) -> None:
        while self._waiting:
            line, descriptor = self._waiting[0]
            if not self._sent(line, descriptor):
                self._loop.remove_writer(self.sock.fileno())
                self._loop.call_later(RETRY, self._try_again)
                return
            self._waiting.popleft()
            self._drop(descriptor)
        self._loop.remove_writer(self.sock.fileno())

    def _try_again(self) -> None:
        if self._open and self._waiting:
            self._loop.add_writer(self.sock.fileno(), self._write)

    @staticmethod
    def _drop(descriptor: int) -> None:
        if descriptor >= 0:
            os.close(descriptor)

    def _read(self) -> None:
        for _ in range(AT_ONCE):
            if not self._open:
                return
            try:
                line, descriptors, _, _ = socket.recv_fds(self.sock, LONGEST, 1)
            except BlockingIOError:
                return
            except OSError:
                line, descriptors = b"", []
            if not line:
                self.close()
                self._ended()
                return
            beside = socket.socket(fileno=descriptors[0]) if descriptors else None
            if beside is not None:
                beside.set_inheritable(False)  # recv_fds() of Python 3.11 does not pass its flags on to the kernel
            message = decode(line)
            if message is None:
                log.debug("a message of an unknown kind is ignored")
                if beside is not None:
                    beside.close()
                continue
            try:
                self._receive(message, beside)
            except Exception:  # what one message leads to must not cost those after it
                log.exception("a message %s could not be followed", type(message).__name__)
