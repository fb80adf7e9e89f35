"""Mails: what is in them, and what becomes of them with a mail server that is real, slow, away, or says no."""

from __future__ import annotations

import asyncio
import email
import email.policy
import logging
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.real.apache import certificate
from vncgate import catalogues, mailing, tasks
from vncgate.errors import SettingsError
from vncgate.ledger import Ledger
from vncgate.mailing import Mailing, compose
from vncgate.people import Mail, Person
from vncgate.settings import load

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:aiosmtpd", "ignore::DeprecationWarning:aiosmtpd")
"""aiosmtpd says that a login without STARTTLS is unsafe, and of itself that it is old."""

NOW = datetime(2026, 3, 6, 9, tzinfo=UTC)
ADA = Person("p1", "Ada Canary", "ada.canary@example.org", NOW)
VALUES = {"account": "ws01", "pin": "135790", "link": "https://w.example.org/seat#v1.ws01.x"}


class Postbox:
    """A mail server's mind: what it answers to recipients, and what it has got."""

    def __init__(self):
        self.got = []
        self.answer = "250 OK"
        self.tls = []

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if self.answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.got.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.tls.append(session.ssl is not None)
        return "250 taken"


@asynccontextmanager
async def post_office(postbox, **options):
    """A mail server on loopback; gives its port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(postbox, loop=loop, **options), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@asynccontextmanager
async def mails(folder, port, **flags):
    """A Mailing with an own ledger, in which Ada has signed up, and its clock."""
    values = {"host": "127.0.0.1", "port": port, "security": "none", "sender": "The Workshop <w@example.org>"} | flags
    settings = load(flags={
        "public_url": "https://w.example.org/", "landing.title": "Ünique Workshop",
        **{f"mail.{name}": value for name, value in values.items()},
    })  # fmt: skip
    ledger = await Ledger.open(f"sqlite:///{folder}/ledger.sqlite")
    clock = Clock()
    try:
        await ledger.sign_up(ADA, ["ws01"], capacity=None, waiting=True)
        yield Mailing(settings, catalogues.load(settings.languages), ledger, now=clock), ledger, clock
    finally:
        await ledger.aclose()


async def turn(room, ledger):
    """What `run()` does at each turn."""
    while due := await ledger.due_mails(room._now(), mailing.BATCH):
        await room._send(due)


async def test_a_mail_in_german(tmp_path):
    postbox = Postbox()
    async with post_office(postbox) as port, mails(tmp_path, port) as (room, ledger, _):
        person = Person("p1", "Ada Canary", "ada.canary@example.org", NOW, language="de")
        await room.queue(person, "mail_seat.txt", VALUES)
        await room.queue(person, "mail_seat.txt", VALUES)  # the same is one
        await turn(room, ledger)
        (message,) = postbox.got
        assert message["From"] == "The Workshop <w@example.org>"
        assert message["To"] == "ada.canary@example.org"
        assert message["Subject"] == "Ihr Platz: Ünique Workshop"
        assert message["Auto-Submitted"] == "auto-generated"
        text = message.get_content()
        for part in ("Guten Tag, Ada Canary,", "Konto: ws01", "PIN: 135790", VALUES["link"]):
            assert part in text
        assert await ledger.due_mails(NOW + timedelta(days=9), 9) == []  # and nothing is left of it


@pytest.mark.parametrize("template", mailing.TEMPLATES)
async def test_a_language_that_is_not_offered_is_english(tmp_path, template):
    async with mails(tmp_path, 25) as (room, ledger, _):
        person = Person("p1", "", "ada.canary@example.org", NOW, language="xx")
        await room.queue(person, template, VALUES | {"place": 3})
        (mail,) = await ledger.due_mails(NOW, 9)
        assert mail.text.startswith("Hello,\n\n")
        assert "Ünique Workshop" in mail.subject


async def test_a_site_writes_its_own(tmp_path):
    (tmp_path / "mail_seat.txt").write_text("Welcome\n\n{{ person.name }}: <{{ link }}>")
    settings = load(flags={"landing.templates": tmp_path, "mail.host": "x", "mail.sender": "a@b.example"})
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
    await ledger.sign_up(ADA, ["ws01"], capacity=None, waiting=True)
    room = Mailing(settings, catalogues.load(settings.languages), ledger, now=Clock())
    await room.queue(ADA, "mail_seat.txt", VALUES)
    (mail,) = await ledger.due_mails(NOW, 9)
    assert (mail.subject, mail.text) == ("Welcome", f"Ada Canary: <{VALUES['link']}>\n")
    (tmp_path / "mail_seat.txt").write_text("{{ nothing.of.it }}")
    room = Mailing(settings, catalogues.load(settings.languages), ledger, now=Clock())
    await room.queue(ADA, "mail_seat.txt", VALUES)  # logged; who signs up is not in the way of it
    (tmp_path / "mail_seat.txt").write_text("{% if %}")
    with pytest.raises(SettingsError, match=r"mail_seat.txt:1: "):
        Mailing(settings, catalogues.load(settings.languages), ledger)
    await ledger.aclose()


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_tls_and_a_password(tmp_path, security):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for file, content in zip((cert, key), certificate(), strict=True):
        file.write_bytes(content)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(cert, key)
    (tmp_path / "password").write_text("Ge heim\n")
    asked = []

    def authenticator(server, session, envelope, mechanism, data):
        asked.append((data.login, data.password))
        return AuthResult(success=True)

    postbox = Postbox()
    options = {"authenticator": authenticator, "auth_required": True}
    if security == "starttls":
        options |= {"tls_context": server_side, "require_starttls": True}
    else:
        options |= {"auth_require_tls": False}  # it is below, and unknown to aiosmtpd
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(postbox, loop=loop, **options), "127.0.0.1", 0, ssl=server_side if security == "tls" else None
    )
    port = server.sockets[0].getsockname()[1]
    flags = {"security": security, "ca_file": cert, "user": "workshop", "password_file": tmp_path / "password"}
    async with mails(tmp_path, port, **flags) as (room, ledger, _):
        await room.queue(ADA, "mail_seat.txt", VALUES)
        await turn(room, ledger)
        assert len(postbox.got) == 1
        assert asked == [(b"workshop", b"Ge heim")]
        assert security == "tls" or postbox.tls == [True]
    async with mails(tmp_path / "2", port, **flags | {"ca_file": None}) as (room, ledger, clock):
        await room.queue(ADA, "mail_seat.txt", VALUES)  # a server whose certificate we do not trust gets nothing
        await turn(room, ledger)
        assert len(postbox.got) == 1
        clock.now += timedelta(minutes=1)
        assert [mail.tries for mail in await ledger.due_mails(clock.now, 9)] == [1]
    server.close()


async def test_without_starttls_nothing_is_sent(tmp_path):
    postbox = Postbox()
    async with post_office(postbox) as port, mails(tmp_path, port, security="starttls") as (room, ledger, clock):
        await room.queue(ADA, "mail_seat.txt", VALUES)
        await turn(room, ledger)
        assert postbox.got == []
        clock.now += timedelta(minutes=1)
        assert len(await ledger.due_mails(clock.now, 9)) == 1


async def test_a_server_that_is_away_is_asked_again_ever_later(tmp_path, free_port, caplog):
    port = free_port()
    async with mails(tmp_path, port) as (room, ledger, clock):
        await room.queue(ADA, "mail_seat.txt", VALUES)
        pauses = []
        for _ in range(9):
            await turn(room, ledger)
            began = clock.now
            while not (due := await ledger.due_mails(clock.now, 9)):
                clock.now += timedelta(minutes=1)
            await ledger.mail_failed(due[0].id, clock.now)
            pauses.append((clock.now - began).total_seconds() / 60)
        assert pauses[0] == 1
        assert pauses == sorted(pauses)
        assert pauses[-1] == 60
        assert "canary" not in caplog.text.lower()
        postbox = Postbox()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(postbox, loop=loop), "127.0.0.1", port)
        await turn(room, ledger)
        assert len(postbox.got) == 1
        server.close()


async def test_later_and_never(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "vncgate")
    postbox = Postbox()
    async with post_office(postbox) as port, mails(tmp_path, port) as (room, ledger, clock):
        await room.queue(ADA, "mail_seat.txt", VALUES)
        postbox.answer = "451 4.3.0 <ada.canary@example.org> greylisted"
        await turn(room, ledger)
        assert await ledger.audit() == []
        clock.now += timedelta(minutes=1)
        postbox.answer = "550 5.1.1 <ada.canary@example.org> no such user"
        await turn(room, ledger)
        assert postbox.got == []
        assert await ledger.due_mails(clock.now + timedelta(days=9), 9) == []
        (entry,) = await ledger.audit()
        assert (entry.who, entry.what, entry.about) == ("mail", "mail given up (it answers 550)", "p1")
    assert "canary" not in caplog.text.lower()


async def test_one_that_nobody_takes_is_given_up_in_the_end(tmp_path, free_port, monkeypatch):
    monkeypatch.setattr(mailing, "MOST_TRIES", 2)
    async with mails(tmp_path, free_port()) as (room, ledger, clock):
        await room.queue(ADA, "mail_seat.txt", VALUES)
        await turn(room, ledger)
        clock.now += timedelta(hours=1)
        await turn(room, ledger)
        (entry,) = await ledger.audit()
        assert entry.what == "mail given up (after many tries)"


async def test_one_refused_address_holds_up_nobody(tmp_path):
    class Picky(Postbox):
        async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
            self.answer = "550 no" if "bad" in address else "250 OK"
            return await super().handle_RCPT(server, session, envelope, address, options)

    postbox = Picky()
    async with post_office(postbox) as port, mails(tmp_path, port) as (room, ledger, _):
        for name in ("bad", "b", "not an address", "c"):
            person = Person(f"p-{name}", name, name if " " in name else f"{name}@example.org", NOW)
            await ledger.sign_up(person, [], capacity=None, waiting=True)
            await room.queue(person, "mail_waiting.txt", {"place": 1})
        await turn(room, ledger)
        assert [message["To"] for message in postbox.got] == ["b@example.org", "c@example.org"]
        assert {(entry.what, entry.about) for entry in await ledger.audit()} == {
            ("mail given up (it answers 550)", "p-bad"),
            ("mail given up (no address)", "p-not an address"),
        }


async def test_what_is_queued_is_sent_at_once(tmp_path):
    postbox = Postbox()
    async with post_office(postbox) as port, mails(tmp_path, port) as (room, ledger, _):
        task = tasks.spawn(room.run(), "mails")
        await room.queue(ADA, "mail_seat.txt", VALUES)
        async with asyncio.timeout(30):
            while not postbox.got:
                await asyncio.sleep(0.01)
            while (await ledger.about("p1"))["mails"]:
                await asyncio.sleep(0.01)
        await tasks.end(task)


async def test_what_nobody_thought_of_ends_no_others(tmp_path, monkeypatch, caplog):
    def strange(mail, *more):
        if mail.subject == "strange":
            raise RuntimeError(f"for {mail.to}")
        return compose(mail, *more)

    monkeypatch.setattr(mailing, "compose", strange)
    postbox = Postbox()
    async with post_office(postbox) as port, mails(tmp_path, port) as (room, ledger, _):
        await ledger.queue_mail(Mail("m1", "p1", ADA.email, "strange", "text", NOW - timedelta(1)))
        await room.queue(ADA, "mail_seat.txt", VALUES)
        task = tasks.spawn(room.run(), "mails")
        try:
            async with asyncio.timeout(30):
                while not postbox.got or (await ledger.about("p1"))["mails"][1:]:
                    room._more.set()
                    await asyncio.sleep(0.01)
        finally:
            await tasks.end(task)
    assert ADA.email not in caplog.text


async def test_a_server_that_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(mailing, "TIMEOUT", 0.05)

    async def listen(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with mails(tmp_path, server.sockets[0].getsockname()[1]) as (room, ledger, clock):
        await room.queue(ADA, "mail_seat.txt", VALUES)
        await turn(room, ledger)
        clock.now += timedelta(minutes=1)
        assert [mail.tries for mail in await ledger.due_mails(clock.now, 9)] == [1]
    server.close()


HOSTILE = "Eve\r\nBcc: everybody@example.org\r\n\r\nHello"


async def test_a_name_adds_no_header(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mail_seat.txt").write_text("For {{ person.name }}\n\nText")
    postbox = Postbox()
    async with post_office(postbox) as port:
        settings = load(flags={
            "landing.templates": tmp_path / "own", "mail.host": "127.0.0.1", "mail.port": port, "mail.security": "none",
            "mail.sender": "a@b.example",
        })  # fmt: skip
        ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite")
        eve = Person("e", HOSTILE, "eve@example.org", NOW)
        await ledger.sign_up(eve, ["ws01"], capacity=None, waiting=True)
        room = Mailing(settings, catalogues.load(settings.languages), ledger, now=Clock())
        await room.queue(eve, "mail_seat.txt", VALUES)
        await turn(room, ledger)
        await ledger.aclose()
    assert all(message["Bcc"] is None and message["Subject"].startswith("For Eve") for message in postbox.got)


@hypothesis_settings(deadline=None)
@given(st.one_of(st.text(), st.emails(), st.from_regex(r"[^@\s]+@[^@\s]+\.[^@\s]+")), st.text(), st.text())
def test_whatever_is_in_it_a_message_has_our_headers_alone(to, subject, text):
    try:
        message = compose(Mail("i", "p", to, subject, text, NOW), "W <w@example.org>", NOW)
        raw = message.as_bytes()
    except ValueError:
        return
    parsed = email.message_from_bytes(raw, policy=email.policy.default)
    assert set(parsed.keys()) <= {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type", "Content-Transfer-Encoding",
        "MIME-Version",
    }  # fmt: skip


def test_a_host_with_an_umlaut():
    message = compose(Mail("i", "p", "ada@bücher.example", "s", "t", NOW), "w@example.org", NOW)
    assert message["To"] == "ada@xn--bcher-kva.example"


def test_what_cannot_be_used_is_told_at_the_start(tmp_path):
    for flags, words in (
        ({"mail.password_file": tmp_path / "none"}, "mail.password_file: .*none cannot be read"),
        ({"mail.ca_file": tmp_path / "none"}, "mail.ca_file: .*none cannot be used: No such file"),
    ):
        with pytest.raises(SettingsError, match=words):
            Mailing(load(flags=flags), catalogues.load(load().languages), None)
