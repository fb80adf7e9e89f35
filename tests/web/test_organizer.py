"""The organizer's pages over HTTP: who gets in, what a page tells, what is done, and who is refused."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.web.organized import TOKENS, House, grant
from tests.web.values import PASSWORD
from vncgate import catalogues
from vncgate.grants import Scope
from vncgate.language_settings import LanguagesSettings
from vncgate.model import Secret
from vncgate.people import AuditEntry, Mode
from vncgate.people_csv import COLUMNS
from vncgate.seating import Entry
from vncgate.web import audit_words
from vncgate.workshop import Command, Step

PAGES = tuple(
    f"/organizer{path}" for path in ("", "/waiting", "/people", "/audit", "/people.csv", "/audit.csv", "/events")
)


class Browser(TestClient):
    """A browser of one person."""

    async def token(self, path):
        text = await (await self.get(path)).text()
        return re.search(r'name="form_token" value="([^"]+)"', text)[1]

    async def sign_in(self, token):
        fields = {"token": token, "form_token": await self.token("/organizer/sign-in")}
        return await self.post("/organizer/sign-in", data=fields, allow_redirects=False)

    async def do(self, path, form_token=None, **fields):
        fields["form_token"] = form_token or await self.token("/organizer")
        return await self.post(f"/organizer/{path}", data=fields)


@pytest.fixture
async def house(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "vncgate")
    async with House(tmp_path).open() as house:
        yield house
    for secret in ("canary", PASSWORD, "Lovelace", "example.org"):
        assert secret not in caplog.text


@pytest.fixture
async def browser(house):
    async with Browser(TestServer(house.application())) as browser:
        yield browser


@pytest.fixture
async def ada(browser):
    assert (await browser.sign_in(TOKENS["ada"].reveal())).status == 303
    return browser


# ---- who gets in


async def test_a_token_is_exchanged_for_a_session(browser):
    answer = await browser.get("/organizer", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "./organizer/sign-in")
    answer = await browser.sign_in(TOKENS["ada"].reveal())
    assert (answer.status, answer.headers["Location"]) == (303, "../organizer")
    (cookie,) = [line for line in answer.headers.getall("Set-Cookie") if line.startswith("vncgate_session=")]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "canary" not in cookie
    page = await browser.get("/organizer")
    assert page.status == 200
    assert page.headers["Cache-Control"] == "no-store"
    assert "canary" not in await page.text()


@pytest.mark.parametrize("token", ["", "wrong", "canary-portal-0123456789", "canary-bo-0123456789"])
async def test_no_other_token_opens_it(browser, token):
    answer = await browser.sign_in(token)
    assert answer.status == 403
    assert "not one of an organizer" in await answer.text()
    assert "vncgate_session" not in str(answer.headers)


async def test_guessing_is_slowed_down(browser):
    answers = [(await browser.sign_in("wrong")).status for _ in range(5)]
    assert answers == [403, 403, 403, 429, 429]


async def test_a_form_of_elsewhere_does_nothing(house, ada):
    assert (await ada.post("/organizer/sign-in", data={"token": TOKENS["ada"].reveal()})).status == 403
    for fields in ({}, {"form_token": "x" * 43}):
        answer = await ada.post("/organizer/seats/pin", data={"account": "ws01", **fields})
        assert answer.status == 403
        assert "out of date" in (await answer.json())["error"]
    token = await ada.token("/organizer")
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        answer = await ada.post("/organizer/seats/pin", data={"account": "ws01", "form_token": token}, headers=headers)
        assert answer.status == 403
    assert (await ada.post("/organizer/seats/pin", json={"account": "ws01"})).status == 415
    assert (await ada.get("/organizer/seats/pin")).status == 405
    assert await house.audit() == []


async def test_a_revoked_token_ends_the_session_at_once(house, ada):
    house.allow()
    for path in PAGES:
        answer = await ada.get(path, allow_redirects=False)
        assert answer.status == 303, path
        assert answer.headers["Location"].endswith("organizer/sign-in")
    assert (await ada.post("/organizer/seats/pin", data={"account": "ws01"})).status == 403


async def test_a_token_of_the_same_name_that_is_made_later_is_another(house, ada):
    later = grant("ada", Scope.ORGANIZE)
    house.allow(later.model_copy(update={"created": later.created.replace(year=2099)}))
    assert (await ada.get("/organizer", allow_redirects=False)).status == 303


async def test_a_token_that_lost_the_scope_ends_the_session(house, ada):
    house.allow(grant("ada", Scope.READ, Scope.WRITE))
    assert (await ada.get("/organizer", allow_redirects=False)).status == 303


async def test_signing_out(ada):
    answer = await ada.post(
        "/organizer/sign-out", data={"form_token": await ada.token("/organizer")}, allow_redirects=False
    )
    assert answer.status == 303
    assert (await ada.get("/organizer", allow_redirects=False)).status == 303


async def test_a_participant_gets_nowhere(house, browser):
    headers = {"Cookie": f"vncgate_session={await house.enter('ws01')}"}
    for path in PAGES:
        answer = await browser.get(path, headers=headers, allow_redirects=False)
        assert answer.status == 303, path
        assert answer.headers["Location"].endswith("organizer/sign-in")
    for path in ("/organizer/seats/pin", "/organizer/people/remove", "/organizer/people/import"):
        answer = await browser.post(path, headers=headers, data={"account": "ws01"})
        assert answer.status == 403, path
    for path in ("/api/v1/seats", "/api/v1/people", "/api/v1/audit"):
        assert (await browser.get(path, headers=headers)).status == 401, path


async def test_an_organizer_has_no_seat(ada):
    answer = await ada.get("/desk/path-ws01", allow_redirects=False)
    assert answer.status in (303, 404)
    assert (await ada.get("/api/accounts/path-ws01")).status in (401, 404)


async def test_without_a_file_of_tokens_there_are_no_such_pages(tmp_path):
    house = House(tmp_path)
    house.settings = house.settings.model_copy(update={"api": house.settings.api.model_copy(update={"tokens": None})})
    async with house.open(), Browser(TestServer(house.application())) as browser:
        assert (await browser.get("/organizer")).status == 404


# ---- what is seen


async def test_what_is_typed_into_the_form_is_shown_and_not_run(house, ada):
    await house.person("<script>alert(1)</script>", email='"><b>@example.org', answers={"team": "{{ 7*7 }}<i>"})
    await house.person("</script><b>")
    waiting = (await (await ada.get("/organizer/waiting")).json())["waiting"]
    assert [person["name"] for person in waiting] == ["<script>alert(1)</script>", "</script><b>"]
    for path in ("/organizer", "/organizer/people"):
        text = await (await ada.get(path)).text()
        assert "<script>alert" not in text
        assert "</script><b>" not in text
        assert "<i>" not in text
    assert "{{ 7*7 }}" in text


async def test_tables_are_downloads(house, ada):
    await house.person("=1+1", "ws01")
    answer = await ada.get("/organizer/people.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="people-[\d-]+\.csv"', answer.headers["Content-Disposition"])
    text = await answer.text()
    assert text.lstrip("\ufeff").startswith(",".join(COLUMNS))
    assert ",'=1+1," in text
    answer = await ada.get("/organizer/audit.csv")
    assert ",ada,export of people," in await answer.text()


async def events(answer, count):
    """The first messages of the stream, but for its comments."""
    found = []
    while len(found) < count:
        block = (await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 60)).decode()
        if not block.startswith(":"):
            name, data = block.removesuffix("\n\n").split("\n", 1)
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_the_stream_tells_of_all_seats_and_then_what_is_new(house, ada):
    async with ada.get("/organizer/events", headers={"Accept-Language": "de"}) as answer:
        ((name, seats),) = await events(answer, 1)
        assert (name, [seat["account"] for seat in seats]) == ("seats", ["ws01", "ws02", "ws03", "ws04"])
        assert (seats[0]["state"], seats[0]["label"]) == ("ready", "bereit")
        await house.person("Ada Lovelace", "ws02")
        ((name, change),) = await events(answer, 1)
        assert name == "change"
        (seat,) = change["changed"]
        assert seat.pop("person")
        assert (seat, change["removed"]) == ({"account": "ws02", "name": "Ada Lovelace"}, [])


async def test_the_stream_ends_with_the_token(house, ada):
    async with ada.get("/organizer/events") as answer:
        await events(answer, 1)
        house.allow()
        async with asyncio.timeout(60):
            while await answer.content.readany():
                pass


async def test_the_audit_log_is_told_in_the_pages_language_and_kept_in_english(house, ada):
    organizing, seating = house.participants.organizing, house.participants.seating
    ed = await house.person("Ed")
    await house.person("Bo", "ws01")
    for deed, given in (
        ("move", {"to": "ws02"}), ("release", {}), ("spare", {"spare": "yes"}), ("spare", {"spare": "no"}),
        ("pin", {}), ("link", {}), ("revoke", {}), ("sign-out", {}), ("extend", {"minutes": "5"}),
        ("message", {"text": "Lunch"}), ("swap-back", {}),
    ):  # fmt: skip
        await organizing.do(deed, ["ws02" if deed == "release" else "ws01"], given, "ada")
    await organizing.do("spare", ["ws04"], {"spare": "yes"}, "ada")
    await organizing.do("swap", ["ws03"], {}, "ada")
    for what in ("start desktop", "stop desktop", "restart desktop"):
        await house.ledger.note(AuditEntry(datetime.now(UTC), "ada", what, "ws01"))
    await organizing.take_in(b"name\nCy\nDi\n", "ada")
    await organizing.add({"name": "Fay"}, "ada")
    await organizing.export("ada")
    await organizing.do_to_person("remove", ed.id, {}, "ada")
    for mode in Mode:
        await seating.share("ws01", mode, datetime.now(UTC) + timedelta(hours=1))
    told = {what for _, what, _ in await house.audit()}
    clocks = {f"workshop {command}" for command in Command} | {f"workshop: {step}" for step in Step}
    clocks |= {f"workshop: {step}, done" for step in (Step.END, Step.PURGE)}
    german = catalogues.load(LanguagesSettings())["de"]
    assert len(told) > 20
    assert {what for what in told | clocks if audit_words.said(what, german) == what} == set()
    assert audit_words.said("table of 2 people", german) == "Tabelle mit 2 Personen übernommen"
    assert audit_words.said("mail given up (no address)", german) == "E-Mail nicht zugestellt (no address)"
    assert audit_words.said("what a later version did", german) == "what a later version did"
    page = await (await ada.get("/organizer/audit", headers={"Accept-Language": "de"})).text()
    assert "<span>neue PIN</span>" in page
    assert "<span>new PIN</span>" not in page
    assert ",new PIN," in await (await ada.get("/organizer/audit.csv", headers={"Accept-Language": "de"})).text()


# ---- what is done


async def test_a_deed_is_done_and_told_in_the_pages_language(house, ada):
    answer = await ada.do("seats/pin", account="ws01")
    told = await answer.json()
    assert re.fullmatch(r"\d{6,}", told["pin"])
    entry = await house.participants.seating.sign_in("ws01", Secret(told["pin"]), "127.0.0.9")
    assert isinstance(entry, Entry)
    assert ("ada", "new PIN", "ws01") in await house.audit()
    told = await (await ada.do("seats/link", account="ws01")).json()
    assert told["link"].startswith("http://127.0.0.1/seat#")
    assert told["qr"].startswith("data:image/svg+xml")
    token = await ada.token("/organizer")
    headers = {"Accept-Language": "de"}
    fields = {"account": "ws01", "form_token": token}
    answer = await ada.post("/organizer/seats/swap-back", data=fields, headers=headers)
    assert re.search("ws01 .*eigene", (await answer.json())["said"])
    answer = await ada.post("/organizer/seats/move", data={**fields, "to": "ws02"}, headers=headers)
    assert answer.status == 409
    assert "iemand" in (await answer.json())["error"]


@pytest.mark.parametrize(
    ("path", "fields", "status", "words"),
    [
        ("seats/fly", {"account": "ws01"}, 409, "there is no deed fly"),
        ("seats/pin", {"account": "ws99"}, 409, "there is no account ws99"),
        ("seats/pin", {}, 422, "account is missing"),
        ("seats/message", {"account": "*"}, 422, "text is missing"),
        ("people/remove", {"person": "nobody"}, 409, "nobody with this id"),
        ("people/add", {}, 422, "name is missing"),
        ("people/import", {}, 422, "the table has errors"),
        ("people/import", {"table": "%%%"}, 422, "table is missing"),
    ],
)
async def test_what_is_refused_is_said_in_words(ada, path, fields, status, words):
    answer = await ada.do(path, **fields)
    assert answer.status == status
    assert words in (await answer.json())["error"]


async def test_a_large_table_is_taken_in_and_errors_are_told_by_line(house, ada):
    table = "name;email;team\r\n" + "".join(f"Person {n};p{n}@example.org;{'x' * 100}\r\n" for n in range(1000))
    answer = await ada.do("people/import", table=base64.b64encode(("\ufeff" + table).encode()).decode())
    assert (await answer.json())["said"] == "1000 lines were taken in."
    assert len(await house.ledger.people()) == 1000
    wrong = base64.b64encode(b"name,account\nBo,ws01\nCy,ws01\n").decode()
    told = await (await ada.do("people/import", table=wrong)).json()
    assert told["problems"] == ["line 3, cell 2: the seat ws01 is taken by line 2"]


# ---- notes in the viewers


async def test_a_note_is_for_who_sits_there(house, browser):
    headers = {}
    for name in ("ws01", "ws02"):
        headers[name] = {"Cookie": f"vncgate_session={await house.enter(name)}"}
    await house.participants.organizing.do("message", ["ws01"], {"text": "your <b>turn</b>"}, "ada")

    async def notes(name, path):
        answer = await browser.get(f"/api/notes/{path}", headers=headers[name])
        return answer.status, (await answer.json()).get("notes")

    status, (note,) = await notes("ws01", "path-ws01")
    assert (status, note["text"]) == (200, "your <b>turn</b>")
    assert await notes("ws02", "path-ws02") == (200, [])
    assert (await notes("ws02", "path-ws01"))[0] == 404
    assert (await browser.get("/api/notes/path-ws01")).status == 401
    # They go with the seat, whatever desktop it shows.
    await house.participants.seating.set_spare("ws04", "ada", on=True)
    await house.participants.seating.swap("ws01", "ada")
    assert (await notes("ws01", "path-ws04"))[1] == [note]
