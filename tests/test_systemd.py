"""What is said to systemd, with a stand-in for its library; tests/real/test_systemd.py has the real one."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.errors import SettingsError
from vncgate.systemd import Notifier, one_line, watchdog_interval

UNDER_SYSTEMD = {"NOTIFY_SOCKET": "/run/systemd/notify"}


@pytest.fixture
def said(monkeypatch):
    """All messages sent through a stand-in for systemd-python, in order; descriptors beside one follow it."""
    messages: list[str] = []

    def notify(message, fds=None):
        messages.append(message if fds is None else f"{message} {fds}")

    package = types.ModuleType("systemd")
    package.daemon = types.ModuleType("systemd.daemon")
    package.daemon.notify = notify
    monkeypatch.setitem(sys.modules, "systemd", package)
    monkeypatch.setitem(sys.modules, "systemd.daemon", package.daemon)
    return messages


@pytest.fixture
def no_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "systemd.daemon", None)


def test_what_is_said(said):
    notifier = Notifier(UNDER_SYSTEMD)
    notifier.ready("4 accounts, 4 ready")
    notifier.status("3 ready")
    notifier.stopping()
    assert said == ["READY=1\nSTATUS=4 accounts, 4 ready", "STATUS=3 ready", "STOPPING=1"]


def test_reloading_carries_the_monotonic_time(said, monkeypatch):
    monkeypatch.setattr("vncgate.systemd.time.monotonic_ns", lambda: 12_345_678_999)
    Notifier(UNDER_SYSTEMD).reloading()
    assert said == ["RELOADING=1\nMONOTONIC_USEC=12345678"]


def test_sockets_are_kept_and_forgotten_by_name(said):
    notifier = Notifier(UNDER_SYSTEMD)
    with socket.socket() as sock:
        notifier.keep("listen-127.0.0.1-6000", sock)
        notifier.forget("listen-127.0.0.1-6000")
        assert said == [
            f"FDSTORE=1\nFDNAME=listen-127.0.0.1-6000 [{sock.fileno()}]",
            "FDSTOREREMOVE=1\nFDNAME=listen-127.0.0.1-6000",
        ]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": "1000"}])
async def test_silent_where_nobody_listens(said, environ):
    notifier = Notifier(environ)
    notifier.ready("x")
    notifier.reloading()
    notifier.stopping()
    await notifier.watchdog()
    assert said == []


def test_needs_no_library_where_nobody_listens(no_library):
    Notifier({}).ready("x")


def test_says_what_to_install(no_library):
    with pytest.raises(
        SettingsError, match=r"install vncgate\[systemd\], or the distribution's python3-systemd"
    ) as error:
        Notifier(UNDER_SYSTEMD)
    assert "\n" not in str(error.value)


def test_a_message_that_cannot_be_sent_is_only_logged(said, monkeypatch, caplog):
    def fail(message, fds=None):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(sys.modules["systemd.daemon"], "notify", fail)
    with caplog.at_level(logging.WARNING, "vncgate.systemd"):
        Notifier(UNDER_SYSTEMD).ready("ok")
    assert caplog.messages == ["systemd cannot be told READY=1: Connection refused"]


async def test_watchdog_is_fed_twice_an_interval_until_cancelled(said, monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("vncgate.systemd.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await Notifier(UNDER_SYSTEMD | {"WATCHDOG_USEC": "30000000"}).watchdog()
    assert said == ["WATCHDOG=1"] * 3
    assert slept == [15.0] * 3


async def test_no_watchdog_was_asked_for(said):
    await Notifier(UNDER_SYSTEMD).watchdog()
    assert said == []


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environ, interval):
    assert watchdog_interval(environ, 7) == interval


def test_another_process_watchdog_is_not_ours(said):
    """A child inherits WATCHDOG_USEC, and must not feed for its parent."""
    assert watchdog_interval({"WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getppid())}, os.getpid()) is None


@given(st.text())
def test_a_status_never_smuggles_in_another_assignment(text):
    line = one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    line.encode()


def test_a_status_keeps_its_words():
    assert one_line("tokens:3: error:\n\tport  70000\x00\udc80 is é") == "tokens:3: error: port 70000 is é"
