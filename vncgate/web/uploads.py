"""Uploads by the tus protocol, version 1.0.0 (https://tus.io/protocols/resumable-upload), core, creation, termination.

    OPTIONS  files/PATH/uploads
    POST     files/PATH/uploads          Upload-Length, Upload-Metadata: filename, folder (percent-encoded), clash
    HEAD     files/PATH/uploads/ID       how much came
    PATCH    files/PATH/uploads/ID       more
    DELETE   files/PATH/uploads/ID       it is not wanted any more

What came is kept by the account's agent in the account's folder: the gate remembers nothing, so that an upload goes on
after the gate was started anew. Where there is a file of that name, POST is answered with 409, and `clash` in the next
one says what is to be done: "keep" both, or "replace" it. Upload-Name in the last answer is the name that it got.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from urllib.parse import quote_from_bytes

from aiohttp import ClientError, hdrs, web

from vncgate import tasks
from vncgate.errors import FilesError
from vncgate.model import Account
from vncgate.scrape import Handler
from vncgate.takeaway.agents import Asked
from vncgate.takeaway.room import Takeaway
from vncgate.web.desktops import from_our_pages
from vncgate.web.doorkeeper import NOT_OURS
from vncgate.web.files import WORDS, Files, in_words
from vncgate.web.lobby import Lobby
from vncgate.web.tongues import LANGUAGE

VERSION = "1.0.0"
OFFSETS = "application/offset+octet-stream"
LARGEST = 1 << 50
"""Bytes of a file."""
SILENCE = 60.0
"""Seconds that a browser may send nothing; what came until then is kept."""
LONGEST_PATCH = 3600.0
"""Seconds that one request may take to bring what it brings; the next one goes on."""
CLASHES = "ask", "keep", "replace"


def add(app: web.Application, files: Files, lobby: Lobby, takeaway: Takeaway) -> None:
    """Add the addresses."""
    uploads = Uploads(files, lobby, takeaway)
    for method, deed in (("OPTIONS", uploads.options), ("POST", uploads.create)):
        app.router.add_route(method, "/files/{path}/uploads", uploads.by_tus(deed))
    for method, deed in (("HEAD", uploads.head), ("PATCH", uploads.patch), ("DELETE", uploads.delete)):
        app.router.add_route(method, "/files/{path}/uploads/{id:[0-9a-f]{32}}", uploads.by_tus(deed))


class Uploads:
    """The handlers, and which uploads are being written to."""

    def __init__(self, files: Files, lobby: Lobby, takeaway: Takeaway) -> None:
        self._files = files
        self._lobby = lobby
        self._agents = takeaway.agents
        self._quota = lobby.settings.files.quota
        self._writing: dict[str, asyncio.Task[Mapping[str, object]]] = {}

    def by_tus(self, deed: Handler) -> Handler:
        """A handler that speaks tus, and is for our own pages alone."""

        async def handler(request: web.Request) -> web.StreamResponse:
            try:
                if request.method != "OPTIONS" and request.headers.get("Tus-Resumable") != VERSION:
                    raise web.HTTPPreconditionFailed(text="This speaks tus 1.0.0.", headers={"Tus-Version": VERSION})
                if not from_our_pages(request, self._lobby.settings):
                    raise web.HTTPForbidden(text=NOT_OURS)
                with in_words():
                    response = await deed(request)
            except web.HTTPException as error:
                text = request[LANGUAGE].of(error.text or error.reason)
                response = web.json_response({"error": text}, status=error.status)
                response.headers.extend(
                    {name: error.headers[name] for name in ("Tus-Version",) if name in error.headers}
                )
            response.headers["Tus-Resumable"] = VERSION
            response.headers[hdrs.CACHE_CONTROL] = "no-store"
            return response

        return handler

    async def options(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """What we can."""
        known = {"Tus-Version": VERSION, "Tus-Extension": "creation,termination"}
        return web.Response(status=204, headers=known)

    async def create(self, request: web.Request) -> web.Response:
        """Begin an upload."""
        _, account = await self._files.owner(request)
        size, told = _number(request, "Upload-Length", LARGEST), _metadata(request)
        name, clash = quote_from_bytes(told.get("filename", b"")), told.get("clash", b"ask").decode(errors="replace")
        if clash not in CLASHES:
            raise web.HTTPBadRequest(text=f"clash is one of {', '.join(CLASHES)}.")
        path = told.get("folder", b"").decode(errors="replace")
        order = {"do": "create", "name": name, "path": path, "clash": clash, "size": size, "quota": self._quota}
        answer = await self._agents.do(account, **order)
        named = {"Upload-Name": str(answer["name"])} if answer["name"] else {}
        return web.Response(
            status=201, headers={hdrs.LOCATION: f"uploads/{answer['id']}", "Upload-Offset": "0", **named}
        )

    async def head(self, request: web.Request) -> web.Response:
        """How much of it came."""
        _, account = await self._files.owner(request)
        key = request.match_info["id"]
        if task := self._writing.get(key):  # by a connection that was lost, which nobody has told us
            await tasks.end(task)
        answer = await self._agents.do(account, do="offset", id=key)
        told = {"Upload-Offset": str(answer["offset"]), "Upload-Length": str(answer["size"])}
        return web.Response(headers=told)

    async def patch(self, request: web.Request) -> web.Response:
        """Take more of it, as much as comes; what came is kept, whatever happens to the connection."""
        _, account = await self._files.owner(request)
        if request.content_type != OFFSETS:
            raise web.HTTPUnsupportedMediaType(text=f"This takes {OFFSETS}.")
        key, offset = request.match_info["id"], _number(request, "Upload-Offset", LARGEST)
        if task := self._writing.get(key):
            await tasks.end(task)
        work = self._append(request, account, key, offset)
        self._writing[key] = task = tasks.spawn(work, f"upload to {account.name}", expected=FilesError)
        try:
            answer = await task
        except asyncio.CancelledError:
            if task.done() and not (asyncio.current_task() or task).cancelling():
                raise WORDS["offset"][0](text=WORDS["offset"][1]) from None  # the next one has taken its place
            raise
        finally:
            await tasks.end(task)
            if self._writing.get(key) is task:
                del self._writing[key]
        named = {"Upload-Name": str(answer["name"])} if answer["name"] else {}
        return web.Response(status=204, headers={"Upload-Offset": str(answer["offset"]), **named})

    async def _append(self, request: web.Request, account: Account, key: str, offset: int) -> Mapping[str, object]:
        async with self._agents.ask(account, do="append", id=key, offset=offset) as asked:
            sending = tasks.spawn(_send(request, asked), f"send to {account.name}", expected=FilesError)
            try:
                return await asked.hear(LONGEST_PATCH)
            finally:
                await tasks.end(sending)

    async def delete(self, request: web.Request) -> web.Response:
        """Forget it."""
        _, account = await self._files.owner(request)
        key = request.match_info["id"]
        if task := self._writing.get(key):
            await tasks.end(task)
        await self._agents.do(account, do="cancel", id=key)
        return web.Response(status=204)


async def _send(request: web.Request, asked: Asked) -> None:
    """Give the agent what the browser sends, as long as it does."""
    try:
        while True:
            async with asyncio.timeout(SILENCE):
                data = await request.content.readany()
            if not data:
                break
            await asked.write(data)
    except (TimeoutError, ConnectionError, ClientError, web.RequestPayloadError):
        pass  # the browser has gone; it may come back
    await asked.end_input()


def _number(request: web.Request, header: str, most: int) -> int:
    text = request.headers.get(header, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 16 or int(text) > most:
        raise web.HTTPBadRequest(text=f"{header} should be a number of bytes.")
    return int(text)


def _metadata(request: web.Request) -> dict[str, bytes]:
    """Upload-Metadata: keys, each with a value in base64."""
    told = {}
    for pair in request.headers.get("Upload-Metadata", "").split(","):
        key, _, value = pair.strip().partition(" ")
        try:
            told[key] = base64.b64decode(value, validate=True)
        except ValueError:  # binascii.Error is one; so is what is not ASCII
            raise web.HTTPBadRequest(text="Upload-Metadata should have values in base64.") from None
    return told
