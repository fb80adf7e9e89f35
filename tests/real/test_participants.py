"""The whole way of a participant, through the real Apache with TLS: from the sign-up form to files taken home.

By keyboard alone, once at a wide screen in English and once at a phone's in German.
"""

from __future__ import annotations

import zipfile

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from tests.real.apache import Apache, example
from tests.real.browser import connected
from tests.real.conftest import need
from tests.real.gate import ME
from tests.real.launching import Gate, kind
from vncgate.model import Roster
from vncgate.render.apache import render
from vncgate.settings import Settings

need("Xvnc", "openbox", "xterm", "apache2", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

SETTINGS = """
access = "seat"
public_url = "{url}"
[signup]
enabled = true
[[signup.fields]]
name = "name"
label = {{ en = "Your name", de = "Ihr Name" }}
required = true
[[signup.documents]]
name = "terms"
title = {{ en = "Terms of use", de = "Nutzungsbedingungen" }}
file = "{folder}/terms.md"
[files]
root = "{folder}/homes/{{account}}"
user = "{me}"
"""
LOOKS = {
    "en": {"locale": "en-GB", "viewport": {"width": 1200, "height": 800}},
    "de": {"locale": "de-DE", "viewport": {"width": 360, "height": 720}},
}
NAME = {"en": "Your name", "de": "Ihr Name"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory):
    """The gate behind its Apache; `url` is the address that participants type."""
    folder = tmp_path_factory.mktemp("p")
    (folder / "terms.md").write_text("# Terms\n\nBe kind.\n")
    gate = Gate(folder, kind("term", "local"), ws01="term", ws02="term")
    gate.environ["STATE_DIRECTORY"] = str(folder / "state")
    with Apache(example("vncgate.conf", VNCGATE_WEB=f"127.0.0.1:{gate.web}")) as apache:
        apache.snippet.write_text(render(Roster(), Settings(web=f"127.0.0.1:{gate.web}", shared_port=gate.shared)))
        apache.reload()
        gate.url = apache.url("/")
        gate.settings = SETTINGS.format(url=gate.url, folder=folder, me=ME) + gate.settings
        with gate:
            yield gate


async def tab_to(page, target):
    """Press Tab until it has the focus."""
    await expect(target).to_be_visible()
    for _ in range(60):
        if await target.evaluate("it => it === document.activeElement"):
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {target}")


async def press(page, target):
    """Go to it by Tab, and press Enter."""
    await tab_to(page, target)
    await page.keyboard.press("Enter")


async def unobjectionable(page):
    found = await Axe().run(page)
    serious = [each["id"] for each in found.response["violations"] if each["impact"] in ("serious", "critical")]
    assert serious == [], found.generate_report()


@pytest.mark.parametrize("language", LOOKS)
async def test_from_the_sign_up_form_to_files_at_home(site, browse, tmp_path, language):
    page = await browse(site.url, **LOOKS[language])
    await expect(page.locator("html")).to_have_attribute("lang", language)
    await unobjectionable(page)
    await press(page, page.locator("main a[href$=sign-up]"))
    await tab_to(page, page.get_by_label(NAME[language]))
    await page.keyboard.type("Grace Hopper")
    await tab_to(page, page.get_by_role("checkbox"))
    await page.keyboard.press("Space")
    await unobjectionable(page)
    await page.keyboard.press("Enter")
    account = await page.locator("main dd").first.inner_text()
    await unobjectionable(page)
    await press(page, page.locator("main a.button"))
    await connected(page)
    await page.keyboard.type("echo typed > typed.txt\n")
    file = site.home(account) / "typed.txt"
    site.until(lambda: file.exists() and file.read_text() == "typed\n")
    await unobjectionable(page)
    await page.goto(site.url)
    await press(page, page.locator("main a[href$=files]"))
    await expect(page.get_by_text("typed.txt")).to_be_visible()
    await unobjectionable(page)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut"
    async with page.expect_download() as download:
        await press(page, page.locator("button[value=zip]"))
    await (await download.value).save_as(tmp_path / "home.zip")
    with zipfile.ZipFile(tmp_path / "home.zip") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("typed.txt"))
        assert archive.read(name) == b"typed\n"
    assert "Grace" not in site.log
    assert page.complaints == []
