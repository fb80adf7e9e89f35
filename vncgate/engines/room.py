"""Where a process receives what desktops send, so that sending it on costs as little as it can."""

from __future__ import annotations

import mmap

READ_SIZE = 262144
"""Bytes read from a desktop at once."""
PAGE = mmap.PAGESIZE


class Room:
    """The buffer that a process reads its desktops into: each piece at the place in its page at which the kernel will
    put it down when it is sent on.

    Linux lays what a thread sends, through whatever socket, end to end into pages (sk_page_frag_refill() in its
    net/core/sock.c). A frame's header thus shifts what follows, and copying between unequal places of two pages takes
    up to twice as long (benchmarks/align.c). Where the reckoning is wrong, as after a ping, it costs that and no more.
    """

    def __init__(self) -> None:
        # Private: workers are forked, and must not read into each other's.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._memory = memoryview(mmap.mmap(-1, READ_SIZE + PAGE, flags=flags))
        self._place = 0
        self.sent = 0
        """Bytes that this process has sent, as far as sessions know."""

    def free(self) -> memoryview:
        """Where READ_SIZE bytes fit in step, if they are to be sent next, behind the header of a long frame."""
        place = self._place = (self.sent + 10) % PAGE
        return self._memory[place : place + READ_SIZE]

    def filled(self, nbytes: int) -> memoryview:
        """The first bytes of what was free, which are sent now, as a frame (RFC 6455, section 5.2)."""
        self.sent += nbytes + (2 if nbytes < 126 else 4 if nbytes < 65536 else 10)
        place = self._place
        return self._memory[place : place + nbytes]
