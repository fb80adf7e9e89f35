"""The whole way: Chromium -> Apache with TLS -> vncgate -> Xvnc, with the daemon as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time

import pytest
from playwright.async_api import expect

from tests.ports import free_ports
from tests.real.apache import Apache, example
from tests.real.browser import connected, content, log_in, phase
from tests.real.conftest import need
from tests.real.gate import RunningGate
from tests.real.launching import types
from tests.real.xvnc import Xvnc

need("Xvnc", "openbox", "xterm", "chromium", "apache2")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Two desktops with a window manager and an xterm."""
    with (
        Xvnc(tmp_path_factory.mktemp("one"), session=True, password="secret01") as one,
        Xvnc(tmp_path_factory.mktemp("two"), session=True, password="secret02") as two,
    ):
        yield one, two


class Site:
    """Apache with our example vhost in front of a gate whose snippet it includes."""

    def __init__(self, folder, form, engine, export=False):
        self.form = form
        web = free_ports(1)[0]
        defines = {"VNCGATE_WEB": f"127.0.0.1:{web}"}
        if export:
            defines["VNCGATE_EXPORT"] = "${TEST_FOLDER}/pages"
        self.apache = Apache(example("vncgate.conf", **defines))
        self.snippet = self.apache.snippet
        commands = "".join(
            f"{name} = {[*self.apache.command, *flags]!r}\n".replace("'", '"')
            for name, flags in {"configtest": ("-t",), "reload": ("-k", "graceful")}.items()
        )
        settings = f'engine = "{engine}"\n[apache]\nsnippet = "{self.snippet}"\nform = "{form}"\n{commands}'
        if export:
            settings += f'[landing]\nexport = "{self.apache.folder}/pages"\n'
        self.gate = RunningGate(folder, settings)
        self.gate.web = web

    def __enter__(self):
        self.apache.start()
        before = self.apache.moment()
        self.gate.start()
        if self.form == "single":
            self.apache.reload()  # the snippet is new: this once
        else:
            self.apache.wait_for_reload(before)
        return self

    def __exit__(self, *exc):
        if exc[0]:
            print(self.gate.log, self.apache.log)
        self.gate.__exit__()
        self.apache.stop()


async def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.1)


@contextlib.contextmanager
def site_of(site, *lines):
    """The site with a token file of these lines."""
    site.gate.write(*lines)
    with site:
        yield


async def headline(page, text):
    """The viewer says this in large letters."""
    await expect(page.locator(".notice-head")).to_have_text(text)


@pytest.mark.parametrize(
    ("form", "engine"), [("single", "relay"), ("guide", "relay"), ("guide", "websockify")], ids=lambda value: value
)
async def test_from_the_landing_page_to_typing_while_the_roster_changes(form, engine, servers, browse, tmp_path):
    one, two = servers
    site = Site(tmp_path, form, engine)
    ports = free_ports(3) if form == "guide" else ["-"] * 3
    gate = site.gate
    first = gate.line("ws01", one, ports[0], 'name="Ada L."')
    gate.write(first, gate.line("ws02", two, ports[1]))
    with site:
        page = await browse(site.apache.url("/"))
        await expect(page.get_by_role("link", name=re.compile("Ada L."))).to_contain_text("ready", ignore_case=True)
        await page.get_by_role("link", name=re.compile("Ada L.")).click()
        await log_in(page, "secret01")
        await connected(page)
        word = f"typed-{form}-{engine}"
        await page.keyboard.type(f"echo {word} > {word}.txt\n")
        assert await content(one.folder / f"{word}.txt") == f"{word}\n"
        await until(lambda: gate.account("ws01")["connections"] == 1)

        # An account comes, one moves, one goes; the session of ws01 does not notice.
        gate.write(first, gate.line("ws02", one, ports[1]), gate.line("ws03", two, ports[2]))
        await until(lambda: [a["name"] for a in gate.status()["accounts"]] == ["ws01", "ws02", "ws03"])
        if form == "guide":
            await until(lambda: f"ws://127.0.0.1:{ports[2]}/websockify" in site.snippet.read_text())
            await asyncio.to_thread(site.apache.reload)  # the gate's next is due in a minute
        assert site.apache.generations == (3 if form == "guide" else 2)
        other = await browse(site.apache.url("/desk/path-ws03/"))
        await log_in(other, "secret02")
        await connected(other)
        gate.write(first, gate.line("ws02", one, ports[1]))
        # websockify closes without a word; then the page asks the gate.
        told = "The account was removed." if engine == "relay" else "This desktop is no longer part of the workshop"
        await expect(other.locator(".notice").first).to_contain_text(told)
        await phase(other, "ended")
        await page.keyboard.type(f"echo still > {word}-2.txt\n")
        assert await content(one.folder / f"{word}-2.txt") == "still\n"
        assert page.complaints == []
        assert gate.account("ws01")["connections"] == 1
        assert "secret0" not in gate.log + site.apache.log + site.snippet.read_text()
        seconds = await asyncio.to_thread(gate.stop)
        assert seconds < 5
        await phase(page, "waiting")


