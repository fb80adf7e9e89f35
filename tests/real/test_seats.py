"""Signing in, in Chromium through the real Apache with TLS and at a real desktop: PIN, link, share, and what ends them.

One gate, one Apache and two desktops for all tests; each browser context is somebody else's.
"""

from __future__ import annotations

import asyncio
import re
import time

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.real.apache import Apache, example
from tests.real.browser import connected, content, phase, says
from tests.real.conftest import need
from tests.real.gate import RunningGate
from tests.real.xvnc import Xvnc
from vncgate import seat_links
from vncgate.model import Roster
from vncgate.render.apache import render
from vncgate.seat_links import SeatLink
from vncgate.settings import Settings

need("Xvnc", "openbox", "xterm", "apache2", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]
PINS = {"ws01": "480113", "ws02": "553821"}


class Site:
    """The gate behind its Apache; `url` is the landing page's address."""

    def __init__(self, gate, apache, desktops):
        self.gate, self.apache, self.desktops = gate, apache, desktops
        self.url = apache.url("/")

    def lines(self):
        return [self.gate.line(name, each, "-", f"pin={PINS[name]}") for name, each in self.desktops.items()]

    def typed(self, name, file="typed.txt"):
        return self.desktops[name].folder / file


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seats")
    desktops = {name: Xvnc(folder / name, session=True) for name in PINS}
    gate = RunningGate(folder)
    gate.environ["STATE_DIRECTORY"] = str(folder / "state")
    apache = Apache(example("vncgate.conf", VNCGATE_WEB=f"127.0.0.1:{gate.web}"))
    for desktop in desktops.values():
        desktop.start()
    try:
        apache.start()
        settings = Settings(web=f"127.0.0.1:{gate.web}", shared_port=gate.shared)
        apache.snippet.write_text(render(Roster(), settings))
        apache.reload()
        gate.settings = f'access = "seat"\npublic_url = "{apache.url("/")}"\n'
        site = Site(gate, apache, desktops)
        gate.write(*site.lines())
        with gate:
            yield site
    finally:
        apache.stop()
        for desktop in desktops.values():
            desktop.stop()


async def sign_in(page, account, pin=None):
    await page.get_by_label("Account").fill(account)
    await page.get_by_label("PIN", exact=True).fill(pin or PINS[account])
    await page.get_by_role("button", name="Sign in").click()


async def type_to(page, site, name, text):
    """Type a command at the desktop, and see it done there."""
    await page.keyboard.type(f"echo {text} > {text}.txt\n")
    assert await content(site.typed(name, f"{text}.txt")) == f"{text}\n"


async def test_a_pin_leads_to_the_desktop_and_keys_arrive(site, browse):
    page = await browse(site.url)
    await sign_in(page, "ws01")
    await connected(page)
    assert page.url == f"{site.url}desk/path-ws01/"
    await type_to(page, site, "ws01", "pin")
    cookies = await page.context.cookies()
    (cookie,) = [each for each in cookies if each["name"] == "__Host-vncgate_session"]
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"], cookie["path"]) == (True, True, "Lax", "/")
    assert not page.complaints


async def test_a_wrong_pin_is_told_and_the_right_one_then_leads_back(site, browse):
    page = await browse(f"{site.url}desk/path-ws01/")
    assert page.url == f"{site.url}?next=desk/path-ws01/"
    await sign_in(page, "ws01", "000000")
    await expect(page.get_by_role("alert")).to_contain_text("That did not work")
    await expect(page.get_by_label("Account")).to_have_value("ws01")
    await expect(page.get_by_label("PIN", exact=True)).to_be_focused()
    await page.keyboard.type(PINS["ws01"] + "\n")
    await connected(page)
    assert page.url == f"{site.url}desk/path-ws01/"


def link(site, name):
    """A seat link, as an organizer gets it."""
    key = next(site.gate.folder.glob("state/seats.key")).read_bytes().strip()
    token = seat_links.seat_token(key, SeatLink(name, int(time.time()) + 3600, 0))
    return f"{site.url}seat#{token}"


async def test_a_link_is_one_click_and_gone_from_the_address(site, browse):
    address = link(site, "ws02")
    page = await browse(address)
    await connected(page)
    assert page.url == f"{site.url}desk/path-ws02/"
    await type_to(page, site, "ws02", "link")
    token = address.partition("#")[2]
    assert not [url for url in page.requests[1:] if token in url]
    await page.go_back()
    assert token not in page.url
    assert token not in site.gate.log
    assert token not in (site.apache.folder / "vncgate-access.log").read_text()


async def test_the_websocket_of_another_is_closed_to_who_is_signed_in(site, browse):
    page = await browse(link(site, "ws01"))
    await connected(page)
    how = """async (path) => new Promise((done) => {
      const socket = new WebSocket(`wss://${location.host}/ws/${path}`);
      socket.onopen = () => { socket.close(); done("open"); };
      socket.onerror = () => done("refused");
    })"""
    assert await page.evaluate(how, "path-ws01") == "open"
    assert await page.evaluate(how, "path-ws02") == "refused"
    assert await page.evaluate(how, "nobody") == "refused"


