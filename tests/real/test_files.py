"""Files in and out, in Chromium at a real desktop: taken home, dropped, chosen; lost connections; by keyboard, on a
phone, in German. And agents on another host, by a real sshd.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import zipfile
from pathlib import Path

import pytest
import pytest_asyncio
import zstandard
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from tests.real.browser import appears, connected
from tests.real.conftest import need
from tests.real.gate import ME, RunningGate
from tests.real.sshd import Sshd
from tests.real.xvnc import Xvnc
from tests.takeaway.asking import contents
from tests.takeaway.test_agents import everything
from vncgate.errors import FilesError
from vncgate.kinds import DesktopsSettings
from vncgate.model import Account, Secret
from vncgate.settings import Settings
from vncgate.takeaway.agents import Agents
from vncgate.takeaway.hands import Hands

need("Xvnc", "openbox", "xterm", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]
PIN = "480113"
LARGE = 20 << 20
DROP = """(names) => {
    const transfer = new DataTransfer();
    for (const [name, text] of Object.entries(names)) transfer.items.add(new File([text], name));
    for (const type of ["dragenter", "dragover", "drop"]) {
        document.querySelector("canvas, main").dispatchEvent(
            new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer }));
    }
}"""


class Site:
    """A gate with a desktop and a folder for ws01."""

    def __init__(self, gate, desktop, files):
        self.gate, self.desktop, self.files = gate, desktop, files
        self.url = f"http://127.0.0.1:{gate.web}/"

    async def enter(self, page):
        """Sign in on the page that is open."""
        await page.locator("[name=account]").fill("ws01")
        await page.locator("[name=pin]").fill(PIN)
        await page.locator("[name=pin]").press("Enter")
        await connected(page)


@contextlib.contextmanager
def serving(folder, desktop):
    """A gate for a desktop that is there."""
    gate = RunningGate(folder)
    gate.environ["STATE_DIRECTORY"] = str(folder / "state")
    gate.settings = f"""access = "seat"
