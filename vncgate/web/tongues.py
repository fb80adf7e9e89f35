"""Which language a request is answered in: that of the page's switch, of the cookie that it left, of the browser.

A handler finds it in `request[LANGUAGE]` (its `code`, its `gettext`), and the pages that speak it in `request[PAGES]`.
"""

from __future__ import annotations

from aiohttp import hdrs, web

from vncgate.languages import Languages, Words
from vncgate.render.pages import Pages
from vncgate.scrape import Handler

LANGUAGE = web.RequestKey("language", Words)
"""The language of the answer."""
PAGES = web.RequestKey("pages", Pages)
"""The pages in it."""
COOKIE = "vncgate_language"
"""The cookie with the code of the language that somebody chose. It says nothing else about them."""
A_YEAR = 365 * 24 * 3600
"""Seconds for which it is kept."""
CHOICE = "language"
"""What the switch adds to a page's address."""
OF_PAGE = "lang"
"""What scripts add to what they ask for: their page may be older than the latest choice. It is not remembered."""
SPOKEN = frozenset({"text/html", "application/json", "text/event-stream"})
"""Media types of what has words for people in it."""


class Tongues:
    """The middleware that chooses, and the pages in every language."""

    def __init__(self, languages: Languages, pages: Pages) -> None:
        self._languages = languages
        self._pages = {code: pages.speaking(words) for code, words in languages.items()}

    @web.middleware
    async def choose(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer in the language that is wanted; a choice made on a page is remembered for a year."""
        asked, kept = request.query.get(CHOICE, ""), request.cookies.get(COOKIE, "")
        wish = ", ".join(request.headers.getall(hdrs.ACCEPT_LANGUAGE, []))
        request[LANGUAGE] = words = self._languages.choose(wish, asked, request.query.get(OF_PAGE, ""), kept)
        request[PAGES] = self._pages[words.code]
        response = await handler(request)
        if response.prepared:  # a stream, which nobody keeps
            return response
        if response.content_type in SPOKEN:
            response.headers[hdrs.CONTENT_LANGUAGE] = words.code
            response.headers[hdrs.VARY] = "Accept-Language, Cookie"
        if asked == words.code != kept and response.content_type == "text/html":
            response.set_cookie(COOKIE, asked, max_age=A_YEAR, path="/", httponly=True, samesite="Lax")
        return response
