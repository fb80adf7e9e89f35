"""What organizers do: each deed, what it leaves in the audit log, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from tests.web.organized import House
from vncgate.errors import GivenError, OrganizingError, SeatTakenError, UnknownError
from vncgate.languages import Words
from vncgate.model import Secret
from vncgate.organizing import Organizing
from vncgate.people import Standing
from vncgate.viewer_notes import LASTS, Notes


@pytest.fixture
async def house(tmp_path):
    async with House(tmp_path, launched=["ws03"]).open() as house:
        yield house


async def do(house, deed, *names, **given):
    return await house.participants.organizing.do(deed, names, given, "ada")


async def seat(house, name):
    (row,) = [row for row in await house.participants.organizing.seats() if row.account == name]
    return row


async def test_somebody_who_waits_or_somebody_new_gets_a_seat(house):
    bo = await house.person("Bo")
    await do(house, "assign", "ws01", person=bo.id)
    done = await do(house, "assign", "ws02", name="Cy", email="cy@example.org")
    assert done.told["account"] == "ws02"
    assert [(await seat(house, name)).name for name in ("ws01", "ws02")] == ["Bo", "Cy"]
    with pytest.raises(OrganizingError, match="somebody has the seat ws01"):
        await do(house, "assign", "ws01", name="Di")
    with pytest.raises(OrganizingError, match="somebody has the seat ws01"):
        await do(house, "assign", "ws01", person=(await house.person("Ed")).id)
    assert [person.name for person in await house.ledger.people()] == ["Bo", "Cy", "Ed"], "nothing half done"


@pytest.mark.parametrize(
    ("signs_up", "words"), [(False, "until you give them a seat"), (True, "theirs within seconds")]
)
async def test_who_adds_somebody_is_told_whether_they_get_a_seat_by_themselves(tmp_path, signs_up, words):
    async with House(tmp_path, **{"signup.enabled": signs_up}).open() as house:
        assert words in (await house.participants.organizing.add({"name": "Bo"}, "ada")).said


async def test_somebody_moves_and_a_seat_is_freed(house):
    await house.person("Bo", "ws01")
    await do(house, "move", "ws01", to="ws02")
    assert ((await seat(house, "ws01")).person, (await seat(house, "ws02")).name) == ("", "Bo")
    with pytest.raises(OrganizingError, match="nobody has the seat ws01"):
        await do(house, "move", "ws01", to="ws03")
    await do(house, "release", "ws02")
    assert (await seat(house, "ws02")).person == ""
    assert [person.standing for person in await house.ledger.people()] == [Standing.LEFT]


async def test_a_swap_goes_there_and_back_and_needs_a_spare(house):
    with pytest.raises(SeatTakenError, match="no free spare"):
        await do(house, "swap", "ws01")
    await do(house, "spare", "ws04", spare="yes")
    done = await do(house, "swap", "ws01")
    assert (done.said, done.told["spare"]) == ("ws01 shows the desktop of ws04.", "ws04")
    assert ((await seat(house, "ws01")).desktop, (await seat(house, "ws04")).shown_by) == ("ws04", ("ws01",))
    with pytest.raises(SeatTakenError):
        await do(house, "swap", "ws02", spare="ws04")
    with pytest.raises(OrganizingError, match="another seat shows the desktop of ws04"):
        await do(house, "assign", "ws04", name="Bo")
    assert await house.ledger.people() == [], "nothing half done"
    await do(house, "swap-back", "ws01")
    assert (await seat(house, "ws01")).desktop == ""
    await do(house, "spare", "ws04", spare="no")
    assert not (await seat(house, "ws04")).spare


async def test_a_pin_and_a_link_are_told_once_and_nowhere_else(house):
    pin = (await do(house, "pin", "ws01")).told["pin"]
    link = (await do(house, "link", "ws01")).told["link"]
    assert isinstance(pin, Secret)
    assert link.reveal().startswith("http://127.0.0.1/seat#")
    log = str(await house.audit())
    assert pin.reveal() not in log
    assert link.reveal().partition("#")[2] not in log


async def test_more_time_begins_where_the_seat_ends(house):
    until = datetime.now(UTC) + timedelta(hours=5)
    await do(house, "extend", "ws01", until=until.isoformat())
    await do(house, "extend", "ws0*", minutes="30")
    assert (await seat(house, "ws01")).until == until + timedelta(minutes=30)
    left = (await seat(house, "ws02")).until - datetime.now(UTC)
    assert timedelta(minutes=25) < left <= timedelta(minutes=30), "of one without an end, from now"


@pytest.mark.parametrize(
    "given",
    [
        {"minutes": "0"},
        {"minutes": "-5"},
        {"minutes": "١"},
        {"minutes": "9" * 99},
        {},
        {"until": "noon"},
        {"until": "0001-01-01T00:00+14:00"},
    ],
)
async def test_no_time_that_is_none(house, given):
    with pytest.raises(GivenError):
        await do(house, "extend", "ws01", **given)
    assert (await seat(house, "ws01")).until is None


async def shown(house, account):
    house.participants.organizing._messages_due = 0.0
    return [note.text for note in await house.participants.organizing.notes_for(account)]


async def test_a_message_is_for_one_for_some_or_for_all(house):
    await do(house, "message", "ws01", text=" your\nturn ")
    await do(house, "message", "*", text="lunch")
    house.participants.organizing.notes.post(datetime.now(UTC) + timedelta(seconds=1), "the end is near")
    assert await shown(house, "ws01") == ["your turn", "lunch", "the end is near"]
    assert await shown(house, "ws02") == ["lunch", "the end is near"]
    for text in (" ", "x" * 501, "\x1b[31m"):
        with pytest.raises(GivenError, match="plain text"):
            await do(house, "message", "ws01", text=text)
    assert "lunch" not in str(await house.audit())


async def test_messages_are_shown_by_every_gate_and_by_the_next_and_then_forgotten(house, tmp_path):
    await do(house, "message", "*", text="lunch")
    async with House(tmp_path).open() as other:
        assert await shown(other, "ws01") == ["lunch"]
        await do(other, "message", "ws01", text="your turn")
    assert await shown(house, "ws01") == ["lunch", "your turn"]
    later = Notes.from_json(await house.ledger.get_note("messages"))
    assert len(later) == 2
    later.tidy(datetime.now(UTC) + LASTS)
    await house.ledger.set_note("messages", later.to_json())
    assert await shown(house, "ws01") == []


async def test_what_is_over_does_not_stay_in_the_ledger(house):
    old = Notes()
    old.post(datetime.now(UTC) - LASTS, "a name, maybe")
    await house.ledger.set_note("messages", old.to_json())
    assert await shown(house, "ws01") == []
    assert "maybe" not in await house.ledger.get_note("messages")


async def test_the_desktop_that_a_seat_shows_is_what_is_stopped(house):
    await do(house, "spare", "ws03", spare="yes")
    await do(house, "swap", "ws01")
    await do(house, "stop", "ws01")
    assert [names for _, names in house.launcher.calls] == [["ws03"]]


async def test_who_has_waited_is_told_of_their_seat(house):
    told, bo = [], await house.person("Bo")

    async def tell(person):
        told.append((person.name, person.account))

    house.participants.organizing.tell = tell
    await do(house, "assign", "ws02", person=bo.id)
    await do(house, "assign", "ws01", name="Cy")
    assert told == [("Bo", "ws02")]


async def test_who_waits_gets_the_first_seat_that_is_nobodys(house):
    await house.person("Bo", "ws01")
    await do(house, "spare", "ws02", spare="yes")
    cy = await house.person("Cy")
    organizing = house.participants.organizing
    await organizing.do_to_person("move-up", cy.id, {}, "ada")
    assert (await seat(house, "ws03")).name == "Cy"
    with pytest.raises(OrganizingError, match="they have a seat: ws03"):
        await organizing.do_to_person("move-up", cy.id, {}, "ada")
    for number in range(2):
        last = await house.person(f"Di {number}")
        if number == 0:
            await organizing.do_to_person("move-up", last.id, {}, "ada")
    with pytest.raises(OrganizingError, match="no seat is free"):
        await organizing.do_to_person("move-up", last.id, {}, "ada")


async def test_who_is_removed_is_forgotten_and_the_seat_free(house):
    bo = await house.person("Bo", "ws01", email="bo@example.org")
    await house.participants.organizing.do_to_person("remove", bo.id, {}, "ada")
    assert await house.ledger.people() == []
    assert (await seat(house, "ws01")).person == ""


async def test_a_table_is_taken_in_as_a_whole(house):
    bo, cy = await house.person("Bo", "ws01"), await house.person("Cy", "ws02")
    organizing = house.participants.organizing
    table = f"id,name,account,team\n{bo.id},Bo,ws02,red\n{cy.id},Cy B.,ws01,\n,Di,ws03,blue\n,Ed,,\n"
    done = await organizing.take_in(table.encode(), "ada")
    assert done.said == "4 lines were taken in."
    told = [(person.name, person.account, dict(person.answers)) for person in await house.ledger.people()]
    assert told == [
        ("Bo", "ws02", {"team": "red"}), ("Cy B.", "ws01", {}), ("Di", "ws03", {"team": "blue"}), ("Ed", "", {}),
    ]  # fmt: skip
    assert (await seat(house, "ws01")).name == "Cy B."
    with pytest.raises(GivenError) as error:
        await organizing.take_in(b"name,account\nFi,ws04\nGo,ws09\n", "ada")
    assert str(error.value).splitlines()[1:] == ["line 3, cell 2: there is no account ws09"]
    assert len(await house.ledger.people()) == 4
    again = await organizing.take_in((await organizing.export("ada")).encode(), "ada")
    assert again.said == "4 lines were taken in."
    assert [(person.name, person.account) for person in await house.ledger.people()] == [each[:2] for each in told]


@pytest.mark.parametrize(
    ("deed", "names", "given", "error", "words"),
    [
        ("fly", ["ws01"], {}, UnknownError, "there is no deed fly; there are assign, "),
        ("pin", ["ws09"], {}, UnknownError, "there is no account ws09"),
        ("pin", ["ws0*"], {}, GivenError, "pin is done to one seat at a time"),
        ("move", ["ws01"], {}, GivenError, "to is missing"),
        ("release", ["ws01"], {"to": "ws02"}, GivenError, "to means nothing here"),
        ("assign", ["ws01"], {"person": "nobody"}, UnknownError, "nobody with this id is known"),
        ("assign", ["ws01"], {}, GivenError, "name is missing"),
        ("move", ["ws01"], {"to": "ws0*"}, GivenError, r"ws0\* means more than one account"),
        ("swap", ["ws01"], {"spare": "ws0*"}, GivenError, r"ws0\* means more than one account"),
        ("pin", [], {}, GivenError, "pin is done to one seat at a time"),
    ],
)
async def test_what_is_refused_and_why(house, deed, names, given, error, words):
    with pytest.raises(error, match=words):
        await house.participants.organizing.do(deed, names, given, "ada")
    assert await house.audit() == []


async def test_every_deed_is_written_down_with_who_did_it(house):
    bo = await house.person("Bo", "ws01")
    await do(house, "spare", "ws04", spare="yes")
    ways = {
        "assign": {"name": "Cy"},
        "move": {"to": "ws02"},
        "spare": {"spare": "yes"},
        "extend": {"minutes": "5"},
        "message": {"text": "x"},
    }
    order = [
        "link",
        "pin",
        "message",
        "extend",
        "swap",
        "swap-back",
        "sign-out",
        "move",
        "revoke",
        "assign",
        "release",
        "spare",
        "start",
        "stop",
        "restart",
    ]
    assert set(order) == set(Organizing.SEAT_DEEDS)
    for deed in order:
        before = len(await house.audit())
        await do(house, deed, "ws03" if deed in ("start", "stop", "restart") else "ws01", **ways.get(deed, {}))
        news = (await house.audit())[:-before] if before else await house.audit()
        assert news, deed
        assert {who for who, _, _ in news} == {"ada"}, deed
    await house.participants.organizing.do_to_person("remove", bo.id, {}, "ada")
    assert "Bo" not in str(await house.audit())


async def test_what_is_said_can_be_said_in_german(house):
    done = await do(house, "swap-back", "ws01")
    assert done.to_json(Words())["said"] == "ws01 shows its own desktop."


async def test_a_desktop_that_the_workshop_has_closed_is_told_as_its_participant_is(house):
    assert (await seat(house, "ws01")).state == "ready"
    closed = {"ws01": "the workshop has not begun yet", "ws03": "the workshop is over"}
    house.participants.life = SimpleNamespace(closed=lambda name: closed.get(name, ""))
    shown = [await seat(house, name) for name in ("ws01", "ws02", "ws03")]
    house.participants.life = None
    assert [(row.state, row.reason) for row in shown] == [
        ("offline", "the workshop has not begun yet"), ("ready", ""), ("stopped", "the workshop is over"),
    ]  # fmt: skip
