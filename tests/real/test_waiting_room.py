"""The waiting room and the warning in Chromium: pages, relay and a real Xvnc, with a launcher that tests make up."""

from __future__ import annotations

import re
import time

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from tests.real.browser import HOST, connected, content, log_in, open_page, phase, says
from tests.real.conftest import need
from tests.real.relayed import Gate
from tests.real.test_landing import CONTRASTS
from tests.real.xvnc import Xvnc
from tests.web.values import Started
from vncgate.engines.base import SERVICE_RESTART
from vncgate.model import DesktopState
from vncgate.web import events
from vncgate.web.export import export

need("Xvnc", "openbox", "xterm", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

PHONE = {"viewport": {"width": 375, "height": 700}, "is_mobile": True, "has_touch": True}
STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState


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


def asked(gate, deed):
    return gate.desktops.asked.count((deed, "ws01"))


def card(page):
    return page.locator(".card")


async def types(page, server, name):
    await page.keyboard.type(f"echo {name} > {name}.txt\n")
    assert await content(server.folder / f"{name}.txt") == f"{name}\n"


async def test_from_the_card_to_a_key_in_a_desktop_that_comes_dies_and_comes_again(browse, tmp_path):
    with Xvnc(tmp_path, session=True) as own:
        desktops = Started("ws01")
        desktops.answer = lambda _, name: desktops.set(name, REQUESTED, reason="3rd in line")
        async with Gate(desktops, ws01=own) as gate:
            page = await browse(gate.url("ws01").partition("desk/")[0])
            await expect(card(page).locator(".state-text")).to_have_text("stopped")
            await expect(card(page).locator(".reason")).to_have_text("it starts when you open it")
            landing = await open_page(page.context, page.url)
            await page.get_by_role("link", name="WS01").click()
            await says(page, "Your desktop waits for its turn", "3rd in line.")
            assert desktops.asked == [("visit", "ws01")]
            starts = time.time() + 300
            desktops.set("ws01", PENDING, reason="it waits for free nodes", starts=starts)
            at = time.strftime("%H:%M", time.localtime(starts))
            await says(page, "Your desktop is in the queue", f"It waits for a free computer. Expected to start at {at}")
            await expect(card(landing).locator(".reason")).to_have_text(
                re.compile("waits for a free computer; expected to ")
            )
            await expect(page.get_by_text(re.compile(r"in about [45] minutes"))).to_be_visible()
            await log_in(page)
            await phase(page, "room")
            await expect(page.locator("[data-part=notice]")).to_be_focused()
            desktops.set("ws01", STARTING)
            await says(page, "Your desktop is starting", "It opens by itself as soon as it is there.")
            desktops.set("ws01", RUNNING)
            await connected(page)
            await types(page, own, "first")

            own.kill()
            desktops.set("ws01", REQUESTED, reason=f"{tmp_path}: it died; trying again in 1 s", is_again=True)
            await says(
                page, "Your desktop is being started again", "Something went wrong with it; it starts by itself."
            )
            own.start()
            desktops.set("ws01", RUNNING)
            await connected(page)
            await types(page, own, "second")

            desktops.set("ws01", STOPPING)
            await gate.close("ws01", SERVICE_RESTART, "the desktop moved")
            await says(page, "Your desktop is being ended")
            desktops.set("ws01", STOPPED, reason="nobody used it for 1 h")
            await says(page, "Your desktop has ended", "Nobody used it for 1 h.")
            await expect(page).to_have_title("Stopped · WS01 · Workshop desktops")
            assert asked(gate, "visit") == 1  # a page that was left open starts nothing by itself
            await page.get_by_role("button", name="Start").click()
            await says(page, "Your desktop waits for its turn")
            assert asked(gate, "retry") == 1
            await gate.open("ws01")
            desktops.set("ws01", RUNNING)
            await connected(page)


async def test_a_failure_says_why_and_is_tried_again_by_keyboard(browse, gate):
    gate.desktops.set("ws01", FAILED, reason="mkdir: /home/ws01: No space left on device")
    page = await browse(gate.url("ws01"))
    await says(page, "Your desktop has failed", "There is no space left for its files: ask the organizers.")
    assert "/home" not in await page.locator("body").inner_text()
    await expect(page.get_by_label("VNC password")).to_be_hidden()
    await expect(page.get_by_role("button")).to_have_count(1)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Try again")).to_be_focused()
    gate.desktops.answer = lambda _, name: gate.desktops.set(name, STARTING)
    await page.keyboard.press("Enter")
    await says(page, "Your desktop is starting")
    await expect(page.get_by_role("button", name="Try again")).to_be_hidden()
    await expect(page.get_by_label("VNC password")).to_be_focused()  # the button that had the focus is gone
    assert asked(gate, "retry") == 1
    assert page.complaints == []


async def test_a_desktop_that_only_the_organizers_start_has_no_button(browse, gate):
    gate.desktops.set("ws01", STOPPED, kind="manual")
    page = await browse(gate.url("ws01"))
    await says(page, "Your desktop is not started yet", "The organizers start it; this page then goes on by itself.")
    await expect(page.get_by_role("button")).to_have_count(0)
    await expect(page.locator("[data-part=notice]")).to_be_focused()  # the form had it
    gate.desktops.set("ws01", STARTING, kind="manual")
    await says(page, "Your desktop is starting")
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("VNC password")).to_be_focused()
    await page.keyboard.type("secret01\n")
    await phase(page, "room")
    gate.desktops.set("ws01", RUNNING, kind="manual")
    await connected(page)
    assert asked(gate, "retry") == 0


