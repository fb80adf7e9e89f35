"""The REST API, below /api/v1: a portal starts, watches and ends desktops with it. docs/api.md is its manual.

A *session* is the desktop of one account that the gate starts itself, whether it runs or not. Errors are problem
details (RFC 9457); the API's own description is /api/v1/openapi.json. It has no CORS headers: it is for servers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from vncgate import tasks
from vncgate.desktop_choice import Choice, choose_other
from vncgate.desktop_words import lines_asked
from vncgate.errors import GivenError, LaunchError, LedgerError, UnknownError, VncgateError
from vncgate.forwarded import TrustedProxies
from vncgate.grants import Grant, Scope
from vncgate.kinds import Kind
from vncgate.launchers.base import DesktopCommands
from vncgate.model import AccountStatus, DesktopStatus, Roster
from vncgate.render.status import launched
from vncgate.scrape import Handler
from vncgate.settings import Settings
from vncgate.web.bearer import ACCOUNT, Bearers
from vncgate.web.events import HEARTBEAT, INTERVAL, message

if TYPE_CHECKING:
    from vncgate.organizing import Organizing

LARGEST = 16384
"""Bytes of a request's content."""
WRITE_TIMEOUT = 30.0
"""Seconds after which a listener that takes nothing is let go."""
NOT_THERE = "there is no such session"
"""The same words where there is none and where the token is not good for it: it tells nothing of other accounts."""
KEPT_HEADERS = ("Allow", "WWW-Authenticate")

MOST_STREAMS = 100
"""Streams of changes that may be open at the same time: a portal needs one."""

Session = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Look:
    """What there is, for all who listen: the tokens, and all sessions by account."""

    grants: Sequence[Grant]
    sessions: Mapping[str, Session]


def add(
    app: web.Application,
    settings: Settings,
    roster: Callable[[], Roster],
    statuses: Callable[[], Sequence[AccountStatus]],
    desktops: DesktopCommands | None,
    organizing: Organizing | None = None,
) -> None:
    """Add the API to the pages, if the settings name its tokens; seats and people too, where there are some."""
    if settings.api.tokens is None or desktops is None:
        return
    api = Api(settings, roster, statuses, desktops)
    bearers = Bearers(settings.api.tokens, TrustedProxies(settings.trusted_proxies))
    sub = web.Application(middlewares=[in_problems])
    sub.on_shutdown.append(api.end_streams)
    sub.router.add_get("/openapi.json", api.description)
    sub.router.add_get("/kinds", bearers.only(Scope.READ, api.kinds, aloud=False))
    sub.router.add_get("/sessions", bearers.only(Scope.READ, api.all, aloud=False))
    sub.router.add_post("/sessions", bearers.only(Scope.WRITE, api.start))
    sub.router.add_get("/sessions/{account}", bearers.only(Scope.READ, api.one, aloud=False))
    sub.router.add_delete("/sessions/{account}", bearers.only(Scope.WRITE, api.stop))
    sub.router.add_post("/sessions/{account}/restart", bearers.only(Scope.WRITE, api.restart))
    sub.router.add_get("/sessions/{account}/logs", bearers.only(Scope.READ, api.logs))
    sub.router.add_get("/events", bearers.only(Scope.READ, api.events(bearers)), allow_head=False)
    if organizing is not None:
        from vncgate.web import seats_api

        seats_api.add(sub, bearers, organizing)
    app.add_subapp("/api/v1", sub)


