"""What is shown while it goes on and at the end; the table fits a terminal of 80 columns."""

from __future__ import annotations

import asyncio
import io
import logging
import ssl

import pytest
from rich.console import Console

from vncgate.rehearsal import show
from vncgate.rehearsal.live import _report_defects, _screen
from vncgate.rehearsal.load import Load
from vncgate.rehearsal.plan import Plan
from vncgate.rehearsal.report import Report
from vncgate.rehearsal.verdict import judge

SEEN = Load(gate=1.25, busiest=0.75, apache=0.5, host=0.6)


def shown(*parts, width=80):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(*parts, sep="\n")
    return console.file.getvalue()


def report(**values):
    made = Report(
        **(
            {"participants": 60, "connected": 60, "playing": 60, "seconds": 100.0, "updates": 60000, "asked": 60000}
            | {"bytes_down": 250_000_000, "cpu": 20.0}
            | values
        )
    )
    for times in (made.connecting, made.banner, made.login, made.picture, made.latency, made.lag):
        times.observe(0.0125)
    return made


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("load", [Load(), SEEN])
def test_every_line_fits_the_terminal(width, load):
    full = report(
        connected=58,
        failed={"the websocket is refused with HTTP 503 " * 5: ["a-very-long-name-of-an-account"] * 2},
        drops={"cut": [f"ws{number}" for number in range(30)]},
        silent=["ws01"] * 60,
    )
    text = shown(_screen(full, load, Report(), Plan()), show.conclusion(judge(full, load), full), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_the_figures():
    lines = [" ".join(line.split()) for line in shown(show.figures(report(late=600), SEEN)).splitlines()]
    assert "an answer is complete 13 ms 13 ms 13 ms 13 ms" in lines
    assert "connected 60 of 60" in lines
    assert "did not get in none" in lines
    assert "frames 600 a second, 2.5 MB/s" in lines
    assert "late 1.0% of the questions (the answer before was not there yet)" in lines
    assert "gate 1.25 cores at most, its busiest process 75% of one" in lines
    assert "Apache 0.50 cores at most" in lines
    assert "gate's host 60% busy at most" in lines
    assert "players 20% of a core, 13 ms late (p99)" in lines


def test_what_cannot_be_seen_from_here_says_where_it_can():
    text = shown(show.figures(report(), Load()))
    assert text.count("not seen (run it on the gate's host to see it)") == 3
    assert "none runs on this host" in shown(show.figures(report(), Load(gate=0.1, busiest=0.1, host=0.2)))


def test_just_now_is_what_came_since():
    before = report()
    now = report(seconds=105.0, updates=60500, bytes_down=260_000_000)
    now.latency.observe(0.5)
    text = shown(_screen(now, Load(), before, Plan(seconds=300, ramp=10)))
    assert text.startswith("1:45 of 5:10, all have arrived; Ctrl-C ends it with a report\n")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "... just now 489 ms 489 ms 489 ms 489 ms" in lines
    assert "frames 100 a second, 2.0 MB/s just now" in lines


def test_trouble_is_told_while_it_goes_on():
    now = report(connected=30, failed={"no such host": ["ws01"]})
    text = shown(_screen(now, Load(), Report(), Plan()))
    assert "31 of 60 have arrived" in text
    assert "1 of 60 did not get in (ws01): no such host" in text


def test_the_conclusion_gives_each_advice_once():
    bad = report(connected=57, failed={"one": ["ws01"], "two": ["ws02"]}, drops={"three": ["ws03"]}, participants=59)
    text = shown(show.conclusion(judge(bad, SEEN), bad))
    assert text.startswith("NOT ENOUGH for 59 people.\n")
    assert text.count("Mend that") == 1
    assert shown(show.conclusion(judge(report(), Load()), report())) == "GOOD for 60 people.\n"
    one = report(participants=1, connected=1)
    assert shown(show.conclusion(judge(one, Load()), one)) == "GOOD for 1 person.\n"


@pytest.mark.parametrize("error", [ssl.SSLError, ssl.SSLError(1, "x"), ConnectionResetError()])
async def test_what_befell_a_connection_is_not_logged_too(error, caplog):
    _report_defects(asyncio.get_running_loop(), {"message": "SSL handshake failed", "exception": error})
    assert caplog.records == []


@pytest.mark.parametrize("context", [{"exception": KeyError("x")}, {}])
async def test_a_defect_is_logged(context, caplog):
    caplog.set_level(logging.ERROR)
    _report_defects(asyncio.get_running_loop(), {"message": "something broke", **context})
    assert "something broke" in caplog.text
