"""Where log records go, and how an event looks: one line, with the account and the browser's address.

Other rooms use the standard library: `logging.getLogger(__name__).info("...", extra={"account": "ws01",
"client": "192.0.2.7"})`; either may be missing. Three ways out, chosen once by `setup()`:

- systemd started us, systemd-python is there: the journal, with fields (ACCOUNT=, CLIENT=, LOGGER=, PRIORITY=)
- systemd started us, it is not: stderr with the priority prefixes of sd-daemon(3), so that levels survive
- otherwise: stderr, `2026-11-21T09:00:00+01:00 warning ws01 [192.0.2.7] message`

Names and headers come from strangers: what is not printable is escaped, so that nobody forges a line, and what is
long is cut. Whoever reads stderr may stop reading (a full pipe, Ctrl-S in a terminal): the gate never waits for that,
a thread of its own writes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import queue
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from vncgate.text import printable

OURS = "vncgate"
"""The logger above all of our own, and our SYSLOG_IDENTIFIER."""
LONGEST = 1000
"""Characters of an event, and of each line of a traceback; the rest is dropped."""
MOST_WAITING = 10_000
"""Events that wait to be written; what comes beyond them is dropped, and counted."""
CLOSE_TIMEOUT = 0.5
"""Seconds that the end waits for what is not written yet."""


def setup(level: str, environ: Mapping[str, str]) -> Handler:
    """Send our events from `level` (debug, info, warning, error) on to where they belong, and only there.

    Libraries are heard from warnings on, and never below `level`: what they say at info is theirs alone.
    Tracebacks are logged at level debug only; otherwise an exception is its one-line summary. Close what this
    returns before anything else is said on stderr: that writes what waits.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    tracebacks = least <= logging.DEBUG
    handler: Handler
    if not stderr_is_journal(environ, 2):
        handler = StderrHandler()
        handler.setFormatter(Stamped(tracebacks=tracebacks))
    elif (send := _journal()) is not None:
        handler = JournalHandler(send)
        handler.setFormatter(Event(tracebacks=tracebacks))
    else:
        handler = StderrHandler()
        handler.setFormatter(Prefixed(tracebacks=tracebacks))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(least, logging.WARNING))
    logging.getLogger(OURS).setLevel(least)
    return handler


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
        lines = [_fit(" ".join([*parts, message]))]
        if error is not None and self._tracebacks:
            lines += [f"    {_fit(line)}" for line in "".join(traceback.format_exception(error)).splitlines()]
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


class Handler(logging.Handler):
    """Writes in a thread of its own, because whoever reads may stop reading: logging never waits.

    An event that finds too many waiting is dropped; the next that is not is told how many were. Not logging's own
    QueueListener: that one's end waits for its thread for ever, and fails where the queue is full.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: queue.Queue[tuple[int, Callable[[], object]]] = queue.Queue(MOST_WAITING)
        self._dropped = 0
        self._closed = False
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def entry(self, record: logging.LogRecord) -> Callable[[], object]:
        """What writes this event, with all that it says: its arguments may change before it is called."""
        raise NotImplementedError

    def emit(self, record: logging.LogRecord) -> None:
        """Leave one event to the thread; a failure is logging's to handle, as in every handler."""
        try:
            self._waiting.put_nowait((self._dropped, self.entry(record)))
            self._dropped = 0
        except queue.Full:
            self._dropped += 1
        except Exception:  # noqa: BLE001  the contract of logging.Handler.emit
            self.handleError(record)

    def flush(self) -> None:
        """Wait until what was logged so far is written, though no longer than CLOSE_TIMEOUT."""
        if self._closed:
            return
        written = threading.Event()
        with contextlib.suppress(queue.Full):
            self._waiting.put((self._dropped, written.set), timeout=CLOSE_TIMEOUT)
            self._dropped = 0
            written.wait(CLOSE_TIMEOUT)

    def close(self) -> None:
        """Flush, once: logging does it again when the process ends, and a reader that is gone costs no more then."""
        self.flush()
        self._closed = True
        super().close()

    def _write_all(self) -> None:
        while True:
            dropped, write = self._waiting.get()
            if dropped:
                words = f"{dropped} events were dropped here: they came faster than they could be written"
                record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, words, None, None)
                self._write(self.entry(record))
            self._write(write)

    def _write(self, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception as error:  # noqa: BLE001  the thread must live on, whatever the journal's library raises
            with contextlib.suppress(OSError):  # nobody is left to tell
                _to_stderr(f"an event could not be logged: {printable(summary(error))}")


class StderrHandler(Handler):
    """Writes events to stderr."""

    def entry(self, record: logging.LogRecord) -> Callable[[], object]:
        """See Handler.entry."""
        return functools.partial(_to_stderr, self.format(record))


class JournalHandler(Handler):
    """Sends events to the journal with the fields we mean to send, and no others.

    Not systemd-python's own handler: that adds tracebacks and raw arguments as fields at any level.
    """

    def __init__(self, send: Callable[..., object]) -> None:
        super().__init__()
        self._send = send

    def entry(self, record: logging.LogRecord) -> Callable[[], object]:
        """See Handler.entry."""
        fields = {
            name.upper(): _fit(str(value)) for name in ("account", "client") if (value := getattr(record, name, ""))
        }
        return functools.partial(
            self._send,
            self.format(record),
            PRIORITY=str(priority(record.levelno)),
            SYSLOG_IDENTIFIER=OURS,
            LOGGER=record.name,
            CODE_FILE=record.pathname,
            CODE_LINE=record.lineno,
            CODE_FUNC=record.funcName,
            **fields,
        )


def _to_stderr(text: str) -> None:
    # Past sys.stderr, whose lock a write that blocks would hold until the process aborts over it at its end.
    left = f"{text}\n".encode()
    while left:
        left = left[os.write(2, left) :]


def _fit(text: str) -> str:
    """`text` fit for one line: printable, and not too long."""
    text = printable(text[: LONGEST + 1])
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


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
