"""How many handshakes a second are let in, from one client and in all. Pure: the clock is passed in.

Each rate is a token bucket, kept as one number: the time at which it will be full again (GCRA, the "virtual scheduling"
of ITU-T I.371, annex A). A bucket that is full is as good as none, so clients that were not seen for a while are
forgotten, and there are never more buckets than handshakes that were let in lately: memory is bounded by the rate
in all, however many addresses come.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

SPAN = 10.0
"""Seconds that a rate is an average of: what they allow may also come at once, as a class does."""


class HandshakeRates:
    """Handshakes a second, `overall` and for `each` client, on average over `span` seconds."""

    def __init__(self, overall: float, each: float, span: float = SPAN) -> None:
        self._overall = overall
        self._each = each
        self._span = span
        self._full = 0.0
        self._full_each: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """How many clients are remembered."""
        return len(self._full_each)

    def wait(self, client: str | None, now: float) -> float:
        """Let a handshake in (0.0), or tell in how many seconds there is room; who has to wait costs nobody anything.

        `client` is its address (None: a proxy's that does not name its clients, and counts in all only); `now` is
        in seconds and never goes back.
        """
        if wait := self.would_wait(client, now):
            return wait
        key = neighbourhood(client) if client is not None else None
        full = self._full_each.get(key, now) if key is not None else now
        self._full = max(self._full, now) + 1 / self._overall
        if key is not None:
            self._full_each[key] = max(full, now) + 1 / self._each
            self._full_each.move_to_end(key)
        self._forget(now)
        return 0.0

    def would_wait(self, client: str | None, now: float) -> float:
        """What `wait()` would tell; nobody is let in."""
        full = self._full_each.get(neighbourhood(client), now) if client is not None else now
        return max(self._left(self._full, self._overall, now), self._left(full, self._each, now))

    def _left(self, full: float, rate: float, now: float) -> float:
        """Seconds until a bucket that is full again at `full` has a token."""
        wait = full - now - (self._span - 1 / rate)
        return wait if wait > 1e-6 else 0.0  # what adding up fractions costs in precision is no reason to wait

    def _forget(self, now: float) -> None:
        """Drop the buckets that are full, the ones not used for longest first."""
        while self._full_each:
            key, full = next(iter(self._full_each.items()))
            if full > now:
                return
            del self._full_each[key]


def neighbourhood(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address, all of which one host may take."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(ip) >> 64 << 64)}/64"
