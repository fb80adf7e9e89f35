"""Signing up through the pages: the form, what is said about it, the seat, the waiting list, personal data."""

from __future__ import annotations

import asyncio
import html
import logging
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.web.organized import House
from vncgate import signing_up
from vncgate.errors import LedgerError, SettingsError
from vncgate.ledger import Ledger
from vncgate.people import Standing
from vncgate.seat_memory import REVOKED

CANARY = "Canary-Quixote"
GOOD = {"answer.name": CANARY, "answer.email": "canary@example.org"}
FIELDS = [
    {"name": "name", "label": {"en": "Your name", "de": "Dein Name"}, "required": True},
    {"name": "email", "label": "E-mail", "type": "email", "required": True},
    {"name": "matric", "label": "Number", "pattern": "[0-9]{7}", "help": "Seven digits."},
    {"name": "group", "label": "Group", "type": "choice", "options": ["a", {"value": "b", "label": {"de": "Zwei"}}]},
    {"name": "photos", "label": "Photos are fine", "type": "checkbox"},
]


@asynccontextmanager
async def site(tmp_path, count=2, **settings):
    flags = {f"signup.{name}": value for name, value in ({"enabled": True} | settings).items()}
    async with House(tmp_path, count=count, **flags).open() as house, browser(house) as client:
        yield house, client


@asynccontextmanager
async def browser(house):
    """A browser of its own."""
    async with TestClient(TestServer(house.application())) as client:
        yield client


async def page(client, path, language="en", **more):
    response = await client.get(path, headers={"Accept-Language": language}, **more)
    return response, await response.text()


def hidden(text):
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text))


def ticked(text):
    """The documents' boxes, ticked: what is sent is the text that was shown."""
    return dict(re.findall(r'name="(accept\.\w+)" value="(\w+)"', text))


async def send(client, values, text="", language="en", headers=None, path="/sign-up", redirects=True):
    text = text or (await page(client, "/sign-up", language))[1]
    response = await client.post(
        path,
        data=hidden(text) | values,
        headers={"Accept-Language": language} | (headers or {}),
        allow_redirects=redirects,
    )
    return response, await response.text()


def pin_in(text):
    return re.search(r"<dt>PIN</dt><dd><code>(\d+)</code>", text)[1]


def complaints(text):
    return {
        name: html.unescape(words.strip())
        for name, words in re.findall(r'id="([\w.]+)-wrong"><span aria-hidden="true">⚠</span>([^<]*)</p>', text)
    }


async def test_who_signs_up_has_a_seat_at_once_and_is_signed_in(tmp_path):
    async with site(tmp_path, information={"en": "Room **7**", "de": "Raum **7**"}) as (house, client):
        response, text = await send(client, GOOD)
        assert response.status == 200
        assert response.url.path == "/sign-up/seat"
        assert response.headers["Cache-Control"] == "no-store"
        assert "<code>ws01</code>" in text
        assert "<strong>7</strong>" in text
        assert "http://127.0.0.1/seat#v1.ws01." in text
        assert "data:image/svg+xml" in text
        assert 'href="../desk/path-ws01/"' in text
        (person,) = await house.ledger.people()
        assert (person.name, person.email, person.account) == (CANARY, "canary@example.org", "ws01")
        (session,) = house.participants.seating.sessions("ws01")
        assert house.admitted["ws01"].keys() == {session.digest}
        pin = pin_in(text)
        assert pin not in (await house.ledger.seat("ws01")).pin_hash
        async with browser(house) as other:
            form = hidden((await page(other, "/"))[1])
            entered = await other.post("/sign-in", data=form | {"account": "ws01", "pin": pin}, allow_redirects=False)
            assert (entered.status, entered.headers["Location"]) == (303, "./desk/path-ws01/")


