"""What people with bad intentions try at the pages of a gate with seats, and do not get."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from tests.seats import PIN
from tests.web.visitors import FORM, SESSION, TOKEN, open_house
from vncgate import cookies, pins
from vncgate.errors import LedgerError
from vncgate.guessing import FREE
from vncgate.model import Secret
from vncgate.render.headers import STATIC_HEADERS

WRONG = Secret("000000")


@pytest.fixture
async def house(tmp_path, monkeypatch):
    async with open_house(tmp_path, monkeypatch) as house:
        yield house


# ---- session fixation ----


async def test_a_cookie_planted_before_signing_in_is_worth_nothing_after(house):
    ada = house.visitor()
    planted = "A" * 43
    ada.cookies[SESSION] = planted
    await ada.sign_in("ws01")
    assert ada.cookies[SESSION] != planted
    eve = house.visitor()
    eve.cookies[SESSION] = planted
    assert (await eve.get("/api/accounts")).status == 401


async def test_signing_in_anew_gives_a_new_cookie_and_ends_the_old_one(house):
    ada = house.visitor()
    await ada.sign_in("ws01")
    old = ada.cookies[SESSION]
    await ada.follow(house.seating.link("ws02"))
    assert ada.cookies[SESSION] != old
    eve = house.visitor()
    eve.cookies[SESSION] = old
    assert (await eve.get("/api/accounts")).status == 401
    assert house.admitted["ws01"] == {}


async def test_a_cookie_that_comes_twice_is_none(house):
    """A neighbour of the same domain can plant a cookie beside ours, but not make it count."""
    ada = house.visitor()
    await ada.sign_in("ws01")
    name = cookies.SECURE_SESSION
    answer = await ada.get("/api/accounts", headers={"Cookie": f"{name}={'A' * 43}; {name}={ada.cookies[SESSION]}"})
    assert answer.status in (200, 401)
    ada.cookies = {SESSION: f"{'A' * 43}; {SESSION}={ada.cookies[SESSION]}"}
    assert (await ada.get("/api/accounts")).status == 401


async def test_the_cookies_plain_name_does_not_count_over_https(house):
    ada = house.visitor()
    await ada.sign_in("ws01")
    ada.cookies = {cookies.SESSION: ada.cookies[SESSION]}
    assert (await ada.get("/api/accounts")).status == 401


# ---- forms of other sites (CSRF) ----

FORMS = [
    ("/sign-in", {"account": "ws01", "pin": PIN.reveal()}),
    ("/sign-out", {}),
    ("/seat", {"token": "x"}),
    ("/share", {"token": "x"}),
    ("/end-share", {"id": "x"}),
    ("/api/shares", {"mode": "control"}),
    ("/api/shares/end", {"id": "x"}),
]
forms = pytest.mark.parametrize(("path", "fields"), FORMS, ids=[path for path, _ in FORMS])


@forms
async def test_a_form_without_its_token_is_refused(house, path, fields):
    ada = house.visitor()
    await ada.sign_in("ws01")
    digest = next(iter(house.admitted["ws01"]))
    for token in ({}, {"form_token": ""}, {"form_token": "é" * 43}, {"form_token": "A" * 43}):
        assert (await ada.request("POST", path, data={**fields, **token})).status == 403
    assert list(house.admitted["ws01"]) == [digest]


@forms
async def test_a_form_with_somebody_elses_token_is_refused(house, path, fields):
    """Eve has a token of her own for this page, and her page sends it from Ada's browser."""
    ada, eve = house.visitor(), house.visitor()
    await ada.sign_in("ws01")
    await ada.get("/")
    stolen = {"form_token": await eve.token("/")}
    assert (await ada.request("POST", path, data={**fields, **stolen})).status == 403
    ada.cookies[FORM] = eve.cookies[FORM]  # and she has planted the cookie that goes with it
    assert (await ada.request("POST", path, data={**fields, **stolen})).status == 403


@forms
async def test_a_form_of_another_site_is_refused_even_with_the_right_token(house, path, fields):
    ada = house.visitor()
    await ada.sign_in("ws01")
    token = {"form_token": await ada.token("/")}
    for foreign in (
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://evil.example.org"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": None, "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": None, "Origin": "null"},
    ):
        answer = await ada.request("POST", path, headers=foreign, data={**fields, **token})
        assert answer.status == 403, foreign


@forms
async def test_what_is_no_form_is_refused(house, path, fields):
    ada = house.visitor()
    await ada.sign_in("ws01")
    token = await ada.token("/")
    assert (await ada.request("POST", path, json={**fields, "form_token": token})).status == 415
    long = {**fields, "form_token": token, "more": "x" * 70_000}
    assert (await ada.request("POST", path, data=long)).status == 413


