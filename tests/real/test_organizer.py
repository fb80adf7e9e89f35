"""The organizer's page in Chromium, before a real gate with two real desktops: giving, telling, swapping, revoking."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.real.browser import connected, content
from tests.real.conftest import need
from tests.real.gate import RunningGate
from tests.real.xvnc import Xvnc

need("Xvnc", "openbox", "xterm", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]
MINUTE = 60_000
"""What is promised: in milliseconds."""


class Site:
    def __init__(self, folder):
        self.desktops = {name: Xvnc(folder / name, session=True) for name in ("ws01", "ws02")}
        self.gate = RunningGate(folder)
        self.gate.environ |= {"STATE_DIRECTORY": str(folder / "state"), "PYTHONUNBUFFERED": "1"}
        self.url = f"http://127.0.0.1:{self.gate.web}/"
        self.gate.settings = f'access = "seat"\npublic_url = "{self.url}"\n[api]\ntokens = "{folder / "api.tokens"}"\n'
        self.token = ""

    def command(self, *args):
        done = self.gate.command(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def made(self, name, file):
        return self.desktops[name].folder / file


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("organizer"))
    for desktop in site.desktops.values():
        desktop.start()
    try:
        site.gate.write(*(site.gate.line(name, desktop) for name, desktop in site.desktops.items()))
        with site.gate:
            site.token = token(site, "token", "new", "ada", "--scope", "organize")
            yield site
    finally:
        for desktop in site.desktops.values():
            desktop.stop()


def token(site, *argv):
    """What a command about tokens prints: it has settings, and no control socket."""
    config = ["--config", str(site.gate.config)]
    done = subprocess.run(
        [sys.executable, "-m", "vncgate", *argv, *config], capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def organizer(browse, site, **options):
    page = await browse(f"{site.url}organizer", **options)
    await page.keyboard.type(site.token)  # the field has the focus
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(2)
    return page


async def choose(page, account, deed):
    """Open a seat's dialog, and choose what is to be done, by keyboard alone."""
    if not await page.locator("#seat").evaluate("it => it.open"):
        button = page.get_by_role("button", name=account, exact=True)
        await button.focus()
        await page.keyboard.press("Enter")
    await page.locator(f"[data-deed={deed}]").focus()
    await page.keyboard.press("Enter")


async def test_a_broken_desktop_is_swapped_and_its_participant_goes_on(site, browse):
    page = await organizer(browse, site)
    await choose(page, "ws02", "spare")
    await expect(page.locator("#seat [data-part=said]")).to_have_text("ws02 is a spare.")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="ws02", exact=True)).to_be_focused()

    await choose(page, "ws01", "assign")
    await expect(page.get_by_label("Name of somebody new")).to_be_focused()
    await page.keyboard.type("Ada Lovelace")
    await page.keyboard.press("Enter")
    await expect(page.locator("#seat [data-part=said]")).to_have_text("ws01 is theirs.")
    await choose(page, "ws01", "link")
    await expect(page.get_by_alt_text("The link as a QR code")).to_be_visible()
    link = await page.locator(".address").text_content()
    await page.keyboard.press("Escape")

    ada = await browse(link)
    await connected(ada)
    assert ada.url == f"{site.url}desk/path-ws01/"
    await ada.keyboard.type("echo one > one.txt\n")
    assert await content(site.made("ws01", "one.txt")) == "one\n"

    await choose(page, "ws01", "message")
    await page.keyboard.type("Lunch at <noon>.")
    await page.get_by_role("button", name="Send").focus()
    await page.keyboard.press("Enter")
    note = ada.locator(".desk-note")
    await expect(note).to_have_text(re.compile("Organizers: Lunch at <noon>."), timeout=MINUTE)
    await note.get_by_role("button").click()
    await expect(note).to_have_count(0)
    await expect(ada.locator(".desk-screen canvas")).to_be_focused()

    await expect(page.locator("#seat [data-part=facts]")).to_contain_text("Ada Lovelace")
    await expect(page.locator("#seat [data-part=facts]")).to_contain_text("in use", timeout=MINUTE)
    await expect(page.locator("#seat [data-part=facts]")).to_contain_text(
        re.compile("just now|min ago"), timeout=MINUTE
    )
    with site.desktops["ws01"].frozen():  # it hangs
        await choose(page, "ws01", "swap")
        await page.get_by_role("button", name="Swap", exact=True).focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#seat [data-part=said]")).to_have_text("ws01 shows the desktop of ws02.")

        await ada.wait_for_url(f"{site.url}desk/path-ws02/", timeout=MINUTE)
        await connected(ada)
        await ada.keyboard.type("echo two > two.txt\n")
        assert await content(site.made("ws02", "two.txt")) == "two\n"

    (cookie,) = [each for each in await ada.context.cookies() if each["name"] == "vncgate_session"]
    websocket = f"http://127.0.0.1:{site.gate.shared}/ws/path-"
    async with aiohttp.ClientSession(cookies={cookie["name"]: cookie["value"]}) as client:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await client.ws_connect(f"{websocket}ws01")
        async with client.ws_connect(f"{websocket}ws02"):
            pass
    await ada.goto(f"{site.url}desk/path-ws01/")
    await ada.wait_for_url(f"{site.url}desk/path-ws02/")
    await connected(ada)

    await choose(page, "ws01", "swap-back")
    await page.get_by_role("button", name="Swap back", exact=True).last.focus()
    await page.keyboard.press("Enter")
    await ada.wait_for_url(f"{site.url}desk/path-ws01/", timeout=MINUTE)
    await connected(ada)
    assert not page.complaints
    log = site.gate.log
    assert "Lovelace" not in log
    assert link.partition("#")[2] not in log
    assert site.token not in log
    told = site.command("seats", "audit")
    assert "swap back" in told
    assert "Lovelace" not in told


