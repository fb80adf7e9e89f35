"""What every ledger promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from vncgate.errors import FullError, SeatTakenError, UnknownPersonError
from vncgate.ledger import database
from vncgate.people import Acceptance, AuditEntry, Mail, Mode, Person, Seat, Session, Share, Standing
from vncgate.viewer_notes import MESSAGES

NOW = datetime(2026, 5, 4, 9, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
SEATS = [f"school{number:02}" for number in range(1, 5)]


def somebody(number, **more):
    return Person(
        f"person-{number}", f"Name {number}", f"{number}@example.org", NOW + timedelta(seconds=number), **more
    )


async def seated(ledger, number, account):
    return await ledger.sign_up(somebody(number), [account], capacity=None, waiting=False)


async def who_sits_where(ledger):
    """By both ways of looking, which must agree."""
    of_people = {person.account: person.id for person in await ledger.people() if person.account}
    of_seats = {seat.account: seat.person for seat in (await ledger.seats()).values() if seat.person}
    assert of_people == of_seats
    return of_people


def session(name, seat=SEATS[0], **more):
    return Session(name, NOW, NOW + HOUR, seat, **more)


def share(name, account=SEATS[0], expires=NOW + HOUR, mode=Mode.VIEW):
    return Share(name, account, mode, NOW, expires)


async def digests(ledger):
    return {session.digest for session in await ledger.sessions(NOW)}


# Seats


async def test_a_seat_of_which_nothing_is_known_is_nobodys(ledger):
    assert await ledger.seat("school01") == Seat("school01")
    assert await ledger.seats() == {}


async def test_a_seat_keeps_what_it_is_given(ledger, open_ledger):
    changes = {"pin_hash": "$argon2id$x", "desktop": "school09", "spare": True, "until": NOW, "epoch": 4}
    changed = await ledger.change_seat("school01", **changes)
    assert changed == Seat("school01", **changes)
    assert await ledger.change_seat("school01", until=None) == dataclasses.replace(changed, until=None)
    assert await (await open_ledger()).seats() == {"school01": dataclasses.replace(changed, until=None)}


@pytest.mark.parametrize("field", ["person", "account_", "nonsense"])
async def test_who_sits_on_a_seat_is_not_changed_by_the_way(ledger, field):
    with pytest.raises(TypeError, match=field):
        await ledger.change_seat("school01", **{field: "x"})
    assert await ledger.seats() == {}


async def test_a_renewed_seat_keeps_its_person_and_loses_all_that_opened_it(ledger):
    await seated(ledger, 1, "school01")
    for name, seat in (("mine", "school01"), ("other", "school02")):
        assert await ledger.add_session(session(name, seat))
        await ledger.add_share(share(f"share of {name}", seat))
        assert await ledger.add_session(session(f"guest of {name}", seat, share=f"share of {name}", mode=Mode.VIEW))
    assert await ledger.renew_seat("school01") == Seat("school01", person="person-1", epoch=1)
    assert await digests(ledger) == {"other", "guest of other"}
    assert [share.id for share in await ledger.shares(NOW)] == ["share of other"]
    assert (await ledger.renew_seat("school01")).epoch == 2


async def test_a_seat_is_changed_for_who_has_it_or_not_at_all(ledger):
    await seated(ledger, 1, "school01")
    assert (await ledger.change_seat("school01", owner="person-1", pin_hash="x")).pin_hash == "x"
    before = await ledger.seats()
    for account, owner in (("school01", "person-2"), ("school01", ""), ("school02", "person-1")):
        with pytest.raises(SeatTakenError, match="not theirs any more"):
            await ledger.change_seat(account, owner=owner, pin_hash="y")
    assert await ledger.seats() == before
    renewed = await ledger.renew_seat("school01", pin_hash="!")
    assert renewed == Seat("school01", person="person-1", epoch=1, pin_hash="!")
    with pytest.raises(TypeError):
        await ledger.renew_seat("school01", person="person-2")


async def test_who_remembers_what_they_get_is_never_left_with_an_older_one(ledger):
    remembered, sessions = {}, set()

    async def remember(work):
        remembered["school01"] = await work

    async def sign_in(name):
        await ledger.add_session(session(name))
        sessions.add(name)

    async def look():
        found = await ledger.snapshot(NOW)
        remembered["school01"] = found.seats.get("school01", Seat("school01"))
        sessions.clear()
        sessions.update(each.digest for each in found.sessions)

    deeds = []
    for number in range(40):
        deeds += [remember(ledger.seat("school01")), look(), sign_in(f"browser {number}")]
        deeds += [remember(ledger.change_seat("school01", pin_hash=str(number))), remember(ledger.seat("school01"))]
    await asyncio.gather(*deeds)
    assert remembered == await ledger.seats()
    assert sessions == await digests(ledger)


# Signing up


async def test_who_signs_up_gets_the_first_seat_that_is_to_be_had(ledger):
    await ledger.change_seat("school02", spare=True)
    answers = {"institute": "Physics", "wishes": "κ, ж, 東"}
    accepted = (Acceptance("terms", "ab" * 32, NOW), Acceptance("privacy", "cd" * 32, NOW + HOUR))
    first = somebody(1, language="de", answers=answers, accepted=accepted)
    got = [
        await ledger.sign_up(first, SEATS, capacity=None, waiting=True),
        await ledger.sign_up(somebody(2), SEATS, capacity=None, waiting=True),
        await ledger.sign_up(somebody(3), SEATS, capacity=None, waiting=True),
    ]
    assert got[0] == dataclasses.replace(first, standing=Standing.SEATED, account="school01", place=1)
    assert [(person.account, person.place) for person in got] == [("school01", 1), ("school03", 2), ("school04", 3)]
    assert await ledger.people() == got
    assert await ledger.person("person-1") == got[0]
    assert await ledger.person("person-9") is None
    assert (await ledger.seat("school01")).person == "person-1"


@pytest.mark.parametrize(("free", "capacity"), [([], None), (SEATS, 1), (SEATS[:1], None), (SEATS, 0)])
async def test_who_gets_no_seat_waits_or_hears_that_there_is_none(ledger, free, capacity):
    await seated(ledger, 1, "school01")
    with pytest.raises(FullError, match="all seats are taken"):
        await ledger.sign_up(somebody(2), free, capacity=capacity, waiting=False)
    assert await ledger.person("person-2") is None
    waits = await ledger.sign_up(somebody(2), free, capacity=capacity, waiting=True)
    assert (waits.standing, waits.account, waits.place) == (Standing.WAITING, "", 2)


async def test_a_form_that_is_sent_again_gets_what_it_got(ledger):
    first = await seated(ledger, 1, "school01")
    waits = await ledger.sign_up(somebody(2), [], capacity=None, waiting=True)
    assert await ledger.sign_up(somebody(1), SEATS, capacity=None, waiting=True) == first
    assert await ledger.sign_up(somebody(2), SEATS, capacity=None, waiting=False) == waits
    again = asyncio.gather(*(ledger.sign_up(somebody(3), SEATS, capacity=None, waiting=False) for _ in range(20)))
    assert len(set(map(repr, await again))) == 1
    assert len(await ledger.people()) == 3


async def test_nobody_overtakes_those_who_wait(ledger):
    await ledger.sign_up(somebody(1), [], capacity=None, waiting=True)
    await ledger.sign_up(somebody(2), SEATS, capacity=None, waiting=True)
    moved = await ledger.move_up(SEATS[:1], capacity=None)
    assert [(person.id, person.account) for person in moved] == [("person-1", "school01")]
    assert [person.standing for person in await ledger.people()] == [Standing.SEATED, Standing.WAITING]


async def test_who_waits_moves_up_in_order_as_far_as_there_are_seats(ledger):
    for number in range(1, 6):
        await ledger.sign_up(somebody(number), [], capacity=None, waiting=True)
    await ledger.change_person("person-2", standing=Standing.LEFT)
    await ledger.change_seat("school01", spare=True)
    assert await ledger.standings() == {Standing.SEATED: 0, Standing.WAITING: 4, Standing.LEFT: 1}
    assert [await ledger.ahead(place) for place in range(1, 6)] == [0, 1, 1, 2, 3]
    assert await ledger.move_up(SEATS, capacity=0) == []
    first = await ledger.move_up(SEATS, capacity=1)
    rest = await ledger.move_up(SEATS, capacity=None)
    assert [(person.id, person.account) for person in first + rest] == [
        ("person-1", "school02"),
        ("person-3", "school03"),
        ("person-4", "school04"),
    ]
    assert await ledger.move_up(SEATS, capacity=None) == []
    assert (await ledger.person("person-5")).standing is Standing.WAITING


@pytest.mark.timeout(600)
async def test_a_thousand_at_the_same_moment(ledger, open_ledger, monkeypatch):
    """By two gates where the ledger is on a server, and on one file by two as well."""
    monkeypatch.setattr(database, "LONGEST_WAIT", 500)  # a busy machine: some seconds where it is at leisure
    gates = [ledger, await open_ledger()]
    free = [f"seat{number:02}" for number in range(60)]
    got = await asyncio.gather(
        *(gates[number % 2].sign_up(somebody(number), free, capacity=60, waiting=True) for number in range(1000))
    )
    assert sorted(person.account for person in got if person.standing is Standing.SEATED) == free
    waiting = [person for person in got if person.standing is Standing.WAITING]
    assert len(waiting) == 940
    assert sorted(person.place for person in got) == list(range(1, 1001))
    assert max(person.place for person in got if person.account) == 60
    assert sorted(await who_sits_where(ledger)) == free
    for gate in range(2):  # of those who came by one gate, who came earlier is ahead
        places = [person.place for person in got[gate::2]]
        assert places == sorted(places)
    await ledger.release("seat07")
    (moved,) = await ledger.move_up(free, capacity=60)
    assert (moved.place, moved.account) == (61, "seat07")


async def test_two_gates_that_move_up_give_each_seat_once(ledger, open_ledger):
    other = await open_ledger()
    for number in range(6):
        await ledger.sign_up(somebody(number), [], capacity=None, waiting=True)
    moved = await asyncio.gather(*(gate.move_up(SEATS, capacity=None) for gate in [ledger, other] * 3))
    assert sorted(person.account for some in moved for person in some) == SEATS
    assert sorted((await who_sits_where(ledger)).values()) == ["person-0", "person-1", "person-2", "person-3"]


# Assigning, releasing, moving


async def test_a_desktop_is_used_from_one_seat_whichever_gate_is_asked(ledger, open_ledger):
    other = await open_ledger()
    swaps = [gate.change_seat(seat, desktop="school09") for gate, seat in ((ledger, "school01"), (other, "school02"))]
    done = await asyncio.gather(*swaps, return_exceptions=True)
    assert {type(each) for each in done} == {Seat, SeatTakenError}
    await ledger.sign_up(somebody(1), ["school09"], capacity=None, waiting=True)
    assert await who_sits_where(ledger) == {}
    with pytest.raises(SeatTakenError, match="another seat shows the desktop of school09"):
        await ledger.assign("person-1", "school09")
    await ledger.assign("person-1", "school03")
    with pytest.raises(SeatTakenError, match="somebody else uses the desktop of school03"):
        await ledger.change_seat("school04", desktop="school03")


async def test_an_organizer_puts_somebody_on_a_seat(ledger):
    await ledger.change_seat("school01", spare=True)
    await ledger.sign_up(somebody(1), [], capacity=None, waiting=True)
    person = await ledger.assign("person-1", "school01")
    assert (person.standing, person.account) == (Standing.SEATED, "school01")
    assert await ledger.assign("person-1", "school01") == person
    with pytest.raises(SeatTakenError, match="another seat, school01"):
        await ledger.assign("person-1", "school02")
    await ledger.sign_up(somebody(2), [], capacity=None, waiting=True)
    with pytest.raises(SeatTakenError, match="somebody else has seat school01"):
        await ledger.assign("person-2", "school01")
    with pytest.raises(UnknownPersonError):
        await ledger.assign("person-3", "school02")
    assert await who_sits_where(ledger) == {"school01": "person-1"}


async def test_a_released_seat_is_free_and_closed_to_who_had_it(ledger):
    await seated(ledger, 1, "school01")
    await ledger.change_seat("school01", until=NOW, desktop="school09", spare=False)
    await ledger.add_session(session("mine"))
    await ledger.add_share(share("my share"))
    left = await ledger.release("school01")
    assert (left.id, left.standing, left.account) == ("person-1", Standing.LEFT, "")
    assert await ledger.seat("school01") == Seat("school01", epoch=1, desktop="school09")
    assert await digests(ledger) == set()
    assert await ledger.shares(NOW) == []
    assert (await seated(ledger, 2, "school01")).account == "school01"
    assert await ledger.move_up(SEATS, capacity=None) == []  # who has left waits for nothing


async def test_a_seat_that_nobody_has_is_closed_all_the_same(ledger):
    await ledger.add_session(session("by a card"))
    assert await ledger.release("school01") is None
    assert await digests(ledger) == set()
    assert (await ledger.seat("school01")).epoch == 1


async def test_who_moves_keeps_their_time_and_leaves_a_free_seat(ledger):
    await seated(ledger, 1, "school01")
    await seated(ledger, 2, "school02")
    await ledger.change_seat("school01", until=NOW + HOUR)
    await ledger.add_session(session("mine"))
    with pytest.raises(SeatTakenError, match="school02"):
        await ledger.move("person-1", "school02")
    assert (await ledger.move("person-1", "school01")).account == "school01"
    assert await digests(ledger) == {"mine"}
    moved = await ledger.move("person-1", "school03")
    assert (moved.account, moved.standing) == ("school03", Standing.SEATED)
    assert await ledger.seat("school03") == Seat("school03", person="person-1", until=NOW + HOUR)
    assert await ledger.seat("school01") == Seat("school01", epoch=1)
    assert await digests(ledger) == set()
    await ledger.sign_up(somebody(3), [], capacity=None, waiting=True)
    assert (await ledger.move("person-3", "school01")).account == "school01"
    with pytest.raises(UnknownPersonError):
        await ledger.move("person-4", "school04")


async def test_many_are_taken_in_at_once_or_none(ledger):
    await seated(ledger, 1, "school01")
    await seated(ledger, 2, "school02")
    await ledger.change_seat("school01", until=NOW + HOUR, pin_hash="x")
    await ledger.add_session(session("mine"))
    before = await ledger.people(), await ledger.seats()
    news = [somebody(3), somebody(4, answers={"a": "b"})]
    for changes, seats, error in (
        ({"person-1": {"name": "Ada"}}, {"person-3": "school02"}, SeatTakenError),
        ({"person-9": {"name": "Ada"}}, {}, UnknownPersonError),
        ({"person-1": {"account": "school04"}}, {}, TypeError),
    ):
        with pytest.raises(error):
            await ledger.take_in(news, changes, seats)
    assert (await ledger.people(), await ledger.seats()) == before
    accepted = (Acceptance("terms", "ab" * 32, NOW),)
    changes = {"person-2": {"name": "Ada", "answers": {"c": "d"}, "accepted": accepted}}
    swapped = {"person-1": "school02", "person-2": "school01", "person-3": "school03"}
    await ledger.take_in(news, changes, swapped)
    assert await who_sits_where(ledger) == {account: person for person, account in swapped.items()}
    _, two, three, four = await ledger.people()
    assert (two.name, two.answers, two.accepted, two.place) == ("Ada", {"c": "d"}, accepted, 2)
    assert (three.place, four.place, four.standing, four.answers) == (3, 4, Standing.WAITING, {"a": "b"})
    assert await ledger.seat("school02") == Seat("school02", person="person-1", epoch=1, until=NOW + HOUR)
    assert await digests(ledger) == set()
    await ledger.take_in([], {}, {"person-1": ""})
    assert (await ledger.person("person-1")).standing is Standing.WAITING


# People


async def test_a_person_is_changed_but_not_their_seat(ledger):
    person = await seated(ledger, 1, "school01")
    accepted = (Acceptance("licence", "ef" * 32, NOW),)
    changes = {"name": "Ada", "email": "ada@example.org", "language": "de", "answers": {"a": "b"}, "accepted": accepted}
    assert await ledger.change_person("person-1", **changes) == dataclasses.replace(person, **changes)
    assert await ledger.person("person-1") == dataclasses.replace(person, **changes)
    for wrong in ({"account": "school02"}, {"place": 7}, {"standing": Standing.SEATED}):
        with pytest.raises(TypeError):
            await ledger.change_person("person-1", **wrong)
    with pytest.raises(SeatTakenError):
        await ledger.change_person("person-1", standing=Standing.LEFT)
    with pytest.raises(UnknownPersonError):
        await ledger.change_person("person-2", name="x")


@pytest.mark.parametrize("text", ["nul \0 in it", "half a pair \ud800", "'; DROP TABLE people; --", "😀" * 1000])
async def test_what_strangers_type_never_breaks_it(ledger, text):
    person = Person("person-1", text, text, NOW, answers={text: text})
    kept = await ledger.sign_up(person, SEATS, capacity=None, waiting=True)
    assert kept.name == text.replace("\0", "\ufffd").replace("\ud800", "?")
    assert (await ledger.person("person-1")) == kept


async def test_times_come_back_as_the_same_moments(ledger):
    there = timezone(timedelta(hours=-7))
    person = dataclasses.replace(somebody(1), signed_up=NOW.astimezone(there))
    kept = await ledger.sign_up(person, SEATS, capacity=None, waiting=True)
    assert kept.signed_up == NOW
    assert kept.signed_up.utcoffset() == timedelta(0)


# Sessions and shares


async def test_a_session_lasts_until_it_expires_or_is_ended(ledger):
    mine, other = session("mine"), session("other", "school02", mode=Mode.VIEW)
    organizer = Session("organizer", NOW, NOW + 2 * HOUR, organizer="token-1")
    for each in (mine, other, organizer):
        assert await ledger.add_session(each)
    assert await ledger.sessions(NOW) == [mine, organizer, other]
    assert await ledger.session("other", NOW) == other
    assert await ledger.session("nobody", NOW) is None
    assert await ledger.session("mine", NOW + HOUR - timedelta(microseconds=1)) == mine
    assert await ledger.session("mine", NOW + HOUR) is None
    assert await ledger.sessions(NOW + HOUR) == [organizer]
    await ledger.end_session("mine")
    assert await digests(ledger) == {"other", "organizer"}
    await ledger.end_sessions("school02")
    assert await digests(ledger) == {"organizer"}


async def test_a_session_is_refused_where_its_seat_was_renewed_meanwhile(ledger):
    assert await ledger.add_session(session("first"), epoch=0)
    seat = await ledger.renew_seat("school01")
    assert not await ledger.add_session(session("second"), epoch=0)
    assert await ledger.add_session(session("third"), epoch=seat.epoch)
    assert await digests(ledger) == {"third"}


async def test_a_share_ends_with_all_who_came_by_it(ledger):
    await ledger.add_share(share("view"))
    await ledger.add_share(share("use", mode=Mode.CONTROL))
    await ledger.add_share(share("other", "school02", expires=NOW + 2 * HOUR))
    assert await ledger.add_session(session("guest", share="view", mode=Mode.VIEW))
    assert await ledger.add_session(session("helper", share="use"))
    assert await ledger.session("guest", NOW) == session("guest", share="view", mode=Mode.VIEW)
    assert [each.id for each in await ledger.shares(NOW, "school01")] == ["use", "view"]
    assert await ledger.shares(NOW + HOUR) == [share("other", "school02", expires=NOW + 2 * HOUR)]
    await ledger.end_share("view")
    assert await digests(ledger) == {"helper"}
    assert not await ledger.add_session(session("late guest", share="view"))
    assert [each.id for each in await ledger.shares(NOW)] == ["other", "use"]


async def test_what_has_expired_is_not_kept(ledger):
    await ledger.add_share(share("old"))
    await ledger.add_session(session("old"))
    await ledger.add_session(Session("new", NOW + HOUR, NOW + 2 * HOUR, "school02"))
    await ledger.add_share(Share("new", "school02", Mode.VIEW, NOW + HOUR, NOW + 2 * HOUR))
    assert await digests(ledger) == {"new"}
    assert [each.id for each in await ledger.shares(NOW)] == ["new"]


async def test_every_change_of_what_opens_seats_is_counted_for_other_gates(ledger, open_ledger):
    other = await open_ledger()
    await ledger.sign_up(somebody(1), [], capacity=None, waiting=True)
    for change in (
        lambda: ledger.change_seat("school01", pin_hash="x"),
        lambda: ledger.assign("person-1", "school01"),
        lambda: ledger.move("person-1", "school02"),
        lambda: ledger.renew_seat("school02"),
        lambda: ledger.add_session(session("a")),
        lambda: ledger.end_session("a"),
        lambda: ledger.end_sessions("school01"),
        lambda: ledger.add_share(share("b")),
        lambda: ledger.end_share("b"),
        lambda: ledger.release("school02"),
        lambda: ledger.set_note("phase", "open"),
        lambda: ledger.sign_up(somebody(2), SEATS, capacity=None, waiting=True),
        lambda: ledger.forget("person-2"),
        ledger.purge,
    ):
        before = await other.changes()
        await change()
        assert await other.changes() > before
    before = await other.changes()
    await ledger.note(AuditEntry(NOW, "x", "y"))
    await ledger.people()
    assert await other.changes() == before


async def test_a_snapshot_has_all_that_opens_seats(ledger, open_ledger):
    other = await open_ledger()
    await seated(ledger, 1, "school01")
    await ledger.add_share(share("view"))
    await ledger.add_session(session("guest", share="view", mode=Mode.VIEW))
    await ledger.set_note("frozen", "1")
    found = await other.snapshot(NOW)
    assert found.changes == await ledger.changes()
    assert found.seats == await ledger.seats()
    assert (found.sessions, found.shares) == (await ledger.sessions(NOW), await ledger.shares(NOW))
    assert found.notes == {"frozen": "1"}
    later = await other.snapshot(NOW + HOUR)
    assert (later.sessions, later.shares) == ([], [])


# What is written down


async def test_the_audit_log_has_the_newest_first(ledger):
    entries = [AuditEntry(NOW, "token-1", f"deed {number}", "school01") for number in range(5)]
    for entry in entries:
        await ledger.note(entry)
    assert await ledger.audit() == entries[::-1]
    assert await ledger.audit(limit=2) == [entries[4], entries[3]]


def mail(name, due=NOW, person=""):
    return Mail(name, person, f"{name}@example.org", "Your seat", "Welcome\n", due)


async def test_a_mail_is_given_to_one_who_says_what_became_of_it(ledger, open_ledger):
    other = await open_ledger()
    for name, due in (("b", NOW), ("a", NOW), ("later", NOW + HOUR), ("first", NOW - HOUR)):
        await ledger.queue_mail(mail(name, due))
    await ledger.queue_mail(mail("a"))  # again
    assert await ledger.due_mails(NOW, 2) == [mail("first", NOW - HOUR), mail("a")]
    assert await other.due_mails(NOW, 9) == [mail("b")]
    assert await ledger.due_mails(NOW, 9) == []
    await ledger.mail_sent("first")
    await ledger.mail_failed("a", NOW + timedelta(minutes=1))
    # What the other one took, and never said anything of, is due again.
    again = await ledger.due_mails(NOW + timedelta(minutes=30), 9)
    assert [(each.id, each.tries) for each in again] == [("a", 1), ("b", 0)]


async def test_a_mail_to_who_is_forgotten_is_not_sent(ledger):
    await seated(ledger, 1, "school01")
    await ledger.queue_mail(mail("a", person="person-1"))
    assert [each.person for each in await ledger.due_mails(NOW, 9)] == ["person-1"]
    await ledger.forget("person-1")
    await ledger.queue_mail(mail("b", person="person-1"))
    assert await ledger.due_mails(NOW + HOUR, 9) == []


async def test_figures_come_back_in_the_order_of_time(ledger):
    await ledger.record(NOW + HOUR, {"sessions": 3, "rate": 0.5})
    await ledger.record(NOW, {"sessions": 1})
    assert await ledger.recorded() == [(NOW, {"sessions": 1}), (NOW + HOUR, {"sessions": 3, "rate": 0.5})]


async def test_notes(ledger):
    assert await ledger.get_note("phase") == ""
    await ledger.set_note("phase", "open")
    await ledger.set_note("phase", "frozen")
    assert await ledger.get_note("phase") == "frozen"


# Personal data


async def somebody_with_everything(ledger):
    canary = {"name": "Kanarien Vogel", "email": "kanarien@birds.example"}
    person = somebody(1, answers={"nickname": "Kanarien"}, accepted=(Acceptance("terms", "ab" * 32, NOW),))
    await ledger.sign_up(dataclasses.replace(person, **canary), SEATS, capacity=None, waiting=True)
    await ledger.add_session(session("mine"))
    await ledger.add_share(share("my share"))
    await ledger.add_session(session("guest", share="my share", mode=Mode.VIEW))
    letter = Mail("letter", "person-1", canary["email"], "Hello Kanarien Vogel", "Dear Kanarien Vogel,", NOW)
    await ledger.queue_mail(letter)
    await ledger.note(AuditEntry(NOW, "token-1", "assigned", "person-1"))
    await ledger.change_seat("school01", until=NOW + HOUR, desktop="school04")
    return canary


async def test_all_that_is_kept_of_somebody_is_given_out(ledger):
    await somebody_with_everything(ledger)
    told = await ledger.about("person-1")
    assert json.loads(json.dumps(told)) == told
    at, later = NOW.isoformat(), (NOW + HOUR).isoformat()
    assert told == {
        "id": "person-1",
        "name": "Kanarien Vogel",
        "email": "kanarien@birds.example",
        "language": "en",
        "signed_up": (NOW + timedelta(seconds=1)).isoformat(),
        "standing": "seated",
        "place": 1,
        "answers": {"nickname": "Kanarien"},
        "accepted": [{"document": "terms", "sha256": "ab" * 32, "when": at}],
        "seat": {"account": "school01", "shows": "school04", "until": later},
        "sessions": [{"created": at, "expires": later}],
        "shares": [{"mode": "view", "created": at, "expires": later}],
        "mails": [
            {
                "to": "kanarien@birds.example",
                "subject": "Hello Kanarien Vogel",
                "due": at,
            }
        ],
        "audit": [{"when": at, "who": "token-1", "what": "assigned"}],
    }
    await ledger.sign_up(somebody(2), [], capacity=None, waiting=True)
    assert (await ledger.about("person-2"))["seat"] is None
    with pytest.raises(UnknownPersonError):
        await ledger.about("person-3")


async def test_who_is_forgotten_leaves_nothing(ledger, everything_kept, statistics):
    canary = await somebody_with_everything(ledger)
    await ledger.sign_up(somebody(2), SEATS, capacity=None, waiting=True)
    statistics()
    kept = everything_kept()
    assert all(needle.encode() in kept for needle in (*canary.values(), "person-1"))
    assert await ledger.forget("person-1") == "school01"
    kept = everything_kept()
    for needle in (*canary.values(), "Kanarien", "person-1"):
        assert needle.encode() not in kept
    assert b"Name 2" in kept
    assert await ledger.forget("person-2") == "school02"
    assert await ledger.seat("school01") == Seat("school01", epoch=1, desktop="school04")
    assert await digests(ledger) == set()
    assert await ledger.shares(NOW) == []
    assert await ledger.audit() == [AuditEntry(NOW, "token-1", "assigned", "")]
    assert await ledger.forget("person-1") == ""


async def test_a_purge_says_what_went(ledger, everything_kept, statistics):
    canary = await somebody_with_everything(ledger)
    await ledger.sign_up(somebody(2), SEATS, capacity=None, waiting=True)
    statistics()
    await ledger.add_session(Session("organizer", NOW, NOW + HOUR, organizer="token-1"))
    await ledger.record(NOW, {"sessions": 2})
    await ledger.set_note("phase", "ended")
    await ledger.set_note(MESSAGES, '[{"text": "Quillon, please come to the front"}]')
    assert await ledger.purge() == {"people": 2, "mails": 1, "sessions": 2, "shares": 1}
    kept = everything_kept()
    for needle in (*canary.values(), "Name 2", "2@example.org", "person-2", "Quillon"):
        assert needle.encode() not in kept
    assert await digests(ledger) == {"organizer"}
    assert await who_sits_where(ledger) == {}
    assert {seat.epoch for seat in (await ledger.seats()).values()} == {1}
    assert await ledger.get_note(MESSAGES) == ""
    assert await ledger.get_note("phase") == "ended"
    assert await ledger.recorded() == [(NOW, {"sessions": 2})]
    assert await ledger.purge() == {"people": 0, "mails": 0, "sessions": 0, "shares": 0}


# Mails that tell of what the ledger does


async def test_a_mail_is_planned_with_what_it_tells_of(ledger):
    await ledger.sign_up(somebody(1), SEATS[:1], capacity=None, waiting=True, mail="waits")
    await ledger.sign_up(somebody(2), SEATS[:1], capacity=None, waiting=True, mail="waits")
    await ledger.sign_up(dataclasses.replace(somebody(3), email=""), [], capacity=None, waiting=True, mail="waits")
    await ledger.sign_up(somebody(2), SEATS[:1], capacity=None, waiting=True, mail="waits")  # the form once more
    await ledger.move_up(SEATS, capacity=None, mail="moved")
    assert {each.id for each in await ledger.planned_mails()} == {"person-2.waits", "person-2.moved"}
    assert await ledger.planned_mails("person-1") == []
    assert await ledger.due_mails(NOW + HOUR, 9) == [], "nothing is sent that has no text"


async def test_a_planned_mail_is_written_once(ledger, open_ledger):
    other = await open_ledger()
    await ledger.sign_up(somebody(1), [], capacity=None, waiting=True, mail="waits")
    letter = Mail("person-1.waits", "person-1", "1@example.org", "You wait", "At place 1\n", NOW)
    await asyncio.gather(ledger.write_mail(letter), other.write_mail(letter))
    assert await ledger.due_mails(NOW, 9) == [letter]
    await ledger.mail_sent(letter.id)
    await other.write_mail(letter)  # by a gate that was slow
    assert await ledger.due_mails(NOW + HOUR, 9) == []


async def test_what_is_planned_takes_the_place_of_what_is_over(ledger):
    await ledger.sign_up(somebody(1), [], capacity=None, waiting=True)
    for account in SEATS[:2]:
        await ledger.move_up([account], capacity=None, mail="moved")
        assert [each.id for each in await ledger.planned_mails()] == ["person-1.moved"]
        letter = Mail("person-1.moved", "person-1", "1@example.org", "A seat", f"{account}\n", NOW)
        await ledger.write_mail(letter)
        await ledger.release(account)
        await ledger.change_person("person-1", standing=Standing.WAITING)
    assert [each.text for each in await ledger.due_mails(NOW, 9)] == ["school02\n"]
    await ledger.forget("person-1")
    assert await ledger.planned_mails() == []
