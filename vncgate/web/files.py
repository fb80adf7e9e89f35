"""Files in and out, as their owner sees them: the list, downloads, links for another machine.

    GET   files                 the way to one's own
    GET   files/PATH            the list; ?in=FOLDER for one below
    GET   files/PATH/file       one file (?name=), with Range
    POST  files/PATH/pack       an archive of what was chosen (form: item, format, ticket)
    GET   files/PATH/progress   how much of that archive was taken (?ticket=), for the page
    GET   files/PATH/archive    the archive that was built beforehand, with Range; files/PATH/archive.sha256 its sum
    POST  files/PATH/link       a link, by which whoever has it can take it all home
    GET   take, POST take       the page of such a link: its token stands in the fragment, and comes in a form
    GET   take/NAME             the same for programs: all.zip, all.tar.zst, archive.zip (Authorization: Bearer TOKEN)

What is sent is always an attachment of no known type, and never shown in the site's name. Uploads are uploads.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from aiohttp import ETag, hdrs, web
from aiohttp.abc import AbstractStreamWriter

from vncgate.errors import FilesError
from vncgate.languages import N_, Words
from vncgate.model import Account, Secret
from vncgate.people import Mode, Session
from vncgate.takeaway.agents import Asked
from vncgate.takeaway.room import Takeaway
from vncgate.web.doorkeeper import NOT_YOURS, root
from vncgate.web.lobby import Lobby
from vncgate.web.tongues import LANGUAGE

log = logging.getLogger(__name__)

STALL = 600.0
"""Seconds that a browser may take nothing of a download: it can be paused."""
AHEAD = 2 << 20
"""Bytes that are read ahead of what the browser takes: on a busy host agent and gate seldom run at the same time."""
MOST_TICKETS = 1000
"""Downloads whose progress is remembered."""
ZSTD_LEVEL = 3
COMPRESSORS = 2
"""Threads that compress."""
PIECE = 1 << 20
"""Bytes that are compressed at a time."""
TYPES = {"zip": "application/zip", "tar.zst": "application/zstd"}
"""The formats, and their media types."""
NO_RANGE = N_("This file is shorter by now. Please download it anew.")
OVER = N_("The time for taking files home is over. Please ask the organizers.")
TOO_OLD = N_("This link cannot be used, or not any more. Please ask the organizers.")
WORDS: dict[str, tuple[type[web.HTTPException], str]] = {
    "missing": (web.HTTPNotFound, N_("There is no such file or folder, or not any more.")),
    "denied": (web.HTTPForbidden, N_("This may not be read or written.")),
    "full": (web.HTTPInsufficientStorage, N_("There is not enough room: the disk is full, or its quota is used up.")),
    "quota": (
        web.HTTPInsufficientStorage,
        N_("There is not enough room: this folder may not become so large. Remove what you do not need."),
    ),
    "clash": (web.HTTPConflict, N_("There is something of this name already.")),
    "name": (web.HTTPBadRequest, N_("A file cannot have this name.")),
    "offset": (web.HTTPConflict, N_("This file is being sent from elsewhere as well.")),
    "busy": (web.HTTPServiceUnavailable, N_("Too much is being copied at the moment. Please try again in a minute.")),
    "away": (
        web.HTTPServiceUnavailable,
        N_("The files cannot be reached at the moment. Please try again, or tell the organizers."),
    ),
    "failed": (web.HTTPInternalServerError, N_("The files cannot be read or written. Please tell the organizers.")),
}
"""What the kinds of FilesError are answered with."""
_TICKET = re.compile(r"[0-9a-f]{32}")


def add(app: web.Application, lobby: Lobby, takeaway: Takeaway) -> None:
    """Add the pages."""
    from vncgate.web import uploads

    files = Files(lobby, takeaway)
    router = app.router
    router.add_get("/files", files.own)
    router.add_get("/files/{path}", files.folder)
    router.add_get("/files/{path}/file", files.file)
    router.add_post("/files/{path}/pack", files.pack)
    router.add_get("/files/{path}/progress", files.progress)
    router.add_get("/files/{path}/archive", files.archive)
    router.add_get("/files/{path}/archive.sha256", files.sum)
    router.add_post("/files/{path}/link", files.link)
    router.add_get("/take", files.take)
    router.add_post("/take", files.take_by_form)
    router.add_get("/take/{name:all.zip|all.tar.zst|archive.zip}", files.take_by_program)
    uploads.add(app, files, lobby, takeaway)


@dataclass(slots=True)
class Progress:
    """How a download goes: bytes that the browser took, whether it has ended, and whether that is all."""

    sent: int = 0
    ended: bool = False
    done: bool = False


class Files:
    """The handlers, and what they share."""

    def __init__(self, lobby: Lobby, takeaway: Takeaway) -> None:
        self._lobby = lobby
        self._takeaway = takeaway
        self._tickets: OrderedDict[tuple[str, str], Progress] = OrderedDict()
        self._threads = ThreadPoolExecutor(COMPRESSORS, "zstd")

    async def owner(self, request: web.Request) -> tuple[Session, Account]:
        """Whose files the path names, for who sits there: by the seat's own path, and by that of the desktop which it
        shows after a swap. Raises HTTPNotFound for any other, and HTTPForbidden for visitors and when it is over.
        """
        session = await self._lobby.doorkeeper.participant(request)
        for account in self._folders(session):
            if account.path == request.match_info["path"]:
                if session.share or session.mode is not Mode.CONTROL:
                    raise web.HTTPForbidden(text=N_("Only the owner of this desktop may do this."))
                self._check_time()
                return session, account
        raise web.HTTPNotFound(text=NOT_YOURS)

    def _check_time(self) -> None:
        """Raise HTTPForbidden where files are kept for nobody any more."""
        life = self._lobby.participants.life
        if self._takeaway.is_over or (life is not None and not life.has_files):
            raise web.HTTPForbidden(text=OVER)

    def _folders(self, session: Session) -> Sequence[Account]:
        roster, shows = self._takeaway.roster(), self._lobby.participants.seating.shows(session.seat)
        return [roster[name] for name in dict.fromkeys((session.seat, shows)) if name in roster]

    async def own(self, request: web.Request) -> web.Response:
        """The way to one's own files; who is not signed in is led to signing in first."""
        try:
            session = await self._lobby.doorkeeper.participant(request)
        except web.HTTPUnauthorized:
            raise web.HTTPSeeOther(f"{root(request)}?next=files") from None
        for account in self._folders(session):
            raise web.HTTPSeeOther(f"{root(request)}files/{quote(account.path, safe='')}")
        raise web.HTTPNotFound(text=NOT_YOURS)

    async def folder(self, request: web.Request) -> web.Response:
        """The page; who is not signed in is led to signing in, and then to their own files."""
        try:
            session, account = await self.owner(request)
        except web.HTTPUnauthorized:
            raise web.HTTPSeeOther(f"{root(request)}?next=files") from None
        folder = request.query.get("in", "").strip("/")
        words = request[LANGUAGE]
        with in_words():
            found = await self._takeaway.agents.do(account, do="list", path=folder)
        above = [part for part in folder.split("/") if part]
        crumbs = [{"name": shown(part), "in": "/".join(above[: end + 1])} for end, part in enumerate(above)]
        return await self._lobby.page(
            request,
            "files.html",
            here=f"?in={quote(folder)}&" if folder else "?",
            account=account,
            base=f"files/{quote(account.path, safe='')}",
            folder=folder,
            crumbs=crumbs,
            entries=[_entry(words, folder, *entry) for entry in found["entries"]],
            more=found["more"],
            total=found["total"],
            total_text=size_text(words, found["total"]),
            free=size_text(words, found["free"]),
            archive=self._archive(words, account),
            until=words.moment(self._takeaway.until) if self._takeaway.until else "",
            others=[each for each in self._folders(session) if each.name != account.name],
        )

    def _archive(self, words: Words, account: Account) -> dict[str, Any] | None:
        built = self._takeaway.archives.status(account.name)
        if not built.sha256:
            return None
        when = datetime.fromtimestamp(built.when, UTC)
        return {"size": size_text(words, built.bytes), "iso": when.isoformat(), "when": words.moment(when)}

    async def file(self, request: web.Request) -> web.StreamResponse:
        """One file, or a part of it (RFC 9110, sections 13.1.5 and 14)."""
        _, account = await self.owner(request)
        name = request.query.get("name", "")
        start, stop, tag = _range(request)
        order = {"do": "read", "path": name, "start": start, "stop": stop, "tag": tag}
        with in_words():
            async with self._takeaway.agents.ask(account, **order) as asked:
                return await _send_file(request, asked, shown(name.rpartition("/")[2]))

    async def pack(self, request: web.Request) -> web.StreamResponse:
        """An archive of what was chosen, written as it is read."""
        session, account = await self.owner(request)
        form = await self._lobby.doorkeeper.form(request)
        ticket, progress = form.get("ticket", ""), Progress()
        if _TICKET.fullmatch(ticket):
            self._tickets[session.digest, ticket] = progress
            while len(self._tickets) > MOST_TICKETS:
                self._tickets.popitem(last=False)
        items = [str(item) for item in form.getall("item", [])] or [form.get("in", "")]
        return await self._stream(request, account, items, form.get("format", ""), progress)

    async def progress(self, request: web.Request) -> web.Response:
        """How far a download of this session is."""
        session, _ = await self.owner(request)
        found = self._tickets.get((session.digest, request.query.get("ticket", "")))
        return web.json_response(dataclasses.asdict(found) if found else {})

    async def archive(self, request: web.Request) -> web.StreamResponse:
        """What was built beforehand."""
        _, account = await self.owner(request)
        return await self._built(account)

    async def sum(self, request: web.Request) -> web.Response:
        """The SHA-256 of that, as `sha256sum -c` reads it."""
        _, account = await self.owner(request)
        built = self._takeaway.archives.status(account.name)
        if not built.sha256:
            raise web.HTTPNotFound(text=WORDS["missing"][1])
        text = f"{built.sha256}  {account.name}.zip\n"
        return web.Response(text=text, headers={hdrs.CONTENT_DISPOSITION: attachment(f"{account.name}.zip.sha256")})

    async def link(self, request: web.Request) -> web.Response:
        """A link for another machine. It stands in this answer alone."""
        session, account = await self.owner(request)
        await self._lobby.doorkeeper.form(request)
        token, until = self._takeaway.link(account.name, session.seat)
        return await self._lobby.page(
            request,
            "files_link.html",
            here=f"{root(request)}files/{quote(account.path, safe='')}?",
            account=account,
            address=self._lobby.settings.public_url,
            token=token.reveal(),
            until=request[LANGUAGE].moment(until.astimezone(UTC)),
        )

    async def take(self, request: web.Request) -> web.Response:
        """The page of a link. Its token is known only to the page's script."""
        return await self._lobby.page(request, "take.html")

    async def take_by_form(self, request: web.Request) -> web.StreamResponse:
        """All of a link's files."""
        form = await self._lobby.doorkeeper.form(request)
        self._check_time()
        account = self._takeaway.account(Secret(form.get("token", "")))
        if account is None:
            raise web.HTTPForbidden(text=TOO_OLD)
        return await self._stream(request, account, [], form.get("format", ""), Progress())

    async def take_by_program(self, request: web.Request) -> web.StreamResponse:
        """All of a link's files, for curl."""
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        account = self._takeaway.account(Secret(token.strip())) if scheme.lower() == "bearer" else None
        if account is None or not self._lobby.doorkeeper.is_secure(request):
            raise web.HTTPUnauthorized(text=TOO_OLD, headers={hdrs.WWW_AUTHENTICATE: "Bearer"})
        self._check_time()
        what, _, format_ = request.match_info["name"].partition(".")
        if what == "archive":
            return await self._built(account)
        return await self._stream(request, account, [], format_, Progress())

    async def _built(self, account: Account) -> web.StreamResponse:
        path = self._takeaway.archives.path(account.name)
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                return _Archive(path, await asyncio.to_thread(path.stat))
        raise web.HTTPNotFound(text=N_("There is no archive that was built beforehand."))

    async def _stream(
        self, request: web.Request, account: Account, items: list[str], format_: str, progress: Progress
    ) -> web.StreamResponse:
        if format_ not in TYPES:
            raise web.HTTPBadRequest(text=N_("There is no such format."))
        order = {"do": "pack", "paths": [item for item in items if item], "name": account.name}
        order["format"] = "zip" if format_ == "zip" else "tar"
        with in_words():
            async with self._takeaway.agents.ask(account, **order) as asked:
                response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: TYPES[format_]})
                response.headers[hdrs.CONTENT_DISPOSITION] = attachment(f"{account.name}.{format_}")
                response.headers[hdrs.CACHE_CONTROL] = "no-store"
                data = _pieces(asked) if format_ == "zip" else self._compressed(asked)
                await _write(request, response, data, progress)
                return response

    async def _compressed(self, asked: Asked) -> AsyncGenerator[bytes]:
        import zstandard  # not before somebody wants it

        loop = asyncio.get_running_loop()
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compressobj()
        buffer = bytearray()
        async for data in _pieces(asked):
            buffer += data
            if len(buffer) >= PIECE:
                yield await loop.run_in_executor(self._threads, compressor.compress, bytes(buffer))
                buffer.clear()
        yield await loop.run_in_executor(self._threads, compressor.compress, bytes(buffer))
        yield compressor.flush()


