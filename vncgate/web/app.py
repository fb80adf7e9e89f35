"""The web application: landing page, viewer pages, their files, and the API that keeps them current.

It serves no websocket: those are the engines'.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import web

from vncgate import catalogues, tasks
from vncgate.errors import LedgerError, SettingsError
from vncgate.forwarded import TrustedProxies
from vncgate.languages import N_
from vncgate.model import AccountStatus, DesktopStatus, Roster
from vncgate.people import Session
from vncgate.render.cards import Card, cards_now
from vncgate.render.headers import IMMUTABLE, REVALIDATE, STATIC_HEADERS, novnc_policy, policy
from vncgate.render.pages import Pages
from vncgate.render.reach import Reach
from vncgate.scrape import Handler
from vncgate.settings import Access, Settings
from vncgate.web import api, assets
from vncgate.web.desktops import DesktopDeeds, deeds
from vncgate.web.doorkeeper import NOT_YOURS, Doorkeeper, root
from vncgate.web.events import Events
from vncgate.web.lobby import Lobby
from vncgate.web.tongues import LANGUAGE, PAGES, Tongues

if TYPE_CHECKING:
    from vncgate.participants import Participants

log = logging.getLogger(__name__)

WRITE_TIMEOUT = 30.0
"""Seconds after which a listener that takes nothing is let go."""
POLICY = "Content-Security-Policy"
WORDS = {
    403: N_("This may not be read."),
    404: N_("There is no such page."),
    405: N_("This cannot be done with this address."),
}
"""What is said where a handler gave no words of its own."""
OUT_OF_ORDER = N_("This page is out of order. Please tell the organizers; the gate's log says more.")
"""What is said where a template of the site's own fails."""
AWAY = N_(
    "The gate cannot look up who sits where at the moment. Desktops that are open stay open. Please try again soon."
)
"""What is said where the ledger does not answer."""
NO_DESKTOP = N_("There is no desktop of this name. It may have been renamed or removed.")
AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
"""What a Host header may be (RFC 3986, section 3.2.2, without the exotic): it goes into a header of ours."""

PROXIED = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-server"})
"""Headers by which a request shows that a proxy passed it on; mod_proxy adds the last three."""


def build(
    *,
    settings: Settings,
    roster: Callable[[], Roster],
    statuses: Callable[[], Sequence[AccountStatus]],
    metrics: Handler | None = None,
    desktops: DesktopDeeds | None = None,
    participants: Participants | None = None,
) -> web.Application:
    """The application, for an aiohttp runner. `roster` and `statuses` give what is now, and must not block.

    `desktops` are those that the gate starts itself, if any; `roster` has their accounts also while they are not there.
    With `participants`, everybody signs in and sees their own desktop alone.
    `metrics`, where given, is for clients that ask us themselves, without a proxy.
    It reads templates and files at once, and blocks meanwhile. Raises SettingsError when the site's own
    templates, logo, style sheet or noVNC folder cannot be used, and ValueError where people are to sign in and
    there are no `participants`: all desktops would stand open.
    """
    if settings.access is Access.SEAT and participants is None:
        raise ValueError('access = "seat", and nobody who could let people in')
    site = Site(settings, roster, statuses, desktops, participants)
    app = web.Application(middlewares=[site.tongues.choose, site.in_plain_words])
    app.on_response_prepare.append(site.add_headers)
    app.on_shutdown.append(site.end_streams)
    app.cleanup_ctx.append(site.sampler)
    if site.lobby is None:
        app.router.add_get("/", site.landing)
    else:
        _add_rooms(app, site.lobby)
    app.router.add_get("/desk/{path}", site.desk)
    app.router.add_get("/desk/{path}/", site.desk)  # as the static export has it
    app.router.add_get("/api/accounts", site.accounts)
    app.router.add_get("/api/accounts/{path}", site.account)
    app.router.add_get("/api/events", site.events, allow_head=False)
    if desktops is not None:
        app.router.add_post(
            "/api/desktops/{path}/{deed:visit|start|stay}", site.of_owners(deeds(desktops, settings, site.card))
        )
    api.add(app, settings, roster, statuses, desktops, participants.organizing if participants else None)
    app.router.add_get("/static/{edition:[0-9a-f]{16}}/{name:.+}", site.static)
    app.router.add_get("/healthz", site.health)
    if metrics is not None:
        app.router.add_get("/metrics", unless_proxied(metrics))
    if settings.landing.novnc_dir is not None:
        if not (settings.landing.novnc_dir / "vnc.html").is_file():
            raise SettingsError(f"landing.novnc_dir: there is no vnc.html in {settings.landing.novnc_dir}")
        app.router.add_static("/novnc", settings.landing.novnc_dir, follow_symlinks=True)
    return app