async def test_the_same_form_again_is_the_same_seat_and_the_same_pin(tmp_path):
    async with site(tmp_path) as (house, client):
        form = (await page(client, "/sign-up"))[1]
        first = [pin_in((await send(client, GOOD, form))[1])]
        first.append(pin_in((await send(client, GOOD, form))[1]))  # as who goes back and presses the button again
        first.append(pin_in((await page(client, "/sign-up"))[1]))  # and as who opens the form again
        assert len(set(first)) == 1
        assert [person.account for person in await house.ledger.people()] == ["ws01"]
        assert len(house.participants.seating.sessions("ws01")) == 1


async def test_a_form_whose_answer_was_lost_leads_to_the_seat(tmp_path):
    async with site(tmp_path) as (house, client):
        form = (await page(client, "/sign-up"))[1]
        await send(client, GOOD, form, redirects=False)
        client.session.cookie_jar.clear(lambda cookie: cookie.key != "vncgate_form")  # the answer did not come
        _, text = await send(client, {}, form)  # whatever it says now
        assert "<code>ws01</code>" in text
        assert pin_in(text)
        assert len(await house.ledger.people()) == 1


async def test_a_form_that_was_sent_long_ago_lets_nobody_in(tmp_path, monkeypatch):
    async with site(tmp_path) as (house, client):
        form = (await page(client, "/sign-up"))[1]
        await send(client, GOOD, form, redirects=False)
        client.session.cookie_jar.clear(lambda cookie: cookie.key != "vncgate_form")
        monkeypatch.setattr(signing_up, "LETS_IN", timedelta(0))
        response, _ = await send(client, GOOD, form)
        assert response.url.path == "/"
        assert len(house.participants.seating.sessions("ws01")) == 1


async def test_every_fault_stands_beside_its_field_and_nothing_typed_is_lost(tmp_path):
    async with site(tmp_path, fields=FIELDS) as (house, client):
        values = {
            "answer.name": " ",
            "answer.email": "nobody",
            "answer.matric": "12<b>",
            "answer.group": "b",
            "answer.photos": "yes",
        }
        response, text = await send(client, values)
        assert response.status == 422
        assert complaints(text) == {
            "answer.name": "Please fill in this field.",
            "answer.email": "Please write an e-mail address such as name@example.org.",
            "answer.matric": "Please write it in the way that is asked for: Seven digits.",
        }
        assert 'value="nobody"' in text
        assert 'value="12&lt;b&gt;"' in text
        assert '<option value="b" selected>' in text
        assert re.search(r'name="answer.photos" value="yes" checked', text)
        for name in complaints(text):
            assert f'<a href="#{name}">' in text
            assert re.search(rf'id="{name}"[^>]* aria-describedby="[^"]*{name}-wrong" aria-invalid="true"', text)
        assert re.search(r'role="alert" tabindex="-1" autofocus', text)
        assert "3 things are not right yet" in text
        assert await house.ledger.people() == []
        response, text = await send(client, values | GOOD | {"answer.matric": "1234567"}, text)
        assert response.url.path == "/sign-up/seat"
        (person,) = await house.ledger.people()
        assert person.answers == {"matric": "1234567", "group": "b", "photos": "yes"}


async def test_it_speaks_german(tmp_path):
    async with site(tmp_path, fields=FIELDS) as (_, client):
        _, text = await page(client, "/sign-up", "de")
        assert '<html lang="de">' in text
        assert "Dein Name" in text
        assert "Zwei" in text
        assert "Zum Workshop anmelden" in text
        _, text = await send(client, {"answer.name": "x"}, text, "de")
        assert complaints(text) == {"answer.email": "Bitte füllen Sie dieses Feld aus."}


