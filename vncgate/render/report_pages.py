"""The report as a page or as a PDF, with plots. It imports matplotlib, of the extra `report`."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import jinja2
import matplotlib
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table

from vncgate.languages import N_, Words
from vncgate.render.report import Point, Report, report

GAP = 300.0
"""Seconds without a figure, over which no line is drawn."""
BLUE, ORANGE = "#1d4ed8", "#c2410c"
WIDTH, HEIGHT = 7.2, 2.6
"""Inches of a plot."""


def html(body: Mapping[str, Any], now: datetime, words: Words) -> bytes:
    """One file that needs no other. `body` is of `Life.report()`; times are shown in the zone of `now`."""
    told = report(body)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vncgate", "render/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plots = [(title, _data_url(plot)) for title, plot in _plots(told, words, now.tzinfo, "svg")]
    text = environment.get_template("report.html").render(
        _=words.of,
        language=words.code,
        title=_title(told, words),
        subtitle=_subtitle(told, words, now),
        rows=list(_rows(told, words, now)),
        names=told.names,
        plots=plots,
    )
    return text.encode()


def pdf(body: Mapping[str, Any], now: datetime, words: Words) -> bytes:
    """The same as PDF, A4."""
    told, file = report(body), io.BytesIO()
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # they have the letters that reportlab's lack
    for name, font in (("report", "DejaVuSans.ttf"), ("report-bold", "DejaVuSans-Bold.ttf")):
        pdfmetrics.registerFont(TTFont(name, fonts / font))
    plain = ParagraphStyle("plain", fontName="report", fontSize=9.5, leading=13)
    head = ParagraphStyle("head", plain, fontName="report-bold", fontSize=18, leading=24)
    sub = ParagraphStyle("sub", plain, fontName="report-bold", fontSize=11, leading=16, spaceBefore=10)
    page: list[Any] = [
        Paragraph(escape(_title(told, words)), head),
        Paragraph(escape(_subtitle(told, words, now)), plain),
    ]
    page += [Spacer(0, 4 * mm), _table(_rows(told, words, now), plain, (70 * mm, 95 * mm))]
    for title, plot in _plots(told, words, now.tzinfo, "png"):
        image = Image(io.BytesIO(plot), 165 * mm, 165 * mm * HEIGHT / WIDTH)
        page.append(KeepTogether([Paragraph(escape(title), sub), image]))
    if told.names is not None:
        page += [Paragraph(escape(words.of(N_("Who came"))), sub), _table(told.names, plain, (40 * mm, 125 * mm))]
    SimpleDocTemplate(
        file, pagesize=A4, topMargin=18 * mm, bottomMargin=18 * mm, title=_title(told, words), invariant=1
    ).build(page)
    return file.getvalue()


def _table(rows: Any, style: ParagraphStyle, widths: Sequence[float]) -> Any:
    cells = [[Paragraph(escape(cell), style) for cell in row] for row in rows]
    lines = [("LINEBELOW", (0, 0), (-1, -1), 0.4, "#d1d5db"), ("LEFTPADDING", (0, 0), (-1, -1), 0)]
    return Table(cells, colWidths=widths, style=lines, hAlign="LEFT") if cells else Spacer(0, 0)


def _title(told: Report, words: Words) -> str:
    return told.title or words.of(N_("Report of the workshop"))


def _subtitle(told: Report, words: Words, now: datetime) -> str:
    times = [words.moment(when.astimezone(now.tzinfo)) for when in (told.opens, told.ends) if when]
    return " · ".join(filter(None, (told.place, " – ".join(times))))


def _rows(told: Report, words: Words, now: datetime) -> Iterator[tuple[str, str]]:
    """What is told in numbers: a name and a value."""
    say, number = words.of, words.number
    yield say(N_("Came")), say(N_("{came} of {accounts} accounts", came=told.came, accounts=told.accounts))
    if told.signed_up:
        waiting = told.people.get("waiting", 0)
        yield say(N_("Signed up")), number(told.signed_up)
        yield say(N_("On the waiting list at the end")), number(waiting)
    if told.busiest:
        when = words.moment(told.busiest.astimezone(now.tzinfo))
        yield say(N_("Most desktops in use at once")), f"{number(told.peak)} ({when})"
    else:
        yield say(N_("Most desktops in use at once")), number(told.peak)
    yield say(N_("Most browsers connected at once")), number(told.peak_connections)
    yield say(N_("Hours of use, over all desktops")), number(round(told.hours, 1))
    yield say(N_("Desktops and proxies that had to be started again")), number(told.restarts)
    yield say(N_("Desktops that had failed at the same time, at most")), number(told.failed)
    yield say(N_("Connections that nobody meant to end")), number(told.lost)
    yield say(N_("Sent to browsers")), _bytes(told.bytes_down, words)
    yield say(N_("Received from browsers")), _bytes(told.bytes_up, words)
    yield say(N_("Fastest minute")), f"{number(round(told.fastest / 1e6, 1))} Mbit/s"
    yield say(N_("Made")), words.moment(now)


def _bytes(count: float, words: Words) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{words.number(round(count / size, 1))} {unit}"
    return f"{words.number(round(count / 1e3, 1))} kB"


def _plots(told: Report, words: Words, zone: tzinfo | None, form: str) -> Iterator[tuple[str, bytes]]:
    """Each with its title, as images of `form`; none where nothing was recorded."""
    if len(told.points) < 2:
        return
    parts = _parts(told.points)
    say = words.of
    lines = (
        (say(N_("in use")), "in_use", BLUE, 1.0),
        (say(N_("running, started by the gate")), "running", ORANGE, 1.0),
    )
    yield say(N_("Desktops")), _plot(parts, lines, "", zone, form)
    rates = ((say(N_("to browsers")), "down", BLUE, 1e-6), (say(N_("from browsers")), "up", ORANGE, 1e-6))
    yield say(N_("Bandwidth")), _plot(parts, rates, "Mbit/s", zone, form)


def _parts(points: Sequence[Point]) -> list[list[Point]]:
    """Points that follow each other closely enough for a line between them."""
    parts: list[list[Point]] = []
    for point in points:
        if parts and (point.when - parts[-1][-1].when).total_seconds() <= GAP:
            parts[-1].append(point)
        else:
            parts.append([point])
    return parts


def _plot(
    parts: Sequence[Sequence[Point]],
    lines: Sequence[tuple[str, str, str, float]],
    unit: str,
    zone: tzinfo | None,
    form: str,
) -> bytes:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    for label, name, colour, scale in lines:
        for number, part in enumerate(parts):
            times = [float(date2num(point.when)) for point in part]  # type: ignore[no-untyped-call]
            values = [getattr(point, name) * scale for point in part]
            axes.plot(times, values, color=colour, linewidth=1.4, label="" if number else label)
    locator = AutoDateLocator(tz=zone)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]
    axes.set_ylim(bottom=0)
    axes.set_ylabel(unit)
    axes.grid(visible=True, linewidth=0.4, color="#d1d5db")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(lines), frameon=False, fontsize=8)
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "vncgate"}):
        figure.savefig(file, format=form, dpi=160, metadata={"Date": None} if form == "svg" else None)
    return file.getvalue()


def _data_url(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