def _add_rooms(app: web.Application, lobby: Lobby) -> None:
    """The pages of those who take part. They are imported here, as the database and argon2 come with them."""
    from vncgate.web import organizer, sign_in, sign_up, viewer_notes

    sign_in.add(app, lobby)
    organizer.add(app, lobby)
    sign_up.add(app, lobby)
    viewer_notes.add(app, lobby)
    if takeaway := lobby.participants.takeaway:
        from vncgate.web import files

        files.add(app, lobby, takeaway)


def unless_proxied(handler: Handler) -> Handler:
    """The handler, hidden from whatever a proxy passes on: that may come from anybody on the Internet."""

    async def direct(request: web.Request) -> web.StreamResponse:
        if any(name.lower() in PROXIED for name in request.headers):
            raise web.HTTPNotFound
        return await handler(request)

    return direct


class Site:
    """The handlers, and what they share."""

    def __init__(
        self,
        settings: Settings,
        roster: Callable[[], Roster],
        statuses: Callable[[], Sequence[AccountStatus]],
        desktops: DesktopDeeds | None,
        participants: Participants | None,
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._statuses = statuses
        self._desktops = desktops
        self._door = Doorkeeper(settings, participants.seating, participants.key) if participants else None
        self.lobby = Lobby(settings, participants, self._door, self.card) if participants and self._door else None
        """What the pages of those who take part stand on."""
        languages = catalogues.load(settings.languages)
        self._assets = assets.load(settings.landing, languages)
        self._pages = Pages(settings.landing, assets.bodies(self._assets), languages)
        self.tongues = Tongues(languages, self._pages)
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._events = Events(self.cards)

    def cards(self) -> Mapping[str, Card]:
        """What participants are told of every account now, by path."""
        return self._cards(self._roster(), self._statuses(), self._desktops.statuses() if self._desktops else [])

    def card(self, path: str) -> Card | None:
        """The same of one account alone: hundreds may ask at once, each for its own."""
        if (account := self._roster().by_path.get(path)) is None:
            return None
        proxies = [status for status in self._statuses() if status.name == account.name]
        desktop = self._desktops.status(account.name) if self._desktops else None
        return self._cards(Roster((account,)), proxies, [desktop] if desktop else [])[path]

    def _cards(
        self, roster: Roster, proxies: Sequence[AccountStatus], desktops: Sequence[DesktopStatus]
    ) -> Mapping[str, Card]:
        why_closed = self.lobby.participants.closed if self.lobby else lambda _: ""
        return cards_now(time.time(), self._settings.desktops, why_closed, roster, proxies, desktops)

    async def landing(self, request: web.Request) -> web.Response:
        """The landing page."""
        return _page(request[PAGES].landing(self.cards().values(), self._reach(request)))

    async def desk(self, request: web.Request) -> web.Response:
        """The viewer page of one account; only it may open that account's websocket."""
        path = request.match_info["path"]
        session = await _seated(self._door, request, path) if self._door else None
        card = self.card(path)
        if card is None:
            raise web.HTTPNotFound(text=NO_DESKTOP)
        reach = self._reach(request)
        response = web.Response(content_type="text/html", charset="utf-8")
        token = self._door.form_token(request, response) if self._door else ""
        pages = request[PAGES]
        has_files = self.lobby is not None and self.lobby.participants.takeaway is not None
        response.text = pages.desk(
            card, reach, root=root(request), session=session, form_token=token, has_files=has_files
        )
        response.headers[POLICY] = policy(reach.origins(card.account))
        return response

    async def accounts(self, request: web.Request) -> web.Response:
        """All accounts and their state; to who signs in, their own."""
        if self._door:
            card = self.card(await self._door.own_path(request))
            return web.json_response([card.public(request[LANGUAGE])] if card else [])
        return web.json_response([card.public(request[LANGUAGE]) for card in self.cards().values()])

    async def account(self, request: web.Request) -> web.Response:
        """One account and its state."""
        if self._door and (own := await self._door.own_path(request)) != request.match_info["path"]:
            return web.json_response({"error": NOT_YOURS, "desk": own}, status=404)
        card = self.card(request.match_info["path"])
        if card is None:
            raise web.HTTPNotFound(text=N_("there is no such account"))
        return web.json_response(card.public(request[LANGUAGE]))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The stream of changes, of all accounts or with ?path= of one. Ends when the browser goes, when it takes
        nothing any more, or at shutdown.
        """
        path = request.query.get("path", "")
        if self._door:
            path = path or await self._door.own_path(request)
            await self._door.at_desk(request, path)
        # X-Accel-Buffering is nginx's; Apache passes on what it gets.
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        listening = self._events.listen(path, request[LANGUAGE])
        async with contextlib.aclosing(listening) as messages:
            try:
                await response.prepare(request)
                async for message in messages:
                    if self._door:
                        await self._door.at_desk(request, path)
                    async with asyncio.timeout(WRITE_TIMEOUT):
                        await response.write(message)
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()
            except (ConnectionError, LedgerError, web.HTTPException):
                pass  # the browser went, or asks again, and is told then: it was signed out, or sees another desktop
        return response

    async def static(self, request: web.Request) -> web.Response:
        """A file, as it is now: at an edition's own address for good, else for a page of an older edition."""
        current = self._pages.edition
        asset = self._assets.get(request.match_info["name"])
        if asset is None:
            raise web.HTTPNotFound(text=N_("There is no such file."))
        response = web.Response(body=asset.body, content_type=asset.media_type)
        if asset.media_type.startswith(("text/", "image/svg")):
            response.charset = "utf-8"
        if request.if_none_match and any(tag.value in (current, "*") for tag in request.if_none_match):
            response = web.Response(status=304)
        response.etag = current
        response.headers["Cache-Control"] = IMMUTABLE if request.match_info["edition"] == current else REVALIDATE
        return response

    async def health(self, _: web.Request) -> web.Response:
        """For the health checks of proxies and monitors."""
        return web.Response(text="ok\n")

    @web.middleware
    async def in_plain_words(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Errors as a page that a participant understands, or as JSON where a program asked."""
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            text = error.text or ""
            if text == f"{error.status}: {error.reason}":
                text = WORDS.get(error.status, N_("The gate says: {reason}.", reason=error.reason))
            response = self._error(request, error.status, text)
            if "Allow" in error.headers:  # RFC 9110, section 15.5.6
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except SettingsError as error:
            log.error("%s", error)
            return self._error(request, 500, OUT_OF_ORDER)
        except LedgerError as error:
            log.error("%s", error)
            return self._error(request, 503, AWAY)

    def of_owners(self, handler: Handler) -> Handler:
        """A handler of {path}, for the owner of the seat that shows it alone, where people sign in."""

        async def owned(request: web.Request) -> web.StreamResponse:
            if self._door:
                await self._door.owner(request, request.match_info["path"])
            return await handler(request)

        return owned

    def _error(self, request: web.Request, status: int, text: str) -> web.Response:
        words = request[LANGUAGE]
        text = words.of(text)
        if request.path.startswith("/api/"):
            return web.json_response({"error": text}, status=status)
        title = words.of(N_("Not found") if status == 404 else N_("That did not work"))
        try:
            return _page(request[PAGES].error(title, text, root=root(request)), status)
        except SettingsError as error:  # the site's own frame is what is broken
            log.error("%s", error)
            return web.Response(text=f"{text}\n", status=status)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """The headers that every answer has."""
        for name, value in STATIC_HEADERS.items():
            response.headers.setdefault(name, value)
        if request.path.startswith("/novnc/"):
            response.headers[POLICY] = novnc_policy(self._reach(request).origins())
        is_kept = not request.path.startswith("/api/") and (self._door is None or request.path.startswith("/static/"))
        response.headers.setdefault("Cache-Control", REVALIDATE if is_kept else "no-store")

    async def sampler(self, _: web.Application) -> AsyncIterator[None]:
        """The one task that looks at the accounts for all listeners."""
        task = tasks.spawn(self._events.run(), "web sampler")
        yield
        await tasks.end(task)

    async def end_streams(self, _: web.Application) -> None:
        """End the streams, so that a shutdown waits for none of them."""
        await self._events.close()

    def _reach(self, request: web.Request) -> Reach:
        """How this request came. The last X-Forwarded-Host is the one that our own proxy wrote (mod_proxy)."""
        forwarded = request.headers.getall("X-Forwarded-Host", [])
        fronted = bool(forwarded) and self._proxies.trusts(request.remote or "")
        authority = forwarded[-1].rpartition(",")[2].strip() if fronted else request.host
        return Reach(self._settings, fronted, authority if AUTHORITY.fullmatch(authority) else "")


def _page(html: str, status: int = 200) -> web.Response:
    return web.Response(text=html, content_type="text/html", status=status)


async def _seated(door: Doorkeeper, request: web.Request, path: str) -> Session:
    """Whose desktop it is. All others are led to their own or to signing in, whether there is such a desktop or not."""
    try:
        return await door.at_desk(request, path)
    except web.HTTPUnauthorized:
        raise web.HTTPSeeOther(f"{root(request)}?next=desk/{quote(path, safe='')}/") from None
    except web.HTTPNotFound:
        own = await door.own_path(request)
        raise web.HTTPSeeOther(root(request) + (f"desk/{quote(own, safe='')}/" if own else "")) from None