async def test_a_form_that_was_open_while_one_signed_in_has_to_be_loaded_anew(house):
    ada = house.visitor()
    before = await ada.token("/")
    await ada.sign_in("ws01")
    assert (await ada.request("POST", "/sign-out", data={"form_token": before})).status == 403


async def test_nothing_is_changed_by_a_link_that_is_followed(house):
    ada = house.visitor()
    await ada.sign_in("ws01")
    for path, _ in FORMS:
        assert (await ada.get(path)).status in (200, 404, 405)
    assert len(house.admitted["ws01"]) == 1


# ---- open redirects, header injection, path traversal ----


@pytest.mark.parametrize("where", ["//evil.example", "https://evil.example/", "/\\evil.example", "\t//evil.example"])
async def test_after_signing_in_one_stays_on_this_site(house, where):
    ada = house.visitor()
    assert "evil" not in re.sub(r'content="[^"]*"', "", await ada.text(f"/?next={where.replace(chr(9), '%09')}"))
    answer = await ada.sign_in("ws01", next=where)
    assert answer.headers["Location"] == "./desk/ws01/"


@pytest.mark.parametrize("where", ["desk/ws01/%0d%0aSet-Cookie:a=b", "desk/%0aX:y/", "desk/ws01/%0d%0a%0d%0a<script>"])
async def test_no_header_comes_of_what_is_asked_for(house, where):
    ada = house.visitor()
    for path in (f"/?next={where}", f"/{where}"):
        answer = await ada.get(path)
        assert "X" not in answer.headers
        assert not [name for name in answer.cookies if name not in (FORM, "vncgate_language")]
        assert "\n" not in answer.headers.get("Location", "")


@pytest.mark.parametrize(
    "path",
    [
        "/static/0000000000000000/../../../../etc/passwd",
        "/static/0000000000000000/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/0000000000000000/..%2f..%2f..%2fetc%2fpasswd",
        "/desk/..%2f..%2fetc%2fpasswd/",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/seat/../../etc/passwd",
    ],
)
async def test_no_path_leads_out_of_the_site(house, path):
    answer = await house.visitor().get(path)
    assert answer.status in (303, 404)
    assert "root:" not in await answer.text()


async def test_what_somebody_types_is_shown_as_text(house):
    answer = await house.visitor().sign_in('"><script>alert(1)</script>', WRONG)
    html = await answer.text()
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html


# ---- cookies over http ----


@pytest.mark.parametrize("protocol", [{"X-Forwarded-Proto": "http"}, {"X-Forwarded-Proto": None}])
async def test_over_http_there_is_no_session_and_no_form_is_taken(house, protocol):
    ada = house.visitor()
    await ada.sign_in("ws01")
    token = await ada.token("/")
    assert (await ada.get("/api/accounts", headers=protocol)).status == 401
    answer = await ada.request("POST", "/sign-out", headers=protocol, data={"form_token": token})
    assert answer.status == 403
    plain = house.visitor(**protocol)
    for path in ("/", "/seat", "/share"):
        answer = await plain.get(path)
        assert answer.status == 403
        assert "not encrypted" in await answer.text()
    assert not plain.cookies


async def test_only_a_trusted_proxy_says_that_it_was_https(tmp_path, monkeypatch):
    async with open_house(tmp_path, monkeypatch, trusted_proxies="192.0.2.1") as house:
        assert (await house.visitor().get("/")).status == 403


async def test_the_last_proxy_has_the_last_word_on_it(house):
    ada = house.visitor(**{"X-Forwarded-Proto": "https, http"})
    assert (await ada.get("/")).status == 403


# ---- who has an account ----


async def test_unknown_accounts_and_wrong_pins_and_revoked_seats_get_the_same_answer(house):
    await house.seating.revoke("ws03", "front desk")
    answers = []
    for account in ("ws01", "nobody", "ws03"):
        eve = house.visitor()
        pin = PIN if account == "ws03" else WRONG
        answer = await eve.sign_in(account, pin)
        html = TOKEN.sub("", await answer.text()).replace(account, "ACCOUNT")
        headers = {name: value for name, value in answer.headers.items() if name not in ("Date", "Content-Length")}
        answers.append((answer.status, html, headers))
    assert answers[0] == answers[1] == answers[2]


async def test_and_make_the_same_work(house, monkeypatch):
    worked = []
    real = pins.Pins._verify
    monkeypatch.setattr(pins.Pins, "_verify", lambda self, *args: worked.append(1) or real(self, *args))
    for account in ("ws01", "nobody", ""):
        await house.visitor().sign_in(account, WRONG)
        assert len(worked) == 1, account
        worked.clear()


async def test_and_the_same_waits(house):
    for account in ("ws01", "nobody"):
        eve = house.visitor()
        statuses = [(await eve.sign_in(account, WRONG)).status for _ in range(FREE + 2)]
        assert statuses == [403] * FREE + [429] * 2


