"""The headers that every answer carries, and those that Apache sends with the static export.

The policy allows nothing but what the site itself serves: no inline script or style, no third party. noVNC
needs `data:` and `blob:` images (the remote cursor, JPEG rectangles); its styles go through the CSSOM, which a
policy does not restrict (CSP Level 3, section 8.4).
"""

from __future__ import annotations

from collections.abc import Iterable


def policy(connect: Iterable[str] = (), *, meta: bool = False) -> str:
    """The Content-Security-Policy of one page.

    `connect` are the origins of websockets beside the site's own. `meta` leaves out what a browser ignores,
    with a warning, in a `<meta>` element (CSP Level 3, section 3.3).
    """
    rules = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: blob:",
        "font-src": "'self'",
        "connect-src": " ".join(["'self'", *connect]),
        "base-uri": "'none'",
        "form-action": "'self'",
    }
    if not meta:
        rules["frame-ancestors"] = "'self'"
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def novnc_policy(connect: Iterable[str] = ()) -> str:
    """The policy for the pages of a site's own noVNC folder: its generations differ, so it is wider."""
    origins = " ".join(["'self'", *connect])
    return (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data:; "
        f"connect-src {origins}; object-src 'none'; base-uri 'none'; frame-ancestors 'self'"
    )


STATIC_HEADERS = {
    "Content-Security-Policy": policy(),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""What Apache sends with every file of the static export, word for word; ours send the same."""
IMMUTABLE = "public, max-age=31536000, immutable"
"""Cache-Control of a file that was asked for by its edition: `static/EDITION/NAME`."""
REVALIDATE = "no-cache"
"""Cache-Control of all other files and of the pages: keep them, but ask whether they are current."""
