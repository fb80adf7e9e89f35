"""Ports that nobody has, for what is told its port and binds it a moment later."""

from __future__ import annotations

import os
import random
import socket
from collections import deque

# pytest-xdist's: how many processes run the tests, and which of them this one is.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
SHARE = (32000 - 12000) // WORKERS
FIRST = 12000 + SHARE * WORKER
GIVEN: deque[int] = deque(maxlen=SHARE // 4)
"""Those that were given last: who asks twice before binding gets no port twice."""


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """`count` different ports that the kernel lets us bind now.

    They lie below those that the kernel gives to outgoing connections (ip_local_port_range, from 32768 on): so
    no connection takes one before it is bound. Tests that run at the same time have ports of their own.
    """
    held: list[socket.socket] = []
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        while len(held) < count:
            sock = socket.socket(family)
            try:
                port = random.randrange(FIRST, FIRST + SHARE)
                if port in GIVEN:
                    raise OSError
                sock.bind((host, port))
            except OSError:
                sock.close()
            else:
                held.append(sock)
                GIVEN.append(port)
        return [sock.getsockname()[1] for sock in held]
    finally:
        for sock in held:
            sock.close()