async def test_a_seat_that_is_revoked_is_left_at_once(site, browse):
    link = site.command("seats", "link", "ws01").strip()
    ada = await browse(link)
    await connected(ada)
    page = await organizer(browse, site)
    await choose(page, "ws01", "revoke")
    await expect(page.locator("#ask [value=cancel]")).to_be_focused()  # it hurts: Enter alone does nothing
    await page.get_by_role("button", name="Revoke", exact=True).last.click()
    await expect(ada.get_by_role("link", name="Sign in")).to_be_visible(timeout=MINUTE)
    again = await browse(link)
    await expect(again.locator("body")).to_contain_text("does not open anything")
    await choose(page, "ws01", "pin")
    await page.get_by_role("button", name="New PIN", exact=True).last.click()
    pin = await page.locator(".secret").text_content()
    await page.keyboard.press("Escape")
    assert pin not in await page.content(), "it is shown no longer than it is read"
    await again.goto(site.url)
    await again.get_by_label("Account").fill("ws01")
    await again.get_by_label("PIN", exact=True).fill(pin)
    await again.get_by_role("button", name="Sign in").click()
    await connected(again)


async def test_what_ends_somebodys_desktop_says_so(site, browse):
    site.gate.command("seats", "assign", "ws01", "--name", "Ada")  # where nobody sits there yet
    page = await organizer(browse, site)
    for deed in ("move", "release"):
        await choose(page, "ws01", deed)
        said = page.locator("#ask [data-part=text]")
        await expect(said).to_have_text(
            re.compile("desktop .*ends, where the gate started it; what is not saved is lost")
        )
        await page.get_by_role("button", name="Cancel").click()


async def test_nothing_sits_tight_under_what_is_above_it(site, browse):
    """In pixels: a line of text is 24 high."""
    page = await browse(f"{site.url}organizer/sign-in", locale="de-DE")
    assert await gap(page, "h1", "label[for=token]") >= 16
    page = await browse(site.command("seats", "link", "ws02").strip(), locale="de-DE")
    await page.wait_for_url("**/desk/**")
    await page.goto(f"{site.url}sign-up/seat")
    assert await gap(page, ".form-card + .hint", "form[action$='sign-up/pin'] button") >= 16


async def gap(page, above, below):
    """How far two elements stand apart."""
    upper, lower = [await page.locator(name).bounding_box() for name in (above, below)]
    return lower["y"] - upper["y"] - upper["height"]


async def test_people_come_from_a_table_and_go(site, browse):
    page = await organizer(browse, site)
    await page.get_by_role("link", name="People").click()
    table = "name;email;team\nBo;bo@example.org;red\nCy;;=cmd\n".encode("utf-8-sig")
    wrong = {"name": "w.csv", "mimeType": "text/csv", "buffer": b"name,account\nDi,ws99\n"}
    await page.locator("[data-do=import]").set_input_files(wrong)
    await page.get_by_role("button", name="Take in", exact=True).click()
    await expect(page.locator("[data-part=problems]")).to_contain_text("line 2, cell 2: there is no account ws99")
    right = {"name": "people.csv", "mimeType": "text/csv", "buffer": table}
    await page.locator("[data-do=import]").set_input_files(right)
    await page.get_by_role("button", name="Take in", exact=True).click()
    await expect(page.locator("[data-part=said]").first).to_have_text("2 lines were taken in.")
    await expect(page.locator("tr[data-name=Bo]")).to_contain_text("bo@example.org")
    await page.get_by_role("button", name="Remove Cy").click()
    await expect(page.locator("#ask [data-part=text]")).to_contain_text("Their desktop ends, where the gate started it")
    await page.get_by_role("button", name="Remove", exact=True).last.click()
    await expect(page.locator("tr[data-name=Cy]")).to_have_count(0)
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download as CSV").click()
    text = (await (await download.value).path()).read_text(encoding="utf-8-sig")
    assert "Bo,bo@example.org" in text
    (refusal,) = page.complaints  # Chromium's own word for the first table
    assert "422" in refusal


async def test_whoever_revokes_the_token_ends_the_page(site, browse):
    made = token(site, "token", "new", "eve", "--scope", "organize")
    page = await browse(f"{site.url}organizer")
    await page.get_by_label("Token").fill(made)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("tbody tr")).to_have_count(2)
    token(site, "token", "revoke", "eve")  # and nobody clicks
    await expect(page.get_by_label("Token")).to_be_visible(timeout=MINUTE)


@pytest.mark.parametrize(
    "options",
    [{"viewport": {"width": 360, "height": 740}}, {"locale": "de-DE", "color_scheme": "dark"}],
    ids=["phone", "german and dark"],
)
async def test_no_serious_hindrance_on_any_page(site, browse, options):
    from axe_playwright_python.async_playwright import Axe

    async def check(what):
        found = (await Axe().run(page)).response["violations"]
        serious = [
            (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], what
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{what} is wider than the window"

    page = await browse(f"{site.url}organizer/sign-in", **options)
    await check("signing in")
    await page.locator("#token").fill(site.token)
    await page.keyboard.press("Enter")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await check("seats")
    await page.locator("button.account").first.click()
    await check("a seat")
    await page.locator("[data-deed=link]").click()
    await expect(page.locator(".qr")).to_be_visible()
    await check("a link")
    await page.keyboard.press("Escape")
    await page.locator("[data-deed=message]").click()
    await check("a question")
    for path in ("people", "audit"):
        await page.goto(f"{site.url}organizer/{path}")
        await check(path)
    assert not page.complaints
