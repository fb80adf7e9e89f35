"""Seats and people in the REST API, below /api/v1: what the organizer's page does, for programs.

It takes tokens with the scope `organize`. A deed is the same word here, on the page and in `vncgate seats`.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from aiohttp import web

from vncgate.grants import Grant, Scope
from vncgate.organizing import ENGLISH, Organizing
from vncgate.people_csv import LARGEST, audit
from vncgate.web.bearer import Bearers

LARGEST_DEED = 16384
"""Bytes of what is given for a deed."""
MOST_ENTRIES = 100_000
"""Entries of the audit log that are told at most."""


def add(app: web.Application, bearers: Bearers, organizing: Organizing) -> None:
    """Add these calls to the API."""
    api = SeatsApi(organizing)
    calls = {
        ("GET", "/seats"): api.seats,
        ("POST", "/seats/{account}/{deed}"): api.do,
        ("GET", "/people"): api.people,
        ("POST", "/people"): api.add,
        ("POST", "/people/{person}/{deed}"): api.do_to_person,
        ("GET", "/people.csv"): api.export,
        ("PUT", "/people.csv"): api.take_in,
        ("GET", "/audit"): api.audit,
        ("GET", "/audit.csv"): api.audit_table,
    }
    for (method, path), handler in calls.items():
        app.router.add_route(method, path, bearers.only(Scope.ORGANIZE, handler, aloud=method != "GET"))


class SeatsApi:
    """The handlers. Each gets the grant of whoever asks: its name stands in the audit log."""

    def __init__(self, organizing: Organizing) -> None:
        self._organizing = organizing

    async def seats(self, request: web.Request, grant: Grant) -> web.Response:
        """Who sits where; with ?names=1 what they are called."""
        seats = await self._organizing.answer("seats", (), _wish(request), grant.name)
        return web.json_response({"seats": seats})

    async def do(self, request: web.Request, grant: Grant) -> web.Response:
        """One deed, to a seat, or to those that a pattern names."""
        given, name = await _given(request), request.match_info["account"]
        done = await self._organizing.do(request.match_info["deed"], [name], given, grant.name)
        return web.json_response(done.to_json(ENGLISH))

    async def people(self, request: web.Request, grant: Grant) -> web.Response:
        """Sign-ups and the waiting list; with ?names=1 who they are."""
        people = await self._organizing.answer("people", (), _wish(request), grant.name)
        return web.json_response({"people": people})

    async def add(self, request: web.Request, grant: Grant) -> web.Response:
        """Somebody new."""
        done = await self._organizing.add(await _given(request), grant.name)
        return web.json_response(done.to_json(ENGLISH), status=HTTPStatus.CREATED)

    async def do_to_person(self, request: web.Request, grant: Grant) -> web.Response:
        """One deed, to somebody."""
        given, person = await _given(request), request.match_info["person"]
        done = await self._organizing.do_to_person(request.match_info["deed"], person, given, grant.name)
        return web.json_response(done.to_json(ENGLISH))

    async def export(self, _: web.Request, grant: Grant) -> web.Response:
        """Everybody, as CSV."""
        return _table(await self._organizing.export(grant.name))

    async def take_in(self, request: web.Request, grant: Grant) -> web.Response:
        """A table of people, all of it or nothing."""
        done = await self._organizing.take_in(await _content(request, "text/csv", LARGEST), grant.name)
        return web.json_response(done.to_json(ENGLISH))

    async def audit(self, _: web.Request, grant: Grant) -> web.Response:
        """Who did what, the newest first."""
        return web.json_response({"audit": await self._organizing.answer("audit", (), {}, grant.name)})

    async def audit_table(self, _: web.Request, __: Grant) -> web.Response:
        """The same, as CSV."""
        return _table(audit(await self._organizing.audit(MOST_ENTRIES)))


def _wish(request: web.Request) -> dict[str, str]:
    return {"names": "1"} if request.query.get("names") == "1" else {}


async def _given(request: web.Request) -> dict[str, str]:
    """What is given for a deed: an object of texts, or no content at all."""
    if not request.body_exists:
        return {}
    content = await _content(request, "application/json", LARGEST_DEED)
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="the content is not JSON") from None
    if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
        raise web.HTTPBadRequest(text='send an object of texts, such as {"text": "Lunch is ready."}')
    if any("\ud800" <= character <= "\udfff" for value in body.values() for character in value):
        raise web.HTTPUnprocessableEntity(text="the content has half a character: a surrogate without its other half")
    return body


async def _content(request: web.Request, media_type: str, largest: int) -> bytes:
    if request.content_type != media_type:
        raise web.HTTPUnsupportedMediaType(text=f"send {media_type}")
    content = bytearray()
    async for chunk in request.content.iter_any():
        content += chunk
        if len(content) > largest:
            raise web.HTTPRequestEntityTooLarge(largest, len(content), text=f"send at most {largest} bytes")
    return bytes(content)


def _table(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/csv", charset="utf-8")
