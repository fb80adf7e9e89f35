"""What a participant may have done with a desktop that the gate starts itself: POST api/desktops/PATH/DEED.

    visit  the page was opened: a desktop that starts when it is wanted is asked for
    start  start it again after it failed or ended
    stay   do not end it, though nobody has used it for a while

All are cheap, may be repeated, and take no content. Nobody logs in here: whoever sees the pages may do them. What
they may not do is to have somebody else's browser do them, so a page of another site is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from vncgate.engines.handshake import origin_allowed
from vncgate.languages import N_
from vncgate.launchers import base
from vncgate.render.cards import Card
from vncgate.scrape import Handler
from vncgate.settings import Settings
from vncgate.web.tongues import LANGUAGE


class DesktopDeeds(base.DesktopCommands, Protocol):
    """The desktops that the gate starts itself, by their accounts' names. What is here answers at once."""

    def visit(self, name: str) -> None:
        """The participant opened the page."""

    def retry(self, name: str) -> None:
        """The participant wants it started, now, whatever became of it before; nothing where it is there."""

    def stay(self, name: str) -> None:
        """The participant goes on using it: idle time begins anew."""


def deeds(desktops: DesktopDeeds, settings: Settings, card_of: Callable[[str], Card | None]) -> Handler:
    """The handler of all three. It answers with what the account's card tells afterwards."""
    ways = {"visit": desktops.visit, "start": desktops.retry, "stay": desktops.stay}

    async def do(request: web.Request) -> web.Response:
        path, deed = request.match_info["path"], request.match_info["deed"]
        if not from_our_pages(request, settings):
            raise web.HTTPForbidden(text=N_("Only this site's own pages may do this."))
        if request.body_exists:
            raise web.HTTPRequestEntityTooLarge(0, 1, text=N_("This takes no content."))
        card = card_of(path)
        if card is None or card.desktop is None:
            raise web.HTTPNotFound(text=N_("there is no such desktop"))
        ways[deed](card.account.name)
        return web.json_response((card_of(path) or card).public(request[LANGUAGE]))

    return do


def from_our_pages(request: web.Request, settings: Settings) -> bool:
    """Whether a request that changes something comes from a page of ours, or from no browser.

    A browser says so itself in Sec-Fetch-Site (W3C Fetch Metadata, section 2.4), over TLS and on this host; else
    Origin tells, by the same rules as for websockets.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site == "same-origin" or (site and origin is None):
        return site == "same-origin"
    hosts = [request.host, *",".join(request.headers.getall("X-Forwarded-Host", [])).split(",")]
    port = settings.web.port if settings.web else 0
    return origin_allowed(origin, hosts, settings.origins, port)
