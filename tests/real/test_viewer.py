"""The viewer in Chromium, through the built-in relay, on a real Xvnc with an xterm in it."""

from __future__ import annotations

import asyncio
import base64
import re

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.real.browser import HOST, PATIENCE, appears, connected, content, log_in, phase, says
from tests.real.conftest import need
from tests.real.relayed import Gate
from tests.real.xvnc import Xvnc
from vncgate.engines.base import POLICY, SERVICE_RESTART
from vncgate.model import Readiness

need("Xvnc", "openbox", "xterm", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Xvnc(tmp_path_factory.mktemp("ws01"), session=True) as xvnc:
        yield xvnc


@pytest_asyncio.fixture(loop_scope="module")
async def gate(server):
    async with Gate(ws01=server) as running:
        yield running


@pytest.fixture
def own_server(tmp_path):
    """An Xvnc that a test may kill."""
    with Xvnc(tmp_path, session=True) as xvnc:
        yield xvnc


@pytest_asyncio.fixture(loop_scope="module")
async def own_gate(own_server):
    async with Gate(ws01=own_server) as running:
        yield running


async def tool(page, name):
    """A button of the toolbar, which is unfolded first where it has folded away."""
    if await page.locator(".bar").get_attribute("data-folded") is not None:
        await page.get_by_role("button", name="Toolbar").click()
    return page.get_by_role("toolbar").get_by_role("button", name=re.compile(f"^{name}"))


async def shell(page, server, line, file):
    await page.keyboard.type(line + "\n")
    return await content(server.folder / file)


async def test_log_in_and_type(browse, gate, server):
    page = await browse(gate.url("ws01"))
    await expect(page.get_by_text("Ready")).to_be_visible()
    await expect(page.get_by_label("VNC password")).to_be_focused()
    await log_in(page)
    await connected(page)
    assert await shell(page, server, "echo Hello_World > typed.txt", "typed.txt") == "Hello_World\n"
    assert await page.title() == "Connected · WS01 · Workshop desktops"
    kept = await page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
    )
    assert "secret01" not in kept + await page.content()
    assert await page.get_by_label("VNC password").input_value() == ""
    assert page.complaints == []


async def test_the_modules_come_at_once_and_are_never_asked_for_again(browse, gate):
    page = await browse(gate.url("ws01"))
    await phase(page, "asking")
    named = await page.evaluate("[...document.querySelectorAll('link[rel=modulepreload]')].map(link => link.href)")
    files = [line for line in gate.served if "/static/" in line]
    assert len(files) == len(set(files)) > len(named) > 50
    assert {"200"} == {line.split()[0] for line in files}

    async def bare(route):
        answer = await route.fetch()
        await route.fulfill(response=answer, body=re.sub("<link rel=.modulepreload.*", "", await answer.text()))

    gate.served.clear()
    again, said = await page.context.new_page(), []
    again.on("console", lambda line: said.append(line.text))
    await again.goto(gate.url("ws01"))
    await phase(again, "asking")
    assert [line for line in gate.served if "/static/" in line] == []

    await again.route(gate.url("ws01"), bare)
    await again.reload()
    await phase(again, "asking")
    imported = await again.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    modules = [url for url in imported if url.endswith(".js")]
    assert sorted(named) == sorted(url for url in modules if not url.endswith("/words/en.js"))  # which is no import
    assert page.complaints + said == []


async def test_wrong_password_asks_again_and_tries_nothing_by_itself(browse, gate, server):
    page = await browse(gate.url("ws01"))
    before = server.log.count("accepted")
    await log_in(page, "wrong")
    await expect(page.get_by_role("status").filter(has_text="not accepted")).to_be_attached()
    await expect(page.get_by_label("VNC password")).to_have_value("")
    await page.clock.install()
    await page.clock.run_for(120_000)
    await page.evaluate("window.dispatchEvent(new Event('online'))")
    await phase(page, "asking")
    assert server.log.count("accepted") == before + 1
    await log_in(page)
    await connected(page)


async def test_too_many_wrong_passwords(browse, tmp_path):
    with Xvnc(tmp_path, blacklist=True) as strict:
        async with Gate(ws01=strict) as gate:
            page = await browse(gate.url("ws01"))
            for _ in range(5):
                await log_in(page, "wrong")
                await phase(page, "asking")
            await log_in(page)
            await phase(page, "waiting")
            await says(page, "The desktop refuses all logins for a while")
            await expect(page.get_by_text(re.compile(r"Trying again in [23]\d s"))).to_be_visible()