class _Archive(web.FileResponse):
    """A file of the gate's own, with ranges; after If-Range only where it names this very file (RFC 9110, 13.1.5)."""

    def __init__(self, path: Path, status: os.stat_result) -> None:
        headers = {hdrs.CONTENT_TYPE: TYPES["zip"], hdrs.CONTENT_DISPOSITION: attachment(path.name)}
        super().__init__(path, headers={**headers, hdrs.CACHE_CONTROL: "no-store"}, chunk_size=PIECE)
        self._tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'  # as FileResponse has it, which looks at dates alone

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Begin to send it."""
        tag = request.headers.get(hdrs.IF_RANGE, "")
        if tag.startswith(('"', "W/")) and tag != self._tag:
            headers = request.headers.copy()
            headers.popall(hdrs.RANGE, None)
            request = request.clone(headers=headers)
        return await super().prepare(request)


async def _pieces(asked: Asked) -> AsyncGenerator[bytes]:
    while data := await asked.read():
        yield data


async def _write(
    request: web.Request, response: web.StreamResponse, data: AsyncGenerator[bytes], progress: Progress
) -> None:
    """Send an answer as it comes. One that does not come to its end is cut, so that nobody takes it for the whole."""
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return
    if request.transport is not None:
        request.transport.set_write_buffer_limits(AHEAD)
    try:
        async with contextlib.aclosing(data) as pieces:
            async for piece in pieces:
                if piece:
                    async with asyncio.timeout(STALL):
                        await response.write(piece)
                    progress.sent += len(piece)
        await response.write_eof()
    except (FilesError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # the browser went, or its user ended the download
    else:
        progress.done = True
    finally:
        progress.ended = True


def _range(request: web.Request) -> tuple[int | None, int | None, str]:
    """What of a file is asked for, as in a slice; and which edition of it, if that matters."""
    try:
        wanted = request.http_range
    except ValueError:  # in other units, or several ranges: RFC 9110, section 14.2, lets us send it all
        return None, None, ""
    if_range = request.headers.get(hdrs.IF_RANGE, "")
    return wanted.start, wanted.stop, if_range.strip('"') or ("no date will do" if if_range else "")


async def _send_file(request: web.Request, asked: Asked, name: str) -> web.StreamResponse:
    said = asked.answer
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: "application/octet-stream"})
    response.headers[hdrs.CONTENT_DISPOSITION] = attachment(name)
    response.headers[hdrs.ACCEPT_RANGES] = "bytes"
    response.headers[hdrs.CACHE_CONTROL] = "no-store"
    response.last_modified = max(0, int(said["mtime"]))
    response.etag = ETag(said["tag"])
    start, stop, size = said["start"], said["stop"], said["size"]
    if said["part"]:
        if start >= stop:
            headers = {hdrs.CONTENT_RANGE: f"bytes */{size}"}
            return web.Response(status=416, headers=headers, text=request[LANGUAGE].of(NO_RANGE))
        response.set_status(206)
        response.headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{stop - 1}/{size}"
    response.content_length = stop - start
    await _write(request, response, _pieces(asked), Progress())
    return response


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Have a FilesError be an answer that a person understands."""
    try:
        yield
    except FilesError as error:
        if error.kind in ("away", "failed"):
            log.warning("%s", error)
        answer, words = WORDS.get(error.kind, WORDS["failed"])
        raise answer(text=words) from None


def attachment(name: str) -> str:
    """Content-Disposition of a file that is to be saved, by RFC 6266: its name, and one for old programs."""
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in " ._-()") else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def shown(quoted: str) -> str:
    """A name as people read it."""
    text = unquote_to_bytes(quoted).decode(errors="replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def size_text(words: Words, size: int | None) -> str:
    """Bytes as people read them; empty where nobody has added them up."""
    if size is None:
        return ""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{words.number(round(value, 1) if value < 99.5 and unit != 'B' else round(value))} {unit}"


def _entry(words: Words, folder: str, name: str, kind: str, size: int | None, mtime: float) -> dict[str, Any]:
    when = datetime.fromtimestamp(min(max(mtime, 0.0), 253402214400.0), UTC)
    return {
        "name": shown(name),
        "path": f"{folder}/{name}" if folder else name,
        "kind": kind,
        "size": size,
        "size_text": size_text(words, size) if kind in ("file", "folder") else "",
        "iso": when.isoformat(timespec="seconds"),
        "when": words.moment(when),
    }
