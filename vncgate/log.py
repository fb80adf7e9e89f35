"""Where log records go, and how an event looks: one line, with the account and the browser's address.

Other rooms use the standard library: `logging.getLogger(__name__).info("...", extra={"account": "ws01",
"client": "192.0.2.7"})`; either may be missing. Three ways out, chosen once by `setup()`:

- systemd started us, systemd-python is there: the journal, with fields (ACCOUNT=, CLIENT=, LOGGER=, PRIORITY=)
- systemd started us, it is not: stderr with the priority prefixes of sd-daemon(3), so that levels survive
- otherwise: stderr, `2026-11-21T09:00:00+01:00 warning ws01 [192.0.2.7] message`

Names and headers come from strangers: what is not printable is escaped, so that nobody forges a line.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from vncgate.text import printable

OURS = "vncgate"
"""The logger above all of our own, and our SYSLOG_IDENTIFIER."""


def setup(level: str, environ: Mapping[str, str]) -> None:
    """Send our events from `level` (debug, info, warning, error) on to where they belong, and only there.

    Libraries are heard from warnings on, and never below `level`: what they say at info is theirs alone.
    Tracebacks are logged at level debug only; otherwise an exception is its one-line summary.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    tracebacks = least <= logging.DEBUG
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if not stderr_is_journal(environ, 2):
        handler.setFormatter(Stamped(tracebacks=tracebacks))
    elif (send := _journal()) is not None:
        handler = JournalHandler(send)
        handler.setFormatter(Event(tracebacks=tracebacks))
    else:
        handler.setFormatter(Prefixed(tracebacks=tracebacks))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(least, logging.WARNING))
    logging.getLogger(OURS).setLevel(least)


def stderr_is_journal(environ: Mapping[str, str], descriptor: int) -> bool:
    """Whether JOURNAL_STREAM names `descriptor`: systemd connected it to the journal (systemd.exec(5))."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class Event(logging.Formatter):
    """The event itself: account, client, message, and what is to be said of an exception."""

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        """One line; with `tracebacks`, an exception's traceback follows on indented lines."""
        account, client = getattr(record, "account", ""), getattr(record, "client", "")
        message = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            message += f": {summary(error)}"
        parts = [str(account)] if account else []
        parts += [f"[{client}]"] if client else []
        lines = [printable(" ".join([*parts, message]))]
        if error is not None and self._tracebacks:
            lines += [f"    {printable(line)}" for line in "".join(traceback.format_exception(error)).splitlines()]
        return "\n".join(lines)


class Stamped(Event):
    """The event after its local time and level, for a person or a file."""

    def format(self, record: logging.LogRecord) -> str:
        """`2026-11-21T09:00:00+01:00 warning ...`."""
        stamp = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")
        return f"{stamp} {record.levelname.lower()} {super().format(record)}"


class Prefixed(Event):
    """The event with the priority that journald reads from the start of each line (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        """`<4>...`."""
        return "\n".join(f"<{priority(record.levelno)}>{line}" for line in super().format(record).splitlines())


class JournalHandler(logging.Handler):
    """Sends events to the journal with the fields we mean to send, and no others.

    Not systemd-python's own handler: that adds tracebacks and raw arguments as fields at any level.
    """

    def __init__(self, send: Callable[..., object]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one entry; a failure is logging's to handle, as in every handler."""
        try:
            fields = {
                name.upper(): printable(str(value))
                for name in ("account", "client")
                if (value := getattr(record, name, ""))
            }
            self._send(
                self.format(record),
                PRIORITY=str(priority(record.levelno)),
                SYSLOG_IDENTIFIER=OURS,
                LOGGER=record.name,
                CODE_FILE=record.pathname,
                CODE_LINE=record.lineno,
                CODE_FUNC=record.funcName,
                **fields,
            )
        except Exception:  # noqa: BLE001  the contract of logging.Handler.emit
            self.handleError(record)


def priority(level: int) -> int:
    """The priority of syslog(3) for a level of logging."""
    if level >= logging.CRITICAL:
        return 2
    if level >= logging.ERROR:
        return 3
    if level >= logging.WARNING:
        return 4
    return 6 if level >= logging.INFO else 7


def summary(error: BaseException) -> str:
    """An exception in one line: its type, what it says, and where it was raised (`ValueError: no (relay.py:120)`)."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    trace = error.__traceback__
    if trace is None:
        return said
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{said} ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"


def _journal() -> Callable[..., object] | None:
    try:
        send: Callable[..., object] = importlib.import_module("systemd.journal").send
    except ImportError:
        return None
    return send