async def test_documents_are_accepted_each_on_its_own_and_as_they_were_shown(tmp_path, monkeypatch):
    terms, licence = tmp_path / "terms.md", tmp_path / "licence.md"
    terms.write_text("# Terms\n\nBe <b>kind</b>.")
    licence.write_text("Free.")
    documents = [
        {"name": "terms", "title": "Terms", "file": str(terms)},
        {"name": "lic", "title": "Licence", "file": str(licence)},
    ]
    async with site(tmp_path, documents=documents) as (house, client):
        _, text = await page(client, "/sign-up")
        assert "Be &lt;b&gt;kind&lt;/b&gt;." in text
        boxes = ticked(text)
        response, text = await send(client, GOOD | {"accept.terms": boxes["accept.terms"]}, text)
        assert response.status == 422
        assert complaints(text) == {"accept.lic": "Please read this, and tick the box if you agree."}
        terms.write_text("Be kinder.")
        clock = house.participants.signing_up.texts
        monkeypatch.setattr(clock, "_looked", -1000.0)
        _, text = await send(client, GOOD | boxes, text)
        assert "has changed since you opened the page" in complaints(text)["accept.terms"]
        assert "Be kinder." in text
        response, _ = await send(client, GOOD | ticked(text), text)
        assert response.url.path == "/sign-up/seat"
        (person,) = await house.ledger.people()
        assert {each.document: each.sha256 for each in person.accepted} == {
            name.removeprefix("accept."): value for name, value in ticked(text).items()
        }
        assert all(each.when.tzinfo for each in person.accepted)


async def test_a_document_that_cannot_be_read_is_told_at_the_start(tmp_path):
    documents = [{"name": "terms", "title": "Terms", "file": str(tmp_path / "none.md")}]
    with pytest.raises(SettingsError, match=r"signup.documents: terms: .*none.md cannot be read: No such file"):
        async with site(tmp_path, documents=documents):
            pass


async def test_the_event_code_and_who_guesses_it(tmp_path, monkeypatch):
    monkeypatch.setattr(signing_up, "WRONG_CODES", 3)
    (tmp_path / "code").write_text("Nova-Lux 7\n")
    async with site(tmp_path, code_file=str(tmp_path / "code"), count=60) as (_, client):
        _, text = await send(client, GOOD)
        assert complaints(text) == {"code": "Please enter the event code."}
        for _ in range(3):
            response, text = await send(client, GOOD | {"code": "wrong"}, text)
            assert response.status == 422
        right = GOOD | {"code": "nova lux7"}
        response, text = await send(client, right, text)
        assert response.status == 429
        assert int(response.headers["Retry-After"]) > 0
        assert "too many wrong codes" in complaints(text)["code"]
        response, text = await send(client, right, text, headers={"X-Forwarded-For": "192.0.2.7"})  # another place
        assert response.url.path == "/sign-up/seat"


async def test_too_many_from_one_place_wait_and_lose_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(signing_up, "LEAST_SIGN_UPS", 3)
    async with site(tmp_path, count=1) as (house, _):
        for _ in range(3):
            async with browser(house) as client:
                await send(client, GOOD)
        async with browser(house) as client:
            response, text = await send(client, GOOD)
            assert response.status == 429
            assert f'value="{CANARY}"' in text
            response, _ = await send(client, GOOD, text, headers={"X-Forwarded-For": "192.0.2.7"})
            assert response.status == 200


@pytest.mark.parametrize(
    ("language", "opens", "closes", "words"),
    [
        ("en", datetime(2099, 3, 6, 9, tzinfo=UTC), None, "It opens on 6 Mar 2099, 09:00 (UTC)."),
        ("de", datetime(2099, 3, 6, 9, tzinfo=UTC), None, "06.03.99, 09:00 (UTC)"),
        ("en", None, datetime(2020, 3, 6, 9, tzinfo=UTC), "It was open until 6 Mar 2020, 09:00 (UTC)."),
    ],
)
async def test_when_it_is_not_open(tmp_path, language, opens, closes, words):
    times = {name: when for name, when in {"opens": opens, "closes": closes}.items() if when}
    async with site(tmp_path, **times) as (house, client):
        _, text = await page(client, "/sign-up", language)
        assert words in text
        assert "<form" not in text.partition("</main>")[0]
        form = (await page(client, "/"))[1]  # a token of this site, and the form of a page that was open before
        assert ('href="./sign-up"' in form) == (closes is None)
        response, text = await send(client, GOOD | {"key": "k" * 22}, form)
        assert response.status == 200
        assert await house.ledger.people() == []


