"""Who is at the door: the session of a request, and forms that only our own pages send.

A session is a cookie (see cookies.py). Where the site's address (setting public_url) is one of https, its name begins
with `__Host-`, it is Secure, and a request that did not come over https has no session and sends no form: a trusted
proxy says so in X-Forwarded-Proto.

A form carries a token that only this gate could make for this browser: signed, over a random cookie and the session
(OWASP's "signed double-submit cookie"). Who signs in or out has to load a form anew.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import MultiDict, MultiDictProxy

from vncgate import cookies, seat_links
from vncgate.forwarded import TrustedProxies
from vncgate.languages import N_
from vncgate.people import Session
from vncgate.settings import Settings
from vncgate.web.desktops import from_our_pages

if TYPE_CHECKING:
    from vncgate.seating import Entry, Seating

FORM = "form_token"
"""The field of a form that has its token."""
LARGEST_FORM = 65536
"""Bytes of a form."""
FORM_TIMEOUT = 10.0
"""Seconds that a form may take to come."""
NOT_OURS = N_("This did not come from a page of this site. Please open the page anew, and try again.")
TOO_OLD = N_("This page is out of date. Please open it anew, and try again.")
NOT_SECURE = N_(
    "This connection is not encrypted, so nobody can sign in here. Please open the address that the organizers gave "
    "you, which begins with https."
)
SIGN_IN = N_("Please sign in first.")
NOT_YOURS = N_("This is not for your seat.")
OWNERS = N_("Only the owner of this desktop may do this.")

_FORM_COOKIE = re.compile(r"[A-Za-z0-9_-]{22}")


class Doorkeeper:
    """Knows sessions, and lets in and out."""

    def __init__(self, settings: Settings, seating: Seating, key: bytes) -> None:
        """`key` signs the forms."""
        self._settings = settings
        self._seating = seating
        self._key = key
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._secure = settings.public_url.startswith("https:")
        self._form_cookie = "__Host-vncgate_form" if self._secure else "vncgate_form"

    def client(self, request: web.Request) -> str:
        """The browser's address, as far as trusted proxies tell it."""
        return self._proxies.client(request.remote or "", request.headers.getall("X-Forwarded-For", []))

    def is_secure(self, request: web.Request) -> bool:
        """Whether a request came as the site's address wants it: over https, where that has it. The last word on it is
        the nearest proxy's.
        """
        protocols = ",".join(request.headers.getall("X-Forwarded-Proto", [])).rpartition(",")[2].strip().lower()
        return not self._secure or (protocols == "https" and self._proxies.trusts(request.remote or ""))

    async def session(self, request: web.Request) -> Session | None:
        """The session of a request, if it has one that holds now. Raises LedgerError."""
        value = cookies.session_value(request.headers.getall("Cookie", []), secure=self._secure)
        return await self._seating.session(value) if value and self.is_secure(request) else None

    async def participant(self, request: web.Request) -> Session:
        """The session of somebody on a seat, its owner's or a visitor's. Raises HTTPUnauthorized."""
        session = await self.session(request)
        if session is None or not session.seat:
            raise web.HTTPUnauthorized(text=SIGN_IN)
        return session

    async def own_path(self, request: web.Request) -> str:
        """The path of the desktop that the session of a request shows; empty where it has none. Raises
        HTTPUnauthorized.
        """
        desk = self._seating.desk(await self.participant(request))
        return desk.path if desk else ""

    async def at_desk(self, request: web.Request, path: str) -> Session:
        """The session of who may see the desktop of this path. Raises HTTPUnauthorized without a session, and
        HTTPNotFound for any other path, whether there is such a desktop or not.
        """
        session = await self.participant(request)
        if path == "" or await self.own_path(request) != path:
            raise web.HTTPNotFound(text=NOT_YOURS)
        return session

    async def owner(self, request: web.Request, path: str) -> Session:
        """The session of who owns the seat that shows the desktop of this path. Raises as `at_desk()`, and
        HTTPForbidden for visitors.
        """
        session = await self.at_desk(request, path)
        if session.share:
            raise web.HTTPForbidden(text=OWNERS)
        return session

    async def organizer(self, request: web.Request) -> Session:
        """The session of an organizer. Else it raises: a page leads to organizer/sign-in, all others are refused."""
        session = await self.session(request)
        if session is not None and session.organizer:
            return session
        if request.method in ("GET", "HEAD") and not request.path.startswith("/api/"):
            raise web.HTTPSeeOther(root(request) + "organizer/sign-in")
        raise web.HTTPForbidden(text=N_("This is for organizers. Please sign in as one."))

    def form_token(self, request: web.Request, response: web.Response) -> str:
        """What a form of this page carries in the hidden field `form_token`; `response` sets the cookie with it."""
        cookie = request.cookies.get(self._form_cookie, "")
        if not _FORM_COOKIE.fullmatch(cookie):
            cookie = secrets.token_urlsafe(16)
            response.set_cookie(
                self._form_cookie, cookie, path="/", secure=self._secure, httponly=True, samesite="Strict"
            )
        return self._token(request, cookie)

    async def form(self, request: web.Request, largest: int = LARGEST_FORM) -> MultiDictProxy[str]:
        """The fields of a form that was sent, urlencoded, of at most `largest` bytes. Raises HTTPForbidden where it
        does not come from a page of ours, and HTTPRequestEntityTooLarge.
        """
        if not self.is_secure(request):
            raise web.HTTPForbidden(text=NOT_SECURE)
        if not from_our_pages(request, self._settings):
            raise web.HTTPForbidden(text=NOT_OURS)
        if request.content_type != "application/x-www-form-urlencoded":
            raise web.HTTPUnsupportedMediaType(text=N_("This takes a form."))
        fields = MultiDictProxy(MultiDict(parse_qsl((await _body(request, largest)).decode(errors="replace"), True)))
        cookie, token = request.cookies.get(self._form_cookie, ""), fields.get(FORM, "")
        right = hmac.compare_digest(token.encode(errors="replace"), self._token(request, cookie).encode())
        if not right or not _FORM_COOKIE.fullmatch(cookie):
            raise web.HTTPForbidden(text=TOO_OLD)
        return fields

    def let_in(self, response: web.StreamResponse, entry: Entry) -> None:
        """Give the browser its new session, in place of any before."""
        age = max(0, int((entry.session.expires - entry.session.created).total_seconds()))
        name = cookies.session_name(secure=self._secure)
        value = entry.cookie.reveal()
        response.set_cookie(name, value, max_age=age, path="/", secure=self._secure, httponly=True, samesite="Lax")

    def let_out(self, response: web.StreamResponse) -> None:
        """Have the browser forget its session."""
        name = cookies.session_name(secure=self._secure)
        response.del_cookie(name, path="/", secure=self._secure, httponly=True, samesite="Lax")

    def _token(self, request: web.Request, cookie: str) -> str:
        session = cookies.session_value(request.headers.getall("Cookie", []), secure=self._secure) or ""
        return seat_links.signature(self._key, "form", f"{cookie}.{session}")


def root(request: web.Request) -> str:
    """How the site's root is reached from the page that was asked for: the site may be mounted anywhere."""
    return "../" * (request.raw_path.partition("?")[0].count("/") - 1) or "./"


async def _body(request: web.Request, largest: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(FORM_TIMEOUT):
            while piece := await request.content.readany():
                body += piece
                if len(body) > largest:
                    raise web.HTTPRequestEntityTooLarge(largest, len(body), text=N_("This form is too long."))
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=N_("This form took too long to come. Please try again.")) from None
    return bytes(body)
