"""The table of seats: whose desktop a row is about, and how a connection feels."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.web.values import DESKTOPS, Started, accounts, launched_account, status
from vncgate.model import DesktopState, Readiness, Roster, Traffic
from vncgate.people import Person, Seat
from vncgate.render.cards import cards
from vncgate.seat_table import Quality, quality, rows

WHEN = datetime(2026, 11, 21, 9, tzinfo=UTC)
ADA = Person("p1", "Ada", "ada@example.org", WHEN, account="ws01")


def table(seats, people=(), traffic=None, offline=()):
    roster = accounts(3)
    statuses = [
        replace(
            status(each, Readiness.OFFLINE if each.name in offline else Readiness.READY),
            traffic=(traffic or {}).get(each.name, Traffic()),
        )
        for each in roster.values()
    ]
    made = rows(roster, statuses, cards(roster, statuses), {seat.account: seat for seat in seats}, people, 1000.0)
    return {row.account: row for row in made}


def test_a_row_for_each_account_with_who_sits_there():
    shown = table([Seat("ws01", person="p1", until=WHEN), Seat("ws03", spare=True)], [ADA])
    assert list(shown) == ["ws01", "ws02", "ws03"]
    assert (shown["ws01"].name, shown["ws01"].email, shown["ws01"].until) == ("Ada", "ada@example.org", WHEN)
    assert (shown["ws02"].person, shown["ws02"].name) == ("", "")
    assert shown["ws03"].spare


def test_a_swapped_seat_tells_of_the_desktop_that_it_shows():
    traffic = {"ws01": Traffic(0, 1, 2, 5.0), "ws03": Traffic(1, 10, 20, 70.2, delay=0.0312)}
    seats = [Seat("ws01", person="p1", desktop="ws03"), Seat("ws03", spare=True)]
    shown = table(seats, [ADA], traffic, offline=["ws01"])
    row = shown["ws01"]
    assert (row.state, row.path, row.desktop) == ("in use", "ws03", "ws03")
    assert (row.used, row.delay, row.quality, row.bytes_up, row.bytes_down) == (1070, 0.03, "good", 10, 20)
    assert shown["ws03"].shown_by == ("ws01",)


def test_a_round_trip_that_was_not_measured_yet_is_none():
    row = table([], traffic={"ws01": Traffic(1)})["ws01"]
    assert (row.connections, row.delay, row.quality) == (1, None, Quality.UNKNOWN)


def test_nothing_is_told_of_a_connection_that_is_over():
    row = table([], traffic={"ws01": Traffic(0, 5, 6, 0.0, delay=0.5)})["ws01"]
    assert (row.delay, row.quality, row.used) == (None, Quality.UNKNOWN, None)


def test_names_are_told_only_where_they_are_asked_for():
    row = table([Seat("ws01", person="p1", until=WHEN)], [ADA])["ws01"]
    assert {"name": "Ada", "email": "ada@example.org", "until": WHEN.isoformat()}.items() <= row.to_json(
        names=True
    ).items()
    assert "Ada" not in str(row.to_json(names=False))
    assert "example.org" not in str(row.to_json(names=False))


@pytest.mark.parametrize(
    ("delay", "word"), [(None, ""), (0.01, "good"), (0.1, "good"), (0.11, "fair"), (0.25, "fair"), (0.3, "poor")]
)
def test_how_a_round_trip_feels(delay, word):
    assert quality(delay) == word


def test_of_a_desktop_that_a_visit_starts_organizers_read_whose_visit():
    roster, desktops = Roster((launched_account(),)), Started()
    for ended, reason in (("", ""), ("nobody used it for 5 min", "nobody used it for 5 min; ")):
        desktops.set("ws01", DesktopState.STOPPED, kind="pool", reason=ended)
        shown = cards(roster, [], desktops.statuses(), DESKTOPS.kinds)
        (row,) = rows(roster, [], shown, {}, [], 0.0)
        assert row.reason == f"{reason}it starts when its participant opens it"
