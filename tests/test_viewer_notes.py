"""Notes for viewers: who sees which, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.viewer_notes import LASTS, MOST, Notes

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def texts(notes, account, now=NOW):
    return [note.text for note in notes.of(account, now)]


def test_a_note_is_for_one_for_some_or_for_all():
    notes = Notes()
    notes.post(NOW, "lunch")
    notes.post(NOW, "your turn", ["ws01"])
    notes.post(NOW, "the group", {"ws01", "ws02"})
    assert texts(notes, "ws01") == ["lunch", "your turn", "the group"]
    assert texts(notes, "ws02") == ["lunch", "the group"]
    assert texts(notes, "ws03") == ["lunch"]


def test_who_opens_later_sees_it_for_some_minutes():
    notes = Notes()
    notes.post(NOW, "lunch")
    notes.post(NOW, "the workshop ends at five", until=NOW + timedelta(hours=2))
    assert texts(notes, "ws01", NOW + LASTS - MINUTE) == ["lunch", "the workshop ends at five"]
    assert texts(notes, "ws01", NOW + LASTS) == ["the workshop ends at five"]
    assert texts(notes, "ws01", NOW + timedelta(hours=2)) == []


def test_numbers_grow_whatever_the_clock_does_and_across_a_new_daemon():
    notes = Notes()
    numbers = [notes.post(now, "x").number for now in (NOW, NOW, NOW - MINUTE)]
    assert numbers == sorted(set(numbers))
    assert Notes().post(NOW + MINUTE, "x").number > numbers[-1]


def test_not_more_are_kept_than_anybody_reads():
    notes = Notes()
    for number in range(MOST + 5):
        notes.post(NOW, str(number))
    assert texts(notes, "ws01")[0] == "5"
    assert len(texts(notes, "ws01")) == MOST


@given(st.lists(st.tuples(st.text(), st.none() | st.lists(st.text(max_size=5), max_size=3))))
def test_notes_travel_as_text(posted):
    notes = Notes()
    for text, accounts in posted:
        notes.post(NOW, text, accounts)
    again = Notes.from_json(notes.to_json())
    assert len(again) == len(notes)
    for account in ("ws01", *(name for _, accounts in posted for name in accounts or ())):
        assert again.of(account, NOW) == notes.of(account, NOW)


@pytest.mark.parametrize("text", ["", "{", "7", "[7]", "[{}]", '[{"number": "x"}]', "null"])
def test_a_text_of_something_else_has_no_notes(text):
    assert len(Notes.from_json(text)) == 0
