"""The organizer's pages: who sits where, sign-ups and the waiting list, the audit log.

An organizer shows an API token with the scope `organize`, once, in a form; from then on it is a session. Each request
looks whether the token still stands in its file: whoever revokes it ends the session. What is done is done by
`organizing.Organizing`, under the token's name.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import segno
from aiohttp import web

from vncgate import tasks
from vncgate.engines.limits import neighbourhood
from vncgate.errors import GivenError, VncgateError
from vncgate.forwarded import TrustedProxies
from vncgate.grants import Grant, Scope, find
from vncgate.guessing import Guessing
from vncgate.languages import N_, Words
from vncgate.model import Secret
from vncgate.people import Session, Standing
from vncgate.people_csv import LARGEST, audit
from vncgate.scrape import Handler
from vncgate.seat_table import SeatRow
from vncgate.web import audit_words
from vncgate.web.bearer import Bearers
from vncgate.web.doorkeeper import LARGEST_FORM, root
from vncgate.web.events import HEARTBEAT, message
from vncgate.web.lobby import Lobby
from vncgate.web.tongues import LANGUAGE

INTERVAL = 2.0
"""Seconds between two looks at the seats, for all organizers together."""
WRITE_TIMEOUT = 30.0
"""Seconds after which a page that takes nothing is let go."""
MOST_STREAMS = 50
"""Organizers' pages that may be kept current at the same time."""
SHOWN = 500
"""Entries of the audit log on its page."""

