"""What figures add up to, and the report as a page and as PDF."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.web.values import account, status
from vncgate.languages import Words
from vncgate.model import Readiness
from vncgate.render import report_pages
from vncgate.render.metrics import Facts
from vncgate.render.report import figures, report
from vncgate.tally import End, Tally

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
NOW = datetime(2026, 3, 3, 12, tzinfo=timezone(timedelta(hours=1)))


def row(minute, **values):
    return [(START + timedelta(minutes=minute)).isoformat(), values]


def body(*rows, **more):
    return {
        "title": "Schule <1>", "place": "Hall 2", "opens": START.isoformat(), "ends": None, "phase": "ended",
        "accounts": 60, "came": 47, "names": None, "people": {"seated": 50, "waiting": 7, "left": 2},
        "figures": list(rows), **more,
    }  # fmt: skip


ROWS = [
    row(0, in_use=0, connections=0, bytes_down=1000, bytes_up=0, restarts=1, lost=0, running=2, failed=0),
    row(1, in_use=30, connections=40, bytes_down=7_501_000, bytes_up=600, restarts=1, lost=1, running=31, failed=2),
    row(2, in_use=30, connections=35, bytes_down=7_501_000, bytes_up=600, restarts=2, lost=1, running=31, failed=0),
    row(62, in_use=10, connections=10, bytes_down=500, bytes_up=5, restarts=0, lost=0, running=11, failed=0),
    row(63, in_use=10, connections=10, bytes_down=1500, bytes_up=10, restarts=0, lost=2, running=11, failed=0),
]


@pytest.fixture(autouse=True, scope="module")
def fonts():
    """Matplotlib keeps the fonts' files open that it has drawn with."""
    report_pages.html(body(*ROWS), NOW, Words())
    report_pages.pdf(body(*ROWS), NOW, Words())


def test_figures_add_up_also_over_a_gate_that_began_anew():
    told = report(body(*ROWS))
    assert (told.peak, told.busiest, told.peak_connections) == (30, START + timedelta(minutes=1), 40)
    assert told.bytes_down == 7_501_000 + 1500
    assert told.bytes_up == 610
    assert (told.restarts, told.lost, told.failed) == (2, 3, 2)
    assert told.hours == pytest.approx((30 + 10) / 60), "nothing is known of the hour between"
    assert told.fastest == 1_000_000
    assert math.isnan(told.points[0].down)
    assert math.isnan(told.points[3].down)
    assert (told.came, told.accounts, told.signed_up) == (47, 60, 59)


def test_nothing_recorded_is_no_report_of_much():
    told = report(body())
    assert (told.peak, told.hours, told.fastest, told.busiest) == (0, 0, 0, None)
    said = report_pages.html(body(), NOW, Words()).decode()
    assert "No figures were recorded" in said
    assert report_pages.pdf(body(), NOW, Words()).startswith(b"%PDF")


@pytest.mark.parametrize("wrong", [{}, {"figures": [["x", {}]]}, {"people": None}])
def test_other_values_are_refused(wrong):
    with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
        report({**body(), **wrong} if wrong else {})


def test_what_is_kept_of_a_moment():
    tally = Tally(bytes_down=7, bytes_up=3)
    tally.ended.update({str(End.DESKTOP_DROPPED): 2, str(End.BROWSER_CLOSED): 9})
    statuses = [status(account(), Readiness.READY, connections=2), status(account("ws02"), Readiness.READY)]
    facts = Facts(
        version="1", engine="relay", statuses=statuses, tally=tally, restarts=4, workers=[], roster_loaded=0.0,
        roster_is_good=True, problems=(), published={}, per_account=True, desktops=[],
    )  # fmt: skip
    assert figures(facts) == {
        "in_use": 1, "connections": 2, "running": 0, "failed": 0, "restarts": 4, "bytes_down": 7,
        "bytes_up": 3, "lost": 2,
    }  # fmt: skip


def test_the_page_is_one_file_with_plots_and_numbers():
    said = report_pages.html(body(*ROWS, names=[["ws01", "<b>Ada</b>"]]), NOW, Words()).decode()
    assert "<h1>Schule &lt;1&gt;</h1>" in said
    assert "47 of 60 accounts" in said
    assert "30 (2 Mar 2026, 09:01)" in said, "in the zone of whoever makes it"
    assert "7.5 MB" in said
    assert "&lt;b&gt;Ada" in said
    assert said.count("data:image/svg+xml;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:)', said)


def test_no_name_is_told_unless_asked_for():
    assert "Who came" not in report_pages.html(body(*ROWS), NOW, Words()).decode()


def test_pdf():
    made = report_pages.pdf(body(*ROWS, names=[["ws01", "Łukasz & Ада <i>"]], title="Łódź <b>"), NOW, Words())
    assert made.startswith(b"%PDF")
    assert made.count(b"/SMask") >= 2, "two plots"
