"""Signing up, for real: a thousand people at a gate that is killed, and one in Chromium, in both languages.

The ledger alone is tested in tests/ledger; here it is the whole, through the form.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from tests.real.browser import connected
from tests.real.conftest import need
from tests.real.gate import PATIENCE, RunningGate
from tests.real.xvnc import Xvnc
from tests.test_mailing import Postbox, post_office
from vncgate import cookies
from vncgate.ledger import Ledger
from vncgate.people import Standing

need("Xvnc", "chromium")
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]
PEOPLE, SEATS = 1000, 60
AT_ONCE = 100
"""Requests that are under way at the same time: the machine is not ours alone."""


class Somebody:
    """A browser of one person: its cookies, its form, and what it was told last."""

    def __init__(self, number):
        self.number = number
        self.email = f"person{number}@example.org"
        self.client = {"X-Forwarded-For": f"192.0.2.{number % 20}"}
        self.cookies = {}
        self.form = {}
        self.told = ""

    async def ask(self, http, method, path, **more):
        headers = self.client | {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        async with http.request(method, path, headers=headers, allow_redirects=False, **more) as response:
            text = await response.text()
            self.cookies |= {name: morsel.value for name, morsel in response.cookies.items()}
            return response.status, text

    async def open_form(self, http):
        status, text = await self.ask(http, "GET", "/sign-up")
        assert status == 200
        self.form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text))
        self.form |= dict(re.findall(r'name="(accept\.\w+)" value="(\w+)"', text)) | {"code": "nova-7"}
        self.form |= {"answer.name": f"Person {self.number}", "answer.email": self.email}

    async def send(self, http):
        status, text = await self.ask(http, "POST", "/sign-up", data=self.form)
        assert status == 303, text
        self.told = "seated" if cookies.SESSION in self.cookies else "waits"


def crowded_gate(folder):
    gate = RunningGate(folder)
    gate.environ["STATE_DIRECTORY"] = str(folder / "state")
    gate.settings = (
        f'access = "seat"\npublic_url = "http://127.0.0.1:{gate.web}/"\nprobe = false\nworkers = 0\n'
        "[signup]\nenabled = true\n"
    )
    gate.write(*(f"ws{number:02} 127.0.0.1 path-{number:02} - 1 secret01" for number in range(1, SEATS + 1)))
    return gate


async def at_once(work):
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(each):
        async with turns:
            await each

    return await asyncio.gather(*(one(each) for each in work), return_exceptions=True)


async def test_a_thousand_at_once_for_sixty_seats_and_the_gate_killed_in_the_middle(tmp_path):
    everybody = [Somebody(number) for number in range(PEOPLE)]
    gate = crowded_gate(tmp_path)
    with gate:
        base = f"http://127.0.0.1:{gate.web}"
        async with aiohttp.ClientSession(base, cookie_jar=aiohttp.DummyCookieJar()) as http:
            began = time.monotonic()
            assert await at_once(each.open_form(http) for each in everybody) == [None] * PEOPLE
            print(f"{PEOPLE} forms in {time.monotonic() - began:.1f} s")
            answered = itertools.count(1)

            async def send(somebody):
                await somebody.send(http)
                if next(answered) == PEOPLE // 3:
                    await asyncio.to_thread(gate.kill)

            await at_once(send(each) for each in everybody)
        confirmed = [each for each in everybody if each.told]
        assert PEOPLE // 3 <= len(confirmed) < PEOPLE
        ledger = await Ledger.open(f"sqlite:///{tmp_path}/state/ledger.sqlite")
        then = {person.email: person for person in await ledger.people()}
        await ledger.aclose()
        assert {each.email for each in confirmed} <= then.keys()

        gate.launch()
        await asyncio.to_thread(gate.until, lambda: gate.log.count("serving") == 2)
        async with aiohttp.ClientSession(base, cookie_jar=aiohttp.DummyCookieJar()) as http:
            began = time.monotonic()
            again = [each for each in everybody if not each.told]
            assert await at_once(each.send(http) for each in again) == [None] * len(again)
            print(f"{len(again)} of them again, after the kill, in {time.monotonic() - began:.1f} s")
            last = max(everybody, key=lambda each: each.told == "waits" and each.number)
            _, text = await last.ask(http, "GET", "/sign-up/seat")
        ledger = await Ledger.open(f"sqlite:///{tmp_path}/state/ledger.sqlite")
        people, seats = await ledger.people(), await ledger.seats()
        sessions = {each.email: each.cookies.get(cookies.SESSION) for each in everybody}
        held = {
            email: await ledger.session(cookies.digest(value), people[0].signed_up)
            for email, value in sessions.items()
            if value
        }
        await ledger.aclose()
        gate.stop()

    assert sorted(person.email for person in people) == sorted(each.email for each in everybody)
    assert sorted(person.place for person in people) == list(range(1, PEOPLE + 1))
    assert [person.standing for person in people] == [Standing.SEATED] * SEATS + [Standing.WAITING] * (PEOPLE - SEATS)
    assert Counter(person.account for person in people[:SEATS]) == Counter(f"ws{number:02}" for number in range(1, 61))
    now = {person.email: person for person in people}
    assert {email: now[email].place for email in then} == {email: person.place for email, person in then.items()}
    assert {email: now[email].account for email in then} == {email: person.account for email, person in then.items()}
    for each in everybody:
        person = now[each.email]
        assert each.told == ("seated" if person.standing is Standing.SEATED else "waits")
        if each.told == "seated":
            assert seats[person.account].person == person.id
            assert seats[person.account].pin_hash
            assert held[each.email].seat == person.account  # signed in there, also who was before the kill
    place = now[last.email].place - SEATS
    assert f"Your place: {place}" in text
    for canary in ("person", "Person", "example.org"):
        assert canary not in gate.log.replace("personal", "")


# ---- in Chromium


TERMS = "# Terms of use\n\nBe kind. This text is **long** enough to be read.\n\n- one\n- two\n"
SETTINGS = """
access = "seat"
public_url = "http://127.0.0.1:{web}/"
[landing]
title = "Chemistry in the browser"
[signup]
enabled = true
code_file = "{folder}/code"
capacity = 3
information.en = "Room **7**, on Friday at nine. Bring a charger."
information.de = "Raum **7**, Freitag um neun. Bitte ein Ladegerät mitbringen."
privacy = "Ask data@example.org."
[mail]
host = "127.0.0.1"
port = {smtp}
security = "none"
sender = "The Workshop <workshop@example.org>"
[[signup.fields]]
name = "name"
label = {{ en = "Your name", de = "Ihr Name" }}
required = true
[[signup.fields]]
name = "email"
type = "email"
label = {{ en = "E-mail address", de = "E-Mail-Adresse" }}
help = {{ en = "Your link is sent there.", de = "Dorthin wird Ihr Link geschickt." }}
required = true
[[signup.fields]]
name = "group"
type = "choice"
label = {{ en = "Group", de = "Gruppe" }}
options = [
    {{ value = "m", label = {{ en = "Morning", de = "Vormittag" }} }},
    {{ value = "a", label = {{ en = "Afternoon", de = "Nachmittag" }} }},
]
[[signup.fields]]
name = "notes"
type = "textarea"
label = {{ en = "Anything we should know", de = "Was wir wissen sollten" }}
[[signup.documents]]
name = "terms"
title = {{ en = "Terms of use", de = "Nutzungsbedingungen" }}
file = "{folder}/terms.md"
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def postbox():
    """A mail server, at `postbox.port`, and what it has got."""
    postbox = Postbox()
    async with post_office(postbox) as postbox.port:
        yield postbox


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory, postbox):
    """The address of a gate at which people sign up, for three seats."""
    folder = tmp_path_factory.mktemp("sign-up")
    (folder / "terms.md").write_text(TERMS)
    (folder / "code").write_text("nova-7\n")
    gate = RunningGate(folder)
    gate.environ["STATE_DIRECTORY"] = str(folder / "state")
    gate.settings = SETTINGS.format(web=gate.web, folder=folder, smtp=postbox.port)
    with Xvnc(folder) as desktop:
        gate.write(*(gate.line(f"ws{number:02}", desktop) for number in range(1, 7)))
        with gate:
            yield f"http://127.0.0.1:{gate.web}/"


