"""Chromium for the tests that a person would do by hand: starting it, opening pages, using the viewer.

The fixtures `chromium` and `browse` in conftest.py stand on this.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.real.conftest import find

PATIENCE = 20.0
"""Seconds until something that is not seen on a page fails the test."""
HOST = "workshop.example"
"""A host that Chromium finds on this machine, and that it does not trust without TLS as it does localhost."""
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", f"--host-resolver-rules=MAP {HOST} 127.0.0.1",
]  # fmt: skip

expect.set_options(timeout=PATIENCE * 1000)


@contextlib.asynccontextmanager
async def launch() -> AsyncIterator[Browser]:
    """A Chromium, ended when the block is left."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find("chromium"), args=FLAGS)
        yield browser
        await browser.close()


async def open_page(context: BrowserContext, url: str, before: Callable[[Page], Awaitable[None]] | None = None) -> Page:
    """A page at an address; `before` is called with it while it is still empty.

    It gets `complaints` (console errors, refusals of the policy among them) and `requests` (all addresses).
    """
    page = await context.new_page()
    page.complaints, page.requests = [], []
    page.on("console", lambda line: page.complaints.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.set_default_timeout(PATIENCE * 1000)
    if before:
        await before(page)
    await page.goto(url)
    return page


async def log_in(page: Page, password: str = "secret01") -> None:
    """Type a password into the viewer's form."""
    await page.get_by_label("VNC password").fill(password)
    await page.get_by_role("button", name="Connect").click()


async def phase(page: Page, name: str) -> None:
    """Wait for a phase of the viewer: asking, connecting, connected, waiting ..."""
    await expect(page.locator("#desk")).to_have_attribute("data-phase", name)


async def says(page: Page, headline: str, detail: str = "") -> None:
    """Wait for the viewer's words."""
    await expect(page.locator("[data-part=headline]")).to_contain_text(headline)
    await expect(page.locator("[data-part=detail]")).to_contain_text(detail)


async def connected(page: Page) -> None:
    """Wait for the desktop; what is typed then goes there."""
    await phase(page, "connected")
    await expect(page.locator(".desk-screen canvas")).to_be_focused()


async def appears(file: Path, ready: Callable[[Path], bool] = Path.exists) -> None:
    """Wait for a file that something on the desktop writes."""
    deadline = time.monotonic() + PATIENCE
    while not ready(file):
        if time.monotonic() > deadline:
            raise AssertionError(f"{file.name} was not written")
        await asyncio.sleep(0.05)


async def content(file: Path) -> str:
    """What stands in a file once it is there and has a whole line."""
    await appears(file, lambda it: it.exists() and it.read_text().endswith("\n"))
    return file.read_text()
