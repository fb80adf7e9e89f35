"""Where events go and how they look."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
import types

import pytest

from vncgate import log
from vncgate.model import Secret

logger = logging.getLogger("vncgate.tests")


@pytest.fixture(autouse=True)
def restored():
    """Logging is the whole process's: put back what setup() changed."""
    root, ours = logging.getLogger(), logging.getLogger(log.OURS)
    before = root.handlers, root.level, ours.level
    yield
    for handler in root.handlers:
        if isinstance(handler, log.Handler):
            handler.close()
    root.handlers, level, least = before
    root.setLevel(level)
    ours.setLevel(least)


def written():
    """Wait until all that was logged has left."""
    (handler,) = logging.getLogger().handlers
    handler.flush()


@pytest.fixture
def stderr(capfd):
    """A function that gives what was written to stderr since it was last asked."""

    def said():
        written()
        return capfd.readouterr().err

    return said


@pytest.fixture
def journal_stream(capfd):
    """The environment of a process whose stderr systemd connected to the journal."""
    status = os.fstat(2)
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


@pytest.fixture
def entries(monkeypatch):
    """The journal entries sent through a stand-in for systemd-python."""
    sent: list[dict[str, object]] = []
    package = types.ModuleType("systemd")
    package.journal = types.ModuleType("systemd.journal")
    package.journal.send = lambda message, **fields: sent.append({"MESSAGE": message, **fields})
    monkeypatch.setitem(sys.modules, "systemd", package)
    monkeypatch.setitem(sys.modules, "systemd.journal", package.journal)
    return sent


STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"


def test_one_event_a_line(stderr):
    log.setup("info", {})
    logger.warning("refused by %s", "node01:5901", extra={"account": "ws01", "client": "192.0.2.7"})
    logger.info("starting", extra={"account": "ws02"})
    logger.error("no pages", extra={"client": "2001:db8::1"})
    logger.debug("not asked for")
    lines = stderr().splitlines()
    assert re.fullmatch(STAMP + r" warning ws01 \[192\.0\.2\.7\] refused by node01:5901", lines[0])
    assert re.fullmatch(STAMP + r" info ws02 starting", lines[1])
    assert re.fullmatch(STAMP + r" error \[2001:db8::1\] no pages", lines[2])
    assert len(lines) == 3


def test_strangers_cannot_forge_a_line(stderr):
    log.setup("info", {})
    logger.info(
        "path %s", "/a\r\n2026 error root \x1b[2J\x85\u2028\u202e\udcff", extra={"account": "w\n1", "client": "\x00"}
    )
    (line,) = stderr().splitlines()
    assert line.endswith(r"info w\n1 [\x00] path /a\r\n2026 error root \x1b[2J\x85\u2028\u202e\udcff")


def test_strangers_cannot_fill_the_log(stderr):
    log.setup("debug", {})
    try:
        raise ValueError("\0" * 12_000)
    except ValueError:
        logger.exception("refused Origin %s", "\xff" * 12_000)
    first, *more = stderr().splitlines()
    assert first.endswith("ÿ…")
    assert all(len(line) < log.LONGEST + 50 for line in [first, *more])


def test_a_secret_stays_one(stderr):
    log.setup("debug", {})
    logger.info("password %s, %r", Secret("k3Vq9xTb"), [Secret("k3Vq9xTb")])
    said = stderr()
    assert "password ***, [***]" in said
    assert "k3Vq9xTb" not in said


def stumble():
    raise ValueError("line 1\nline 2")


@pytest.mark.parametrize("level", ["info", "debug"])
def test_tracebacks_only_at_debug(stderr, level):
    log.setup(level, {})
    try:
        stumble()
    except ValueError:
        logger.exception("probe failed", extra={"account": "ws01"})
    first, *more = stderr().splitlines()
    assert re.search(r" error ws01 probe failed: ValueError: line 1\\nline 2 \(test_log\.py:\d+\)$", first)
    assert bool(more) == (level == "debug")
    assert all(line.startswith("    ") for line in more)


@pytest.mark.parametrize(("error", "said"), [(KeyError(), "KeyError"), (OSError("gone"), "OSError: gone")])
def test_summary_of_an_exception_that_was_never_raised(error, said):
    assert log.summary(error) == said


@pytest.mark.parametrize(("level", "heard"), [("debug", ["warning"]), ("info", ["warning"]), ("error", [])])
def test_libraries_are_heard_from_warnings_on(stderr, level, heard):
    log.setup(level, {})
    for name in ("aiohttp.access", "picows", "asyncio", "watchdog.observers"):
        logging.getLogger(name).debug("chatter")
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")
        assert [line.split()[1] for line in stderr().splitlines()] == heard


def test_setup_again_replaces_the_first(stderr):
    log.setup("info", {})
    log.setup("error", {})
    logger.warning("quiet")
    logger.error("once")
    assert len(stderr().splitlines()) == 1


