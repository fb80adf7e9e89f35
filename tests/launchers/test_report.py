"""Tests of vncgate.launchers.report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.launchers.report import parse
from vncgate.model import Desktop

NONCE = "0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "desktop"),
    [
        (f"{NONCE} unix /run/a b/vnc.sock\n", Desktop(unix="/run/a b/vnc.sock")),
        (f"{NONCE} tcp node01 5901\n", Desktop("node01", 5901)),
        (f"{NONCE} tcp ::1 65535\nmore\n", Desktop("::1", 65535)),
        ("", None),
        (f"{NONCE} tcp node01 5901", None),  # half of it
        (f"{NONCE} tcp node01 0\n", None),
        (f"{NONCE} tcp node01 65536\n", None),
        (f"{NONCE} tcp node01 ٥٩٠١\n", None),
        (f"{NONCE} tcp  5901\n", None),
        (f"{NONCE} tcp node\x1b01 5901\n", None),
        (f"{NONCE} unix vnc.sock\n", None),
        ("fedcba9876543210 tcp node01 5901\n", None),  # of another start
    ],
)
def test_a_report_is_one_whole_line(text, desktop):
    assert parse(text, NONCE) == desktop


@given(st.text())
def test_anything_else_is_none(text):
    assert parse(text, NONCE) is None