HEARD = """() => {
    window.heard = [];
    const live = document.querySelector("[data-part=live]");
    new MutationObserver(() => window.heard.push(live.textContent)).observe(live, {childList: true});
}"""


async def test_what_is_read_aloud_is_a_new_state_and_not_every_step_in_a_line(browse, gate):
    gate.desktops.set("ws01", REQUESTED, reason="9th in line")
    page = await browse(gate.url("ws01"))
    await says(page, "Your desktop waits for its turn", "9th in line.")
    await page.evaluate(HEARD)
    for position in ("8th", "7th", "6th"):
        gate.desktops.set("ws01", REQUESTED, reason=f"{position} in line")
        await says(page, "Your desktop waits for its turn", f"{position} in line.")
    gate.desktops.set("ws01", STARTING)
    await says(page, "Your desktop is starting")
    gate.desktops.set("ws01", FAILED, reason="still in the queue of hpc after 2 h")
    await says(page, "Your desktop has failed")
    await page.route("**/api/desktops/*/start*", lambda route: route.abort())
    await page.get_by_role("button", name="Try again").click()
    await says(page, "Your desktop has failed", "The gate did not answer.")
    starting, failed, trouble = await page.evaluate("window.heard")
    assert starting.startswith("Your desktop is starting You can type")
    assert failed.startswith("Your desktop has failed It waited too long in the queue")
    assert trouble == "The gate did not answer. Please try again."


async def test_the_warning_leaves_the_keyboard_to_the_desktop_and_stay_is_reached_by_it(browse, gate, server):
    gate.desktops.set("ws01", RUNNING, idle_end=time.time() + 300)
    page = await browse(gate.url("ws01"))
    await log_in(page)
    await connected(page)
    warning = page.locator("[data-part=warning]")
    await expect(warning).to_contain_text(re.compile(r"ended at \d\d:\d\d because nobody has used it \(in 4:\d\d\)"))
    first = await warning.text_content()
    await expect(page.get_by_role("status").filter(has_text="lead to the button Stay")).to_be_attached()
    await types(page, server, "warned")
    await expect(warning).not_to_have_text(first)
    await expect(page).to_have_title(re.compile(r"Ends in 4:\d\d · WS01"))
    for way in ("down", "up"):
        for key in ("Control", "Alt", "Shift"):
            await getattr(page.keyboard, way)(key)
    stay = page.get_by_role("button", name="Stay")
    await expect(stay).to_be_focused()
    gate.desktops.answer = lambda _, name: gate.desktops.set(name, RUNNING)
    await page.keyboard.press("Enter")
    await expect(warning).to_be_hidden()
    assert asked(gate, "stay") == 1
    await expect(page.locator(".desk-screen canvas")).to_be_focused()
    await expect(page.locator(".bar-row")).to_be_hidden()
    await types(page, server, "stayed")  # no modifier stayed down
    assert page.complaints == []


async def test_a_warning_comes_while_one_works_and_goes_with_the_status(browse, gate, server):
    gate.desktops.set("ws01", RUNNING)
    page = await browse(gate.url("ws01"), before=lambda page: page.clock.install())
    await log_in(page)
    await connected(page)
    warning = page.locator("[data-part=warning]")
    await expect(warning).to_be_hidden()
    gate.desktops.set("ws01", RUNNING, ends=time.time() + 250, is_ending=True)
    await page.clock.fast_forward(16_000)  # while one works no stream is held: the gate is asked now and then
    await expect(warning).to_contain_text("time is up at")
    await expect(page.get_by_role("button", name="Stay")).to_be_hidden()
    gate.desktops.set("ws01", RUNNING, idle_end=time.time() + 100)
    await page.get_by_role("button", name="Stay").click()  # told by the stream, which is held while one is warned
    await expect(page.locator(".desk-screen canvas")).to_be_focused()
    gate.desktops.set("ws01", RUNNING)
    await expect(warning).to_be_hidden()
    await types(page, server, "went")


async def test_what_did_not_reach_the_gate_is_told_and_done_again(browse, gate):
    page = await browse(gate.url("ws01"))
    await says(page, "Your desktop is not running")
    await page.route("**/api/desktops/*/start*", lambda route: route.abort())
    await page.get_by_role("button", name="Start").click()
    await says(page, "Your desktop is not running", "The gate did not answer. Please try again.")
    await page.unroute("**/api/desktops/*/start*")
    gate.desktops.answer = lambda _, name: gate.desktops.set(name, STARTING)
    await page.get_by_role("button", name="Start").click()
    await says(page, "Your desktop is starting", "You can type your password now")
    await expect(page.get_by_text("Please try again")).to_be_hidden()


