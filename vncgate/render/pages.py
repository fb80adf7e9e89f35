"""The landing page, the viewer page and the page for what is not there: values in, HTML out.

A template of the site's own (`landing.templates`) takes precedence over ours of the same name. Templates are
read once, so that a mistake in one shows at start and not in a participant's browser.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Container, Iterable, Mapping
from typing import Any
from urllib.parse import quote

import jinja2
import markdown_it
from markdown_it.rules_core import StateCore
from markupsafe import Markup

from vncgate import __version__
from vncgate.errors import SettingsError
from vncgate.languages import N_, Languages, Words
from vncgate.people import Session
from vncgate.render.cards import Card
from vncgate.render.headers import policy
from vncgate.render.reach import Reach
from vncgate.render.static import edition, modules
from vncgate.settings import LandingSettings

TEMPLATES = ("landing.html", "desk.html", "error.html")
"""The pages; each extends base.html."""
STYLESHEET = "site/style.css"
"""The site's own style sheet, below static/."""
TITLE = N_("Workshop desktops")
"""What the setting `landing.title` has by itself."""
THEME = "site/theme.css"
"""The style sheet with the accent colour, below static/."""
FILTER_FROM = 9
"""Cards from which on the filter box is of use."""


class Pages:
    """All pages of a site. `files` are those below static/, by their names there; `edition` is what
    stands in their addresses: static/EDITION/NAME.

    The pages link to nothing but the site itself, by relative addresses: `root` is how a page reaches the
    site's root ("./", "../"), so that the site can be mounted anywhere. `static` makes pages for files that a
    web server sends: these carry their policy themselves, and show a state only when a daemon tells them one.

    They speak the default one of `languages`; `speaking()` gives those of another. A page can be had in all of them,
    but not a static one, behind which nobody looks at what a browser asks for.

    Raises SettingsError when the site's folder of templates, or a template, cannot be used.
    """

    def __init__(
        self,
        settings: LandingSettings,
        files: Mapping[str, bytes],
        languages: Languages | None = None,
        *,
        static: bool = False,
    ) -> None:
        languages = languages or Languages()
        self._settings = settings
        self.edition = edition(files)
        self._static = static
        if settings.templates and not settings.templates.is_dir():
            raise SettingsError(f"landing.templates: {settings.templates} is no folder")
        own = [jinja2.FileSystemLoader(settings.templates)] if settings.templates else []
        self._environment = jinja2.Environment(
            loader=jinja2.ChoiceLoader([*own, jinja2.PackageLoader("vncgate", "web/templates")]),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
            extensions=["jinja2.ext.i18n"],
        )
        self._environment.policies["ext.i18n.trimmed"] = True
        # One environment for all languages, so that templates are compiled once: a page's own is in its variables.
        self._environment.install_gettext_callables(_gettext, _ngettext, newstyle=True)  # type: ignore[attr-defined]
        self._environment.globals |= {
            "asset": _asset_function(f"static/{self.edition}/", files),
            "modules": functools.cache(lambda entry: modules(entry, files)),
            "languages": [] if static or len(languages) == 1 else list(languages.values()),
            "words_module": lambda language: name if (name := words_module(language)) in files else "",
            "policy": policy(meta=True) if static else "",
            "version": __version__,
        }
        for name in TEMPLATES:
            self._template(name)
        self._speak(languages.default)

    def speaking(self, words: Words) -> Pages:
        """The same pages in another language."""
        pages = copy.copy(self)
        pages._speak(words)  # noqa: SLF001 (of the same class)
        return pages

    def _speak(self, words: Words) -> None:
        """From now on in this language, the site's own texts too where its catalogue has them."""
        self.words = words
        self._site = {
            "title": words.gettext(self._settings.title),
            "welcome": Markup(markdown(words.gettext(self._settings.welcome))),  # noqa: S704 (raw HTML was escaped)
            "logo": logo_name(self._settings),
            "stylesheet": STYLESHEET if self._settings.stylesheet else "",
        }

    def landing(self, cards: Iterable[Card], reach: Reach, *, root: str = "./") -> str:
        """The landing page: a card for each account, in the order given."""
        shown = [
            {
                "path": card.account.path,
                "title": card.account.title,
                "name": card.account.name,
                "state": card.state or "",
                "label": self.words.of(card.state) if card.state else "",
                "reason": self.words.of(card.reason),
                "href": reach.link(card.account, root, is_launched=card.is_launched),
            }
            for card in cards
        ]
        return self._render(
            "landing.html", root=root, cards=shown, live=not self._static, with_filter=len(shown) >= FILTER_FROM
        )

    def desk(
        self,
        card: Card,
        reach: Reach,
        *,
        root: str,
        session: Session | None = None,
        form_token: str = "",
        has_files: bool = False,
    ) -> str:
        """The viewer page of one account; for the `session` that opens it, where people sign in, with the token of
        its forms. Owners can bring files where it `has_files`.
        """
        account, path = card.account, quote(card.account.path, safe="")
        is_owner = session is not None and not session.share
        return self._render(
            "desk.html",
            root=root,
            account={"title": account.title, "name": account.name, "path": account.path},
            kind=card.desktop.kind if card.desktop else "",
            websocket=reach.websocket(account, root),
            status_url=f"{root}api/accounts/{path}",
            desktop_url=f"{root}api/desktops/{path}/" if card.is_launched else "",
            events_url=f"{root}api/events?path={path}" if card.is_launched else "",
            session=session,
            is_owner=is_owner,
            form_token=form_token,
            files_url=f"{root}files/{path}" if is_owner and has_files else "",
        )

    def error(self, title: str, text: str, *, root: str) -> str:
        """A page that says in plain words why there is nothing else."""
        return self._render("error.html", root=root, title=title, text=text)

    def page(self, template: str, *, root: str, **values: Any) -> str:
        """A page of another room's, by the name of its template, with what that needs."""
        return self._render(template, root=root, **values)

    def _template(self, name: str) -> jinja2.Template:
        try:
            return self._environment.get_template(name)
        except jinja2.TemplateSyntaxError as error:
            raise SettingsError(f"{error.filename or error.name}:{error.lineno}: {error.message}") from None
        except (jinja2.TemplateNotFound, OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"template {name} cannot be read: {error}") from None

    def _render(self, name: str, **values: Any) -> str:
        try:
            return self._template(name).render(values, language=self.words, site=self._site)
        except jinja2.TemplateError as error:
            raise SettingsError(f"template {name}: {error.message}") from None


def logo_name(settings: LandingSettings) -> str:
    """The site's logo, below static/; empty where there is none."""
    return f"site/logo{settings.logo.suffix.lower()}" if settings.logo else ""


def words_module(words: Words) -> str:
    """The module with the scripts' texts in this language, below static/."""
    return f"words/{words.code}.js"


def markdown(text: str) -> str:
    """HTML of a Markdown text. Raw HTML in it is shown as text; images are not fetched, links are kept."""
    parser = markdown_it.MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    parser.core.ruler.push("headings_below_the_title", _lower_headings)
    return str(parser.render(text))


def _lower_headings(state: StateCore) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"


@jinja2.pass_context
def _gettext(context: jinja2.runtime.Context, message: str) -> str:
    return str(context["language"].gettext(message))


@jinja2.pass_context
def _ngettext(context: jinja2.runtime.Context, one: str, many: str, count: int) -> str:
    return str(context["language"].ngettext(one, many, count))


def _asset_function(folder: str, files: Container[str]) -> Any:
    @jinja2.pass_context
    def asset(context: jinja2.runtime.Context, name: str) -> str:
        if name not in files:
            raise jinja2.TemplateRuntimeError(f"there is no file static/{name}")
        return f"{context['root']}{folder}{name}"

    return asset
