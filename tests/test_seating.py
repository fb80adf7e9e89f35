"""Seating: who is let in, what ends them, what the engine is told, and what outlives the gate."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from tests.seats import BEGIN, CHEAP, CLIENT, KEY, PIN, House, seated, with_pins
from tests.web.values import accounts
from vncgate import guessing, pins, seating, tasks
from vncgate.errors import LedgerError, SeatTakenError
from vncgate.guessing import FREE
from vncgate.ledger.sessions import Snapshot
from vncgate.model import Secret
from vncgate.people import Mode, Person, Seat
from vncgate.pins import BusyError
from vncgate.seat_links import SeatLink, seat_token
from vncgate.seat_memory import MOST_MISSES
from vncgate.seating import MOST_PINS, MOST_SHARES, PIN_DRAIN, Entry, Reason, Refusal
from vncgate.settings import Settings

WRONG = Secret("000000")
FREE_FOR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(pins, "HASHER", CHEAP)


@pytest.fixture
async def house(tmp_path):
    async with seated(tmp_path) as house:
        yield house


def token(address: Secret) -> Secret:
    """What stands behind the # of an address."""
    return Secret(address.reveal().partition("#")[2])


async def enter(house, account="ws01"):
    entry = await house.seating.sign_in(account, PIN, CLIENT)
    assert isinstance(entry, Entry)
    return entry


async def reason(coming):
    refusal = await coming
    assert isinstance(refusal, Refusal)
    return refusal.reason


async def test_a_right_pin_lets_in_to_the_own_desktop_alone(house):
    entry = await enter(house)
    assert entry.session.seat == "ws01"
    assert entry.session.mode is Mode.CONTROL
    assert house.lets_in(entry, "ws01")
    assert not any(house.lets_in(entry, other) for other in ("ws02", "ws03", "ws04", "ws05"))
    assert await house.seating.session(entry.cookie.reveal()) == entry.session
    assert house.seating.desk(entry.session).name == "ws01"


async def test_before_anybody_comes_the_engine_is_told_of_every_account_that_nobody_is_let_in(house):
    assert house.admitted == {name: {} for name in house.roster}


@pytest.mark.parametrize("account", ["ws01", "ws99", "", "x" * 1000])
async def test_a_wrong_pin_and_an_unknown_account_are_refused_in_the_same_way(house, account):
    pin = WRONG if account == "ws01" else PIN
    assert await house.seating.sign_in(account, pin, CLIENT) == Refusal(Reason.WRONG)
    assert house.seating.refusals == {Reason.WRONG: 1}


async def test_after_some_wrong_ones_a_client_waits_and_then_even_the_right_one_is_not_looked_at(house):
    for _ in range(FREE):
        assert await reason(house.seating.sign_in("ws01", WRONG, CLIENT)) is Reason.WRONG
    refusal = await house.seating.sign_in("ws01", PIN, CLIENT)
    assert refusal == Refusal(Reason.WAIT, 2.0)
    assert isinstance(await house.seating.sign_in("ws02", PIN, CLIENT), Entry)  # the neighbour
    house.later(seconds=3)
    await enter(house)


async def test_a_thousand_guesses_at_once_are_as_many_as_one_after_the_other(house):
    guesses = [house.seating.sign_in("ws01", Secret(f"{n:06}"), CLIENT) for n in range(200)]
    found = await asyncio.gather(*guesses)
    assert sum(each.reason is Reason.WRONG for each in found) == FREE
    assert sum(each.reason is Reason.WAIT for each in found) == 200 - FREE


async def test_ten_thousand_wrong_guesses_let_none_in_and_delay_nobody_else(house):
    """The right PIN is among them, and never looked at."""
    owner = await enter(house)
    link = house.seating.link("ws01")
    for number in range(10_000):
        pin = PIN if number == 9_000 else Secret(f"{number:06}")
        assert isinstance(await house.seating.sign_in("ws01", pin, "203.0.113.9"), Refusal)
        if number % 2000 == 0:
            assert isinstance(await house.seating.sign_in(f"ws0{number // 2000 % 4 + 2}", PIN, "203.0.113.9"), Entry)
    assert await house.seating.session(owner.cookie.reveal()) == owner.session
    assert isinstance(await house.seating.enter_by_link(token(link), "203.0.113.9"), Entry)
    await enter(house)  # from where the seat was opened before
    assert house.seating.refusals[Reason.WRONG] == FREE