@web.middleware
async def in_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as problem details."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        words = "" if error.text == f"{error.status}: {error.reason}" else error.text or ""
        headers = {name: error.headers[name] for name in KEPT_HEADERS if name in error.headers}
        return problem(error.status, words, headers)
    except UnknownError as error:
        return problem(HTTPStatus.NOT_FOUND, str(error))
    except GivenError as error:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    except (LaunchError, LedgerError) as error:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    except VncgateError as error:
        return problem(HTTPStatus.CONFLICT, str(error))


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error, in the form of RFC 9457."""
    said = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return web.json_response(
        said | ({"detail": detail} if detail else {}),
        status=status,
        headers=headers,
        content_type="application/problem+json",
    )


class Api:
    """The handlers. Each gets the grant of whoever asks."""

    def __init__(
        self,
        settings: Settings,
        roster: Callable[[], Roster],
        statuses: Callable[[], Sequence[AccountStatus]],
        desktops: DesktopCommands,
    ) -> None:
        self._settings = settings.desktops
        self._offered = settings.api.kinds
        self._roster = roster
        self._statuses = statuses
        self._desktops = desktops
        self._closing = asyncio.Event()
        self._looking: asyncio.Task[Look | None] | None = None
        self._streams = 0
        self._description = (resources.files(__package__) / "openapi.json").read_bytes()

    async def description(self, _: web.Request) -> web.Response:
        """What the API can do, for programs; it tells nothing of this gate, and needs no token."""
        return web.Response(body=self._description, content_type="application/json")

    async def kinds(self, _: web.Request, __: Grant) -> web.Response:
        """What a session can be started as, beside what the token file says of its account."""
        return web.json_response({"kinds": [_offer(name, self._settings.kinds[name]) for name in self._offered]})

    async def all(self, _: web.Request, grant: Grant) -> web.Response:
        """All sessions that the token is good for."""
        return web.json_response({"sessions": list(self._sessions(grant).values())})

    async def one(self, request: web.Request, grant: Grant) -> web.Response:
        """One session."""
        return web.json_response(self._session(request.match_info["account"], grant))

    async def start(self, request: web.Request, grant: Grant) -> web.Response:
        """Start the session of an account; of one that is there already, this changes nothing."""
        asked = await _content(request)
        name = request[ACCOUNT] = asked["account"]
        self._session(name, grant)
        if "kind" in asked or "size" in asked:
            choice = self._choice(name, asked.get("kind", ""), asked.get("size", ""))
            await self._desktops.start_as(name, choice.name, choice.size)
        else:
            await self._desktops.start_desktops([name])
        response = self._accepted(name, grant)
        response.headers["Location"] = str(request.rel_url / quote(name, safe=""))
        return response

    async def stop(self, request: web.Request, grant: Grant) -> web.Response:
        """End a session."""
        name = request.match_info["account"]
        self._session(name, grant)
        await self._desktops.stop_desktops([name])
        return self._accepted(name, grant)

    async def restart(self, request: web.Request, grant: Grant) -> web.Response:
        """End a session and start it anew."""
        name = request.match_info["account"]
        self._session(name, grant)
        await self._desktops.restart_desktops([name])
        return self._accepted(name, grant)

    async def logs(self, request: web.Request, grant: Grant) -> web.Response:
        """The end of what a session wrote."""
        name = request.match_info["account"]
        self._session(name, grant)
        try:
            lines = lines_asked(request.query.get("lines", "200"))
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"lines: {error}") from None
        return web.json_response({"account": name, "log": await self._desktops.logs(name, lines)})

    def events(self, bearers: Bearers) -> Callable[[web.Request, Grant], Any]:
        """The handler of the stream of changes. It ends when the token is revoked, too. All streams share one look a
        second at sessions and tokens.
        """

        async def stream(request: web.Request, grant: Grant) -> web.StreamResponse:
            if self._streams >= MOST_STREAMS:
                raise web.HTTPServiceUnavailable(text=f"{MOST_STREAMS} streams are open, and no more may be")
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
            self._streams += 1
            try:
                await response.prepare(request)
                seen = self._sessions(grant)
                await _send(response, message("sessions", list(seen.values())))
                silent = 0.0
                while look := await self._next_look(bearers):
                    grant = await bearers.grant(request, look.grants)
                    now = _only(look.sessions, grant) if Scope.READ in grant.scopes else {}
                    silent = silent + INTERVAL if now == seen else 0.0
                    if now != seen:
                        await _send(response, message("change", _difference(seen, now)))
                        seen = now
                    elif silent >= HEARTBEAT:
                        silent = 0.0
                        await _send(response, b": still here\n\n")
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()
            except (ConnectionError, web.HTTPException):
                pass  # the listener went, or must go
            finally:
                self._streams -= 1
            return response

        return stream

    async def end_streams(self, _: web.Application) -> None:
        """End the streams, so that a shutdown waits for none of them."""
        self._closing.set()
        if self._looking is not None:
            await asyncio.wait([self._looking])

    async def _next_look(self, bearers: Bearers) -> Look | None:
        """The next look, which all who wait share; None: no more to come."""
        if self._looking is None or self._looking.done():
            work = self._look_later(bearers)
            self._looking = tasks.spawn(work, "look at sessions", expected=web.HTTPException)
        return await asyncio.shield(self._looking)

    async def _look_later(self, bearers: Bearers) -> Look | None:
        try:
            async with asyncio.timeout(INTERVAL):
                await self._closing.wait()
        except TimeoutError:
            return Look(await bearers.grants(), self._all_sessions())
        return None

    def _choice(self, name: str, kind: str, size: str) -> Choice:
        try:
            return choose_other(self._settings, self._offered, self._roster()[name], kind, size)
        except LaunchError as error:
            raise web.HTTPUnprocessableEntity(text=str(error)) from None

    def _all_sessions(self) -> dict[str, Session]:
        roster = self._roster()
        proxies = {status.name: status for status in self._statuses()}
        return {
            status.account: _public(status, roster, proxies)
            for status in self._desktops.statuses()
            if status.account in roster
        }

    def _sessions(self, grant: Grant) -> dict[str, Session]:
        return _only(self._all_sessions(), grant)

    def _session(self, name: str, grant: Grant) -> Session:
        session = self._sessions(grant).get(name)
        if session is None:
            raise web.HTTPNotFound(text=NOT_THERE)
        return session

    def _accepted(self, name: str, grant: Grant) -> web.Response:
        """The session as it is now, on its way to what was asked for (RFC 9110, section 15.3.3)."""
        return web.json_response(self._session(name, grant), status=HTTPStatus.ACCEPTED)


def _public(status: DesktopStatus, roster: Roster, proxies: Mapping[str, AccountStatus]) -> Session:
    """A session, as the API tells it: nothing of where the VNC server listens, and no password."""
    account, proxy = roster[status.account], proxies.get(status.account)
    told = {name: value for name, value in launched(status).items() if name != "desktop"}
    return told | {
        "title": account.title,
        "viewer": f"desk/{quote(account.path, safe='')}",
        "connections": proxy.traffic.connections if proxy else 0,
    }


def _offer(name: str, kind: Kind) -> dict[str, Any]:
    return {"name": name, "title": kind.title or name, "sizes": list(kind.sizes), "size": kind.size}


async def _content(request: web.Request) -> dict[str, str]:
    """The content of a request for a session: `account`, and maybe `kind` and `size`."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send application/json")
    content = b""
    async for chunk in request.content.iter_any():
        content += chunk
        if len(content) > LARGEST:
            raise web.HTTPRequestEntityTooLarge(LARGEST, len(content), text=f"send at most {LARGEST} bytes")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="the content is not JSON") from None
    is_known = isinstance(body, dict) and {"account"} <= body.keys() <= {"account", "kind", "size"}
    if not is_known or not all(isinstance(value, str) and value for value in body.values()):
        raise web.HTTPBadRequest(text='send {"account": "NAME"}, with "kind" and "size" or without, and nothing else')
    if any("\ud800" <= character <= "\udfff" for value in body.values() for character in value):
        raise web.HTTPUnprocessableEntity(text="the content has half a character: a surrogate without its other half")
    return {name: str(value) for name, value in body.items()}


def _only(sessions: Mapping[str, Session], grant: Grant) -> dict[str, Session]:
    """Those that a token is good for."""
    return {name: session for name, session in sessions.items() if grant.concerns(name)}


def _difference(before: Mapping[str, Session], after: Mapping[str, Session]) -> dict[str, Any]:
    changed = [session for name, session in after.items() if before.get(name) != session]
    return {"changed": changed, "removed": [name for name in before if name not in after]}


async def _send(response: web.StreamResponse, text: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT):
        await response.write(text)