async def unobjectionable(page):
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


async def fits(page, width):
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert [words for words in page.complaints if "422" not in words] == []  # a form with faults is no failure


async def fill_in(page, name):
    """The form, as somebody fills it in who has no mouse; begins in its first field."""
    keyboard = page.keyboard
    for text in (name, "ada@example.org"):
        await keyboard.type(text)
        await keyboard.press("Tab")
    await keyboard.press("ArrowDown")  # the group
    await keyboard.press("Tab")
    await keyboard.type("I type with\nmy feet")
    await keyboard.press("Tab")
    await keyboard.type("nova-7")
    await keyboard.press("Tab")
    await keyboard.press("Enter")  # the document opens
    await expect(page.locator(".document-text")).to_be_visible()
    await keyboard.press("Tab")  # into its text
    await keyboard.press("Tab")
    await keyboard.press("Space")
    await expect(page.locator("input[type=checkbox]")).to_be_checked()


async def test_by_keyboard_alone_from_the_first_page_to_the_desktop_and_by_the_mail(site, browse, postbox, pictures):
    page = await browse(site)
    await page.get_by_role("link", name="No account yet? Sign up").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Sign up")).to_be_visible()
    await unobjectionable(page)
    await page.get_by_label("Your name").focus()
    await fill_in(page, "Ada Lovelace")
    await unobjectionable(page)
    await pictures(page, "form-en")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Sign up")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Your seat")).to_be_visible()
    await unobjectionable(page)
    await pictures(page, "seat-en")
    pin = await page.locator("dd code").nth(1).text_content()
    assert re.fullmatch(r"\d{6}", pin)
    await page.reload()
    assert await page.locator("dd code").nth(1).text_content() == pin
    await page.emulate_media(media="print")
    await expect(page.get_by_role("link", name="Open the desktop")).to_be_hidden()
    await expect(page.locator("dd code").nth(1)).to_be_visible()
    await expect(page.get_by_role("img", name="QR code")).to_be_visible()
    await pictures(page, "seat-print")
    await page.emulate_media(media="screen")
    await fits(page, 1280)
    await page.get_by_role("link", name="Open the desktop").focus()
    await page.keyboard.press("Enter")
    await connected(page)
    async with asyncio.timeout(PATIENCE):
        while not (got := [mail for mail in postbox.got if mail["To"] == "ada@example.org"]):
            await asyncio.sleep(0.05)
    (mail,) = got
    text = mail.get_content()
    assert mail["Subject"] == "Your seat: Chemistry in the browser"
    assert f"PIN: {pin}" in text
    phone = await browse(re.search(r"http://\S+seat#\S+", text)[0])
    await connected(phone)


