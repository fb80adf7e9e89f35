"""Desktops that the gate starts on its own host, shown whole: pages in Chromium, the daemon, Xvnc, a session in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.real.browser import log_in, phase, says
from tests.real.conftest import need
from tests.real.gate import ME
from tests.real.launching import Gate, enter, types

need("Xvnc", "openbox", "xterm", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

MANY = 50
MANY_PATIENCE = 100.0
"""Seconds until as many desktops as that are there, or gone, on two slow cores."""
IDLE = 16.0
"""Seconds without use until a desktop of kind `brief` ends; who looks at it is warned when half of them are over."""
SETTINGS = f"""
[desktops.places.local]
type = "local"
user = "{ME}"
starts_at_once = {MANY}
starts_per_second = 1000.0

[desktops.kinds.term]
command = "xterm -maximized"
window_manager = "openbox"
home = "{{homes}}/{{account}}"

[desktops.kinds.brief]
command = "xterm -maximized"
window_manager = "openbox"
home = "{{homes}}/{{account}}"
idle_timeout = {IDLE}

[desktops.kinds.bare]
command = "sleep infinity"
home = "{{homes}}/{{account}}"
policy = "manual"
"""


@pytest.fixture
def start(tmp_path_factory):
    """A function that starts a gate with desktops of a kind for so many accounts."""
    with contextlib.ExitStack() as stack:  # in a folder with a short name, for sockets
        yield lambda kind, *names: stack.enter_context(
            Gate(tmp_path_factory.mktemp("d"), SETTINGS, **dict.fromkeys(names, kind))
        )


async def test_from_the_landing_page_to_a_typed_key_and_to_another_when_its_server_died(browse, start):
    gate = start("term", "ws01", "ws02")
    gate.hold.touch()
    page = await browse(gate.url)
    card = page.locator('.card[data-path="path-ws01"]')
    await expect(card.locator(".reason")).to_have_text("it starts when you open it")
    await page.get_by_role("link", name="ws01").click()
    await says(page, "Your desktop is starting")
    await log_in(page, "pw-ws01")  # one may type it while one waits
    await says(page, "Your desktop is starting", "It opens by itself as soon as it is there.")
    gate.hold.unlink()
    await types(page, gate.home("ws01"), "typed")
    assert gate.states() == {"ws01": "RUNNING", "ws02": "STOPPED"}
    (nonce, pid), *others = gate.servers().items()
    assert not others
    os.kill(int(pid), signal.SIGKILL)
    gate.until(lambda: gate.desktop("ws01")["restarts"] == 1 and gate.account("ws01")["connections"] == 1)
    await types(page, gate.home("ws01"), "again")
    assert nonce not in gate.servers()
    await page.keyboard.type("exit\n")
    await says(page, "Your desktop has ended")
    assert not gate.servers()


async def test_the_daemon_is_killed_and_finds_desktops_that_run_and_one_that_was_starting(browse, start):
    gate = start("term", "ws01", "ws02", "ws03")
    assert gate.command("desktop", "start", "ws01", "ws02").returncode == 0
    page = await browse(f"{gate.url}desk/path-ws01/")
    await enter(page, "ws01")
    gate.hold.touch()
    gate.command("desktop", "start", "--no-wait", "ws03")
    gate.until(lambda: gate.states()["ws03"] == "STARTING")
    before, running = gate.servers(), {name: gate.desktop(name)["desktop"] for name in ("ws01", "ws02")}
    gate.begin_anew()
    gate.until(lambda: gate.states() == {"ws01": "RUNNING", "ws02": "RUNNING", "ws03": "STARTING"})
    assert {name: gate.desktop(name)["desktop"] for name in running} == running
    gate.hold.unlink()
    gate.until(lambda: gate.states()["ws03"] == "RUNNING")
    assert before.items() <= gate.servers().items(), "the same ones"
    assert len(gate.servers()) == 3, "and none twice"
    await types(page, gate.home("ws01"), "again")


async def test_idle_desktops_end_after_a_warning_that_a_key_or_a_button_answers(browse, start):
    gate = start("brief", "types", "stays", "idles")
    pages = {name: await browse(f"{gate.url}desk/path-{name}/") for name in ("types", "stays", "idles")}

    async def warned(name):
        await expect(pages[name].locator("[data-part=warning]")).to_be_visible()
        await expect(pages[name].locator("[data-part=warning-text]")).to_contain_text("because nobody has used it")

    async def answers(name, answer):
        """Answer each warning, as often as one comes: how long the others take, nobody knows."""
        await enter(pages[name], name)
        while True:
            await warned(name)
            await answer()
            await expect(pages[name].locator("[data-part=warning]")).to_be_hidden()
            answered.add(name)

    answered = set()
    stay = pages["stays"].get_by_role("button", name="Stay")
    tasks = [
        asyncio.create_task(answers("types", lambda: pages["types"].keyboard.press("Shift"))),
        asyncio.create_task(answers("stays", stay.click)),
    ]
    try:
        await enter(pages["idles"], "idles")
        await warned("idles")
        await says(pages["idles"], "Your desktop has ended", "Nobody used it for 16 s")
        assert answered == {"types", "stays"}
        assert gate.states() == {"types": "RUNNING", "stays": "RUNNING", "idles": "STOPPED"}
        for name in ("types", "stays"):
            await phase(pages[name], "connected")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_full_home_is_told_and_tried_again(browse, tmp_path_factory):
    need("unshare")
    if os.geteuid() != 0:
        pytest.skip("mounts in a namespace: needs root")
    gate = Gate(tmp_path_factory.mktemp("d"), SETTINGS, ws01="term")
    home = gate.home("ws01")
    home.mkdir(parents=True)
    small = 'mount -t tmpfs -o size=1m none "$0"; head -c 2M /dev/zero >"$0/all" 2>/dev/null; exec "$@"'
    gate.under = ["unshare", "--mount", "sh", "-c", small, home]
    with gate:
        page = await browse(f"{gate.url}desk/path-ws01/")
        await says(page, "Your desktop has failed", "There is no space left for its files")
        assert f"The home folder {home} is full: remove files from it" in gate.desktop("ws01")["reason"]
        its = Path(f"/proc/{gate.pid}/root{home}")
        (its / "all").unlink()
        await page.get_by_role("button", name="Try again").click()
        await log_in(page, "pw-ws01")
        await types(page, its, "typed")


async def test_fifty_desktops_at_once(start):
    """RUNNING says that each let its own password in. Nothing is left of them when they are ended."""
    names = [f"ws{number:02}" for number in range(MANY)]
    gate = start("bare", *names)
    began = time.monotonic()
    gate.command("desktop", "start", "--all", "--no-wait")
    all_are(gate, "RUNNING")
    print(f"{MANY} desktops at once: all run after {time.monotonic() - began:.1f} s")
    assert len(gate.servers()) == MANY
    assert [gate.desktop(name)["restarts"] for name in names[::10]] == [0] * (MANY // 10)
    began = time.monotonic()
    gate.command("desktop", "stop", "--all", "--no-wait")
    all_are(gate, "STOPPED")
    print(f"... and are gone after {time.monotonic() - began:.1f} s")
    assert not gate.left()


def all_are(gate, state):
    deadline = time.monotonic() + MANY_PATIENCE
    while (states := gate.states()) != dict.fromkeys(states, state):
        assert "FAILED" not in states.values(), gate.log
        assert time.monotonic() < deadline, f"{states}\n{gate.log}"
        time.sleep(0.5)