async def test_full_without_a_waiting_list(tmp_path):
    async with site(tmp_path, count=1, waiting=False) as (house, client):
        _, form = await page(client, "/sign-up")
        async with browser(house) as other:
            await send(other, GOOD)
        _, text = await send(client, GOOD, form)
        assert "All seats are taken." in text
        assert len(await house.ledger.people()) == 1


async def test_a_mail_that_a_gate_could_not_write_is_written_by_the_next(tmp_path, free_port, monkeypatch):
    """As it was killed, or the ledger was away, right after somebody came to a place or a seat."""
    mail = {"mail.host": "127.0.0.1", "mail.port": free_port(), "mail.security": "none", "mail.sender": "w@example.org"}
    flags = {"signup.enabled": True} | mail

    async def away(*_):
        raise LedgerError("it does not answer")

    async with House(tmp_path, count=1, **flags).open() as house, browser(house) as first, browser(house) as second:
        await send(first, GOOD)
        with monkeypatch.context() as broken:
            broken.setattr(house.ledger, "planned_mails", away)
            await send(second, GOOD)
            await house.participants.seating.release("ws01", "test")
            with pytest.raises(LedgerError):
                await house.participants.signing_up.move_up()
        _, person = await house.ledger.people()
        assert person.account == "ws01"
    async with House(tmp_path, count=1, **flags).open() as house:
        await house.participants.signing_up.move_up()
        await house.participants.signing_up.move_up()
        mails = await house.ledger.due_mails(datetime.now(UTC) + timedelta(days=1), 9)
        (mail,) = [each for each in mails if each.person == person.id]  # and no more that they are waiting
        assert mail.subject.startswith("A seat has become free for you")
        assert house.participants.seating.link("ws01").reveal() in mail.text


async def test_who_waits_moves_up_and_takes_the_seat_once(tmp_path):
    async with site(tmp_path, count=1) as (house, first), browser(house) as second, browser(house) as third:
        await send(first, GOOD)
        _, text = await send(second, GOOD)
        assert "Your place: 1" in text
        _, text = await send(third, GOOD)
        assert "Your place: 2" in text
        await house.participants.seating.release("ws01", "test")
        (moved,) = await house.participants.signing_up.move_up()
        assert (moved.place, moved.account) == (2, "ws01")
        _, text = await page(third, "/sign-up/seat")
        assert "Your place: 1" in text
        response, text = await page(second, "/sign-up")
        assert "A seat has become free for you" in text
        response, text = await send(second, {}, text, path="/sign-up/enter")
        assert "<code>ws01</code>" in text
        assert pin_in(text)
        second.session.cookie_jar.clear(lambda cookie: cookie.key == "vncgate_session")
        response, text = await page(second, "/sign-up/seat")  # who signed out stays so
        assert response.url.path == "/"


async def test_who_gave_a_seat_back_does_not_get_in_with_what_opened_it(tmp_path):
    async with site(tmp_path, count=1) as (house, client):
        pin = pin_in((await send(client, GOOD))[1])
        await house.participants.seating.release("ws01", "test")
        response, text = await page(client, "/sign-up/seat")
        assert response.url.path == "/"
        refused = await client.post(
            "/sign-in", data=hidden(text) | {"account": "ws01", "pin": pin}, allow_redirects=False
        )
        assert refused.status == 403


async def test_leaving_the_waiting_list(tmp_path):
    async with site(tmp_path, count=1) as (house, first), browser(house) as second:
        await send(first, GOOD)
        _, text = await send(second, GOOD)
        await send(second, {}, text, path="/sign-up/leave")
        assert [person.standing for person in await house.ledger.people()] == [Standing.SEATED, Standing.LEFT]
        _, text = await page(second, "/sign-up")
        assert 'name="answer.name"' in text


