"""Who asks: the bearer tokens of the REST API, and what the log says of their use.

RFC 6750 (bearer tokens): in the Authorization header alone, never in an address, which ends in logs.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from vncgate import tasks
from vncgate.errors import SettingsError, VncgateError
from vncgate.forwarded import TrustedProxies
from vncgate.grants import Grant, Scope, find, parse
from vncgate.model import Secret
from vncgate.scrape import Handler
from vncgate.text import printable

log = logging.getLogger(__name__)

READ_TIMEOUT = 5.0
"""Seconds that the tokens' file may take to be read."""
CHALLENGE = 'Bearer realm="vncgate"'
ACCOUNT = web.RequestKey("account", str)
"""Whom a request is about, for the log, where that does not stand in its address."""
COMPLAINT_INTERVAL = 60.0
"""Seconds between two lines of the log about requests without a valid token."""
LARGEST = 1024 * 1024
"""Bytes of a tokens' file; a token takes some 200."""

Guarded = Callable[[web.Request, Grant], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Known:
    """What was read last: of which file (None: of none), and what was wrong with it."""

    seen: tuple[int, ...] | None = None
    grants: tuple[Grant, ...] = ()
    trouble: str = ""


class Bearers:
    """The tokens' file, as it is at each request."""

    def __init__(self, file: Path, proxies: TrustedProxies) -> None:
        self._file = file
        self._proxies = proxies
        self._known = Known()
        self._complained = -math.inf
        self._turn = asyncio.Lock()
        self._hanging: asyncio.Future[Known] | None = None

    def only(self, scope: Scope, handler: Guarded, *, aloud: bool = True) -> Handler:
        """The handler for bearers of a token with `scope`, with a line in the log for every request.

        Not `aloud`: on the level debug. Refusals are told in any case.
        """

        async def guarded(request: web.Request) -> web.StreamResponse:
            client = self._proxies.client(request.remote or "", request.headers.getall("X-Forwarded-For", []))
            said = {"client": client, "account": request.match_info.get("account", "")}
            what = f"{request.method} {printable(request.path)}"
            try:
                grant = await self.grant(request)
            except web.HTTPUnauthorized:
                self._complain(what, said)
                raise
            if scope not in grant.scopes:
                log.warning("API: refused %s: token %s has no scope %s", what, grant.name, scope, extra=said)
                raise web.HTTPForbidden(
                    text=f"this token has not the scope {scope}",
                    headers={"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'},
                )
            status: int | str = 500
            try:
                response = await handler(request, grant)
                status = response.status
            except web.HTTPException as error:
                status = error.status
                raise
            except VncgateError:
                status = "refused"  # in words, with the status that the API has for it
                raise
            finally:
                said["account"] = said["account"] or request.get(ACCOUNT, "")
                level = logging.INFO if aloud else logging.DEBUG
                log.log(level, "API: token %s: %s: %s", grant.name, what, status, extra=said)
            return response

        return guarded

    def _complain(self, what: str, said: Mapping[str, str]) -> None:
        """Tell of a request without a token. Anybody can make them, and would fill a disk if each were told."""
        now = asyncio.get_running_loop().time()
        if now - self._complained >= COMPLAINT_INTERVAL:
            self._complained = now
            log.warning("API: refused %s: no valid token", what, extra=said)

    async def grant(self, request: web.Request, grants: Sequence[Grant] | None = None) -> Grant:
        """What the request's token allows by `grants`, or by those that stand in the file now. Raises HTTPUnauthorized,
        or HTTPServiceUnavailable.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            # RFC 6750, section 3: no error code where there is no token.
            raise web.HTTPUnauthorized(
                text="this needs a token: Authorization: Bearer TOKEN", headers={"WWW-Authenticate": CHALLENGE}
            )
        grant = find(await self.grants() if grants is None else grants, Secret(token.strip()))
        if grant is None:
            raise web.HTTPUnauthorized(
                text="this token is not known, or was revoked",
                headers={"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'},
            )
        return grant

    async def grants(self) -> tuple[Grant, ...]:
        """What stands in the file. One that cannot be read lets nobody in: what was revoked in it must not work. Raises
        HTTPServiceUnavailable.
        """
        async with self._turn:
            known = await self._in_time()
            if known.trouble and known.trouble != self._known.trouble:
                log.error("%s: %s; the API answers nobody", self._file, known.trouble)
            self._known = known
        if known.trouble:
            raise web.HTTPServiceUnavailable(text="the tokens cannot be read; the gate's log says why")
        return known.grants

    async def _in_time(self) -> Known:
        """What the file says. A share that hangs holds one thread, and not one for each request."""
        hangs = Known(trouble=f"cannot be read within {READ_TIMEOUT:g} s; does its share hang?")
        if self._hanging is not None and not self._hanging.done():
            return hangs
        look = tasks.in_thread(functools.partial(self._look, self._known), f"read {self._file}")
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                return await asyncio.shield(look)
        except TimeoutError:
            self._hanging = look
            return hangs
        except OSError as error:
            return Known(trouble=f"cannot be read: {error.strerror}")

    def _look(self, before: Known) -> Known:
        """What the file says; `before`, where it is the one that was read last."""
        seen: tuple[int, ...] | None = None
        try:
            status = self._file.stat()
            seen = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size)
            if seen == before.seen:
                return before
            if status.st_size > LARGEST:
                return Known(seen, trouble=f"is larger than {LARGEST >> 20} MiB")
            return Known(seen, parse(self._file.read_bytes()))
        except FileNotFoundError:
            return Known()
        except OSError as error:
            return Known(trouble=f"cannot be read: {error.strerror}")
        except SettingsError as error:
            return Known(seen, trouble=str(error))