async def test_no_websocket_opens_without_a_session(site):
    context = site.apache.client_context()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as browser:
        said = []
        for path in ("path-ws01", "nobody"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await browser.ws_connect(site.apache.url(f"/ws/{path}"), origin=site.url.rstrip("/"))
            said.append((refused.value.status, refused.value.message))
        assert said[0] == said[1]


async def test_a_visitor_watches_and_types_nothing_until_the_owner_ends_it(site, browse):
    owner = await browse(link(site, "ws01"))
    await connected(owner)
    await owner.get_by_role("button", name="Share this desktop").click()
    await owner.get_by_role("button", name="Make a link").click()
    field = owner.get_by_label("The link; it is shown this once")
    await expect(field).to_have_value(re.compile("share#v1"))
    visitor = await browse(await field.input_value())
    await connected(visitor)
    await expect(visitor.locator("[data-part=view-mark]")).to_have_text("You are watching")
    await expect(visitor.get_by_role("button", name="Share this desktop")).to_have_count(0)
    await visitor.keyboard.type("echo no > visitor.txt\n")
    # Nor does what a browser sends that was told to type.
    await visitor.evaluate("""async () => {
      const { default: RFB } = await import(document.querySelector('link[href$="core/rfb.js"]').href);
      const screen = document.createElement("div");
      document.body.append(screen);
      const rfb = new RFB(screen, new WebSocket(`wss://${location.host}/ws/path-ws01`), { shared: true });
      await new Promise((done) => rfb.addEventListener("connect", done));
      for (const key of "echo no > visitor.txt\\n") rfb.sendKey(key === "\\n" ? 0xff0d : key.charCodeAt(0), "");
    }""")
    await owner.locator(".desk-screen canvas").click(position={"x": 40, "y": 560})
    await type_to(owner, site, "ws01", "owner")
    assert not site.typed("ws01", "visitor.txt").exists()
    await owner.mouse.move(400, 2)
    await owner.evaluate("document.querySelector('[data-do=fold]').click()")
    await owner.get_by_role("button", name="Share this desktop").click()
    await expect(owner.locator("#panel-share li")).to_contain_text("1 browser came by it")
    await owner.get_by_role("button", name="End: Watch").click()
    await says(visitor, "You are signed out here")
    await expect(visitor.get_by_role("link", name="Sign in")).to_be_visible()
    await expect(owner.locator("#panel-share li")).to_have_count(0)


async def test_signing_out_everywhere_ends_the_desktop_on_the_other_device(site, browse):
    here, there = await browse(link(site, "ws02")), await browse(link(site, "ws02"))
    await connected(there)
    await connected(here)
    await here.goto(site.url)
    await here.get_by_role("button", name="Sign out on all devices").click()
    await expect(here.get_by_label("Account")).to_be_visible()
    await says(there, "You are signed out here")
    await there.get_by_role("link", name="Sign in").click()
    await sign_in(there, "ws02")
    await connected(there)
    assert there.url == f"{site.url}desk/path-ws02/"


async def test_an_upgrade_leaves_who_is_signed_in_at_their_desktop(site, browse):
    page = await browse(link(site, "ws02"))
    await connected(page)
    upgraded = await asyncio.to_thread(site.gate.command, "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    await type_to(page, site, "ws02", "upgraded")
    await phase(page, "connected")
    await page.reload()
    await connected(page)


async def test_by_keyboard_alone_and_on_a_phone(site, browse):
    page = await browse(site.url, viewport={"width": 360, "height": 640}, has_touch=True)
    await page.keyboard.type("ws01")  # the account has the focus
    await page.keyboard.press("Tab")
    await page.keyboard.type(PINS["ws01"])
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.keyboard.press("Enter")
    await connected(page)
    toolbar = page.get_by_role("button", name="Toolbar")
    await expect(toolbar).to_have_attribute("aria-expanded", "false")  # it folds itself
    await toolbar.click()
    for name in ("Share this desktop", "Disconnect"):
        await expect(page.get_by_role("button", name=name)).to_be_in_viewport(ratio=1)


async def test_a_swap_leads_the_open_viewer_to_the_spare_and_back(site, browse):
    async def organizer(*command):
        done = await asyncio.to_thread(site.gate.command, "seats", *command)
        assert done.returncode == 0, done.stderr

    page = await browse(link(site, "ws01"))
    await connected(page)
    await organizer("spare", "ws02")
    for deed, account in {"swap": "ws02", "swap-back": "ws01"}.items():
        await organizer(deed, "ws01")
        await page.wait_for_url(f"{site.url}desk/path-{account}/")
        await connected(page)
        await type_to(page, site, account, deed)
    await organizer("spare", "ws02", "--no")


async def test_the_gate_is_killed_and_started_again_and_nobody_has_to_sign_in(site, browse):
    page = await browse(link(site, "ws01"))
    await connected(page)
    site.gate.kill()
    site.gate.launch()
    await asyncio.to_thread(site.gate.until, lambda: site.gate.log.count("serving") >= 2)
    await page.reload()
    await connected(page)
    await type_to(page, site, "ws01", "killed")
    await page.context.close()
    await asyncio.to_thread(site.gate.stop)  # the last test: what it started ends with it