async def test_a_botnet_gets_a_few_tries_between_all_of_its_addresses(house):
    for number in range(1000):
        await house.seating.sign_in("ws01", WRONG, f"2001:db8:{number:x}::1")
    assert house.seating.refusals[Reason.WRONG] < 50


async def test_one_host_with_a_whole_network_is_one_client(house):
    for number in range(50):
        await house.seating.sign_in("ws01", WRONG, f"2001:db8::{number:x}")
    assert house.seating.refusals[Reason.WRONG] == FREE


async def test_a_flood_is_told_to_come_again(house, monkeypatch):
    async def flooded(*_):
        raise BusyError("too many")

    monkeypatch.setattr(house.seating._pins, "fits", flooded)
    assert await reason(house.seating.sign_in("ws01", PIN, CLIENT)) is Reason.BUSY
    monkeypatch.setattr(pins, "MOST_WAITING", 0)
    assert await house.seating.sign_in("ws01", PIN, CLIENT) == Refusal(Reason.BUSY, 2.0)


async def test_what_is_logged_of_rejections_has_no_secret_and_no_name_that_is_none(house, caplog):
    caplog.set_level(logging.INFO)
    entry = await enter(house)
    await house.seating.sign_in("ws01", Secret("918273"), CLIENT)
    await house.seating.sign_in("ada.lovelace@example.org", Secret("918273"), CLIENT)
    link = house.seating.link("ws01")
    await house.seating.enter_by_link(Secret(token(link).reveal() + "x"), CLIENT)
    assert "sign-in refused: wrong (account ws01, from 198.51.100.7)" in caplog.text
    assert "sign-in refused: wrong (no account of ours, from 198.51.100.7)" in caplog.text
    for secret in ("918273", "ada.lovelace", PIN.reveal(), entry.cookie.reveal(), token(link).reveal()):
        assert secret not in caplog.text


# ---- links ----


async def test_a_link_opens_its_seat_as_often_as_it_is_used(house):
    link = house.seating.link("ws02")
    assert link.reveal().startswith("https://workshop.example.org/seat#v1.ws02.")
    first = await house.seating.enter_by_link(token(link), CLIENT)
    second = await house.seating.enter_by_link(token(link), CLIENT)
    assert house.lets_in(first, "ws02")
    assert house.lets_in(second, "ws02")
    assert not house.lets_in(first, "ws01")
    assert first.session.digest != second.session.digest


async def test_a_link_is_good_until_the_second_it_says(house):
    link = token(house.seating.link("ws02"))
    house.later(days=14, seconds=-1)
    assert isinstance(await house.seating.enter_by_link(link, CLIENT), Entry)
    house.later(seconds=1)
    assert await reason(house.seating.enter_by_link(link, CLIENT)) is Reason.EXPIRED


async def test_forged_and_foreign_links_open_nothing(house):
    later = int(BEGIN.timestamp()) + 1000
    for forged in (
        "",
        "v1",
        seat_token(b"another key, of as many bytes...", SeatLink("ws01", later, 0)),
        seat_token(KEY, SeatLink("ws99", later, 0)),
        seat_token(KEY, SeatLink("ws01", later, 1)),
        token(house.seating.link("ws01")).reveal().replace("ws01", "ws02"),
    ):
        assert await reason(house.seating.enter_by_link(Secret(forged), CLIENT)) is Reason.WRONG, forged
        assert await reason(house.seating.enter_by_share(Secret(forged), CLIENT)) is Reason.WRONG, forged