Guarded = Callable[[web.Request, Session], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Look:
    """What there is, for all who look."""

    grants: tuple[Grant, ...]
    rows: Mapping[str, SeatRow]


def add(app: web.Application, lobby: Lobby) -> None:
    """Put these pages into the application, if the settings name the file of the tokens that open them."""
    if lobby.settings.api.tokens is None:
        return
    pages = OrganizersPages(lobby, Bearers(lobby.settings.api.tokens, TrustedProxies(lobby.settings.trusted_proxies)))
    app.on_shutdown.append(pages.end_streams)
    app.router.add_get("/organizer", pages.only(pages.seats))
    app.router.add_get("/organizer/waiting", pages.only(pages.waiting))
    app.router.add_get("/organizer/people", pages.only(pages.people))
    app.router.add_get("/organizer/audit", pages.only(pages.audit))
    app.router.add_get("/organizer/people.csv", pages.only(pages.people_table))
    app.router.add_get("/organizer/audit.csv", pages.only(pages.audit_table))
    app.router.add_get("/organizer/events", pages.only(pages.events), allow_head=False)
    app.router.add_post("/organizer/seats/{deed}", pages.deed(pages.do_to_seats))
    app.router.add_post("/organizer/people/{deed}", pages.deed(pages.do_to_people))
    app.router.add_get("/organizer/sign-in", pages.sign_in)
    app.router.add_post("/organizer/sign-in", pages.signed_in)
    app.router.add_post("/organizer/sign-out", pages.sign_out)


class OrganizersPages:
    """The handlers, and what they share."""

    def __init__(self, lobby: Lobby, bearers: Bearers) -> None:
        self._lobby = lobby
        self._organizing = lobby.participants.organizing
        self._seating = lobby.participants.seating
        self._doorkeeper = lobby.doorkeeper
        self._bearers = bearers
        self._guessing = Guessing()
        self._closing = asyncio.Event()
        self._looking: asyncio.Task[Look | None] | None = None
        self._streams = 0

    # ---- who comes in

    async def sign_in(self, request: web.Request) -> web.Response:
        """The form that takes a token."""
        return await self._lobby.page(request, "organizer_sign_in.html", trouble="")

    async def signed_in(self, request: web.Request) -> web.StreamResponse:
        """A token was shown: it becomes a session, or the form comes again."""
        token = Secret((await self._doorkeeper.form(request)).get("token", "").strip())
        client = neighbourhood(self._doorkeeper.client(request))
        now = asyncio.get_running_loop().time()
        # Nobody guesses 256 bits; this keeps the log and the file's readers from who tries. It is each client's own.
        if wait := self._guessing.attempt(client, client, now):
            words = N_("Please wait {seconds} s before the next try.", seconds=int(wait) + 1)
            return await self._lobby.page(request, "organizer_sign_in.html", trouble=words, status=429)
        grant = find(await self._bearers.grants(), token)
        if grant is None or Scope.ORGANIZE not in grant.scopes:
            words = N_("This token is not one of an organizer, or it was revoked.")
            return await self._lobby.page(request, "organizer_sign_in.html", trouble=words, status=403)
        self._guessing.succeeded(client, client)
        response = web.HTTPSeeOther(root(request) + "organizer")
        self._doorkeeper.let_in(response, await self._seating.begin_as_organizer(grant.name))
        raise response

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """End this session."""
        await self._doorkeeper.form(request)
        if session := await self._doorkeeper.session(request):
            await self._seating.sign_out(session)
        response = web.HTTPSeeOther(root(request) + "organizer/sign-in")
        self._doorkeeper.let_out(response)
        raise response

    def only(self, handler: Guarded) -> Handler:
        """The handler for organizers whose token is still good."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            session = await self._doorkeeper.organizer(request)
            if not _is_good(session, await self._bearers.grants()):
                await self._seating.sign_out(session)
                await self._doorkeeper.organizer(request)  # who has no session any more
            response = await handler(request, session)
            if not response.prepared:
                response.headers["Cache-Control"] = "no-store"  # people's names, and forms
            return response

        return guarded

    def deed(self, handler: Guarded) -> Handler:
        """The same for what a page's script posts: every answer is JSON, in words for the page."""
        guarded = self.only(handler)

        async def done(request: web.Request) -> web.StreamResponse:
            words = request[LANGUAGE]
            try:
                return await guarded(request)
            except GivenError as error:
                _, *told = str(error).splitlines()
                return web.json_response({"error": words.of(error.args[0]), "problems": told}, status=422)
            except VncgateError as error:
                return web.json_response({"error": words.of(error.args[0])}, status=409)
            except web.HTTPException as error:
                return web.json_response({"error": words.of(error.text or "")}, status=error.status)

        return done

    # ---- what is seen

    async def seats(self, request: web.Request, session: Session) -> web.Response:
        """Who sits where, kept current by the stream."""
        return await self._lobby.page(request, "organizer.html", organizer=session.organizer, tab="seats")

    async def waiting(self, _: web.Request, __: Session) -> web.Response:
        """Who waits for a seat, in their order: for who is about to give one."""
        people = await self._organizing.people()
        waiting = [{"id": each.id, "name": each.name} for each in people if each.standing is Standing.WAITING]
        return web.json_response({"waiting": waiting})

    async def people(self, request: web.Request, session: Session) -> web.Response:
        """Sign-ups and the waiting list."""
        people = await self._organizing.people()
        return await self._lobby.page(
            request, "organizer_people.html", organizer=session.organizer, tab="people", people=people
        )

    async def audit(self, request: web.Request, session: Session) -> web.Response:
        """Who did what."""
        entries, words = await self._organizing.audit(SHOWN), request[LANGUAGE]
        told = [(entry, audit_words.said(entry.what, words)) for entry in entries]
        return await self._lobby.page(
            request, "organizer_audit.html", organizer=session.organizer, tab="audit", entries=told
        )

    async def people_table(self, _: web.Request, session: Session) -> web.Response:
        """Everybody, as CSV."""
        return _table("people", await self._organizing.export(session.organizer))

    async def audit_table(self, _: web.Request, __: Session) -> web.Response:
        """The audit log, as CSV."""
        return _table("audit", audit(await self._organizing.audit(100_000)))

    async def events(self, request: web.Request, session: Session) -> web.StreamResponse:
        """The stream of seats: `seats` with all of them, then `change` with what is new in those that changed."""
        if self._streams >= MOST_STREAMS:
            raise web.HTTPServiceUnavailable(text=N_("Too many pages of organizers are open."))
        words = request[LANGUAGE]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        self._streams += 1
        try:
            await response.prepare(request)
            seen = {row.account: row for row in await self._organizing.seats()}
            await _send(response, message("seats", [_told(row, words) for row in seen.values()]))
            silent = 0.0
            while (look := await self._next_look()) and await self._stays(request, session, look):
                silent += INTERVAL
                if look.rows != seen:
                    await _send(response, message("change", _difference(seen, look.rows, words)))
                    seen, silent = dict(look.rows), 0.0
                elif silent >= HEARTBEAT:
                    await _send(response, b": still here\n\n")
                    silent = 0.0
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except (ConnectionError, VncgateError, web.HTTPException):
            pass  # the page went, or asks again, and is told then
        finally:
            self._streams -= 1
        return response

    async def end_streams(self, _: web.Application) -> None:
        """End the streams, so that a shutdown waits for none of them."""
        self._closing.set()
        if self._looking is not None:
            await asyncio.wait([self._looking])

    async def _stays(self, request: web.Request, session: Session, look: Look) -> bool:
        """Whether the session of a stream still holds."""
        return _is_good(session, look.grants) and await self._doorkeeper.session(request) is not None

    async def _next_look(self) -> Look | None:
        """The next look, which all who wait share; None: no more to come."""
        if self._looking is None or self._looking.done():
            expected = (web.HTTPException, VncgateError)
            self._looking = tasks.spawn(self._look_later(), "look at seats", expected=expected)
        return await asyncio.shield(self._looking)

    async def _look_later(self) -> Look | None:
        try:
            async with asyncio.timeout(INTERVAL):
                await self._closing.wait()
        except TimeoutError:
            rows = {row.account: row for row in await self._organizing.seats()}
            return Look(await self._bearers.grants(), rows)
        return None

    # ---- what is done

    async def do_to_seats(self, request: web.Request, session: Session) -> web.Response:
        """One deed, to the seats of the fields `account`."""
        fields = await self._doorkeeper.form(request)
        given = {name: value for name, value in fields.items() if name not in ("account", "form_token")}
        names = fields.getall("account", [])
        if not names:
            raise GivenError(N_("{field} is missing", field="account"))
        done = await self._organizing.do(request.match_info["deed"], names, given, session.organizer)
        answer = done.to_json(request[LANGUAGE])
        if "link" in answer:
            answer["qr"] = segno.make(answer["link"], error="m").svg_data_uri(
                scale=5, border=4, dark="#000", light="#fff"
            )
        return web.json_response(answer)

    async def do_to_people(self, request: web.Request, session: Session) -> web.Response:
        """One deed, to the person of the field `person`; or somebody new; or a table of people."""
        deed, words = request.match_info["deed"], request[LANGUAGE]
        fields = await self._doorkeeper.form(request, LARGEST * 3 // 2 if deed == "import" else LARGEST_FORM)
        given = {name: value for name, value in fields.items() if name not in ("person", "form_token")}
        if deed == "add":
            done = await self._organizing.add(given, session.organizer)
        elif deed == "import":
            done = await self._organizing.take_in(_content(given.get("table", "")), session.organizer)
        else:
            done = await self._organizing.do_to_person(deed, fields.get("person", ""), given, session.organizer)
        return web.json_response(done.to_json(words))


def _is_good(session: Session, grants: tuple[Grant, ...]) -> bool:
    """Whether the token that opened a session still stands: that one, not a later one of the same name."""
    return any(
        grant.name == session.organizer and Scope.ORGANIZE in grant.scopes and grant.created <= session.created
        for grant in grants
    )


def _told(row: SeatRow, words: Words) -> dict[str, Any]:
    """A seat, as a page shows it: `label` and `reason` in its language."""
    return row.to_json(names=True) | {"label": words.of(row.state), "reason": words.of(row.reason)}


def _difference(before: Mapping[str, SeatRow], after: Mapping[str, SeatRow], words: Words) -> dict[str, Any]:
    """What is new: of a seat that was there only the fields that differ."""
    changed = []
    for account, row in after.items():
        if (old := before.get(account)) != row:
            now = _told(row, words)
            known = _told(old, words) if old else {}
            changed.append({name: now[name] for name in now if name == "account" or now[name] != known.get(name, ...)})
    return {"changed": changed, "removed": [account for account in before if account not in after]}


def _content(table: str) -> bytes:
    try:
        return base64.b64decode(table, validate=True)
    except ValueError:  # binascii.Error is one; so is what is not ASCII
        raise GivenError(N_("{field} is missing", field="table")) from None


def _table(name: str, text: str) -> web.Response:
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    headers = {"Content-Disposition": f'attachment; filename="{name}-{day}.csv"'}
    return web.Response(text=text, content_type="text/csv", charset="utf-8", headers=headers)


async def _send(response: web.StreamResponse, text: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT):
        await response.write(text)
