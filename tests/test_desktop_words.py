"""Times, positions and the ends of logs in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.desktop_words import LONGEST_TAIL, last_words, ordinal, span


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(7200, "2 h"), (3600.0, "1 h"), (300, "5 min"), (5400, "90 min"), (90, "90 s"), (1.2, "1 s"), (0.25, "0.2 s")],
)
def test_times(seconds, words):
    assert span(seconds) == words


def test_positions():
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 101, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "101st", "111th",
    ]  # fmt: skip


def test_the_last_two_lines_of_a_log():
    assert last_words("") == last_words(" \n\n") == ""
    assert last_words("one\n") == "one"
    assert last_words("one\ntwo\n\n  three  \n") == "two / three"


@given(st.text())
def test_whatever_a_log_says_its_words_are_fit_to_be_shown(text):
    words = last_words(text)
    assert words.isprintable()
    assert len(words) <= LONGEST_TAIL
