"""Strangers' text, made printable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.text import printable


@pytest.mark.parametrize("instead", [None, " "])
@given(st.text())
def test_it_is_one_printable_line(instead, text):
    shown = printable(text, instead)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode()


def test_what_is_not_printable_is_an_escape_or_what_one_likes():
    text = "é\r\n\t\x1b[2J\x85\u2028\u202e\udcff"
    assert printable(text) == r"é\r\n\t\x1b[2J\x85\u2028\u202e\udcff"
    assert printable(text, "-") == "é----[2J----"


@given(st.text().filter(str.isprintable))
def test_what_is_printable_stays(text):
    assert printable(text) == text
