"""Pages in English and German in Chromium: what is said, the switch, by keyboard alone, on a phone; axe-core on all."""

from __future__ import annotations

import time

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from tests.real.browser import connected, phase, says
from tests.real.conftest import need
from tests.real.relayed import Gate
from tests.real.xvnc import Xvnc
from tests.web.values import Started
from vncgate.engines.base import POLICY
from vncgate.model import DesktopState
from vncgate.web import events

need("Xvnc", "openbox", "xterm", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
DESK = {"viewport": {"width": 1200, "height": 800}}
GERMAN = {"locale": "de-DE", "timezone_id": "Europe/Berlin"}
ENGLISH = {"locale": "en-GB"}
STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState

CUT = """(width) => [...document.querySelectorAll("body *")].filter((element) => {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own && !element.matches("input, section, .desk-card")) return false;
    if (element.closest(".visually-hidden, [hidden], .reason") || !element.offsetParent) return false;
    const { left, right } = element.getBoundingClientRect();
    const clips = ["hidden", "clip"].includes(getComputedStyle(element).overflowX);
    return left < -1 || right > width + 1 || (clips && element.scrollWidth > element.clientWidth + 1);
}).map((element) => element.textContent.trim())"""
"""The texts that do not fit: outside of the window, or in a box that hides their end."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Xvnc(tmp_path_factory.mktemp("ws01"), session=True) as xvnc:
        yield xvnc


@pytest_asyncio.fixture(loop_scope="module")
async def gate(server):
    async with Gate(Started("ws01"), ws01=server) as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The gate looks for changes ten times a second."""
    monkeypatch.setattr(events, "INTERVAL", 0.1)


def landing(gate):
    return gate.url("ws01").partition("desk/")[0]


async def sound(page):
    """Nothing is cut, nothing is wider than the page, axe-core complains of nothing, and neither does the browser."""
    width = page.viewport_size["width"]
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert await page.evaluate(CUT, width) == []
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.complaints == []


WAITING = {
    STOPPED: ("Ihr Desktop läuft nicht", "", "Your desktop is not running"),
    REQUESTED: ("Ihr Desktop wartet, bis er an der Reihe ist", "Platz 3 in der Warteschlange.", "waits for its turn"),
    PENDING: ("Ihr Desktop ist in der Warteschlange", "Er wartet auf einen freien Rechner.", "is in the queue"),
    STARTING: ("Ihr Desktop startet", "Er öffnet sich von selbst, sobald er da ist.", "is starting"),
    FAILED: ("Ihr Desktop ist ausgefallen", "Es ist kein Speicherplatz", "has failed"),
}
REASONS = {REQUESTED: "3rd in line", PENDING: "waits for free nodes", FAILED: "x: No space left on device"}


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_the_list_and_the_waiting_room(browse, gate, size):
    english = await browse(landing(gate), **ENGLISH, **size)
    german = await browse(landing(gate), **GERMAN, **size)
    for page, state, reason in [
        (english, "stopped", "it starts when you open it"),
        (german, "beendet", "er startet, wenn Sie ihn öffnen"),
    ]:
        await expect(page.locator(".state-text")).to_have_text(state)
        await expect(page.locator(".reason")).to_have_text(reason)
        await sound(page)
    rooms = [await browse(gate.url("ws01"), **wish, **size) for wish in (GERMAN, ENGLISH)]
    for room, word in zip(rooms, ("VNC-Passwort", "VNC password"), strict=True):
        gate.desktops.set("ws01", STARTING)
        await room.get_by_label(word).fill("secret01")
        await room.keyboard.press("Enter")
        await phase(room, "room")
    for state, (headline, detail, in_english) in WAITING.items():
        gate.desktops.set("ws01", state, reason=REASONS.get(state, ""), starts=time.time() + 86400 * 2)
        await says(rooms[0], headline, detail)
        await says(rooms[1], in_english)
        for room in rooms:
            await sound(room)
    await expect(german.locator(".state-text")).to_have_text("fehlgeschlagen")
    await expect(german.locator(".card")).to_have_attribute("data-state", "failed")


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_the_viewer_in_german(browse, gate, size):
    gate.desktops.set("ws01", RUNNING)
    page = await browse(gate.url("ws01"), **GERMAN, **size)
    await expect(page.get_by_text("Bereit")).to_be_visible()
    await sound(page)
    await page.get_by_label("VNC-Passwort").fill("falsch")
    await page.get_by_role("button", name="Verbinden").click()
    await says(page, "Dieses Passwort wurde nicht angenommen. Bitte geben Sie es noch einmal ein.")
    page.complaints.clear()  # noVNC's own, of the password
    await sound(page)
    await page.get_by_label("VNC-Passwort").fill("secret01")
    await page.get_by_role("button", name="Verbinden").click()
    await connected(page)
    for opener, words in {
        "Größe und Bild": "Ans Fenster anpassen",
        "Tasten": "Strg-Alt-Entf",
        "Zwischenablage": "An den Desktop senden",
        "Hilfe": "vom Desktop zu dieser Werkzeugleiste",
    }.items():
        await page.evaluate("document.querySelector('[data-part=bar]').removeAttribute('data-folded')")
        await page.get_by_role("toolbar", name="Desktop").get_by_role("button", name=opener, exact=True).click()
        await expect(page.get_by_text(words)).to_be_visible()
        await sound(page)
    gate.desktops.set("ws01", RUNNING, idle_end=time.time() + 300)
    await expect(page.locator("[data-part=warning-text]")).to_contain_text("beendet, weil ihn niemand benutzt hat")
    await sound(page)
    gate.desktops.set("ws01", RUNNING)
    await gate.close("ws01", POLICY, "stopped by the organizers")
    await says(page, "Dieser Desktop wurde vom Organisationsteam geschlossen", "Vom Organisationsteam angehalten.")
    await sound(page)


async def test_the_switch_by_keyboard_alone(browse, gate):
    """From the list to German, to a desktop in it, and back to English there; the page stays the same."""
    gate.desktops.set("ws01", RUNNING)
    page = await browse(landing(gate), **ENGLISH)
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    await tab_to(page, "Deutsch")
    await page.keyboard.press("Enter")
    await expect(page.locator("html")).to_have_attribute("lang", "de")
    await expect(page.get_by_role("link", name="Deutsch")).to_have_attribute("aria-current", "true")
    await expect(page.locator(".state-text")).to_have_text("bereit")
    await tab_to(page, "WS01")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("VNC-Passwort")).to_be_focused()
    address = page.url
    await tab_to(page, "English")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("VNC password")).to_be_focused()
    assert page.url == f"{address}?language=en"
    await page.keyboard.type("secret01")
    await page.keyboard.press("Enter")
    await connected(page)
    assert page.complaints == []


async def tab_to(page, name):
    """Press Tab until a link has the focus."""
    for _ in range(30):
        await page.keyboard.press("Tab")
        if name in await page.evaluate(
            "document.activeElement.tagName === 'A' ? document.activeElement.innerText : ''"
        ):
            return
    raise AssertionError(f"Tab does not lead to {name}")


async def test_without_scripts_the_switch_works_as_well(browse, gate):
    page = await browse(landing(gate), java_script_enabled=False, **ENGLISH)
    await page.get_by_role("link", name="Deutsch").click()
    await expect(page.get_by_role("heading", name="Workshop-Desktops")).to_be_visible()
    await expect(page.get_by_role("link", name="WS01")).to_contain_text("beendet")


@pytest.mark.parametrize("wish", [GERMAN, ENGLISH], ids=["de", "en"])
async def test_a_page_that_is_not_there(browse, gate, wish):
    page = await browse(f"{landing(gate)}nowhere", **wish, **PHONE)
    heading = "Nicht gefunden" if wish is GERMAN else "Not found"
    await expect(page.get_by_role("heading", name=heading)).to_be_visible()
    page.complaints.clear()  # of the 404 itself
    await sound(page)