async def test_a_new_pin_is_shown_and_counts(tmp_path):
    async with site(tmp_path) as (house, client):
        _, text = await send(client, GOOD)
        before = pin_in(text)
        client.session.cookie_jar.clear(lambda cookie: cookie.key == "vncgate_signup")
        _, text = await page(client, "/sign-up/seat")
        assert "as you were told it" in text
        _, text = await send(client, {}, text, path="/sign-up/pin")
        assert pin_in(text) != before
        async with browser(house) as other:
            form = hidden((await page(other, "/"))[1])
            wrong = await other.post("/sign-in", data=form | {"account": "ws01", "pin": before}, allow_redirects=False)
            right = await other.post(
                "/sign-in", data=form | {"account": "ws01", "pin": pin_in(text)}, allow_redirects=False
            )
        assert (wrong.status, right.status) == (403, 303)


async def test_a_new_pin_that_is_asked_for_while_the_seat_is_revoked_opens_nothing(tmp_path, monkeypatch):
    async with site(tmp_path) as (house, client):
        await send(client, GOOD)
        client.session.cookie_jar.clear(lambda cookie: cookie.key == "vncgate_signup")
        _, text = await page(client, "/sign-up/seat")
        seating = house.participants.seating
        hashed = seating._pins.hash

        async def slowly(pin):
            monkeypatch.setattr(seating._pins, "hash", hashed)
            await seating.revoke("ws01", "lena")
            return await hashed(pin)

        monkeypatch.setattr(seating._pins, "hash", slowly)
        answer, _ = await send(client, {}, text, path="/sign-up/pin", redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "../")
        assert seating.seat("ws01").pin_hash == REVOKED


async def test_what_is_kept_can_be_had_and_deleted(tmp_path):
    async with site(tmp_path) as (house, client):
        _, text = await page(client, "/privacy")
        assert "Download all" not in text
        assert (await client.get("/privacy/data.json")).status == 404
        await send(client, GOOD)
        response = await client.get("/privacy/data.json")
        kept = await response.json()
        assert response.headers["Content-Disposition"] == 'attachment; filename="my-data.json"'
        assert (kept["name"], kept["email"], kept["seat"]["account"]) == (CANARY, "canary@example.org", "ws01")
        _, text = await page(client, "/privacy")
        response, text = await send(client, {}, text, path="/privacy/delete")
        assert response.status == 422
        assert len(await house.ledger.people()) == 1
        response, text = await send(client, {"confirm": "yes"}, text, path="/privacy/delete")
        assert "has been deleted" in text
        assert await house.ledger.people() == []
        assert house.participants.seating.sessions("ws01") == []
        assert house.admitted["ws01"] == {}
        assert (await client.get("/privacy/data.json")).status == 404


async def test_a_visitor_by_a_share_gets_nothing_of_the_owners(tmp_path):
    async with site(tmp_path) as (house, client):
        await send(client, GOOD)
        seating = house.participants.seating
        until = datetime.now(UTC) + timedelta(hours=1)
        token = (await seating.share("ws01", "view", until)).reveal().partition("#")[2]
        async with browser(house) as visitor:
            form = re.search(r'data-token="([^"]+)"', (await page(visitor, "/share"))[1])[1]
            entered = await visitor.post("/share", data={"form_token": form, "token": token})
            assert entered.status == 200
            assert (await visitor.get("/privacy/data.json")).status == 404
            response, text = await page(visitor, "/sign-up/seat")
            assert response.url.path == "/"
            assert "seat#" not in text


async def test_the_ledger_is_away_and_nothing_typed_is_lost(tmp_path, monkeypatch):
    async with site(tmp_path) as (_, client):
        _, form = await page(client, "/sign-up")

        async def away(*_, **__):
            raise signing_up.LedgerError("the ledger is away")

        monkeypatch.setattr(Ledger, "person", away)
        response, text = await send(client, GOOD, form)
        assert response.status == 503
        assert f'value="{CANARY}"' in text
        assert "Signing up does not work at the moment" in text


async def test_a_page_of_another_site_signs_nobody_up(tmp_path):
    async with site(tmp_path) as (house, client):
        _, form = await page(client, "/sign-up")
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            response, _ = await send(client, GOOD, form, headers=headers)
            assert response.status == 403
        response = await client.post("/sign-up", data=GOOD | {"key": hidden(form)["key"]})
        assert response.status == 403
        assert await house.ledger.people() == []


