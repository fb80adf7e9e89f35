"""The relay's rules for a websocket handshake: pure functions on the request's headers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vncgate.engines.base import Limits
from vncgate.tally import Refusal

if TYPE_CHECKING:
    from multidict import CIMultiDict  # what picows gives

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Refused:
    """A handshake's refusal: status and text of the answer, and the reason that it is counted by."""

    status: int
    text: str
    reason: Refusal
    headers: dict[str, str] = field(default_factory=dict)


def objection(path: bytes, headers: CIMultiDict[str], limits: Limits) -> Refused | None:
    """What is wrong with a request for a desktop that is there; None where it is as RFC 6455, section 4.2.1, has it."""
    size = len(path) + sum(len(name) + len(value) + 4 for name, value in headers.items())
    if size > limits.max_headers:
        text = f"The headers have {size} bytes; the setting `max_headers` allows {limits.max_headers}."
        return Refused(431, text, Refusal.TOO_LARGE)
    if not wants_upgrade(headers):
        return Refused(
            426,
            "This is a websocket. Open the landing page in a browser instead.",
            Refusal.NO_WEBSOCKET,
            {"Upgrade": "websocket"},
        )
    if headers.get("Sec-WebSocket-Version") != "13":
        text = "Websockets have version 13 (RFC 6455)."
        return Refused(426, text, Refusal.BAD_REQUEST, {"Sec-WebSocket-Version": "13", "Upgrade": "websocket"})
    if not _is_key(headers.getall("Sec-WebSocket-Key", [])):
        return Refused(400, "Sec-WebSocket-Key must be there once: 16 bytes in base64.", Refusal.BAD_REQUEST)
    hosts = [*headers.getall("Host", []), *",".join(headers.getall("X-Forwarded-Host", [])).split(",")]
    origin = headers.get("Origin")
    if not origin_allowed(origin, hosts, limits.origins, limits.web_port):
        text = f"Pages of {origin!r:.200} may not open desktops; the setting `origins` lists exceptions."
        return Refused(403, text, Refusal.OTHER_SITE)
    return None


def came_over_https(forwarded_proto: Sequence[str]) -> bool:
    """Whether a trusted proxy's X-Forwarded-Proto headers say https, and nothing else."""
    protocols = {name.strip().lower() for header in forwarded_proto for name in header.split(",")}
    return protocols == {"https"}


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


def wants_upgrade(headers: CIMultiDict[str]) -> bool:
    """Whether headers ask for a websocket. Firefox sends `Connection: keep-alive, Upgrade`."""
    tokens = {token.strip().lower() for header in headers.getall("Connection", []) for token in header.split(",")}
    return "upgrade" in tokens and headers.get("Upgrade", "").strip().lower() == "websocket"


def _is_key(values: Sequence[str]) -> bool:
    try:
        return len(values) == 1 and len(base64.b64decode(values[0], validate=True)) == 16
    except ValueError:
        return False


def _host_and_port(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname or parts.scheme not in _DEFAULT_PORTS:
        return None
    return parts.hostname, port if port is not None else _DEFAULT_PORTS[parts.scheme]
