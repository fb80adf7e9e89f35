"""The relay's rules for a websocket handshake: pure functions on the request's headers."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_allowed(origin: str | None, hosts: Sequence[str], allowed: Sequence[str], web_port: int) -> bool:
    """Whether a browser's page of `origin` may open a desktop (RFC 6455, section 10.2).

    A request without Origin comes from no browser and is let through. A page is ours when its host is one
    of `hosts` (Host and X-Forwarded-Host: no page can set either), at the same port or at `web_port`, where
    our own pages are. Everything else must stand in `allowed`, as `https://host[:port]`.
    """
    if origin is None:
        return True
    origin = origin.strip().lower()
    if origin in allowed:
        return True
    page = _host_and_port(origin)
    if page is None:
        return False
    scheme = origin.partition("://")[0]
    for host in hosts:
        here = _host_and_port(f"{scheme}://{host.strip().lower()}")
        if here and page[0] == here[0] and page[1] in (here[1], web_port):
            return True
    return False


def chosen_subprotocol(offered: Sequence[str]) -> str | None:
    """`binary` when the browser offers it, as noVNC before 1.3 does; nothing otherwise.

    Only what was offered may be answered (RFC 6455, section 4.2.2).
    """
    names = [name.strip() for header in offered for name in header.split(",")]
    return "binary" if "binary" in names else None


def wants_upgrade(connection: Sequence[str]) -> bool:
    """Whether a Connection header has the token `upgrade`; Firefox sends `keep-alive, Upgrade`."""
    return any(token.strip().lower() == "upgrade" for header in connection for token in header.split(","))


def _host_and_port(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.scheme not in _DEFAULT_PORTS:
        return None
    return parts.hostname, port if port is not None else _DEFAULT_PORTS[parts.scheme]