def test_the_journal_gets_fields(entries, journal_stream):
    log.setup("info", journal_stream)
    logger.warning("refused\n", extra={"account": "ws01", "client": "192.0.2.7"})
    logger.info("serving")
    written()
    first, second = entries
    line = first.pop("CODE_LINE")
    assert isinstance(line, int)
    assert first == {
        "MESSAGE": r"ws01 [192.0.2.7] refused\n",
        "ACCOUNT": "ws01",
        "CLIENT": "192.0.2.7",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "vncgate",
        "LOGGER": "vncgate.tests",
        "CODE_FILE": __file__,
        "CODE_FUNC": "test_the_journal_gets_fields",
    }
    assert second["MESSAGE"] == "serving"
    assert second["PRIORITY"] == "6"
    assert not {"ACCOUNT", "CLIENT"} & set(second)


def test_the_journal_gets_no_traceback_as_a_field(entries, journal_stream):
    log.setup("info", journal_stream)
    try:
        stumble()
    except ValueError:
        logger.exception("failed")
    written()
    (entry,) = entries
    assert "Traceback" not in str(entry)


def test_a_journal_that_fails_does_not_stop_the_caller(entries, journal_stream, stderr, monkeypatch):
    def fail(message, **fields):
        raise OSError(90, "Message too long")

    monkeypatch.setattr(sys.modules["systemd.journal"], "send", fail)
    log.setup("info", journal_stream)
    logger.info("going on")
    logger.info("and on")
    assert stderr().count("Message too long") == 2


def test_priorities_survive_without_the_library(stderr, journal_stream, monkeypatch):
    monkeypatch.setitem(sys.modules, "systemd.journal", None)
    log.setup("debug", journal_stream)
    logger.critical("c")
    logger.info("i", extra={"account": "ws01"})
    logger.debug("d")
    try:
        stumble()
    except ValueError:
        logger.exception("e")
    lines = stderr().splitlines()
    assert lines[:3] == ["<2>c", "<6>ws01 i", "<7>d"]
    assert len(lines) > 4
    assert all(line.startswith("<3>") for line in lines[3:])


@pytest.mark.parametrize("stream", [None, "", "1:2"])
def test_another_stream_is_not_the_journal(stream):
    """A child whose stderr was redirected inherits the variable; device and inode tell the truth."""
    environ = {} if stream is None else {"JOURNAL_STREAM": stream}
    assert not log.stderr_is_journal(environ, 2)
    assert not log.stderr_is_journal(environ, 10_000)


# ---- a reader that stopped reading


@pytest.fixture
def stuck(monkeypatch):
    """Set when the first event is taken; to be set before it is written; the texts of all that are."""
    taken, read, texts = threading.Event(), threading.Event(), []

    def write(text):
        taken.set()
        assert read.wait(10)
        texts.append(text.partition(" ")[2])

    monkeypatch.setattr(log, "_to_stderr", write)
    yield taken, read, texts
    read.set()


def test_what_is_too_much_is_dropped_and_counted(stuck, monkeypatch):
    monkeypatch.setattr(log, "MOST_WAITING", 3)
    taken, read, texts = stuck
    log.setup("info", {})
    logger.info("held")
    assert taken.wait(10)
    for number in range(8):
        logger.info("event %d", number)
    read.set()
    written()
    logger.info("later")
    written()
    lost = "5 events were dropped here: they came faster than they could be written"
    assert texts == ["info held", "info event 0", "info event 1", "info event 2", f"warning {lost}", "info later"]


@pytest.mark.parametrize("most", [2, 10_000], ids=["full", "not full"])
def test_the_end_waits_for_no_reader(stuck, monkeypatch, most):
    monkeypatch.setattr(log, "MOST_WAITING", most)
    monkeypatch.setattr(log, "CLOSE_TIMEOUT", 0.1)
    handler = log.setup("info", {})
    for number in range(20):
        logger.info("event %d", number)
    began = time.monotonic()
    handler.close()
    handler.flush()  # as logging.shutdown() does once more
    handler.close()
    assert 0.1 <= time.monotonic() - began < 1


def test_a_process_that_nobody_reads_goes_on_and_ends():
    """In good order: an interpreter that is ended while a thread holds the lock of sys.stderr aborts."""
    script = (
        "import contextlib, logging\nfrom vncgate import log\n"
        "with contextlib.closing(log.setup('info', {})):\n"
        "    for number in range(5000): logging.getLogger('vncgate').info('event %d', number)\n"
        "print('went on')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.wait(timeout=20) == 0
        assert process.stdout.read() == "went on\n"
        assert " info event 0\n" in process.stderr.read()


def test_what_waits_is_written_before_the_end():
    script = "import logging\nfrom vncgate import log\nlog.setup('info', {})\nlogging.error('the last word')\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    assert done.stderr.endswith(" error the last word\n")