async def test_a_link_does_not_open_a_seat_that_was_renewed_meanwhile(house):
    link = token(house.seating.link("ws01"))
    await house.seating.renew("ws01", "ada")
    assert await reason(house.seating.enter_by_link(link, CLIENT)) is Reason.WRONG
    assert isinstance(await house.seating.enter_by_link(token(house.seating.link("ws01")), CLIENT), Entry)


async def test_another_gate_renews_the_seat_in_the_moment_of_coming_in(house):
    await house.ledger.renew_seat("ws01")  # and this gate does not know it yet
    assert await reason(house.seating.sign_in("ws01", PIN, CLIENT)) is Reason.WRONG
    assert house.admitted["ws01"] == {}


async def test_the_seat_is_revoked_while_the_pin_is_looked_at(house, monkeypatch):
    async def slow(*_):
        await house.seating.revoke("ws01", "ada")
        return True

    monkeypatch.setattr(house.seating._pins, "fits", slow)
    assert await reason(house.seating.sign_in("ws01", PIN, CLIENT)) is Reason.WRONG
    assert house.admitted["ws01"] == {}


# ---- sessions ----


async def test_what_is_read_of_the_ledger_does_not_undo_what_came_after(house, monkeypatch):
    """A table is taken in, or another gate followed, while somebody signs out and another in."""
    gone = await enter(house)
    read, go_on = house.ledger.snapshot, asyncio.Event()

    async def slow(now):
        found = await read(now)
        await go_on.wait()
        return found

    monkeypatch.setattr(house.ledger, "snapshot", slow)
    async with asyncio.TaskGroup() as doing:
        doing.create_task(house.seating._refresh())
        await asyncio.sleep(0.05)
        doing.create_task(house.seating.sign_out(gone.session))
        coming = doing.create_task(enter(house))
        await asyncio.sleep(0.05)
        go_on.set()
    assert await house.seating.session(gone.cookie.reveal()) is None
    assert await house.seating.session(coming.result().cookie.reveal())
    assert list(house.admitted["ws01"]) == [coming.result().session.digest]


async def test_a_seat_has_so_many_sessions_and_the_oldest_goes_for_one_more(house, monkeypatch):
    monkeypatch.setattr(seating, "MOST_SESSIONS", 3)
    entries = [await enter(house) for _ in range(5)]
    held = [await house.seating.session(entry.cookie.reveal()) is not None for entry in entries]
    assert held == [False, False, True, True, True]
    assert len(house.admitted["ws01"]) == 3


async def test_every_sign_in_is_a_session_of_its_own_on_as_many_devices_as_one_has(house):
    entries = [await enter(house) for _ in range(3)]
    assert len({entry.session.digest for entry in entries}) == 3
    assert len({entry.cookie for entry in entries}) == 3
    await house.seating.sign_out(entries[0].session)
    assert [house.lets_in(entry, "ws01") for entry in entries] == [False, True, True]
    assert await house.seating.session(entries[0].cookie.reveal()) is None


async def test_signing_out_everywhere_ends_all_sessions_of_the_seat_and_no_other(house):
    link = token(house.seating.link("ws01"))
    mine, also_mine, other = await enter(house), await enter(house), await enter(house, "ws02")
    await house.seating.sign_out_everywhere("ws01")
    assert [house.lets_in(mine, "ws01"), house.lets_in(also_mine, "ws01"), house.lets_in(other, "ws02")] == [0, 0, 1]
    assert isinstance(await house.seating.enter_by_link(link, CLIENT), Entry)


async def test_a_session_ends_when_its_time_is_over(house):
    entry = await enter(house)
    house.later(hours=24, seconds=-1)
    assert await house.seating.session(entry.cookie.reveal())
    house.later(seconds=1)
    assert await house.seating.session(entry.cookie.reveal()) is None


@pytest.fixture
async def timely():
    """A house on the loop's own clock, with a ledger that takes no time: threads have another."""
    house = House(Ledgerless(), Settings(public_url="https://workshop.example.org/", access="seat"))
    loop = asyncio.get_running_loop()
    began = loop.time()
    house.seating._now = lambda: BEGIN + timedelta(seconds=loop.time() - began)
    await house.seating.start()
    task = tasks.spawn(house.seating.run(), "seats")
    yield house
    await tasks.end(task)


