"""Signing in and out, seat links, shares, and what who is signed in sees (access `seat`).

GET  /                       the sign-in page, or the seat of who is signed in
POST /sign-in, /sign-out     forms; `next` is where one wanted to go
GET  /seat, POST /seat       a seat link: the page's script takes it out of the address and sends it
GET  /share, POST /share     a share's link, the same way
POST /end-share              end one of the own shares, from a form
GET, POST /api/shares        the owner's shares: all of them; a new one, whose address is told this once
POST /api/shares/end         end one
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from urllib.parse import quote

from aiohttp import web

from vncgate.languages import N_
from vncgate.model import Secret
from vncgate.people import Mode, Session
from vncgate.pins import typed
from vncgate.seating import Entry, Reason, Refusal
from vncgate.signing_up import Phase
from vncgate.web.doorkeeper import NOT_SECURE, OWNERS, root
from vncgate.web.lobby import Lobby
from vncgate.web.tongues import LANGUAGE

LONGEST_FIELD = 64
"""Characters of an account or a PIN that are looked at."""
WRONG = N_("That did not work. Please look at the account and the PIN, and try again.")
WRONG_LINK = N_(
    "This link does not open anything. It may be cut off, or there is a newer one. Please ask the organizers."
)
BUSY = N_("Too many people are signing in right now. Please try again in a moment.")
EXPIRED = N_("This link was good for a while only, and that is over. Please ask for a new one.")
FROZEN = N_("At the moment nobody can sign in. Desktops that are open stay open.")
FULL = N_("There are as many as there may be. Please end one first, or ask the owner of the desktop.")

_PART = "[A-Za-z0-9_-][A-Za-z0-9._-]*"
_LOCAL = re.compile(f"(?:{_PART}/)*(?:{_PART})?")  # one way only to read each text: strangers send it


def add(app: web.Application, lobby: Lobby) -> None:
    """Put these pages into the application."""
    pages = SignIn(lobby)
    app.router.add_get("/", pages.home)
    app.router.add_post("/sign-in", pages.sign_in)
    app.router.add_post("/sign-out", pages.sign_out)
    for name, post in {"seat": pages.enter_by_link, "share": pages.enter_by_share}.items():
        app.router.add_get(f"/{name}", pages.link)
        app.router.add_post(f"/{name}", post)
    app.router.add_post("/end-share", pages.end_share)
    app.router.add_get("/api/shares", pages.shares)
    app.router.add_post("/api/shares", pages.share)
    app.router.add_post("/api/shares/end", pages.end_share_json)


def local(text: str) -> str:
    """An address below the site's root, for going on to; empty where it is none, or leads anywhere else."""
    return text if len(text) <= 256 and _LOCAL.fullmatch(text) else ""