async def test_nobody_who_signs_up_waits_for_a_mail(tmp_path, free_port):
    mail = {"mail.host": "127.0.0.1", "mail.port": free_port(), "mail.security": "none", "mail.sender": "w@example.org"}
    flags = {"signup.enabled": True, "landing.title": "Nova"} | mail
    async with House(tmp_path, count=1, **flags).open() as house, browser(house) as first, browser(house) as second:
        pin = pin_in((await send(first, GOOD))[1])
        _, text = await send(second, GOOD, language="de")
        assert "Warteliste" in text
        await house.participants.seating.release("ws01", "test")
        await house.participants.signing_up.move_up()
        gone, moved = await house.ledger.people()
        mails = await house.ledger.due_mails(datetime.now(UTC) + timedelta(days=1), 9)
        (mail,) = [each for each in mails if each.person == gone.id]
        assert f"PIN: {pin}" in mail.text
        assert "http://127.0.0.1/seat#v1.ws01." in mail.text
        assert sorted(each.subject for each in mails if each.person == moved.id) == [
            "Für Sie ist ein Platz frei geworden: Nova",
            "Sie stehen auf der Warteliste: Nova",
        ]


async def test_a_seat_that_becomes_free_is_given_away_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(signing_up, "POLL", 0.01)
    async with site(tmp_path, count=1) as (house, first), browser(house) as second:
        await send(first, GOOD)
        await send(second, GOOD)
        await house.participants.seating.release("ws01", "test")
        async with asyncio.timeout(30):
            while (await house.ledger.standings())[Standing.SEATED] == 0:
                await asyncio.sleep(0.01)


async def test_capacity_and_spares(tmp_path):
    async with site(tmp_path, count=3, capacity=1) as (house, first), browser(house) as second:
        await house.ledger.change_seat("ws01", spare=True)
        await house.participants.seating.look_again("ws01")
        _, text = await send(first, GOOD)
        assert "<code>ws02</code>" in text
        _, text = await page(second, "/sign-up")
        assert "All seats are taken at the moment" in text
        _, text = await send(second, GOOD, text)
        assert "Your place: 1" in text


async def test_while_nobody_may_come_in_nobody_signs_up(tmp_path):
    async with site(tmp_path) as (house, client):
        await house.participants.seating.freeze(on=True)
        _, text = await page(client, "/sign-up")
        assert "Sign-up is closed." in text


async def test_over_https_cookies_are_for_it_alone(tmp_path):
    flags = {"signup.enabled": True, "public_url": "https://w.example.org/"}
    async with House(tmp_path, count=1, **flags).open() as house, browser(house) as client:
        assert (await client.get("/sign-up")).status == 403  # it came over http
        secure = {"X-Forwarded-Proto": "https"}
        response = await client.get("/sign-up", headers=secure)
        kept = f"__Host-vncgate_form={response.cookies['__Host-vncgate_form'].value}"
        form = hidden(await response.text()) | GOOD
        assert (await client.post("/sign-up", data=form, headers={"Cookie": kept})).status == 403
        response = await client.post("/sign-up", data=form, headers=secure | {"Cookie": kept}, allow_redirects=False)
        assert response.status == 303
        for name in ("__Host-vncgate_signup", "__Host-vncgate_session"):
            cookie = response.cookies[name]
            assert (cookie["secure"], cookie["httponly"], cookie["samesite"], cookie["path"]) == (
                True,
                True,
                "Lax",
                "/",
            )
            assert not cookie["domain"]


async def test_we_log_no_name_no_address_and_no_secret(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    async with site(tmp_path, count=1) as (house, client), browser(house) as second:
        _, text = await send(client, GOOD)
        await send(second, GOOD)
        await send(second, GOOD | {"answer.email": "canary"})
        _, privacy = await page(client, "/privacy")
        await send(client, {"confirm": "yes"}, privacy, path="/privacy/delete")
        await house.participants.signing_up.move_up()
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("vncgate"))
    assert "given to who has waited longest" in ours
    for secret in ("canary", CANARY, pin_in(text), "seat#"):
        assert secret not in ours