class Ledgerless:
    """A ledger that takes whatever it is given, and keeps nothing."""

    async def change_seat(self, account, **changes):
        return Seat(account, **changes)

    def __getattr__(self, name):
        async def take(*_):
            return Snapshot(0, {}, [], [], {}) if name == "snapshot" else True

        return take


@pytest.mark.virtual_time
async def test_the_engine_is_told_when_a_session_expires(timely):
    entry = await timely.seating.enter_by_link(token(timely.seating.link("ws01")), CLIENT)
    await asyncio.sleep(24 * 3600 - 60)
    assert timely.lets_in(entry, "ws01")
    await asyncio.sleep(61)
    assert not timely.lets_in(entry, "ws01")


@pytest.mark.virtual_time
async def test_a_seat_that_ends_earlier_ends_its_sessions(timely):
    entry = await timely.seating.enter_by_link(token(timely.seating.link("ws01")), CLIENT)
    await timely.seating.extend("ws01", BEGIN + timedelta(hours=1), "ada")
    await asyncio.sleep(3590)
    assert timely.lets_in(entry, "ws01")
    await asyncio.sleep(20)
    assert not timely.lets_in(entry, "ws01")
    assert await reason(timely.seating.enter_by_link(token(timely.seating.link("ws01")), CLIENT)) is Reason.WRONG


async def test_who_is_signed_in_stays_so_when_the_gate_begins_anew(tmp_path):
    async with seated(tmp_path) as house:
        entry = await enter(house)
        address = await house.seating.share("ws01", Mode.VIEW, BEGIN + FREE_FOR)
        visitor = await house.seating.enter_by_share(token(address), CLIENT)
        await house.seating.freeze(on=True)
    async with seated(tmp_path) as anew:
        assert await anew.seating.session(entry.cookie.reveal()) == entry.session
        assert anew.admitted["ws01"] == {entry.session.digest: Mode.CONTROL, visitor.session.digest: Mode.VIEW}
        assert anew.seating.is_frozen


async def test_where_the_ledger_is_away_nobody_new_comes_in_and_whoever_is_in_stays(house, monkeypatch):
    entry = await enter(house)
    pushed = len(house.pushed)

    async def away(*_):
        raise LedgerError("the database does not answer")

    for name in ("add_session", "end_session", "end_sessions"):
        monkeypatch.setattr(house.ledger, name, away)
    with pytest.raises(LedgerError):
        await house.seating.sign_in("ws01", PIN, CLIENT)
    with pytest.raises(LedgerError):
        await house.seating.sign_out(entry.session)
    assert await house.seating.session(entry.cookie.reveal()) == entry.session
    assert house.lets_in(entry, "ws01")
    assert len(house.pushed) == pushed


async def test_an_account_that_is_gone_lets_nobody_in_and_comes_back_as_it_was(house):
    entry = await enter(house)
    before = house.roster
    house.roster = with_pins(accounts(0))
    await house.seating.roster_changed()
    assert await house.seating.session(entry.cookie.reveal()) is None
    house.roster = before
    await house.seating.roster_changed()
    assert await house.seating.session(entry.cookie.reveal()) == entry.session
    assert house.lets_in(entry, "ws01")


async def test_two_gates_on_one_ledger_know_of_each_other(tmp_path):
    async with seated(tmp_path, is_shared=True) as one, seated(tmp_path, is_shared=True) as two:
        entry = await enter(one)
        assert await two.seating.session(entry.cookie.reveal()) == entry.session  # at once, where they are asked for
        assert two.lets_in(entry, "ws01")
        await one.seating.sign_out(entry.session)
        await two.seating._follow()
        assert not two.lets_in(entry, "ws01")
        address = await one.seating.share("ws01", Mode.VIEW, BEGIN + FREE_FOR)
        assert isinstance(await two.seating.enter_by_share(token(address), CLIENT), Entry)
        pin = await one.seating.new_pin("ws02", "ada")
        assert await reason(two.seating.sign_in("ws02", PIN, CLIENT)) is Reason.WRONG
        assert isinstance(await two.seating.sign_in("ws02", pin, CLIENT), Entry)