class SignIn:
    """The handlers."""

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby
        self._door = lobby.doorkeeper
        self._seating = lobby.participants.seating

    async def home(self, request: web.Request) -> web.Response:
        """Where everybody comes first."""
        session = await self._door.session(request)
        if session is not None and session.organizer:
            raise web.HTTPSeeOther(root(request) + "organizer")
        if session is not None:
            return await self._seat(request, session)
        if not self._door.is_secure(request):
            raise web.HTTPForbidden(text=NOT_SECURE)
        return await self._ask(request, local(request.query.get("next", "")))

    async def sign_in(self, request: web.Request) -> web.Response:
        """Account and PIN."""
        form = await self._door.form(request)
        account, after = form.get("account", "").strip()[: LONGEST_FIELD + 1], local(form.get("next", ""))
        pin = typed(form.get("pin", "")[:LONGEST_FIELD])
        found = await self._seating.sign_in(account, pin, self._door.client(request))
        if isinstance(found, Refusal):
            status, words = self._words(request, found, WRONG)
            response = await self._ask(request, after, status=status, error=words, account=account)
            if found.wait:
                response.headers["Retry-After"] = str(_seconds(found))
            return response
        response = web.Response(status=303, headers={"Location": root(request) + (after or self._desk(found.session))})
        await self._let_in(request, response, found)
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """Here, or with `everywhere` on all devices."""
        form = await self._door.form(request)
        response = web.Response(status=303, headers={"Location": root(request)})
        if session := await self._door.session(request):
            if form.get("everywhere") and session.seat and not session.share:
                await self._seating.sign_out_everywhere(session.seat)
            else:
                await self._seating.sign_out(session)
        self._door.let_out(response)
        return response

    async def link(self, request: web.Request) -> web.Response:
        """The page of a link, whose script sends what stands behind the #."""
        if not self._door.is_secure(request):
            raise web.HTTPForbidden(text=NOT_SECURE)
        session = await self._door.session(request)
        return await self._lobby.page(request, "link.html", target=request.path.strip("/"), leaves=self._own(session))

    async def enter_by_link(self, request: web.Request) -> web.Response:
        """A seat link."""
        form = await self._door.form(request)
        token = Secret(form.get("token", ""))
        return await self._entered(request, await self._seating.enter_by_link(token, self._door.client(request)))

    async def enter_by_share(self, request: web.Request) -> web.Response:
        """A share's link."""
        form = await self._door.form(request)
        token = Secret(form.get("token", ""))
        return await self._entered(request, await self._seating.enter_by_share(token, self._door.client(request)))

    async def shares(self, request: web.Request) -> web.Response:
        """The shares of the own seat."""
        return web.json_response(self._shares(await self._sharer(request)))

    async def share(self, request: web.Request) -> web.Response:
        """A new one, in `mode`."""
        session, form = await self._sharer(request), await self._door.form(request)
        if (mode := form.get("mode", "")) not in list(Mode):
            raise web.HTTPBadRequest(text=N_("mode: is one of view, control"))
        until = session.created + timedelta(hours=self._lobby.settings.seats.session_hours)
        found = await self._seating.share(session.seat, Mode(mode), until)
        if not isinstance(found, Secret):
            status, words = self._words(request, found, WRONG)
            return web.json_response({"error": words}, status=status)
        return web.json_response({"address": found.reveal(), "shares": self._shares(session)}, status=201)

    async def end_share_json(self, request: web.Request) -> web.Response:
        """End one; whoever came by it is out at once."""
        return web.json_response(self._shares(await self._end_share(request)))

    async def end_share(self, request: web.Request) -> web.Response:
        """The same, from a form."""
        await self._end_share(request)
        raise web.HTTPSeeOther(root(request))

    async def _end_share(self, request: web.Request) -> Session:
        session, form = await self._sharer(request), await self._door.form(request)
        if form.get("id") in {share.id for share, _ in self._seating.shares(session.seat)}:
            await self._seating.end_share(form["id"])
        return session

    async def _sharer(self, request: web.Request) -> Session:
        session = await self._door.participant(request)
        if session.share:
            raise web.HTTPForbidden(text=OWNERS)
        return session

    def _shares(self, session: Session) -> list[dict[str, object]]:
        return [
            {"id": share.id, "mode": share.mode, "expires": share.expires.timestamp(), "visitors": visitors}
            for share, visitors in self._seating.shares(session.seat)
        ]

    async def _ask(
        self, request: web.Request, after: str, *, status: int = 200, error: str = "", account: str = ""
    ) -> web.Response:
        people, life = self._lobby.participants, self._lobby.participants.life
        return await self._lobby.page(
            request,
            "sign-in.html",
            status=status,
            here=root(request) + (f"?next={quote(after)}&" if after else "?"),
            next=after,
            error=error,
            account=account,
            signs_up=self._lobby.settings.signup.enabled and people.signing_up.phase is not Phase.CLOSED,
            is_over=life is not None and life.is_over,
            has_files=people.takeaway is not None and life is not None and life.has_files,
        )

    async def _seat(self, request: web.Request, session: Session) -> web.Response:
        desk = self._seating.desk(session)
        card = self._lobby.card(desk.path) if desk else None
        own = self._own(session)
        return await self._lobby.page(
            request,
            "seat.html",
            seat=own,
            desk=self._desk(session),
            title=card.account.title if card else "",
            is_swapped=bool(own and desk and desk.name != own),
            is_view=session.mode is Mode.VIEW,
            shares=[(share, share.expires.astimezone(), came) for share, came in self._seating.shares(own)],
            has_files=self._lobby.participants.takeaway is not None,
        )

    async def _entered(self, request: web.Request, found: Entry | Refusal) -> web.Response:
        """What the script of a link's page is told."""
        if isinstance(found, Refusal):
            status, words = self._words(request, found, WRONG_LINK)
            return web.json_response({"error": words}, status=status)
        response = web.json_response({"next": root(request) + self._desk(found.session)})
        await self._let_in(request, response, found)
        return response

    async def _let_in(self, request: web.Request, response: web.Response, entry: Entry) -> None:
        """Give the browser the new session; one that it had before ends, so that nobody goes on with that."""
        if before := await self._door.session(request):
            await self._seating.sign_out(before)
        self._door.let_in(response, entry)

    def _desk(self, session: Session) -> str:
        """Where a session's desktop is, below the root; the root itself where there is none."""
        desk = self._seating.desk(session)
        return f"desk/{quote(desk.path, safe='')}/" if desk else ""

    def _own(self, session: Session | None) -> str:
        """The account of who is signed in on their own seat; else empty."""
        return session.seat if session and not session.share else ""

    def _words(self, request: web.Request, refusal: Refusal, wrong: str) -> tuple[int, str]:
        """A refusal as a status and in words."""
        wait = N_(
            "There were too many tries. Please try again in {seconds} s, or use your link.", seconds=_seconds(refusal)
        )
        status, text = {
            Reason.WRONG: (403, wrong),
            Reason.WAIT: (429, wait),
            Reason.BUSY: (503, BUSY),
            Reason.EXPIRED: (403, EXPIRED),
            Reason.FROZEN: (403, FROZEN),
            Reason.FULL: (403, FULL),
        }[refusal.reason]
        return status, request[LANGUAGE].of(text)


def _seconds(refusal: Refusal) -> int:
    return max(1, math.ceil(refusal.wait))
