from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.web.values import PASSWORD, account, accounts, launched_account
from vncgate.errors import SettingsError
from vncgate.languages import Catalogue, Languages, Words
from vncgate.model import DesktopState
from vncgate.render import pages
from vncgate.render.cards import Card, Launched, Shown
from vncgate.render.pages import Pages, markdown
from vncgate.render.reach import Reach
from vncgate.settings import load

GOLDEN = Path(__file__).parents[1] / "golden" / "pages"
NAMES = ("icon.svg", "site.css", "landing.js", "desk.css", "site/theme.css", "site/style.css", "site/logo.png")
FILES = dict.fromkeys(NAMES, b"") | {"desk.js": b'import "./novnc/x.js";', "novnc/x.js": b""}
HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture(autouse=True)
def version(monkeypatch):
    monkeypatch.setattr(pages, "__version__", "1.2.3")


def make(static=False, **landing):
    settings = load(flags={f"landing.{name}": value for name, value in landing.items()})
    return Pages(settings.landing, FILES, static=static), Reach(settings, fronted=True)


def check(name, text):
    """Compare with the golden file; after a change that is wanted, delete it and run the test twice."""
    file = GOLDEN / name
    if not file.exists():
        file.write_text(text)
        pytest.fail(f"{file} was missing and is written: read it")
    assert text == file.read_text()


class Links(HTMLParser):
    """Everything a page makes a browser fetch or follow, and every inline script, style and handler."""

    def __init__(self, html):
        super().__init__()
        self.links, self.inline, self._script = [], [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.links += [value for name, value in attrs if name in ("href", "src", "action", "data-events")]
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in values):
            self.inline.append(tag)


def test_the_landing_page():
    site, reach = make(title="CFD, spring", welcome="Choose *your* desktop.", logo=Path("/x/logo.PNG"))
    shown = [
        Card(account("ws01", "Ada L."), Shown.READY),
        Card(account("ws02"), Shown.OFFLINE, "desktop node01:5901 refused the connection"),
    ]
    check("landing.html", site.landing(shown, reach))


def test_hostile_names_and_texts_stay_texts():
    site, reach = make(title=HOSTILE, welcome=f"Hi <script>alert(2)</script>\n\n{HOSTILE}", stylesheet=Path("x.css"))
    html = site.landing([Card(account(HOSTILE, f"'{HOSTILE}", path=HOSTILE), Shown.OFFLINE, HOSTILE)], reach)
    check("landing-hostile.html", html)
    assert html.count("<script") == 1  # ours
    assert not Links(html).inline


def test_the_landing_page_as_a_file_shows_no_state_and_carries_its_policy():
    site, reach = make(static=True)
    html = site.landing([Card(account("ws01", "Ada L."))], reach)
    check("landing-static.html", html)
    assert " data-live" not in html


def test_no_accounts_is_said_in_a_sentence():
    site, reach = make()
    html = site.landing([], reach)
    assert "There are no desktops yet." in html
    assert 'class="card"' not in html


@pytest.mark.parametrize(("count", "filtered"), [(8, False), (9, True)])
def test_the_filter_box_is_for_many(count, filtered):
    site, reach = make()
    assert (" data-filter" in site.landing(map(Card, accounts(count).values()), reach)) is filtered


@pytest.mark.parametrize("static", [False, True])
def test_pages_link_to_the_site_alone_and_hold_no_secret(static):
    site, reach = make(static=static, welcome="![x](https://elsewhere.example/x.png) [more](https://elsewhere.example)")
    made = [
        site.landing(map(Card, accounts(3).values()), reach, root="./"),
        site.desk(Card(account()), reach, root="../"),
        site.error("Not found", "x", root="../../"),
    ]
    for html in made:
        found = Links(html)
        assert not found.inline
        outside = [link for link in found.links if not link.startswith(("./", "../", "#"))]
        assert outside == (["https://elsewhere.example/x.png", "https://elsewhere.example"] if html is made[0] else [])
        assert "<img" not in html
        assert PASSWORD not in html
        assert "node01" not in html


def test_the_viewer_page_says_where_its_websocket_is():
    site, reach = make()
    html = site.desk(Card(account()), reach, root="../")
    assert 'data-websocket="../ws/ws01"' in html
    assert "../api/accounts/ws01" in html