async def test_a_made_up_cookie_is_looked_for_once_and_so_many_of_them_no_more(tmp_path, monkeypatch):
    async with seated(tmp_path, is_shared=True) as house:
        looked, session = [], house.ledger.session

        async def seen(digest, now):
            looked.append(digest)
            return await session(digest, now)

        monkeypatch.setattr(house.ledger, "session", seen)
        for _ in range(10):
            assert await house.seating.session("made up") is None
        assert len(looked) == 1
        for number in range(2 * MOST_MISSES):
            assert await house.seating.session(f"made up {number}") is None
        assert len(looked) == MOST_MISSES
        following = tasks.spawn(house.seating.run(), "seats")
        house.seating._changed.set()
        async with asyncio.timeout(30):
            while house.seating._missed:
                await asyncio.sleep(0.01)
        await tasks.end(following)
        assert await house.seating.session("made up") is None
        assert len(looked) == MOST_MISSES + 1


# ---- shares ----


async def test_a_share_lets_others_see_this_desktop_until_it_is_ended(house):
    owner = await enter(house)
    address = await house.seating.share("ws01", Mode.VIEW, BEGIN + FREE_FOR)
    visitor = await house.seating.enter_by_share(token(address), CLIENT)
    assert house.admitted["ws01"] == {owner.session.digest: Mode.CONTROL, visitor.session.digest: Mode.VIEW}
    ((share, came),) = house.seating.shares("ws01")
    assert (share.mode, came) == (Mode.VIEW, 1)
    await house.seating.end_share(share.id)
    assert house.admitted["ws01"] == {owner.session.digest: Mode.CONTROL}
    assert await house.seating.session(visitor.cookie.reveal()) is None
    assert await reason(house.seating.enter_by_share(token(address), CLIENT)) is Reason.WRONG
    assert house.seating.shares("ws01") == []


async def test_visitors_go_when_the_share_expires(house):
    address = await house.seating.share("ws01", Mode.CONTROL, BEGIN + FREE_FOR)
    visitor = await house.seating.enter_by_share(token(address), CLIENT)
    assert visitor.session.expires == BEGIN + FREE_FOR
    house.later(hours=1)
    assert await house.seating.session(visitor.cookie.reveal()) is None
    assert await reason(house.seating.enter_by_share(token(address), CLIENT)) is Reason.EXPIRED


async def test_a_seat_has_so_many_shares_and_a_share_so_many_visitors(house, monkeypatch):
    monkeypatch.setattr(seating, "MOST_VISITORS", 2)
    for _ in range(MOST_SHARES):
        address = await house.seating.share("ws01", Mode.VIEW, BEGIN + FREE_FOR)
    assert await reason(house.seating.share("ws01", Mode.VIEW, BEGIN + FREE_FOR)) is Reason.FULL
    for _ in range(2):
        assert isinstance(await house.seating.enter_by_share(token(address), CLIENT), Entry)
    assert await reason(house.seating.enter_by_share(token(address), CLIENT)) is Reason.FULL


async def test_visitors_who_come_at_once_are_no_more_than_one_after_the_other(house, monkeypatch):
    monkeypatch.setattr(seating, "MOST_VISITORS", 2)
    address = await house.seating.share("ws01", Mode.VIEW, BEGIN + FREE_FOR)
    found = await asyncio.gather(*(house.seating.enter_by_share(token(address), CLIENT) for _ in range(10)))
    assert sum(isinstance(each, Entry) for each in found) == 2
    assert house.seating.refusals == {Reason.FULL: 8}
    assert len(await house.ledger.sessions(house.moment)) == 2


