"""The landing page in Chromium, served by the application with states that the tests make up."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import expect

from tests.real.conftest import need
from tests.web.values import Gate, account, accounts
from vncgate.model import Readiness, Roster
from vncgate.settings import load
from vncgate.web.app import build
from vncgate.web.export import export

need("chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
NOVNC = "/usr/share/novnc"


class Site(Gate):
    """The application on a port that stays its own, also while it is stopped."""

    def __init__(self, roster, **flags):
        super().__init__(roster)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.settings = load(flags=flags)

    async def start(self):
        app = build(settings=self.settings, roster=self.roster, statuses=self.statuses)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self):
        await self._runner.cleanup()

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_):
        await self.stop()


def card(page, path):
    return page.locator(f'.card[data-path="{path}"]')


async def shows(page, path, state, reason=""):
    await expect(card(page, path).locator(".state-text")).to_have_text(state)
    await expect(card(page, path).locator(".reason")).to_have_text(reason)
    await expect(card(page, path)).to_have_attribute("data-state", state)


def undisturbed(page, site):
    assert page.complaints == []
    assert {url for url in page.requests if not url.startswith((site.url, "data:"))} == set()


async def test_the_filter_by_keyboard(browse):
    roster = Roster((*accounts(20).accounts, account("zoe", "Zoë Ångström")))
    async with Site(roster) as site:
        page = await browse(site.url)
        box, count = page.get_by_role("searchbox"), page.locator("#filter-count")
        visible = page.locator(".card:visible")
        await expect(visible).to_have_count(21)
        await page.keyboard.press("/")
        await expect(box).to_be_focused()
        await page.keyboard.type("person 1")
        await expect(visible).to_have_count(11)
        await expect(count).to_have_text("11 of 21 desktops")
        await page.keyboard.type("/")  # a letter like others, once it is typed into the box
        await expect(box).to_have_value("person 1/")
        await expect(page.get_by_text("No desktop matches.")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(box).to_have_value("")
        await expect(visible).to_have_count(21)
        await expect(count).to_have_text("")
        await page.keyboard.type("angstrom ZOE")
        await expect(visible).to_have_count(1)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Zoë Ångström")).to_be_focused()
        undisturbed(page, site)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{site.url}desk/zoe/")
        await page.go_back()
        await expect(box).to_have_value("")  # it remembers nothing
        await expect(visible).to_have_count(21)


async def test_few_need_no_filter(browse):
    async with Site(accounts(8)) as site:
        page = await browse(site.url)
        await expect(page.locator("#filter")).to_be_hidden()
        await page.keyboard.press("/")
        await expect(page.locator("body")).to_be_focused()
        undisturbed(page, site)


async def test_states_change_while_one_looks(browse):
    async with Site(accounts(3)) as site:
        page = await browse(site.url)
        await shows(page, "ws02", "ready")
        site.set("ws02", Readiness.OFFLINE, reason="desktop node01:5901 refused <b>the</b> connection")
        await shows(page, "ws02", "offline", "the desktop refused <b>the</b> connection")  # where it is, is not told
        site.set("ws02", connections=1)
        await shows(page, "ws02", "in use")
        await shows(page, "ws01", "ready")
        site.now = Roster((*accounts(2).accounts, account("new", "Newcomer")))
        await expect(page.get_by_role("link", name="Newcomer")).to_be_visible()
        await expect(card(page, "ws03")).to_have_count(0)
        await shows(page, "ws02", "in use")
        site.now = Roster()
        await expect(page.get_by_text("There are no desktops yet.")).to_be_visible()
        undisturbed(page, site)


async def test_a_filter_outlives_a_change_of_accounts(browse):
    async with Site(accounts(12)) as site:
        page = await browse(site.url)
        await page.get_by_role("searchbox").fill("person 1")
        await expect(page.locator(".card:visible")).to_have_count(4)
        site.now = accounts(13)
        await expect(page.locator(".card:visible")).to_have_count(5)
        await expect(page.locator("#filter-count")).to_have_text("5 of 13 desktops")
        undisturbed(page, site)


async def test_a_gate_that_is_lost_is_said_and_found_again(browse):
    async with Site(accounts(2)) as site:
        page = await browse(site.url)
        await shows(page, "ws01", "ready")
        await site.stop()
        notice = page.get_by_text("State is not live; reconnecting")
        await expect(notice).to_be_visible()
        site.set("ws01", Readiness.OFFLINE, reason="away")
        await site.start()
        await shows(page, "ws01", "offline", "away")
        await expect(notice).to_be_hidden()


async def test_a_page_nobody_sees_holds_no_stream(browse):
    async with Site(accounts(2)) as site:
        page = await browse(site.url)
        await shows(page, "ws01", "ready")
        hide = """state => {
            Object.defineProperty(document, "visibilityState", {value: state, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        streams = page.requests.count(f"{site.url}api/events?lang=en")
        async with page.expect_event("requestfailed", lambda request: "api/events" in request.url):
            await page.evaluate(hide, "hidden")
        site.set("ws01", Readiness.OFFLINE, reason="away")
        await page.evaluate(hide, "visible")
        await shows(page, "ws01", "offline", "away")
        assert page.requests.count(f"{site.url}api/events?lang=en") == streams + 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone(browse, scheme, tmp_path):
    (tmp_path / "logo.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="900" height="60"/>')
    roster = Roster((account("ws01", "Rindfleischetikettierungs" * 4), account("x" * 64), *accounts(20).accounts[1:]))
    flags = {
        "landing.title": "Donaudampfschifffahrtsgesellschaft " * 2,
        "landing.logo": tmp_path / "logo.svg",
        "landing.welcome": "`" + "code " * 40 + "`\n\n    " + "wide" * 50 + "\n\nhttps://" + "x" * 100,
    }
    async with Site(roster, **flags) as site:
        site.set("ws01", Readiness.WRONG_PASSWORD)
        site.set("ws02", Readiness.OFFLINE, reason="desktop " + "node" * 30 + ":5901 refused the connection")
        page = await browse(site.url, color_scheme=scheme, **PHONE)
        await shows(page, "ws01", "needs attention", "the organizers must check this desktop's password")
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
        box = await card(page, "ws01").locator("a").bounding_box()
        assert box["height"] >= 44  # a finger's width
        undisturbed(page, site)


CONTRASTS = """() => {
    const parts = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => parts(colour).slice(0, 3).map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = element => {
        for (let one = element; one; one = one.parentElement) {
            const colour = getComputedStyle(one).backgroundColor;
            if ((parts(colour)[3] ?? 1) > 0) return colour;
        }
    };
    return [...document.querySelectorAll("h1, p, a, span, input, div.wrap")]
        .filter(element => element.checkVisibility() && [...element.childNodes].some(
            node => node.nodeType === Node.TEXT_NODE && node.textContent.trim()))
        .map(element => {
            const [low, high] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => a - b);
            return [`${element.className} ${element.textContent.trim()}`, (high + 0.05) / (low + 0.05)];
        });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_can_be_read(browse, scheme):
    async with Site(accounts(5), **{"landing.welcome": "See [there](x).", "landing.accent": "#ffd400"}) as site:
        site.set("ws02", connections=1)
        site.set("ws03", Readiness.OFFLINE, reason="away")
        site.set("ws04", Readiness.WRONG_PASSWORD)
        site.set("ws05", Readiness.UNKNOWN)
        for path in ("", "nothing"):
            page = await browse(site.url + path, color_scheme=scheme, reduced_motion="reduce")
            contrasts = await page.evaluate(CONTRASTS)
            assert len(contrasts) > (15 if path == "" else 3)
            assert [(text, contrast) for text, contrast in contrasts if contrast < 4.5] == []


async def test_without_javascript_the_links_work(browse):
    async with Site(accounts(20)) as site:
        page = await browse(site.url, java_script_enabled=False)
        assert await page.locator(".card:visible").count() == 20
        assert await page.locator("#filter").is_hidden()
        await page.get_by_role("link", name="Person 7").click()
        await page.wait_for_url(f"{site.url}desk/ws07/")


async def test_a_static_page_is_live_where_a_daemon_is_behind_it(browse, tmp_path):
    async with Site(accounts(2)) as site:
        export(tmp_path, site.settings, site.now)

        async def static(page):
            await page.route(site.url, lambda route: route.fulfill(path=tmp_path / "index.html"))

        page = await browse(site.url, before=static)
        await shows(page, "ws01", "ready")
        site.now = accounts(3)
        export(tmp_path, site.settings, site.now)
        await shows(page, "ws02", "ready")
        await expect(card(page, "ws03").locator(".state-text")).to_have_text("checking")
        undisturbed(page, site)


async def test_a_static_page_without_a_daemon_is_quiet(browse, tmp_path):
    async with Site(accounts(2)) as site:
        export(tmp_path, site.settings, site.now)

        async def static(page):
            await page.route(site.url, lambda route: route.fulfill(path=tmp_path / "index.html"))
            await page.route("**/api/**", lambda route: route.fulfill(status=404))

        page = await browse(site.url, before=static)
        await page.wait_for_function(
            "performance.getEntriesByType('resource').some(e => e.name.includes('api/events'))"
        )
        await expect(page.get_by_role("link", name="Person 1")).to_be_visible()
        assert await page.locator(".state:visible").count() == 0
        assert await page.locator("#not-live").text_content() == ""
        assert [text for text in page.complaints if "404" not in text] == []


@pytest.mark.parametrize(
    ("headers", "address"),
    [({}, "ws://127.0.0.1:{shared}/ws/ws01"), ({"X-Forwarded-Host": "127.0.0.1"}, "ws://127.0.0.1:{web}/ws/ws01")],
)
async def test_debians_novnc_opens_the_right_websocket(browse, free_port, headers, address):
    if not Path(NOVNC, "vnc.html").is_file():
        pytest.skip(f"missing: {NOVNC}/vnc.html (Debian package novnc)")
    shared = free_port()
    async with Site(accounts(1), **{"landing.novnc_dir": NOVNC, "shared_port": shared}) as site:
        page = await browse(site.url, extra_http_headers=headers)
        async with page.expect_event("websocket") as opened:
            await page.get_by_role("link", name="Person 1").click()
        assert (await opened.value).url == address.format(shared=shared, web=site.port)
        assert "password" not in page.url
        assert [text for text in page.complaints if "Security Policy" in text] == []