async def test_in_german_on_a_phone_with_a_mistake_first(site, browse, pictures):
    page = await browse(f"{site}sign-up", locale="de-DE", viewport={"width": 360, "height": 740}, color_scheme="dark")
    await expect(page.get_by_role("heading", name="Zum Workshop anmelden")).to_be_visible()
    await page.get_by_label("Ihr Name").fill("Zoë")
    await page.get_by_label("E-Mail-Adresse").fill("zoe")
    await page.get_by_role("button", name="Zum Workshop anmelden").click()
    summary = page.get_by_role("alert")
    await expect(summary).to_be_focused()
    await expect(summary).to_contain_text("3 Angaben stimmen noch nicht")
    await unobjectionable(page)
    await fits(page, 360)
    await pictures(page, "wrong-de")
    await summary.get_by_role("link", name="E-Mail-Adresse").click()
    await expect(page.get_by_label("E-Mail-Adresse")).to_be_focused()
    await page.get_by_label("E-Mail-Adresse").fill("zoe@example.org")
    await page.get_by_label("Veranstaltungscode").fill("NOVA 7")
    await page.get_by_label("Ich habe gelesen").check()
    await expect(page.get_by_label("Ihr Name")).to_have_value("Zoë")
    await page.get_by_role("button", name="Zum Workshop anmelden").click()
    await expect(page.get_by_role("heading", name="Ihr Platz")).to_be_visible()
    await expect(page.get_by_text("Raum 7, Freitag um neun")).to_be_visible()
    await unobjectionable(page)
    await fits(page, 360)
    await pictures(page, "seat-de")
    await page.get_by_role("link", name="Was über Sie gespeichert ist").click()
    await expect(page.get_by_role("heading", name="Ihre Daten")).to_be_visible()
    await unobjectionable(page)
    await fits(page, 360)
    await pictures(page, "privacy-de")
    await page.get_by_label("Ja, alles löschen").check()
    await page.get_by_role("button", name="Löschen").click()
    await expect(page.get_by_role("status")).to_contain_text("ist gelöscht")
    await page.goto(f"{site}sign-up/seat")
    await expect(page.get_by_role("heading", name="Einloggen")).to_be_visible()