async def test_many_that_ask_at_once_get_no_more_shares_than_one_by_one(house):
    asked = (house.seating.share("ws01", Mode.VIEW, BEGIN + FREE_FOR) for _ in range(MOST_SHARES + 5))
    got = await asyncio.gather(*asked)
    assert sum(isinstance(each, Refusal) for each in got) == 5
    assert len(house.seating.shares("ws01")) == len(await house.ledger.shares(BEGIN, "ws01")) == MOST_SHARES


# ---- organizers ----


async def somebody(house, person_id="p1"):
    person = Person(person_id, "Ada", "ada@example.org", house.moment)
    return await house.ledger.sign_up(person, ["ws01", "ws02"], capacity=None, waiting=True)


async def test_a_new_pin_counts_in_place_of_the_token_files_and_is_not_kept(house):
    pin = await house.seating.new_pin("ws01", "ada")
    assert pin != PIN
    assert await reason(house.seating.sign_in("ws01", PIN, CLIENT)) is Reason.WRONG
    assert isinstance(await house.seating.sign_in("ws01", pin, CLIENT), Entry)
    assert pin.reveal() not in (await house.ledger.seat("ws01")).pin_hash


async def test_a_revoked_seat_opens_for_nobody_before_it_has_a_new_pin(house):
    entry, link = await enter(house), token(house.seating.link("ws01"))
    address = await house.seating.share("ws01", Mode.VIEW, BEGIN + FREE_FOR)
    await house.seating.revoke("ws01", "ada")
    assert house.admitted["ws01"] == {}
    assert await house.seating.session(entry.cookie.reveal()) is None
    assert await house.seating.sign_in("ws01", PIN, CLIENT) == Refusal(Reason.WRONG)
    assert await reason(house.seating.enter_by_link(link, CLIENT)) is Reason.WRONG
    assert await reason(house.seating.enter_by_link(token(house.seating.link("ws01")), CLIENT)) is Reason.WRONG
    assert await reason(house.seating.enter_by_share(token(address), CLIENT)) is Reason.WRONG
    pin = await house.seating.new_pin("ws01", "ada")
    assert isinstance(await house.seating.sign_in("ws01", pin, CLIENT), Entry)


async def test_a_seat_swap_takes_sessions_visitors_and_links_to_the_spare(house):
    await house.seating.set_spare("ws05", "ada", on=True)
    entry, link = await enter(house), token(house.seating.link("ws01"))
    address = await house.seating.share("ws01", Mode.VIEW, BEGIN + FREE_FOR)
    seat = await house.seating.swap("ws01", "ada")
    assert seat.shows == house.seating.shows("ws01") == "ws05"
    assert house.lets_in(entry, "ws05")
    assert not house.lets_in(entry, "ws01")
    again = await house.seating.enter_by_link(link, CLIENT)
    visitor = await house.seating.enter_by_share(token(address), CLIENT)
    assert house.lets_in(again, "ws05")
    assert house.lets_in(visitor, "ws05")
    with pytest.raises(SeatTakenError, match="no free spare"):
        await house.seating.swap("ws02", "ada")
    await house.seating.swap_back("ws01", "ada")
    assert house.lets_in(entry, "ws01")
    assert not house.lets_in(entry, "ws05")


async def test_a_spare_that_somebody_has_been_given_is_not_shown_to_another(house):
    await house.seating.set_spare("ws05", "ada", on=True)
    await sign_up(house, "Bo")
    await house.seating.assign("Bo", "ws05", "ada")
    with pytest.raises(SeatTakenError, match="no free spare"):
        await house.seating.swap("ws01", "ada")


async def test_a_share_that_ends_while_somebody_comes_by_it_lets_them_not_in(house, monkeypatch):
    address = await house.seating.share("ws01", Mode.VIEW, BEGIN + FREE_FOR)
    ((share, _),) = house.seating.shares("ws01")
    add = house.ledger.add_session

    async def add_and_end(*session):
        added = await add(*session)
        await house.seating.end_share(share.id)
        return added

    monkeypatch.setattr(house.ledger, "add_session", add_and_end)
    assert await reason(house.seating.enter_by_share(token(address), CLIENT)) is Reason.WRONG
    assert house.seating.sessions("ws01") == []


