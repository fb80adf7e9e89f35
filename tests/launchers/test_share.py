"""Files of sessions, in folders where others write, on a file system that may hang."""

import errno
import os
import threading

import pytest

from vncgate.errors import LaunchError
from vncgate.launchers import share
from vncgate.launchers.share import (
    Share,
    last_lines,
    make_session,
    read_end,
    replace_in_session,
    shorten,
)
from vncgate.model import Secret
from vncgate.rfb import password_file


@pytest.fixture
def session(tmp_path):
    folder = tmp_path / "place" / "nonce"
    umask = os.umask(0o077)
    make_session(folder, {"passwd": b"12345678"}, None)
    os.umask(umask)
    return folder


def test_a_session_is_for_nobody_else(session):
    assert session.stat().st_mode & 0o777 == 0o700
    assert (session / "passwd").stat().st_mode & 0o777 == 0o600
    assert (
        session.parent.stat().st_mode & 0o777 == 0o711
    )  # other users find theirs in it, and do not see whose there are


def test_an_existing_session_is_not_taken(session):
    with pytest.raises(FileExistsError):
        make_session(session, {}, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_session_is_its_users(tmp_path):
    folder = tmp_path / "nonce"
    make_session(folder, {"passwd": b"1"}, (65534, 65533))
    replace_in_session(folder, "passwd", b"2")
    for path in (folder, folder / "passwd"):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)
    assert (folder / "passwd").read_bytes() == b"2"


def test_a_password_is_replaced_where_it_lies_and_not_where_a_link_leads(session, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"keep")
    (session / "passwd").unlink()
    (session / "passwd").symlink_to(secret)
    (session / "passwd.new").symlink_to(secret)
    replace_in_session(session, "passwd", b"new")
    assert secret.read_bytes() == b"keep"
    assert not (session / "passwd").is_symlink()
    assert (session / "passwd").read_bytes() == b"new"
    assert (session / "passwd").stat().st_mode & 0o777 == 0o600


async def test_the_log_and_the_password_of_a_session(session):
    its = Share(session.parent)
    assert await its.log(session, 2) == ""
    (session / "log").write_bytes(b"one\ntwo\x1b\nthree\n")
    assert await its.log(session, 2) == "two\\x1b\nthree\n"
    await its.rekey(session, Secret("another"))
    assert (session / "passwd").read_bytes() == password_file(Secret("another"))
    session.rename(session.with_name("away"))
    with pytest.raises(LaunchError, match="No such file"):
        await its.rekey(session, Secret("late"))


def test_the_end_of_a_file(session):
    (session / "log").write_bytes(b"0123456789")
    assert read_end(session / "log") == b"0123456789"
    assert read_end(session / "log", 3) == b"789"
    assert read_end(session / "none") == b""
    assert read_end(session.parent / "other" / "log") == b""


def test_no_link_is_followed_and_no_pipe_waited_for(session, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("keep")
    (session / "log").symlink_to(secret)
    os.mkfifo(session / "report")
    assert read_end(session / "log") == read_end(session / "report") == read_end(session) == b""


def test_of_a_long_log_the_end_is_kept(session, monkeypatch):
    monkeypatch.setattr(share, "LONGEST_TAIL", 4)
    (session / "log").write_bytes(b"0123456789")
    shorten(session / "log", 10)
    assert (session / "log").read_bytes() == b"0123456789"
    shorten(session / "log", 9)
    assert (session / "log").read_bytes() == b"6789"
    shorten(session / "none", 9)


@pytest.mark.parametrize("other", ["another name of a file", "link", "pipe", "folder"])
def test_what_a_session_puts_in_the_place_of_its_log_is_not_written(session, tmp_path, monkeypatch, other):
    """Whether it is there before the log is opened, or only afterwards."""
    victim, log = tmp_path / "victim", session / "log"
    victim.write_bytes(b"another's text")
    log.write_bytes(b"0123456789")
    make = {
        "another name of a file": lambda path: os.link(victim, path),
        "link": lambda path: path.symlink_to(victim),
        "pipe": os.mkfifo,
        "folder": lambda path: path.mkdir(),
    }[other]
    make(session / "other")
    pipe = os.open(session / "other", os.O_RDONLY | os.O_NONBLOCK) if other == "pipe" else None
    real = os.open

    def opened_and_swapped(path, *args, **named):
        file = real(path, *args, **named)
        if path == log and (session / "other").exists():
            log.unlink()
            (session / "other").rename(log)
        return file

    monkeypatch.setattr(os, "open", opened_and_swapped)
    for _ in range(2):
        shorten(log, 5)
        assert victim.read_bytes() == b"another's text"
    if pipe is not None:
        assert os.read(pipe, 100) == b""
        os.close(pipe)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_somebody_else_is_not_read(session):
    (session / "log").write_text("keep")
    os.chown(session / "log", 65534, 65534)
    assert read_end(session / "log") == b""


def test_lines_are_fit_to_be_shown():
    assert last_lines(b"one\ntwo\x1b\tx\r\n\xff\n", 2) == "two\\x1b    x\n\ufffd\n"
    assert last_lines(b"", 5) == ""


async def test_work_is_done_elsewhere(tmp_path):
    where = await Share(tmp_path).do(threading.current_thread)
    assert where is not threading.current_thread()
    assert where.daemon, "it does not hold up the end of the process"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/s/x"),
            "/s/x cannot be written: No space left on device. Make",
        ),
        (OSError(errno.EPERM, "Operation not permitted", "/s/x"), "no_root_squash"),
        (OSError(errno.EACCES, "Permission denied"), "/share: Permission denied"),
        (OSError("strange"), "/share: strange"),
    ],
)
async def test_what_fails_is_said_in_words(error, words):
    def work():
        raise error

    with pytest.raises(LaunchError) as caught:
        await Share("/share").do(work)
    assert words in str(caught.value)


async def test_a_defect_stays_one():
    with pytest.raises(ZeroDivisionError):
        await Share("/share").do(lambda: 1 / 0)


async def test_a_file_system_that_hangs_holds_a_few_threads_and_nobody_for_long(monkeypatch, tmp_path):
    its = Share(tmp_path)
    end, started = threading.Event(), []

    def hang():
        started.append(1)
        end.wait(30)

    monkeypatch.setattr(share, "TIMEOUT", 0.01)
    for _ in range(share.THREADS + 3):
        with pytest.raises(LaunchError, match="does its file system hang"):
            await its.do(hang)
    assert len(started) == share.THREADS
    end.set()
    monkeypatch.setattr(share, "TIMEOUT", 30)
    assert await its.do(lambda: "it is back") == "it is back"


async def test_without_threads_it_is_told_and_goes_on_when_there_are_some(monkeypatch, tmp_path):
    its = Share(tmp_path)

    def none(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        for _ in range(share.THREADS + 1):
            with pytest.raises(LaunchError, match="no thread can be started"):
                await its.do(lambda: "never")
    assert await its.do(lambda: "it is back") == "it is back"
