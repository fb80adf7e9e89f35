"""What a desktop reports when its VNC server serves: one line, `NONCE unix PATH` or `NONCE tcp HOST PORT`.

The file lies where the session's user may write, so what it says is a stranger's word: it is taken for an address of a
desktop, and for nothing else.
"""

from __future__ import annotations

from vncgate.model import Desktop

LONGEST = 4096
"""Bytes of a report that are read; one of ours has a hundred."""


def parse(text: str, nonce: str) -> Desktop | None:
    """Where the desktop of this start is; None for a text that is no report of it (none yet, or of another)."""
    line, newline, _ = text.partition("\n")
    head, _, path = line.partition(" unix ")
    if newline and head == nonce and path.startswith("/"):
        return Desktop(unix=path)
    match line.split(" "):
        case [found, "tcp", host, port] if newline and found == nonce and host.isprintable() and host:
            if port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536:
                return Desktop(host, int(port))
    return None