async def test_dead_desktop_comes_back(browse, own_gate, own_server):
    page = await browse(own_gate.url("ws01"))
    await log_in(page)
    await connected(page)
    own_server.kill()
    await says(page, "Connection lost")
    await says(page, "The desktop is offline", f"Desktop {own_server.desktop} refused the connection.")
    await expect(page.get_by_text(re.compile(r"Trying again in \d s"))).to_be_visible()
    own_server.start()
    await connected(page)
    assert await shell(page, own_server, "echo again > again.txt", "again.txt") == "again\n"
    assert "authentication failed" not in own_server.log.lower()


async def test_desktop_that_is_off_at_first(browse, own_gate, own_server):
    own_gate.readiness["ws01"] = (Readiness.OFFLINE, f"desktop {own_server.desktop} does not answer")
    own_server.kill()
    page = await browse(own_gate.url("ws01"))
    await expect(page.get_by_text("Offline: the desktop does not answer")).to_be_visible()
    await log_in(page)
    await says(page, "The desktop is offline")
    own_server.start()
    await connected(page)


async def test_gate_that_is_gone_restarted_or_closed_to_the_account(browse, gate, server):
    page = await browse(gate.url("ws01"))
    await gate.hide()
    gate.readiness["ws01"] = (Readiness.READY, "")
    await log_in(page)
    await phase(page, "connecting")  # the connection waits in the daemon's socket
    await gate.serve()
    await connected(page)
    await gate.close("ws01", SERVICE_RESTART, "account ws01 was changed")
    await says(page, "One moment, this desktop is being restarted")
    await gate.open("ws01")
    await connected(page)
    await gate.close("ws01", POLICY, "account ws01 was stopped by an operator")
    await says(page, "This desktop was closed by the organizers", "Account ws01 was stopped by an operator.")
    await gate.open("ws01")
    await page.get_by_role("button", name="Try again").click()
    await connected(page)
    await (await tool(page, "Disconnect")).click()
    await says(page, "You are disconnected.")


async def test_websocket_that_cannot_be_opened(browse, gate):
    page = await browse(gate.url("ws01"))
    await gate.close("ws01", POLICY, "stopped")
    await log_in(page)
    await says(page, "The desktop is offline", "Stopped by the organizers.")
    await page.route("**/api/accounts/*", lambda route: route.abort())
    await page.get_by_role("button", name="Try now").click()
    await says(page, "The workshop’s gate cannot be reached")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_label("VNC password")).to_be_visible()


async def test_computer_without_a_network(browse, gate):
    page = await browse(gate.url("ws01"))
    await page.context.set_offline(True)
    await log_in(page)
    await says(page, "This computer is offline")
    await page.context.set_offline(False)
    await connected(page)


async def test_who_only_watches_does_not_use_the_desktop_and_who_types_or_points_does(browse, gate, server):
    proxy = gate.proxies["ws01"]
    page = await browse(gate.url("ws01"))
    await log_in(page)
    await connected(page)
    await page.mouse.move(300, 300)
    await used_after(proxy, 0.0)
    window = server.spawn("xterm", "-geometry", "80x10-0-0", "-e", "while sleep 0.05; do date +%N; done")
    before = proxy.traffic()
    async with asyncio.timeout(PATIENCE):
        while proxy.traffic().bytes_up < before.bytes_up + 300:  # it asks for updates, and gets them
            await asyncio.sleep(0.1)
    assert proxy.traffic().bytes_down > before.bytes_down
    assert proxy.traffic().used == before.used
    window.terminate()
    window.wait(PATIENCE)
    for use in (
        lambda: page.keyboard.press("Shift"),
        lambda: page.mouse.move(310, 300),
        lambda: page.mouse.wheel(0, 100),
        lambda: page.mouse.click(310, 300),
    ):
        last = proxy.traffic().used
        await use()
        await used_after(proxy, last)


async def used_after(proxy, moment):
    """Wait for a use of the desktop later than that."""
    async with asyncio.timeout(PATIENCE):
        while proxy.traffic().used <= moment:
            await asyncio.sleep(0.02)


async def test_clipboard_both_ways(browse, gate, server):
    page = await browse(gate.url("ws01"), permissions=["clipboard-read", "clipboard-write"])
    await page.evaluate("navigator.clipboard.writeText('echo pasted > pasted.txt\\n')")
    await log_in(page)
    await connected(page)
    pasted = server.folder / "pasted.txt"
    async with asyncio.timeout(PATIENCE):
        while not pasted.exists():  # the clipboard is on its way, and nobody says when it is there
            await page.keyboard.press("Shift+Insert")  # an xterm pastes what was selected last
            await asyncio.sleep(0.3)
    assert await content(pasted) == "pasted\n"
    copied = base64.b64encode(b"from the desktop").decode()
    copier = f"printf '\\033]52;c;{copied}\\007'; exec sleep 60"
    window = server.spawn("xterm", "-xrm", "XTerm*allowWindowOps: true", "-e", copier)
    await page.wait_for_function("async () => await navigator.clipboard.readText() === 'from the desktop'")
    await (await tool(page, "Clipboard")).click()
    await expect(page.get_by_label("The desktop’s clipboard")).to_have_value("from the desktop")
    window.terminate()
    window.wait(PATIENCE)


