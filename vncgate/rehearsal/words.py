"""Why a participant did not get in, or lost the desktop, in plain words. Pure."""

from __future__ import annotations

import errno
import os
import socket
import ssl

from picows import WSError, WSHandshakeError, WSUpgradeResponse

from vncgate.text import printable

CUT = "the connection was cut without a word"
"""No close frame, no farewell: a process was killed, or a network broke."""
LONGEST = 300
"""Bytes of a reason that are shown."""
STATUSES = {
    404: "nobody serves it: is Apache's snippet included, and the account in the gate's token file? Where the snippet "
    "has the form `guide`, give the gate's --config",
    426: "a proxy on the way does not pass websockets on",
    502: "Apache does not reach the gate",
    503: "Apache does not reach the gate, or has no worker left (MaxRequestWorkers)",
}
"""What an HTTP status in answer to a websocket's handshake means here."""
_NO_ROOM = {
    errno.EMFILE: "this machine is out of file descriptors (ulimit -n)",
    errno.EADDRNOTAVAIL: "this machine is out of ports",
}


def of_error(error: OSError | WSError | ValueError) -> str:
    """What connecting raised."""
    match error:
        case ssl.SSLCertVerificationError():
            why = error.verify_message
            return f"the site's certificate is not trusted ({why}): give --ca FILE, or --insecure"
        case ssl.SSLError():
            return f"TLS failed: {getattr(error, 'reason', '') or error}"
        case socket.gaierror():
            again = error.errno == socket.EAI_AGAIN
            return f"the site's name {'cannot be looked up now' if again else 'is not known: no such host'}"
        case ConnectionRefusedError():
            return "the connection is refused: nobody listens there"
        case ConnectionError():
            return "the connection was cut before the websocket stood: is the URL's https or http right?"
        case OSError(errno=int(number)):
            return f"the site cannot be reached: {_NO_ROOM.get(number) or os.strerror(number)}"
        case OSError():
            return f"the site cannot be reached: {error}"
        case WSHandshakeError(response=WSUpgradeResponse() as response):
            # The gate gives its reason as plain text, Apache as a page.
            is_reason = response.headers.get("Content-Type", "").startswith("text/plain")
            return of_status(int(response.status), error.raw_body or b"" if is_reason else b"")
        case _:
            return f"the websocket's handshake failed: {error}"


def of_status(status: int, said: bytes = b"") -> str:
    """An answer to a websocket's handshake that is none; `said` is what the gate itself gave as the reason."""
    if text := printable(said[:LONGEST].decode("utf-8", "replace"), " ").strip():
        return f"the gate refused it (HTTP {status}): {text}"
    meaning = STATUSES.get(status)
    return f"the websocket is refused with HTTP {status}" + (f" ({meaning})" if meaning else "")