async def test_who_is_given_released_and_moved(house):
    await somebody(house)
    await house.seating.look_again("ws01")
    assert house.seating.seat("ws01").person == "p1"
    entry, link = await enter(house), token(house.seating.link("ws01"))
    await house.seating.move("p1", "ws03", "ada")
    assert (house.seating.seat("ws01").person, house.seating.seat("ws03").person) == ("", "p1")
    assert not house.lets_in(entry, "ws01")
    assert not house.lets_in(entry, "ws03")
    assert await reason(house.seating.enter_by_link(link, CLIENT)) is Reason.WRONG
    entry = await enter(house, "ws03")
    assert (await house.seating.release("ws03", "ada")).id == "p1"
    assert not house.lets_in(entry, "ws03")
    await house.seating.assign("p1", "ws04", "ada")
    assert house.seating.seat("ws04").person == "p1"


async def test_who_leaves_a_seat_leaves_its_desktops(house):
    left = []

    async def vacated(accounts):
        left.append(accounts)

    house.seating.vacated = vacated
    await somebody(house)
    await house.seating.set_spare("ws05", "ada", on=True)
    await house.seating.swap("ws01", "ada")
    assert left == []
    await house.seating.move("p1", "ws03", "ada")
    await house.seating.release("ws03", "ada")
    assert left == [{"ws01", "ws05"}, {"ws03"}]


async def sign_up(house, name, *accounts):
    person = Person(name, name, f"{name}@example.org", house.moment)
    return await house.ledger.sign_up(person, accounts, capacity=None, waiting=True)


async def test_who_is_forgotten_is_signed_out_and_whoever_gets_their_seat_stays(house):
    await sign_up(house, "ada", "ws01")
    await sign_up(house, "bob", "ws02")
    mine = await enter(house)
    await asyncio.gather(house.seating.forget("ada", "ada"), sign_up(house, "carol", "ws01"))
    assert await house.seating.session(mine.cookie.reveal()) is None
    assert house.admitted["ws01"] == {}
    assert [person.id for person in await house.ledger.people()] == ["bob", "carol"]
    assert (await house.ledger.seat("ws01")).person == house.seating.seat("ws01").person == "carol"
    await house.seating.forget("nobody", "ada")


async def test_a_purge_signs_everybody_out_but_organizers(house):
    await sign_up(house, "ada", "ws01")
    mine, link = await enter(house), token(house.seating.link("ws01"))
    organizer = await house.seating.begin_as_organizer("lena")
    assert (await house.seating.purge())["people"] == 1
    assert await house.seating.session(mine.cookie.reveal()) is None
    assert await house.seating.session(organizer.cookie.reveal()) == organizer.session
    assert house.admitted["ws01"] == {}
    assert house.seating.seat("ws01").person == ""
    assert await reason(house.seating.enter_by_link(link, CLIENT)) is Reason.WRONG


async def test_a_seat_that_is_somebody_elses_by_now_is_not_begun_nor_given_a_pin(house):
    await sign_up(house, "ada", "ws01")
    assert isinstance(await house.seating.begin("ws01", "ada"), Entry)
    await house.ledger.release("ws01")
    await sign_up(house, "bob", "ws01")
    assert await reason(house.seating.begin("ws01", "ada")) is Reason.WRONG
    with pytest.raises(SeatTakenError):
        await house.seating.new_pin("ws01", "sign-up", owner="ada")
    assert (await house.ledger.seat("ws01")).pin_hash == ""
    assert isinstance(await house.seating.begin("ws01", "bob"), Entry)


async def test_who_signed_up_does_not_begin_at_a_seat_that_is_revoked_or_over_nor_while_it_is_frozen(house):
    await sign_up(house, "ada", "ws01")
    await house.seating.freeze(on=True)
    assert await reason(house.seating.begin("ws01", "ada")) is Reason.FROZEN
    await house.seating.freeze(on=False)
    await house.seating.revoke("ws01", "lena")
    assert await reason(house.seating.begin("ws01", "ada")) is Reason.WRONG
    await house.seating.new_pin("ws01", "lena")
    assert isinstance(await house.seating.begin("ws01", "ada"), Entry)
    await house.seating.extend("ws01", house.moment, "lena")
    assert await reason(house.seating.begin("ws01", "ada")) is Reason.WRONG


