"""A bad network between a browser and the gate: a relay that is slow, stalls as a lost packet does, and can be cut.

async with Link(port, delay=0.1, rate=125_000, loss=0.01) as link:
    ... connect to link.port ...
    link.cut()      # nothing passes any more, and nobody is told: no FIN, no RST
    link.mend()

TCP hides loss behind a retransmission, so that is what loss is here: a piece that comes RETRANSMISSION seconds later,
and all that is behind it with it. What the link holds is bounded, as a router's queue is: it does not read then.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket

RETRANSMISSION = 0.2
"""Linux' least time-out of a retransmission: tcp(7), TCP_RTO_MIN."""
PIECE = 1400
"""Bytes of a packet."""
QUEUE = 64
"""Packets that are under way at once."""
SOCKET_BUFFER = 16384
"""Bytes that the kernel holds for each end: a link that swallows megabytes is not slow."""


class Link:
    """`delay` one way, in seconds; `rate` in bytes a second; `loss` from 0 to 1."""

    def __init__(self, target: int, *, delay: float = 0.0, rate: float = 1e9, loss: float = 0.0, seed: int = 1) -> None:
        self._target = target
        self._delay = delay
        self._rate = rate
        self._loss = loss
        self._chance = random.Random(seed).random
        self._open = asyncio.Event()
        self._open.set()
        self._work: set[asyncio.Task] = set()

    async def __aenter__(self) -> Link:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._spawn(self._accept(listener))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._work:
            task.cancel()
        await asyncio.wait(self._work)

    def cut(self) -> None:
        """From now on nothing passes, in either direction."""
        self._open.clear()

    def mend(self) -> None:
        """What waited passes."""
        self._open.set()

    def _spawn(self, work) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(lambda _: None if task.cancelled() else task.result())

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                near, _ = await loop.sock_accept(listener)
                far = socket.socket()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
                far.setblocking(False)
                await loop.sock_connect(far, ("127.0.0.1", self._target))
                self._spawn(self._connection(near, far))

    async def _connection(self, near: socket.socket, far: socket.socket) -> None:
        with near, far, contextlib.suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(near, far))
                group.create_task(self._carry(far, near))

    async def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        packets: asyncio.Queue = asyncio.Queue(QUEUE)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send(packets, source))
            group.create_task(self._deliver(packets, sink))

    async def _send(self, packets: asyncio.Queue, source: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        free = 0.0
        while True:
            data = await loop.sock_recv(source, PIECE)
            now = loop.time()
            free = max(now, free) + len(data) / self._rate
            late = RETRANSMISSION if self._chance() < self._loss else 0.0
            await packets.put((free + self._delay + late, data))
            if not data:
                return

    async def _deliver(self, packets: asyncio.Queue, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await packets.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self._open.wait()
            if not data:
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(sink, data)
