"""An experiment: bulk by splice(2), which moves pages and copies nothing, against receiving and sending.

`python -m benchmarks.splice`: a source pours through a relay loop of a few lines into a sink, over TCP on one
machine; the relay has the first core, the others share the second. Towards a browser each piece needs a websocket
header with its length before it: so what was spliced into the pipe is counted first, its header sent with MSG_MORE, and
the pipe spliced out. `small` sends 8 KiB pieces one at a time, each when the one before has arrived: what a desktop
does most of the day.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import select
import socket
import struct
import time
from collections.abc import Callable

from benchmarks.processes import LOAD_CORE, RELAY_CORE

BUFFER = 262144
SMALL = 8192
SECONDS = 3.0
GIB = 2**30


def header(size: int) -> bytes:
    """That of a binary frame without a mask (RFC 6455, section 5.2)."""
    return b"\x82\x7f" + struct.pack("!Q", size) if size > 0xFFFF else b"\x82\x7e" + struct.pack("!H", size)


def copying(source: socket.socket, sink: socket.socket) -> Callable[[], int]:
    """Receive into a buffer and send it on."""
    buffer = memoryview(bytearray(BUFFER))

    def step() -> int:
        size = source.recv_into(buffer)
        sink.sendmsg([header(size), buffer[:size]]) if size else None
        return size

    return step


def splicing(source: socket.socket, sink: socket.socket) -> Callable[[], int]:
    """Move pages through a pipe."""
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 4 * BUFFER)

    def step() -> int:
        size = os.splice(source.fileno(), into, BUFFER)
        if size:
            sink.send(header(size), socket.MSG_MORE)
            left = size
            while left:
                left -= os.splice(out, sink.fileno(), left)
        return size

    return step


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    for sock in (one, other):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def measure(way: Callable[[socket.socket, socket.socket], Callable[[], int]], small: bool) -> tuple[int, float, int]:
    """Bytes, CPU seconds of the relay, and steps."""
    source, relay_in = pair()
    relay_out, sink = pair()
    told, tell = multiprocessing.Pipe(duplex=False)
    load = multiprocessing.Process(target=_load, args=(source, sink, small, (relay_in, relay_out)))
    relay = multiprocessing.Process(target=_relay, args=(way, relay_in, relay_out, tell, (source, sink)))
    for process in (load, relay):
        process.start()
    for sock in (source, relay_in, relay_out, sink):
        sock.close()
    figures = told.recv()
    for process in (load, relay):
        process.join()
    return figures


def _relay(way: Callable, source: socket.socket, sink: socket.socket, tell: object, others: tuple) -> None:
    for sock in others:
        sock.close()
    os.sched_setaffinity(0, RELAY_CORE)
    step, moved, steps, before = way(source, sink), 0, 0, time.process_time()
    poll = select.epoll()  # as an event loop would
    poll.register(source, select.EPOLLIN)
    while poll.poll() and (size := step()):
        moved, steps = moved + size, steps + 1
    tell.send((moved, time.process_time() - before, steps))


def _load(source: socket.socket, sink: socket.socket, small: bool, others: tuple) -> None:
    for sock in others:
        sock.close()
    os.sched_setaffinity(0, LOAD_CORE)
    end = time.monotonic() + SECONDS
    piece, buffer = bytes(SMALL if small else 4 * BUFFER), bytearray(4 * BUFFER)
    if small:
        while time.monotonic() < end:
            source.sendall(piece)
            left = SMALL + len(header(SMALL))
            while left:
                left -= sink.recv_into(buffer, left)
        source.close()
        return
    source.setblocking(False)
    sent = 0
    while source is not None:
        readable, writable, _ = select.select([sink], [source], [])
        if readable:
            sink.recv_into(buffer)
        if writable:
            if time.monotonic() > end:
                break
            sent += source.send(piece)
    source.close()
    while sink.recv_into(buffer):
        pass


def main() -> None:
    """Five rounds of each, and the best."""
    for small in (False, True):
        for name, way in (("copying", copying), ("splicing", splicing)):
            rounds = [measure(way, small) for _ in range(5)]
            if small:
                print(f"small  {name:9} {min(cpu / steps for _, cpu, steps in rounds) * 1e6:6.1f} us a piece of 8 KiB")
            else:
                print(f"bulk   {name:9} {min(cpu / moved for moved, cpu, _ in rounds) * GIB:6.3f} CPU s per GiB")


if __name__ == "__main__":
    main()