async def test_without_javascript(site, browse):
    page = await browse(f"{site}sign-up", java_script_enabled=False)
    await page.get_by_label("Your name").fill("Grace")
    await page.get_by_label("E-mail address").fill("grace@example.org")
    await page.get_by_label("Event code").fill("nova-7")
    await page.get_by_text("Read: Terms of use").click()
    await expect(page.get_by_text("Be kind.")).to_be_visible()
    await page.get_by_label("I have read and accept").check()
    await page.get_by_role("button", name="Sign up").click()
    await expect(page.get_by_role("heading", name="Your seat")).to_be_visible()
    await expect(page.get_by_role("button", name="Print this page")).to_be_hidden()


async def test_who_waits_takes_the_seat_that_becomes_free(site, browse, pictures):
    others = [Somebody(number) for number in range(3)]
    async with aiohttp.ClientSession(site, cookie_jar=aiohttp.DummyCookieJar()) as http:
        for each in others:
            await each.open_form(http)
            await each.send(http)
        page = await browse(f"{site}sign-up")
        await expect(page.get_by_text("All seats are taken at the moment")).to_be_visible()
        await page.get_by_label("Your name").fill("Emmy")
        await page.get_by_label("E-mail address").fill("emmy@example.org")
        await page.get_by_label("Event code").fill("nova-7")
        await page.get_by_label("I have read and accept").check()
        await page.get_by_role("button", name="Sign up").click()
        await expect(page.get_by_role("heading", name="You are on the waiting list")).to_be_visible()
        await unobjectionable(page)
        await pictures(page, "waiting-en")
        while await page.get_by_role("heading", name="You are on the waiting list").is_visible():
            for each in others:  # all give their seats back: others of this module's tests may wait, too
                _, text = await each.ask(http, "GET", "/privacy")
                if form := dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text)):
                    await each.ask(http, "POST", "/privacy/delete", data=form | {"confirm": "yes"})
            await asyncio.sleep(1)
            await page.reload()
    await expect(page.get_by_role("heading", name="A seat has become free for you")).to_be_visible()
    await unobjectionable(page)
    await page.get_by_role("button", name="Take the seat").click()
    await expect(page.get_by_role("heading", name="Your seat")).to_be_visible()
    assert re.fullmatch(r"\d{6}", await page.locator("dd code").nth(1).text_content())


@pytest.fixture
def pictures():
    """A function that takes a picture of a page, where somebody wants to look at it: PICTURES=FOLDER."""
    folder = os.environ.get("PICTURES")

    async def picture(page, name):
        if folder:
            await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    return picture