async def test_a_pin_that_a_seats_owner_asked_for_opens_no_seat_that_was_revoked_meanwhile(house):
    epoch = house.seating.seat("ws01").epoch
    await house.seating.new_pin("ws01", "seat ws01", at_epoch=epoch)
    await house.seating.revoke("ws01", "lena")
    with pytest.raises(SeatTakenError):
        await house.seating.new_pin("ws01", "seat ws01", PIN, at_epoch=epoch)
    assert await reason(house.seating.sign_in("ws01", PIN, CLIENT)) is Reason.WRONG


async def test_a_seats_owner_has_so_many_new_pins_at_once_and_organizers_give_more(house):
    epoch = house.seating.seat("ws01").epoch
    for _ in range(MOST_PINS):
        await house.seating.new_pin("ws01", "seat ws01", at_epoch=epoch)
    with pytest.raises(BusyError):
        await house.seating.new_pin("ws01", "seat ws01", at_epoch=epoch)
    await house.seating.new_pin("ws02", "seat ws02", at_epoch=epoch)
    await house.seating.new_pin("ws01", "lena")
    house.later(seconds=PIN_DRAIN)
    await house.seating.new_pin("ws01", "seat ws01", at_epoch=epoch)


async def test_junk_names_have_the_gate_forget_no_guesses(house, monkeypatch):
    monkeypatch.setattr(guessing, "REMEMBERED", 5)
    for _ in range(FREE):
        assert await reason(house.seating.sign_in("ws01", WRONG, CLIENT)) is Reason.WRONG
    for number in range(20):
        assert await reason(house.seating.sign_in(f"junk{number}", WRONG, CLIENT)) is Reason.WRONG
    assert await reason(house.seating.sign_in("ws01", PIN, CLIENT)) is Reason.WAIT


async def test_while_it_is_frozen_nobody_comes_in_and_nobody_goes(house):
    entry, link = await enter(house), token(house.seating.link("ws01"))
    address = await house.seating.share("ws01", Mode.VIEW, BEGIN + FREE_FOR)
    await house.seating.freeze(on=True)
    assert house.lets_in(entry, "ws01")
    assert await reason(house.seating.sign_in("ws01", PIN, CLIENT)) is Reason.FROZEN
    assert await reason(house.seating.enter_by_link(link, CLIENT)) is Reason.FROZEN
    assert await reason(house.seating.enter_by_share(token(address), CLIENT)) is Reason.FROZEN
    await house.seating.freeze(on=False)
    await enter(house)


async def test_every_deed_is_in_the_audit_log(house):
    await somebody(house)
    seats = house.seating
    await seats.set_spare("ws05", "ada", on=True)
    await seats.new_pin("ws01", "ada")
    await seats.swap("ws01", "ada")
    await seats.swap_back("ws01", "ada")
    await seats.extend("ws01", None, "ada")
    await seats.move("p1", "ws02", "ada")
    await seats.release("ws02", "ada")
    await seats.assign("p1", "ws01", "ada")
    await seats.revoke("ws01", "ada")
    written = [(entry.who, entry.what, entry.about) for entry in await house.ledger.audit()]
    assert sorted(written) == sorted(
        [("ada", what, "ws01") for what in ("new PIN", "swap", "swap back", "extend", "assign", "revoke")]
        + [("ada", "spare", "ws05"), ("ada", "move", "ws02"), ("ada", "release", "ws02")]
    )


async def test_an_organizers_session_opens_no_desktop(house):
    entry = await house.seating.begin_as_organizer("front desk")
    assert await house.seating.session(entry.cookie.reveal()) == entry.session
    assert house.seating.desk(entry.session) is None
    assert not any(entry.session.digest in admitted for admitted in house.admitted.values())