async def test_a_wrong_password_and_a_dead_desktop_that_comes_back(browse, tmp_path):
    site = Site(tmp_path, "single", "relay")
    gate = site.gate
    with Xvnc(tmp_path / "desktop", password="secret02") as two, site_of(site, gate.line("ws02", two)):
        landing = await browse(site.apache.url("/"))
        card = landing.get_by_role("link", name=re.compile("ws02"))
        await expect(card).to_contain_text("ready", ignore_case=True)
        page = await browse(site.apache.url("/desk/path-ws02/"))
        await log_in(page, "wrong")
        await expect(page.get_by_role("status").filter(has_text="not accepted")).to_be_attached()
        await log_in(page, "secret02")
        await connected(page)
        await expect(card).to_contain_text("in use", ignore_case=True)
        two.kill()
        await headline(page, "The desktop is offline")
        await expect(page.locator(".notice-text")).to_contain_text(f"Desktop {two.desktop} refused the connection.")
        await expect(card).to_contain_text("offline", ignore_case=True)
        two.start()
        await connected(page)
        await expect(card).to_contain_text("in use", ignore_case=True)


async def test_the_static_copy_served_by_apache(servers, browse, tmp_path):
    one, _ = servers
    site = Site(tmp_path, "single", "relay", export=True)
    gate = site.gate
    gate.write(gate.line("ws01", one, more='name="Ada L."'))
    with site:
        page = await browse(site.apache.url("/"))
        await page.get_by_role("link", name=re.compile("Ada L.")).click()
        await log_in(page, "secret01")
        await connected(page)
        await page.keyboard.type("echo static > static.txt\n")
        assert await content(one.folder / "static.txt") == "static\n"
        assert page.complaints == []
        await asyncio.to_thread(gate.stop)
        # Without the daemon links and names live on.
        await page.goto(site.apache.url("/"))
        await expect(page.get_by_role("link", name=re.compile("Ada L."))).to_be_visible()


LAUNCHED = """
[desktops]
folder = "{0}/d"

[desktops.kinds.term]
command = "xterm -maximized"
window_manager = "openbox"
home = "{0}/home"
"""


async def test_a_desktop_that_the_gate_starts_is_asked_for_through_apache_from_a_static_page(browse, tmp_path_factory):
    folder = tmp_path_factory.mktemp("w")  # a short name, for sockets
    site = Site(folder, "single", "relay", export=True)
    site.gate.settings += LAUNCHED.format(folder)
    site.gate.write('ws01 - path-ws01 - - secret01 name="Ada L."')
    with site, contextlib.ExitStack() as stack:
        stack.callback(site.gate.command, "desktop", "stop", "--all")
        page = await browse(site.apache.url("/"))
        card = page.get_by_role("link", name=re.compile("Ada L."))
        await expect(card).to_contain_text("it starts when you open it", ignore_case=True)
        assert site.gate.account("ws01")["launched"]["state"] == "STOPPED"
        await card.click()
        await log_in(page, "secret01")
        await types(page, folder / "home", "launched")
        assert [url.partition("?")[0] for url in page.requests if "/api/desktops/" in url] == [
            site.apache.url("/api/desktops/path-ws01/visit")
        ]
        assert page.complaints == []
