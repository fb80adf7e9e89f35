"""Who is really at the other end, when a proxy stands between: the X-Forwarded-... headers, believed
only as far as trusted proxies wrote them. Pure.

Apache's mod_proxy appends the peer it saw to X-Forwarded-For (mod_proxy, "Reverse Proxy Request Headers"), so
the list is read from its right end, over trusted addresses, to the first that is not: what a client wrote in
front of that itself is never reached.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable


class TrustedProxies:
    """The networks whose forwarding headers are believed."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in networks)
        self.trusts = functools.lru_cache(maxsize=1024)(self._trusts)

    def _trusts(self, address: str) -> bool:
        """Whether an address is a trusted proxy's; a text that is no address is not trusted."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._networks)

    def client(self, peer: str, forwarded_for: Iterable[str]) -> str:
        """The browser's address: `peer`, or what trusted proxies wrote in the X-Forwarded-For headers."""
        if not self.trusts(peer):
            return peer
        hops = [hop.strip() for header in forwarded_for for hop in header.split(",")]
        client = peer
        for hop in reversed(hops):
            try:
                ip = ipaddress.ip_address(hop.strip("[]"))
            except ValueError:
                break
            if "%" in hop:  # the scope of an IPv6 address may be any text, and that of another host means nothing here
                break
            client = str(ip)
            if not self.trusts(client):
                break
        return client