async def test_sticky_keys_and_escape(browse, gate, server):
    page = await browse(gate.url("ws01"))
    await log_in(page)
    await connected(page)
    await page.keyboard.type("cat > cut.txt\n")
    await appears(server.folder / "cut.txt")  # an earlier Ctrl+C would not be the cat's
    await (await tool(page, "Keys")).click()
    control = page.get_by_role("button", name="Ctrl", exact=True)
    await control.click()
    await expect(control).to_have_attribute("aria-pressed", "true")
    await page.keyboard.type("c")
    await expect(control).to_have_attribute("aria-pressed", "false")
    assert await shell(page, server, "echo free > free.txt", "free.txt") == "free\n"
    await page.keyboard.type("cat -v > escape.txt\n")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Esc", exact=True).click()
    await page.keyboard.type("\n")
    await page.keyboard.press("Control+d")
    assert await content(server.folder / "escape.txt") == "^[^[\n"


async def test_ctrl_alt_del_arrives(browse, gate, server):
    need("xev")
    page = await browse(gate.url("ws01"))
    await log_in(page)
    await connected(page)
    # A program of the desktop's own, whose window gets the focus: it writes down every key.
    keys = server.folder / "keys.txt"
    window = server.spawn("sh", "-c", "exec stdbuf -oL xev -event focus -event keyboard > keys.txt")
    await appears(keys, lambda file: file.exists() and "FocusIn" in file.read_text())
    await (await tool(page, "Keys")).click()
    await page.get_by_role("button", name="Ctrl-Alt-Del").click()
    await appears(keys, lambda file: len(key_events(file)) >= 6)
    assert key_events(keys) == [
        *(("KeyPress", key) for key in ("Control_L", "Alt_L", "Delete")),
        *(("KeyRelease", key) for key in ("Delete", "Alt_L", "Control_L")),
    ]
    window.terminate()
    window.wait(PATIENCE)


def key_events(file):
    """What xev has written down: presses and releases with the names of their keys."""
    event = re.compile(r"^(KeyPress|KeyRelease) event,.*?\(keysym 0x\w+, (\w+)\)", re.MULTILINE | re.DOTALL)
    return event.findall(file.read_text())


async def test_view_only(browse, gate, server):
    page = await browse(gate.url("ws01"))
    await log_in(page)
    await connected(page)
    view = await tool(page, "View only")
    await view.click()
    await expect(view).to_have_attribute("aria-pressed", "true")
    await page.keyboard.type("touch blocked; ")
    await view.click()
    assert await shell(page, server, "echo seen > seen.txt", "seen.txt") == "seen\n"
    assert not (server.folder / "blocked").exists()


async def test_a_key_that_is_down_when_the_desktop_appears_does_not_stay_down(browse, gate, server):
    page = await browse(gate.url("ws01"))
    # Between noVNC's "connect" and the first picture, which says that the server knows QEMU's key messages.
    await page.evaluate("""() => {
        const desk = document.getElementById("desk");
        const press = () => document.activeElement.dispatchEvent(
            new KeyboardEvent("keydown", { key: "Control", code: "ControlLeft", ctrlKey: true, bubbles: true }));
        new MutationObserver((_, observer) => {
            if (desk.dataset.phase !== "connected") return;
            observer.disconnect();
            press();
        }).observe(desk, { attributes: true });
    }""")
    await log_in(page)
    await connected(page)
    await page.wait_for_function("""() => {
        const picture = document.querySelector(".desk-screen canvas").getContext("2d");
        return picture.getImageData(400, 300, 1, 1).data[0] > 200;
    }""")
    await page.keyboard.up("Control")
    assert await shell(page, server, "echo early > early.txt", "early.txt") == "early\n"


async def test_the_toolbar_by_keyboard(browse, gate, server):
    page = await browse(gate.url("ws01"))
    await log_in(page)
    await connected(page)
    for key in ("Control", "Alt", "Shift"):
        await page.keyboard.down(key)
    for key in ("Shift", "Alt", "Control"):
        await page.keyboard.up(key)
    await expect(page.get_by_role("link", name="Back to the list").last).to_be_focused()
    await page.keyboard.press("ArrowLeft")
    await expect(page.get_by_role("button", name="Disconnect")).to_be_focused()
    await page.keyboard.press("ArrowLeft")
    await page.keyboard.press("Enter")
    panel = page.get_by_role("region", name="Help")
    await expect(panel).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(panel).to_be_hidden()
    await expect(page.get_by_role("button", name="Help")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator(".desk-screen canvas")).to_be_focused()
    assert await shell(page, server, "echo plain > plain.txt", "plain.txt") == "plain\n"  # no modifier stayed down


