"""Signing in, in Chromium through the real Apache with TLS and at a real desktop: PIN, link, share, and what ends them.

One gate, one Apache and two desktops for all tests; each browser context is somebody else's.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.real.apache import HOST, Apache, example
from tests.real.browser import connected, content, phase, says
from tests.real.conftest import need
from tests.real.gate import RunningGate
from tests.real.xvnc import Xvnc
from vncgate.render.apache import render
from vncgate.model import Roster
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
    os.umask(0o022)
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
    assert cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Lax" and cookie["path"] == "/"
    assert not page.complaints