async def test_without_its_stream_the_page_asks_now_and_then(browse, gate):
    gate.desktops.set("ws01", PENDING)

    async def no_stream(page):
        await page.clock.install()
        await page.route("**/api/events*", lambda route: route.abort())

    page = await browse(gate.url("ws01"), before=no_stream)
    await says(page, "Your desktop is in the queue")
    gate.desktops.set("ws01", STARTING)
    await page.clock.run_for(16_000)
    await says(page, "Your desktop is starting")
    await page.route("**/api/**", lambda route: route.abort())
    await page.clock.run_for(16_000)
    await says(page, "Your desktop is starting", "this may be out of date")
    assert asked(gate, "visit") == 1


async def test_a_visit_that_did_not_reach_the_gate_is_made_again(browse, gate):
    async def no_gate(page):
        await page.clock.install()
        await page.route("**/api/**", lambda route: route.abort())

    page = await browse(gate.url("ws01"), before=no_gate)
    await phase(page, "asking")
    await page.unroute("**/api/**")
    assert asked(gate, "visit") == 0
    await page.clock.run_for(16_000)
    await says(page, "Your desktop is not running")
    assert asked(gate, "visit") == 1


async def test_without_tls_and_from_a_file_the_desktop_is_asked_for_too(browse, gate, tmp_path):
    await says(await browse(gate.url("ws01").replace("127.0.0.1", HOST)), "Your desktop is not running")
    assert asked(gate, "visit") == 1
    export(tmp_path, gate.settings, gate.roster())

    async def static(page):
        body = tmp_path / "desk/ws01/index.html"
        await page.route(gate.url("ws01") + "/", lambda route: route.fulfill(path=body))

    page = await browse(gate.url("ws01") + "/", before=static)
    await says(page, "Your desktop is not running")
    assert asked(gate, "visit") == 2
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_on_a_phone_all_of_it_fits_and_can_be_read(browse, gate, scheme):
    reason = "slurmstepd: error: " + "a_very_long_word_without_any_break" * 4 + ": No space left on device"
    page = await browse(gate.url("ws01"), color_scheme=scheme, reduced_motion="reduce", **PHONE)
    for state, headline in ENDED.items():
        gate.desktops.set("ws01", state, reason=reason, starts=time.time() + 400000)
        await says(page, headline, "There is no space left")
        await fits(page)
    await page.close()
    gate.desktops.set("ws01", RUNNING, idle_end=time.time() + 300)
    page = await browse(gate.url("ws01"), color_scheme=scheme, **PHONE)
    await page.get_by_label("VNC password").fill("secret01")
    await page.get_by_role("button", name="Connect").tap()
    box = await page.get_by_role("button", name="Stay").bounding_box()
    assert box["height"] >= 40
    assert box["x"] + box["width"] <= 375
    await fits(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_to_complain_of(browse, gate, scheme):
    """WCAG 2.2 A and AA and more, as far as a program can judge: axe-core, over the list, every state and the form."""
    gate.desktops.set("ws01", RUNNING)
    landing = await browse(gate.url("ws01").partition("desk/")[0], color_scheme=scheme, reduced_motion="reduce")
    room = await open_page(landing.context, gate.url("ws01"))
    await expect(room.get_by_text("Ready")).to_be_visible()
    await unobjectionable(landing)
    await unobjectionable(room)
    for (state, kind), headline in HEADLINE.items():
        gate.desktops.set("ws01", state, kind=kind)
        await says(room, headline)
        await unobjectionable(room)
    await expect(landing.locator(".card")).to_have_attribute("data-state", "failed")
    await unobjectionable(landing)


ENDED = {
    STOPPED: "Your desktop has ended",
    REQUESTED: "Your desktop waits for its turn",
    PENDING: "Your desktop is in the queue",
    STARTING: "Your desktop is starting",
    STOPPING: "Your desktop is being ended",
    FAILED: "Your desktop has failed",
}
HEADLINE = {
    (STOPPED, "on_demand"): "Your desktop is not running",
    (STOPPED, "manual"): "Your desktop is not started yet",
    (REQUESTED, "on_demand"): "Your desktop is on its way",
    (PENDING, "on_demand"): "Your desktop is in the queue",
    (STARTING, "on_demand"): "Your desktop is starting",
    (STOPPING, "on_demand"): "Your desktop is being ended",
    (FAILED, "on_demand"): "Your desktop has failed",
}


async def unobjectionable(page):
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 20


async def fits(page):
    assert await page.evaluate("document.documentElement.scrollWidth") == 375
    contrasts = await page.evaluate(CONTRASTS)
    seen = [(text, contrast) for text, contrast in contrasts if not text.startswith("visually-hidden")]
    assert len(seen) > 1
    assert [(text, contrast) for text, contrast in seen if contrast < 4.5] == []
    assert page.complaints == []