async def test_without_a_session_every_desk_is_the_same(house):
    eve = house.visitor()
    answers = [await eve.get(f"/desk/{path}/") for path in ("ws01", "nobody")]
    assert answers[0].status == answers[1].status == 303
    assert answers[0].headers["Location"].replace("ws01", "nobody") == answers[1].headers["Location"]


# ---- guessing ----


async def test_a_neighbour_who_guesses_delays_nobody_behind_the_same_address(house):
    eve, ada = house.visitor(), house.visitor()
    for _ in range(20):
        await eve.sign_in("ws01", WRONG)
    assert (await ada.sign_in("ws02")).status == 303
    assert (await ada.follow(house.seating.link("ws01"))).status == 200


async def test_who_writes_another_address_into_a_header_is_still_the_same_client(house):
    statuses = []
    for number in range(FREE + 3):
        eve = house.visitor(client=f"10.9.9.{number}, 203.0.113.66")
        statuses.append((await eve.sign_in("ws01", WRONG)).status)
    assert statuses[-1] == 429


async def test_many_guesses_at_once_are_counted_as_many(house):
    eve = house.visitor()
    token = await eve.token("/")
    fields = {"form_token": token, "account": "ws01"}
    guesses = [eve.request("POST", "/sign-in", data={**fields, "pin": f"{n:06}"}) for n in range(40)]
    statuses = [answer.status for answer in await asyncio.gather(*guesses)]
    assert statuses.count(403) == FREE
    assert statuses.count(429) == 40 - FREE


# ---- links ----


async def test_a_forged_and_a_replayed_link_of_another_purpose(house):
    eve = house.visitor()
    link = house.seating.link("ws01").reveal()
    for forged in (link.replace("ws01", "ws02"), link[:-1], link + "A", re.sub(r"\.\d{10}\.", ".9999999999.", link)):
        assert (await eve.follow(Secret(forged))).status == 403
    assert (await eve.follow(Secret(link), "share")).status == 403


async def test_a_link_at_the_second_of_its_end(house):
    link = house.seating.link("ws01")
    house.later(days=14, seconds=-1)
    assert (await house.visitor().follow(link)).status == 200
    house.later(seconds=1)
    assert (await house.visitor().follow(link)).status == 403


async def test_a_session_at_the_second_of_its_end(house):
    ada = house.visitor()
    await ada.sign_in("ws01")
    house.later(hours=24, seconds=-1)
    assert (await ada.get("/api/accounts")).status == 200
    house.later(seconds=1)
    assert (await ada.get("/api/accounts")).status == 401


# ---- what is kept, and what is said ----


@pytest.mark.parametrize("path", ["/", "/seat", "/share", "/desk/ws01/", "/api/accounts", "/nothing"])
async def test_no_copy_is_kept_of_what_is_somebodys(house, path):
    ada = house.visitor()
    await ada.sign_in("ws01")
    answer = await ada.get(path)
    assert answer.headers["Cache-Control"] == "no-store"
    for name in STATIC_HEADERS:
        assert name in answer.headers
    assert "'unsafe" not in answer.headers["Content-Security-Policy"]


async def test_no_page_has_a_secret_of_anybody(house):
    ada = house.visitor()
    await ada.sign_in("ws01")
    pages = [await ada.text(path) for path in ("/", "/desk/ws01/", "/seat", "/api/accounts", "/api/shares")]
    for secret in (
        PIN.reveal(),
        "k3Vq9xTb",
        ada.cookies[SESSION],
        ada.cookies[FORM],
        cookies.digest(ada.cookies[SESSION]),
    ):
        assert not [page for page in pages if secret in page]


async def test_an_organizers_session_is_no_participants(house):
    ada = house.visitor()
    entry = await house.seating.begin_as_organizer("front desk")
    ada.cookies[SESSION] = entry.cookie.reveal()
    assert (await ada.get("/api/accounts")).status == 401
    assert (await ada.get("/desk/ws01/")).status == 303
    assert json.loads(await ada.text("/api/shares"))["error"]


async def test_a_stream_ends_where_nobody_can_say_whether_one_is_still_signed_in(house, monkeypatch):
    ada = house.visitor()
    await ada.sign_in("ws02")
    cookie = f"{SESSION}={ada.cookies[SESSION]}"
    async with house.client.get("/api/events", headers=ada.headers | {"Cookie": cookie}) as stream:
        for _ in range(2):
            await stream.content.readline()

        async def away(_):
            raise LedgerError("postgresql://db: it does not answer")

        monkeypatch.setattr(house.seating, "session", away)
        house.gate.set("ws02", reason="news")
        assert await stream.content.read() == b"\n"