public_url = "http://127.0.0.1:{gate.web}/"
[files]
root = "{folder}/{{account}}"
user = "{ME}"
"""
    (folder / "ws01").mkdir()
    gate.write(gate.line("ws01", desktop, "-", f"pin={PIN}"))
    with gate:
        yield Site(gate, desktop, folder / "ws01")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    with Xvnc(folder / "desktop", session=True) as desktop, serving(folder, desktop) as site:
        yield site


@pytest.fixture(autouse=True)
def clean(site):
    """What the test before left is gone."""
    for path in sorted(site.files.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    (site.files / "work").mkdir()
    (site.files / "work" / "Ergebnis ü.csv").write_text("1;2\n")
    (site.files / "notes.txt").write_text("old")


async def saved(page, press):
    """The name and the bytes of what a press downloads."""
    async with page.expect_download() as downloading:
        await press()
    download = await downloading.value
    return download.suggested_filename, Path(await download.path()).read_bytes()


async def sound(page):
    """Nothing is wider than the page, and axe-core has nothing to say."""
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


async def test_taken_home_by_keyboard_alone(site, browse):
    page = await browse(site.url)
    await site.enter(page)
    await page.goto(f"{site.url}files")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Files of ws01")
    box = page.get_by_role("checkbox", name="work/")
    for _ in range(20):
        if await box.evaluate("box => box === document.activeElement"):
            break
        await page.keyboard.press("Tab")
    await page.keyboard.press("Space")
    await expect(page.locator("#chosen")).to_have_text("1 chosen, 4 B")
    button = page.get_by_role("button", name="Download as zip")
    while not await button.evaluate("button => button === document.activeElement"):
        await page.keyboard.press("Tab")
    name, data = await saved(page, lambda: page.keyboard.press("Enter"))
    assert name == "ws01.zip"
    assert contents(data, "zip")[0] == {"work": None, "work/Ergebnis ü.csv": b"1;2\n"}
    await expect(page.locator("#progress-text")).to_contain_text("Your browser has it")
    assert not page.complaints


async def test_a_folder_and_a_file(site, browse):
    page = await browse(site.url)
    await site.enter(page)
    await page.goto(f"{site.url}files")
    await page.get_by_role("link", name="work/").click()
    await expect(page.locator(".crumbs [aria-current]")).to_have_text("work")
    name, data = await saved(page, page.get_by_role("link", name="Ergebnis ü.csv").click)
    assert (name, data) == ("Ergebnis ü.csv", b"1;2\n")
    _, data = await saved(page, page.get_by_role("button", name="Download as tar.zst").click)
    data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    assert contents(data, "tar")[0] == {"work": None, "work/Ergebnis ü.csv": b"1;2\n"}


async def test_a_link_on_another_computer(site, browse):
    page = await browse(site.url)
    await site.enter(page)
    await page.goto(f"{site.url}files")
    await page.get_by_role("button", name="Make a link").click()
    link = await page.locator(".files-link a").get_attribute("href")
    await sound(page)
    other = await browse(link)
    await expect(other).to_have_url(f"{site.url}take")
    await sound(other)
    name, data = await saved(other, other.get_by_role("button", name="Download as zip").click)
    assert name == "ws01.zip"
    assert "notes.txt" in contents(data, "zip")[0]
    token = link.partition("#")[2]
    assert not any(token in request for request in other.requests)
    assert token not in site.gate.log


async def test_what_organizers_have_packed(site, browse):
    assert site.gate.command("archive", "build", "ws01").returncode == 0
    page = await browse(site.url)
    await site.enter(page)
    await page.goto(f"{site.url}files")
    _, data = await saved(page, page.get_by_role("link", name="Download the archive").click)
    assert contents(data, "zip")[0]["notes.txt"] == b"old"
    _, said = await saved(page, page.get_by_role("link", name="Its SHA-256").click)
    assert said.decode() == f"{hashlib.sha256(data).hexdigest()}  ws01.zip\n"
    await sound(page)
    assert "ready" in site.gate.command("archive", "status").stdout
    assert site.gate.command("archive", "remove").stdout == "removed: ws01\n"
    assert site.gate.command("archive", "build", "ws99").stderr == "vncgate: there is no account ws99\n"


async def test_dropped_on_the_desktop(site, browse):
    page = await browse(site.url)
    await site.enter(page)
    await page.evaluate(DROP, {"dropped ü.txt": "from outside", "notes.txt": "new"})
    box = page.locator(".desk-files")
    await expect(box.get_by_text("There is a file of this name already.")).to_be_visible()
    await box.get_by_role("button", name="Keep both").click()
    await expect(box.locator("li[data-state=done]")).to_have_count(2)
    assert (site.files / "dropped ü.txt").read_text() == "from outside"
    assert (site.files / "notes.txt").read_text() == "old"
    assert (site.files / "notes (2).txt").read_text() == "new"
    await sound(page)
    await box.get_by_role("button", name="Close").click()
    await expect(box).to_be_hidden()
    await page.keyboard.type(f"cp '{site.files}/dropped ü.txt' seen.txt\n".replace("ü", "?").replace("'", ""))
    await page.keyboard.type(f"cat {site.files}/dropped* > seen.txt; echo >> seen.txt\n")
    seen = site.desktop.folder / "seen.txt"
    await appears(seen, lambda it: it.exists() and it.read_text() == "from outside\n")


async def test_chosen_in_the_toolbar_replaced_and_left_out(site, browse):
    page = await browse(site.url)
    await site.enter(page)
    box = page.locator(".desk-files")
    for choice, text in (("Leave it out", "old"), ("Replace it", "chosen")):
        file = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"chosen"}
        await page.locator("[data-files=choose]").set_input_files(file)
        await box.get_by_role("button", name=choice).last.click()
        await expect(box.locator("li").last).to_have_attribute("data-state", "done")
        assert (site.files / "notes.txt").read_text() == text


async def test_sent_by_phone_in_german(site, browse):
    page = await browse(site.url, viewport={"width": 360, "height": 700}, locale="de", has_touch=True)
    await site.enter(page)
    await page.goto(f"{site.url}files")
    assert await page.locator("html").get_attribute("lang") == "de"
    file = {"name": "vom Telefon.txt", "mimeType": "text/plain", "buffer": b"hallo"}
    await page.locator("#choose").set_input_files(file)
    await expect(page.locator(".uploads li")).to_have_attribute("data-state", "done")
    await expect(page.get_by_role("link", name="vom Telefon.txt")).to_be_visible()
    assert (site.files / "vom Telefon.txt").read_text() == "hallo"
    await sound(page)
    assert not page.complaints


async def slowed(page, bytes_a_second):
    session = await page.context.new_cdp_session(page)
    limits = {"offline": False, "latency": 5, "downloadThroughput": -1, "uploadThroughput": bytes_a_second}
    await session.send("Network.enable")
    await session.send("Network.emulateNetworkConditions", limits)


def arrived(site):
    return sum(path.stat().st_size for path in site.files.glob(".vncgate-uploads/*") if not path.suffix)


async def test_an_upload_goes_on_when_the_gate_comes_back(site, browse, tmp_path):
    """Killed in the middle of it: what came is kept, and the rest is sent by itself."""
    data = os.urandom(LARGE)
    (tmp_path / "large.bin").write_bytes(data)
    with serving(tmp_path, site.desktop) as one:
        page = await browse(one.url)
        await one.enter(page)
        await page.goto(f"{one.url}files")
        await slowed(page, 6 << 20)
        await page.locator("#choose").set_input_files(tmp_path / "large.bin")
        await until(lambda: arrived(one) > 1 << 20)
        one.gate.kill()
        assert 0 < arrived(one) < LARGE
        await expect(page.locator(".uploads-text")).to_have_text("The connection was lost. It goes on by itself.")
        one.gate.start()
        await expect(page.locator(".uploads li")).to_have_attribute("data-state", "done", timeout=60000)
        assert (one.files / "large.bin").read_bytes() == data


async def test_an_upload_goes_on_on_a_page_that_is_loaded_anew(site, browse, tmp_path):
    data = os.urandom(LARGE)
    (tmp_path / "large.bin").write_bytes(data)
    os.utime(tmp_path / "large.bin", (1_000_000_000, 1_000_000_000))
    page = await browse(site.url)
    page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await site.enter(page)
    await page.goto(f"{site.url}files")
    await slowed(page, 6 << 20)
    await page.locator("#choose").set_input_files(tmp_path / "large.bin")
    await until(lambda: arrived(site) > 1 << 20)
    await page.goto(f"{site.url}files")
    (key,) = {path.stem for path in site.files.glob(".vncgate-uploads/*.json")}
    await page.locator("#choose").set_input_files(tmp_path / "large.bin")
    await expect(page.locator(".uploads li")).to_have_attribute("data-state", "done", timeout=60000)
    assert (site.files / "large.bin").read_bytes() == data
    assert {path.stem for path in site.files.glob(".vncgate-uploads/*.json")} == {key}


async def test_an_upload_is_cancelled(site, browse, tmp_path):
    (tmp_path / "large.bin").write_bytes(bytes(LARGE))
    page = await browse(site.url)
    await site.enter(page)
    await page.goto(f"{site.url}files")
    await slowed(page, 2 << 20)
    await page.locator("#choose").set_input_files(tmp_path / "large.bin")
    await until(lambda: arrived(site) > 100_000)
    await page.get_by_role("button", name="Cancel large.bin").click()
    await expect(page.locator(".uploads-text")).to_have_text("Cancelled.")
    await until(lambda: not list(site.files.glob(".vncgate-uploads/*")))
    assert not (site.files / "large.bin").exists()


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


# ---- on another host ----


@pytest.fixture
def host(tmp_path):
    need("sshd", "ssh-keygen")
    with Sshd(tmp_path) as server:
        yield server


def far(host, root, **place):
    """Agents on a host of an ssh place."""
    kinds = {"xfce": {"command": "startxfce4", "place": "nodes"}}
    desktops = DesktopsSettings.model_validate({"kinds": kinds, "places": {"nodes": host.place(**place).model_dump()}})
    settings = Settings(files={"root": root, "through": "place"}).model_copy(update={"desktops": desktops})
    return Agents(Hands(settings, lambda _: None), lambda _: root)


ACCOUNT = Account("ws01", None, "path-ws01", None, Secret("secret01"))


async def test_there_and_back_by_ssh(host):
    files = host.home / "files"
    files.mkdir()
    data = os.urandom(5_000_000)
    (files / "a").write_bytes(data)
    (files / "out").symlink_to("/etc/passwd")
    agents = far(host, "{home}/files")
    try:
        assert [row[0] for row in (await agents.do(ACCOUNT, do="list", path=""))["entries"]] == ["a", "out"]
        async with agents.ask(ACCOUNT, do="pack", paths=[], name="ws01", format="zip") as asked:
            got = await everything(asked)
        with zipfile.ZipFile(io.BytesIO(got)) as archive:
            assert archive.read("ws01/a") == data
            assert b"/etc/passwd" in archive.read("ws01 - not packed.txt")
        new = await agents.do(ACCOUNT, do="create", name="b", path="", clash="ask", size=len(data), quota=0)
        async with agents.ask(ACCOUNT, do="append", id=new["id"], offset=0) as asked:
            await asked.write(data[:3_000_000])
            await asked.end_input()
            assert (await asked.hear())["offset"] == 3_000_000
        async with agents.ask(ACCOUNT, do="append", id=new["id"], offset=3_000_000) as asked:
            await asked.write(data[3_000_000:])
            assert (await asked.hear())["name"] == "b"
        assert (files / "b").read_bytes() == data
    finally:
        await agents.aclose()


async def test_a_connection_that_is_lost_in_the_middle(host):
    files = host.home / "files"
    files.mkdir()
    with (files / "a").open("wb") as file:
        for _ in range(20):
            file.write(os.urandom(1 << 20))
    agents = far(host, "{home}/files")
    try:
        async with agents.ask(ACCOUNT, do="pack", paths=[], name="ws01", format="tar") as asked:
            await asked.read()
            host.cut()
            with pytest.raises(FilesError, match="the agent went away: "):
                await everything(asked)
        assert "entries" in await agents.do(ACCOUNT, do="list", path="")
    finally:
        await agents.aclose()


async def test_a_host_that_is_not_there_and_one_without_python(host):
    agents = far(host, "{home}", user="nonesuch")
    try:
        with pytest.raises(FilesError, match="refuses the login as nonesuch") as caught:
            await agents.do(ACCOUNT, do="list", path="")
        assert caught.value.kind == "away"
    finally:
        await agents.aclose()
    (host.home / "bin").mkdir()
    (host.home / "bin" / "python3").write_text("#!/bin/sh\nexit 127\n")
    (host.home / "bin" / "python3").chmod(0o755)
    agents = far(host, "{home}")
    try:
        with pytest.raises(FilesError, match="there is no python3 on that host|went away"):
            await agents.do(ACCOUNT, do="list", path="")
    finally:
        await agents.aclose()