def test_the_viewer_page_says_where_a_desktop_is_asked_for_that_the_gate_starts():
    for static in (False, True):
        site, reach = make(static=static)
        html = site.desk(Card(launched_account()), reach, root="../../")
        assert 'data-desktop="../../api/desktops/ws01/"' in html
        assert 'data-events="../../api/events?path=ws01"' in html
        assert "data-desktop" not in site.desk(Card(account()), reach, root="../")


def test_the_viewer_page_says_whose_and_what_it_is():
    site, reach = make()
    for title, kind, words in [
        ("Ada", "MATLAB", '<p class="desk-name">ws01 · MATLAB</p>'),
        ("", "MATLAB", '<p class="desk-name">MATLAB</p>'),
        ("Ada", HOSTILE, '<p class="desk-name">ws01 · &#34;&gt;&lt;script&gt;'),
    ]:
        desktop = Launched(DesktopState.STARTING, kind=kind)
        assert words in site.desk(Card(launched_account("ws01", title), desktop=desktop), reach, root="../")
    assert "desk-name" not in site.desk(Card(account()), reach, root="../")


def test_the_viewer_page_names_its_modules_so_that_they_come_at_once():
    site, reach = make()
    html = site.desk(Card(account()), reach, root="../")
    for name in ("desk.js", "novnc/x.js"):
        assert f'<link rel="modulepreload" href="../static/{site.edition}/{name}">' in html
    assert html.count("modulepreload") == 2
    assert f'<script type="module" src="../static/{site.edition}/desk.js">' in html
    assert "modulepreload" not in site.landing([], reach)


def test_markdown():
    html = markdown("# Hi\n\n<b>x</b> [a](javascript:alert(1)) <https://example.org>\n\n| a |\n|---|\n| b |")
    assert "<h2>Hi</h2>" in html  # the page's own title is its h1
    assert "&lt;b&gt;" in html
    assert 'href="javascript' not in html
    assert '<a href="https://example.org">' in html
    assert "<td>b</td>" in html


def test_a_sites_template_takes_precedence_and_may_extend_ours(tmp_path):
    (tmp_path / "error.html").write_text('{% extends "base.html" %}{% block main %}<p>Ours: {{ text }}{% endblock %}')
    site, reach = make(templates=tmp_path, title="Mine")
    assert "<p>Ours: gone" in site.error("Not found", "gone", root="./")
    assert "<title>Mine</title>" in site.error("Not found", "gone", root="./")
    assert 'class="hero"' in site.landing([], reach)


@pytest.mark.parametrize("path", ["/etc/passwd", "/nonexistent"])
def test_templates_that_are_in_no_folder(path):
    with pytest.raises(SettingsError, match=f"^landing.templates: {path} is no folder$"):
        make(templates=path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("line\n{% if %}", "landing.html:2: Expected an expression"),
        (b"\xff", "template landing.html cannot be read"),
    ],
)
def test_a_template_that_cannot_be_read_is_an_error_at_start(tmp_path, text, said):
    (tmp_path / "landing.html").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError, match=said):
        make(templates=tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ nonsense }}", "'nonsense' is undefined"),
        ("{{ asset('x.css') }}", "there is no file static/x.css"),
        ("{{ asset(modules('x.js')[0]) }}", "there is no file static/x.js"),
    ],
)
def test_a_template_that_asks_for_what_is_not_there_is_an_error(tmp_path, text, said):
    (tmp_path / "error.html").write_text(text)
    site, _ = make(templates=tmp_path)
    with pytest.raises(SettingsError, match=f"template error.html: {said}"):
        site.error("t", "x", root="./")


def test_pages_in_another_language_with_the_sites_own_texts():
    german = Words("de", Catalogue({"CFD, spring": ("CFD, Frühling",), "Be *kind*.": ("Seid *nett*.",)}))
    settings = load(flags={"landing.title": "CFD, spring", "landing.welcome": "Be *kind*."})
    english = Pages(settings.landing, FILES, Languages([Words(), german]))
    for site, lang, title, welcome in [
        (english, "en", "CFD, spring", "Be <em>kind</em>."),
        (english.speaking(german), "de", "CFD, Frühling", "Seid <em>nett</em>."),
        (english, "en", "CFD, spring", "Be <em>kind</em>."),
    ]:
        html = site.landing([], Reach(settings, fronted=True))
        assert f'<html lang="{lang}">' in html
        assert f"<h1>{title}</h1>" in html
        assert welcome in html
        assert f'<a href="?language={lang}" lang="{lang}" hreflang="{lang}" aria-current="true">' in html
