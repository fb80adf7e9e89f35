"""What all pages of participants share: who is at the door, the rooms behind it, and how a page is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vncgate.render.cards import Card
from vncgate.settings import Settings
from vncgate.web.doorkeeper import Doorkeeper, root
from vncgate.web.tongues import PAGES

if TYPE_CHECKING:
    from vncgate.participants import Participants


@dataclass(frozen=True, slots=True)
class Lobby:
    """`card` tells what participants are told of the desktop of a path."""

    settings: Settings
    participants: Participants
    doorkeeper: Doorkeeper
    card: Callable[[str], Card | None]

    async def page(self, request: web.Request, name: str, *, status: int = 200, **values: Any) -> web.Response:
        """A page in the browser's language. Beside `values` its template has `root`, `session` (or None) and
        `form_token`, for the hidden field of each of its forms. Nothing keeps a copy of it.
        """
        response = web.Response(content_type="text/html", charset="utf-8", status=status)
        response.headers["Cache-Control"] = "no-store"
        # With no-referrer a browser calls the origin of a form "null" (W3C Fetch, "append a request Origin header").
        response.headers["Referrer-Policy"] = "same-origin"
        session = await self.doorkeeper.session(request)
        token = self.doorkeeper.form_token(request, response)
        response.text = request[PAGES].page(name, root=root(request), session=session, form_token=token, **values)
        return response
