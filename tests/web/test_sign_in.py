"""Signing in and out, links and shares, and what each of them sees: through the pages, as a browser asks for them."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from tests.seats import BEGIN, PIN
from tests.web.visitors import FORM, SESSION, open_house
from vncgate.errors import LedgerError
from vncgate.guessing import FREE
from vncgate.model import Secret
from vncgate.people import Mode
from vncgate.web.sign_in import local

WRONG = Secret("000000")


@pytest.fixture
async def house(tmp_path, monkeypatch):
    async with open_house(tmp_path, monkeypatch) as house:
        yield house


async def test_the_landing_page_asks_who_is_there_and_names_no_account(house):
    html = await house.visitor().text("/")
    assert 'autocomplete="username"' in html
    assert 'autocomplete="current-password"' in html
    assert "ws01" not in html
    assert "Person 1" not in html


async def test_the_landing_page_says_where_the_pin_is_to_who_has_a_card_and_to_who_signed_up(house):
    html = await house.visitor().text("/")
    assert "on your access card, or where you signed up" in html


@pytest.mark.parametrize(("is_over", "has_files"), [(False, True), (True, True), (True, False)])
async def test_the_landing_page_tells_that_the_workshop_is_over(house, is_over, has_files):
    house.participants.takeaway = object()
    house.participants.life = SimpleNamespace(is_over=is_over, has_files=has_files)
    html = await house.visitor().text("/")
    house.participants.takeaway = house.participants.life = None
    assert ("The workshop is over" in html) == is_over
    assert ("take your files home" in html) == (is_over and has_files)


async def test_a_pin_opens_the_own_desktop(house):
    ada = house.visitor()
    answer = await ada.sign_in("ws01")
    assert (answer.status, answer.headers["Location"]) == (303, "./desk/ws01/")
    cookie = answer.cookies[SESSION]
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, True, "Lax", "/")
    assert not cookie["domain"]
    assert (await ada.get("/desk/ws01/")).status == 200
    assert house.admitted["ws01"].popitem()[1] is Mode.CONTROL


async def test_a_pin_is_taken_as_people_type_it(house):
    assert (await house.visitor().sign_in(" ws01 ", Secret("480 113"))).status == 303


async def test_one_is_led_back_to_where_one_wanted_to_go(house):
    ada = house.visitor()
    asked = await ada.get("/desk/ws01/")
    assert (asked.status, asked.headers["Location"]) == (303, "../../?next=desk/ws01/")
    assert 'name="next" value="desk/ws01/"' in await ada.text("/?next=desk/ws01/")
    answer = await ada.sign_in("ws01", next="desk/ws01/")
    assert answer.headers["Location"] == "./desk/ws01/"


async def test_a_wrong_pin_is_told_in_place(house):
    ada = house.visitor()
    answer = await ada.sign_in("ws01", WRONG, next="desk/ws01/")
    html = await answer.text()
    assert answer.status == 403
    assert 'role="alert"' in html
    assert 'value="ws01"' in html  # what was right need not be typed again
    assert WRONG.reveal() not in html
    assert 'value="desk/ws01/"' in html
    assert SESSION not in ada.cookies


async def test_who_tries_too_often_is_told_how_long_to_wait(house):
    ada = house.visitor()
    for _ in range(FREE):
        await ada.sign_in("ws01", WRONG)
    answer = await ada.sign_in("ws01")
    assert answer.status == 429
    assert answer.headers["Retry-After"] == "2"
    assert "in 2 s" in await answer.text()


async def test_who_is_signed_in_sees_their_own_seat(house):
    ada = house.visitor()
    await ada.sign_in("ws02")
    html = await ada.text("/")
    assert "Person 2" in html
    assert 'href="./desk/ws02/"' in html
    assert "Person 1" not in html


async def test_another_path_leads_to_the_own_desktop_whether_there_is_such_a_one_or_not(house):
    ada = house.visitor()
    await ada.sign_in("ws02")
    for path in ("ws01", "nobody", "%2e%2e"):
        answer = await ada.get(f"/desk/{path}/")
        assert (answer.status, answer.headers["Location"]) == (303, "../../desk/ws02/")


async def test_the_api_answers_for_the_own_seat_alone(house):
    ada = house.visitor()
    for path in ("/api/accounts", "/api/accounts/ws01", "/api/accounts/nobody", "/api/events", "/api/shares"):
        answer = await ada.get(path)
        assert (answer.status, answer.content_type) == (401, "application/json")
        assert json.loads(await answer.text())["error"]
    await ada.sign_in("ws02")
    assert [each["path"] for each in json.loads(await ada.text("/api/accounts"))] == ["ws02"]
    assert json.loads(await ada.text("/api/accounts/ws02"))["state"] == "ready"
    others = [await ada.get(f"/api/accounts/{path}") for path in ("ws01", "nobody")]
    assert [other.status for other in others] == [404, 404]
    assert await others[0].text() == await others[1].text()
    assert json.loads(await others[0].text())["desk"] == "ws02"
    assert (await ada.get("/api/events?path=ws01")).status == 404


async def test_the_stream_tells_of_the_own_desktop_until_one_is_signed_out(house, monkeypatch):
    ada = house.visitor()
    await ada.sign_in("ws02")
    (session,) = house.seating.sessions("ws02")
    cookie = f"{SESSION}={ada.cookies[SESSION]}"
    async with house.client.get("/api/events", headers=ada.headers | {"Cookie": cookie}) as stream:
        assert await stream.content.readline() == b"event: accounts\n"
        data = json.loads((await stream.content.readline()).removeprefix(b"data: "))
        assert [each["path"] for each in data] == ["ws02"]
        await house.seating.sign_out(session)
        house.gate.set("ws02", reason="news")
        assert await stream.content.read() == b"\n"


async def test_the_stream_ends_when_the_seat_shows_another_desktop(house):
    ada = house.visitor()
    await ada.sign_in("ws02")
    await house.seating.set_spare("ws04", "lena", on=True)
    cookie = f"{SESSION}={ada.cookies[SESSION]}"
    async with house.client.get("/api/events", headers=ada.headers | {"Cookie": cookie}) as stream:
        for _ in range(2):
            await stream.content.readline()
        await house.seating.swap("ws02", "lena", "ws04")
        house.gate.set("ws02", reason="news")
        async with asyncio.timeout(30):
            assert await stream.content.read() == b"\n"


async def test_desktops_that_the_gate_starts_obey_their_owners_alone(tmp_path, monkeypatch):
    async with open_house(tmp_path, monkeypatch, launched=["ws01", "ws02"]) as house:
        ada, visitor = house.visitor(), house.visitor()
        assert (await ada.request("POST", "/api/desktops/ws01/start")).status == 401
        await ada.sign_in("ws01")
        assert (await ada.request("POST", "/api/desktops/ws01/start")).status == 200
        assert (await ada.request("POST", "/api/desktops/ws02/start")).status == 404
        assert (await ada.request("POST", "/api/desktops/nobody/start")).status == 404
        await visitor.follow(await house.seating.share("ws01", Mode.CONTROL, BEGIN.replace(hour=12)), "share")
        assert (await visitor.request("POST", "/api/desktops/ws01/start")).status == 403


async def test_signing_out_here(house):
    ada, elsewhere = house.visitor(), house.visitor()
    for each in (ada, elsewhere):
        await each.sign_in("ws01")
    old = dict(ada.cookies)
    answer = await ada.post("/sign-out")
    assert (answer.status, answer.headers["Location"]) == (303, "./")
    assert SESSION not in ada.cookies
    ada.cookies = old  # a copy of the cookie is worth nothing
    assert (await ada.get("/api/accounts")).status == 401
    assert (await elsewhere.get("/api/accounts")).status == 200
    assert len(house.admitted["ws01"]) == 1


async def test_signing_out_everywhere(house):
    ada, elsewhere, neighbour = house.visitor(), house.visitor(), house.visitor()
    for each, account in ((ada, "ws01"), (elsewhere, "ws01"), (neighbour, "ws02")):
        await each.sign_in(account)
    await ada.post("/sign-out", everywhere="1")
    assert (await elsewhere.get("/api/accounts")).status == 401
    assert (await neighbour.get("/api/accounts")).status == 200
    assert house.admitted["ws01"] == {}


async def test_a_link_leads_to_its_desktop_and_its_page_has_no_secret_of_it(house):
    ada = house.visitor()
    link = house.seating.link("ws03")
    page = await ada.text("/seat")
    assert "noindex" in page
    assert "data-asks" not in page
    answer = await ada.follow(link)
    assert json.loads(await answer.text()) == {"next": "./desk/ws03/"}
    assert (await ada.get("/desk/ws03/")).status == 200


@pytest.mark.parametrize("name", ["seat", "share"])
async def test_a_link_that_opens_nothing_says_so(house, name):
    answer = await house.visitor().follow(Secret("https://workshop.example.org/seat#v1.ws01.1.0.AAAA"), name)
    assert answer.status == 403
    assert "does not open anything" in json.loads(await answer.text())["error"]


async def test_an_expired_link_says_so(house):
    link = house.seating.link("ws03")
    house.later(days=15)
    answer = await house.visitor().follow(link)
    assert "that is over" in json.loads(await answer.text())["error"]


async def test_a_share_is_made_seen_and_ended(house):
    ada, eve = house.visitor(), house.visitor()
    await ada.sign_in("ws01")
    desk = await ada.text("/desk/ws01/")
    assert 'data-seat="control"' in desk
    assert 'id="panel-share"' in desk
    made = await ada.post("/api/shares", "/desk/ws01/", mode="view")
    told = json.loads(await made.text())
    assert made.status == 201
    assert (await eve.follow(Secret(told["address"]), "share")).status == 200
    page = await eve.text("/desk/ws01/")
    assert 'data-seat="view"' in page
    assert "You are watching" in page
    assert 'id="panel-share"' not in page
    (share,) = json.loads(await ada.text("/api/shares"))
    assert (share["mode"], share["visitors"]) == ("view", 1)
    assert told["address"].partition("#")[2] not in json.dumps(share)  # nothing that opens it is kept
    assert (await eve.get("/api/shares")).status == 403
    assert (await eve.post("/api/shares", mode="control")).status == 403
    await ada.post("/api/shares/end", id=share["id"])
    assert (await eve.get("/api/accounts")).status == 401
    assert list(house.admitted["ws01"].values()) == [Mode.CONTROL]


async def test_nobody_ends_somebody_elses_share(house):
    ada, eve = house.visitor(), house.visitor()
    await ada.sign_in("ws01")
    await ada.post("/api/shares", mode="view")
    (share,) = json.loads(await ada.text("/api/shares"))
    await eve.sign_in("ws02")
    await eve.post("/end-share", id=share["id"])
    assert json.loads(await ada.text("/api/shares")) == [share]
    await ada.post("/end-share", id=share["id"])
    assert json.loads(await ada.text("/api/shares")) == []


async def test_who_follows_a_share_from_a_seat_of_their_own_is_asked_first(house):
    ada = house.visitor()
    await ada.sign_in("ws02")
    page = await ada.text("/share")
    assert "data-asks" in page
    assert "signed in at ws02" in page


async def test_a_share_is_for_watching_or_using_and_nothing_else(house):
    ada = house.visitor()
    await ada.sign_in("ws01")
    assert (await ada.post("/api/shares", mode="root")).status == 400


async def test_a_swapped_seat_leads_to_the_spare(house):
    ada = house.visitor()
    await ada.sign_in("ws01")
    await house.seating.set_spare("ws05", "front desk", on=True)
    await house.seating.swap("ws01", "front desk")
    assert json.loads(await ada.text("/api/accounts/ws01"))["desk"] == "ws05"
    assert (await ada.get("/desk/ws01/")).headers["Location"] == "../../desk/ws05/"
    assert (await ada.get("/desk/ws05/")).status == 200
    assert "spare" in await ada.text("/")


async def test_where_the_ledger_is_away_it_says_so_and_who_is_in_stays(house, monkeypatch):
    ada = house.visitor()
    await ada.sign_in("ws01")

    async def away(*_):
        raise LedgerError("postgresql://db: it does not answer")

    monkeypatch.setattr(house.participants.ledger, "add_session", away)
    answer = await house.visitor().sign_in("ws02")
    html = await answer.text()
    assert answer.status == 503
    assert "cannot look up who sits where" in html
    assert "postgresql" not in html
    assert (await ada.get("/desk/ws01/")).status == 200


@pytest.mark.parametrize("after", ["", "desk/ws01/"])
async def test_the_switch_of_languages_leads_to_the_same_page_and_on_from_there(house, after):
    query = f"next={after}&amp;" if after else ""
    ada = house.visitor()
    html = await ada.text(f"/?next={after}")
    assert f'href="./?{query}language=de"' in html
    html = await (await ada.sign_in("ws01", WRONG, next=after)).text()
    assert f'href="./?{query}language=de"' in html  # and not to where the form was sent, which is no page
    html = await ada.text(f"/?next={after}&language=de")
    assert f'name="next" value="{after}"' in html
    assert "Einloggen" in html


async def test_pages_speak_german(house):
    ada = house.visitor(**{"Accept-Language": "de"})
    assert "Einloggen" in await ada.text("/")
    assert "Ausloggen" not in await ada.text("/")
    await ada.sign_in("ws01")
    assert "Ausloggen" in await ada.text("/")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("desk/ws01/", "desk/ws01/"),
        ("files", "files"),
        ("", ""),
        ("//evil.example", ""),
        ("/desk/ws01", ""),
        ("https://evil.example", ""),
        ("https:evil.example", ""),
        ("javascript:alert(1)", ""),
        ("\\\\evil.example", ""),
        ("../evil", ""),
        ("desk/../../evil", ""),
        ("desk//evil", ""),
        ("desk/\r\nSet-Cookie: a=b", ""),
        ("desk/ws01/\n", ""),
        ("desk/%2e%2e/", ""),
        ("a" * 300, ""),
        ("a" * 255 + "!", ""),  # which must not take for ever to be seen: strangers send it
    ],
)
def test_one_goes_on_to_this_site_alone(text, where):
    assert local(text) == where


def test_the_names_of_cookies_are_what_tests_say():
    assert SESSION.startswith("__Host-")
    assert FORM.startswith("__Host-")
    assert PIN
