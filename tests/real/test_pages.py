"""Every page of who takes part and of who organizes, in Chromium, in both languages and at phone width: axe-core finds
nothing to complain of, and nothing is cut. No engine and no desktop is behind them.
"""

from __future__ import annotations

import contextlib
import socket

import pytest
from aiohttp import web
from playwright.async_api import expect

from tests.real.browser import open_page
from tests.real.conftest import need
from tests.real.test_languages import DESK, ENGLISH, GERMAN, PHONE, sound
from tests.web.organized import TOKENS, House

need("chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

FIELDS = [
    {"name": "name", "label": {"en": "Your name", "de": "Ihr Name"}, "required": True},
    {"name": "email", "label": {"en": "E-mail address", "de": "E-Mail-Adresse"}, "type": "email", "required": True},
    {"name": "group", "label": {"en": "Group", "de": "Gruppe"}, "type": "choice", "options": ["a", "b"]},
    {"name": "photos", "label": {"en": "Photos are fine", "de": "Fotos sind in Ordnung"}, "type": "checkbox"},
]
WISHES = [
    pytest.param({**wish, **size}, id=f"{code}-{width}")
    for code, wish in (("en", ENGLISH), ("de", GERMAN))
    for width, size in (("phone", PHONE), ("desk", DESK))
]


@contextlib.asynccontextmanager
async def site(folder):
    """A site with one seat that is free; gives its address."""
    terms = folder / "terms.md"
    terms.write_text("# Terms of use\n\nBe kind.\n")
    documents = [{"name": "terms", "title": {"en": "Terms of use", "de": "Nutzungsbedingungen"}, "file": str(terms)}]
    flags = {"signup.enabled": True, "signup.fields": FIELDS, "signup.documents": documents}
    with socket.create_server(("127.0.0.1", 0)) as sock:
        async with House(folder, count=1, **flags).open() as house:
            runner = web.AppRunner(house.application(), access_log=None)
            await runner.setup()
            await web.SockSite(runner, sock).start()
            try:
                yield f"http://127.0.0.1:{sock.getsockname()[1]}/"
            finally:
                await runner.cleanup()


async def submit(page):
    await page.locator("main form [type=submit], main form button:not([type])").first.click()


async def sign_up(page, url, name):
    await page.goto(f"{url}sign-up")
    await page.locator("[name='answer.name']").fill(name)
    await page.locator("[name='answer.email']").fill("somebody@example.org")
    await page.locator("[name='accept.terms']").check()
    await submit(page)


@pytest.mark.parametrize("wish", WISHES)
async def test_who_takes_part(browse, tmp_path, wish):
    async with site(tmp_path) as url:
        page = await browse(url, **wish)
        await expect(page.locator("html")).to_have_attribute("lang", wish["locale"][:2])
        await sound(page)
        await page.locator("[name=account]").fill("ws01")
        await page.locator("[name=pin]").fill("000000")
        await page.locator("[name=pin]").press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        page.complaints.clear()  # of the status 403
        await sound(page)
        for address in ("sign-up", "seat", "share", "privacy", "take"):
            await page.goto(url + address)
            page.complaints.clear()
            await sound(page)
        await page.goto(f"{url}sign-up")
        await page.locator("main form").evaluate("form => form.noValidate = true")
        await submit(page)
        await expect(page.locator("[aria-invalid=true]").first).to_be_visible()
        page.complaints.clear()
        await sound(page)
        await sign_up(page, url, "Ada")
        await expect(page.get_by_text("ws01").first).to_be_visible()
        await sound(page)
        for address in ("", "privacy", "sign-up/seat"):
            await page.goto(url + address)
            await sound(page)
        other = await page.context.browser.new_context(**wish)
        waiting = await open_page(other, url)
        await sign_up(waiting, url, "Bo")
        await expect(waiting.get_by_role("heading", level=1)).to_be_visible()
        await sound(waiting)
        await other.close()


@pytest.mark.parametrize("wish", WISHES)
async def test_who_organizes(browse, tmp_path, wish):
    async with site(tmp_path) as url:
        page = await browse(f"{url}organizer", **wish)
        await sound(page)
        await page.keyboard.type(TOKENS["ada"].reveal())
        await page.keyboard.press("Enter")
        await expect(page.locator("tbody tr")).to_have_count(1)
        await sound(page)
        await page.locator("tbody button").first.click()
        await expect(page.locator("dialog[open]")).to_be_visible()
        await sound(page)
        for address in ("organizer/people", "organizer/audit"):
            await page.goto(url + address)
            await sound(page)