@pytest.mark.parametrize(("width", "height"), [(1200, 640), (500, 700)])
async def test_the_picture_fits_the_window_from_the_start(browse, gate, width, height):
    page = await browse(gate.url("ws01"), viewport={"width": width, "height": height})
    await log_in(page)
    await connected(page)
    canvas = page.locator(".desk-screen canvas")
    await expect(canvas).to_have_js_property("width", 800)  # the desktop keeps its size: others may look at it too
    box, factor = await canvas.bounding_box(), min(width / 800, height / 600)
    assert (box["width"], box["height"]) == pytest.approx((800 * factor, 600 * factor), abs=1)
    assert box["x"] == pytest.approx((width - box["width"]) / 2, abs=1)
    await (await tool(page, "Size and picture")).click()
    await expect(page.get_by_label("Fit the window")).to_be_checked()
    await page.set_viewport_size({"width": 400, "height": height})
    await page.wait_for_function("() => Math.abs(document.querySelector('.desk-screen canvas').clientWidth - 400) <= 1")


async def test_size_and_full_screen(browse, gate):
    page = await browse(gate.url("ws01"), viewport={"width": 900, "height": 640})
    await log_in(page)
    await connected(page)
    canvas = page.locator(".desk-screen canvas")
    await expect(canvas).to_have_js_property("width", 800)
    await (await tool(page, "Size and picture")).click()
    await page.get_by_label("Change the desktop’s size").check()
    await expect(canvas).to_have_js_property("width", 900)
    await expect(canvas).to_have_js_property("height", 640)
    await page.get_by_label("For a slow network").check()
    await (await tool(page, "Full screen")).click()
    await page.wait_for_function("document.fullscreenElement !== null")
    await page.reload()
    await log_in(page)
    await connected(page)
    await (await tool(page, "Size and picture")).click()
    await expect(page.get_by_label("For a slow network")).to_be_checked()
    assert page.complaints == []


async def test_the_keyboard_of_a_touch_screen(browse, gate, server):
    page = await browse(
        gate.url("ws01"), viewport={"width": 390, "height": 760}, is_mobile=True, has_touch=True, device_scale_factor=2
    )
    await page.get_by_label("VNC password").fill("secret01")
    await page.get_by_role("button", name="Connect").tap()
    await phase(page, "connected")
    button = await tool(page, "Keyboard")
    await button.tap()
    await expect(button).to_have_attribute("aria-pressed", "true")
    # As an Android keyboard does it: a word is composed, corrected, taken over; nothing of it comes as keys.
    devtools = await page.context.new_cdp_session(page)
    for text in ("e", "exho", "echo"):
        await devtools.send(
            "Input.imeSetComposition", {"text": text, "selectionStart": len(text), "selectionEnd": len(text)}
        )
    await devtools.send("Input.insertText", {"text": "echo"})
    await devtools.send("Input.insertText", {"text": " touchedd"})
    await page.evaluate("document.execCommand('delete')")
    await devtools.send("Input.insertText", {"text": " > touched.txt"})
    await page.keyboard.press("Enter")
    assert await content(server.folder / "touched.txt") == "touched\n"
    await button.tap()
    await expect(button).to_have_attribute("aria-pressed", "false")
    await (await tool(page, "Size")).tap()
    await page.get_by_label("Actual size").check()
    await page.get_by_role("button", name="Move the picture by dragging").tap()
    assert page.complaints == []


async def test_no_keyboard_button_without_a_touch_screen(browse, gate):
    page = await browse(gate.url("ws01"))
    await log_in(page)
    await connected(page)
    await expect(page.get_by_role("button", name="Keyboard", exact=True)).to_be_hidden()


async def test_without_tls_the_clipboard_is_the_panel_s(browse, gate, server):
    page = await browse(gate.url("ws01").replace("127.0.0.1", HOST))
    assert not await page.evaluate("window.isSecureContext")
    await log_in(page)
    await connected(page)
    await (await tool(page, "Clipboard")).click()
    await page.get_by_label("The desktop’s clipboard").fill("echo by_hand > by_hand.txt\n")
    await page.get_by_role("button", name="Copy text").click()
    await expect(page.get_by_text("Copied to your own clipboard.")).to_be_visible()
    await page.get_by_role("button", name="Send to desktop").click()
    await page.keyboard.press("Escape")
    await page.keyboard.press("Escape")
    await page.keyboard.press("Shift+Insert")
    assert await content(server.folder / "by_hand.txt") == "by_hand\n"
