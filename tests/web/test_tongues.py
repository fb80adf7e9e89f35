"""Pages and their errors in the language of who asks, and how that is chosen."""

from __future__ import annotations

import json
import re

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.web.test_app import next_event
from tests.web.values import Gate, accounts
from vncgate.model import Readiness
from vncgate.settings import load
from vncgate.web.app import build

GERMAN = {"Accept-Language": "de-DE,de;q=0.9,en;q=0.8"}


@pytest.fixture
def gate():
    return Gate(accounts(3))


@pytest.fixture
async def browse(gate):
    """Serve the pages with the settings given, and give a client that keeps cookies."""
    clients = []

    async def start(**flags):
        settings = load(flags={name.replace("__", "."): value for name, value in flags.items()})
        clients.append(TestClient(TestServer(build(settings=settings, roster=gate.roster, statuses=gate.statuses))))
        await clients[-1].start_server()
        return clients[-1]

    yield start
    for client in clients:
        await client.close()


def language(answer, html):
    """What an answer says of its language, the same everywhere."""
    (found,) = set(re.findall(r'<html lang="([^"]*)">', html))
    assert answer.headers["Content-Language"] == found
    assert answer.headers["Vary"] == "Accept-Language, Cookie"
    return found


async def test_pages_are_english_without_a_wish_and_german_with_one(browse, gate):
    gate.set("ws02", Readiness.WRONG_PASSWORD)
    client = await browse()
    answer = await client.get("/")
    html = await answer.text()
    assert language(answer, html) == "en"
    assert "Filter by name" in html
    answer = await client.get("/", headers=GERMAN)
    html = await answer.text()
    assert language(answer, html) == "de"
    assert "Nach Namen filtern" in html
    assert "Set-Cookie" not in answer.headers
    assert 'data-state="needs attention"' in html  # what style sheets and scripts go by
    assert '<span class="state-text">wird geprüft</span>' in html
    assert "das Organisationsteam muss das Passwort dieses Desktops prüfen" in html


async def test_the_switch_leads_to_the_same_page_and_is_remembered(browse):
    client = await browse()
    answer = await client.get("/desk/ws01/", headers=GERMAN)
    html = await answer.text()
    assert '<a href="?language=en" lang="en" hreflang="en">English</a>' in html
    assert '<a href="?language=de" lang="de" hreflang="de" aria-current="true">Deutsch</a>' in html
    answer = await client.get("/desk/ws01/?language=en", headers=GERMAN)
    assert language(answer, await answer.text()) == "en"
    cookie = answer.cookies["vncgate_language"]
    assert (cookie.value, cookie["samesite"], cookie["path"], cookie["max-age"]) == ("en", "Lax", "/", "31536000")
    answer = await client.get("/", headers=GERMAN)
    assert language(answer, await answer.text()) == "en"
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("asked", ["fr", "de%0d%0aX-Other:%201", "", "DE", "//elsewhere.example"])
async def test_what_is_no_language_changes_nothing(browse, asked):
    client = await browse()
    answer = await client.get(f"/?language={asked}", allow_redirects=False)
    assert answer.status == 200
    assert language(answer, await answer.text()) == "en"
    assert not {"Set-Cookie", "X-Other", "Location"} & set(answer.headers)


async def test_a_cookie_that_is_no_language_is_passed_over(browse):
    client = await browse()
    answer = await client.get("/", headers={**GERMAN, "Cookie": "vncgate_language=../../etc"})
    assert language(answer, await answer.text()) == "de"


async def test_errors_are_said_in_the_same_language(browse):
    client = await browse()
    answer = await client.get("/nowhere", headers=GERMAN)
    html = await answer.text()
    assert (answer.status, language(answer, html)) == (404, "de")
    assert "Diese Seite gibt es nicht." in html
    assert "<h1>Nicht gefunden</h1>" in html
    answer = await client.get("/api/accounts/nowhere", headers=GERMAN)
    assert (await answer.json())["error"] == "dieses Konto gibt es nicht"


async def test_the_api_tells_people_in_their_language_and_programs_in_theirs(browse, gate):
    gate.set("ws02", Readiness.OFFLINE, reason="desktop node01:5901 refused the connection")
    client = await browse()
    for headers, label, reason in [
        ({}, "offline", "the desktop refused the connection"),
        (GERMAN, "nicht erreichbar", "der Desktop hat die Verbindung abgelehnt"),
    ]:
        told = await (await client.get("/api/accounts/ws02", headers=headers)).json()
        assert (told["state"], told["label"], told["reason"]) == ("offline", label, reason)
        async with client.get("/api/events?path=ws02", headers=headers) as stream:
            _, entries = await next_event(stream)
            assert entries == [told]


async def test_a_scripts_page_has_the_language_that_its_page_has_and_that_is_not_remembered(browse):
    client = await browse()
    answer = await client.get("/api/accounts/ws01?lang=de", headers={"Cookie": "vncgate_language=en"})
    assert json.loads(await answer.text())["label"] == "bereit"
    answer = await client.get("/?lang=de", headers={"Cookie": "vncgate_language=en"})
    assert language(answer, await answer.text()) == "de"
    assert "Set-Cookie" not in answer.headers


async def test_a_page_loads_the_texts_of_its_scripts_first(browse):
    client = await browse()
    html = await (await client.get("/", headers=GERMAN)).text()
    scripts = re.findall(r'<script type="module" src="\./(static/[^"]*)"></script>', html)
    assert [script.partition("/")[2].partition("/")[2] for script in scripts] == ["words/de.js", "landing.js"]
    answer = await client.get(f"/{scripts[0]}")
    assert answer.content_type == "text/javascript"
    assert "immutable" in answer.headers["Cache-Control"]
    assert '"{shown} of {all} desktops": "{shown} von {all} Desktops"' in await answer.text()


async def test_a_site_with_one_language_has_no_switch(browse):
    client = await browse(languages__offered="de", languages__default="de")
    answer = await client.get("/?language=en", headers={"Accept-Language": "en"})
    html = await answer.text()
    assert language(answer, html) == "de"
    assert "?language=" not in html
