"""Tests of vncgate.launchers.host with hands that only say what they were told to; for real: test_contract.py."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest

from vncgate.errors import LaunchError, SilentError, UnsureError
from vncgate.kinds import Kind, LocalPlace
from vncgate.launchers import host, share
from vncgate.launchers.base import Handle, Seen, Spec
from vncgate.launchers.host import HostPlace, all_of
from vncgate.launchers.local import Local
from vncgate.launchers.scripts import Listen, Scripts
from vncgate.launchers.together import MOMENT
from vncgate.model import Desktop, Secret

NONCES = [f"{number:016d}" for number in range(30)]


class Scripted(HostPlace):
    """Answers from a list, the last one again and again; an exception is raised."""

    def __init__(self, *answers) -> None:
        super().__init__("scripted", LocalPlace(), Scripts(None), Listen.SOCKET)
        self.answers = list(answers)
        self.calls = []
        self.let_go = []

    async def _execute(self, whom, program, timeout):
        self.calls.append((whom, re.search(rb"\n{ (.*)\n}", program, re.DOTALL)[1].decode()))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer.encode()

    def _folder(self, whom):
        return "relative"

    async def _reach(self, handle, reported):
        return reported

    async def _let_go(self, handle):
        self.let_go.append(handle.nonce)


def handle(nonce=NONCES[0], host="node01", user="ada"):
    return Handle("scripted", "ws01", nonce, host, user)


def spec():
    return Spec("ws01", NONCES[0], "node01", Kind(command=["true"]), Secret("secret01"), user="ada")


async def test_what_is_asked_within_a_moment_is_one_question_a_host_and_user():
    lines = "".join(f"{nonce} gone -\n" for nonce in NONCES)
    place = Scripted(f"welcome to this host\nvncgate\n{lines}")
    handles = [handle(nonce, name) for nonce in NONCES for name in ("node01", "node02")]
    seen = await asyncio.gather(*map(place.query, handles))
    assert {one.seen for one in seen} == {Seen.GONE}
    assert [whom for whom, _ in place.calls] == [("node01", "ada"), ("node02", "ada")]
    assert {call for _, call in place.calls} == {" ".join(["look", *NONCES])}


@pytest.mark.virtual_time
async def test_a_moment_has_an_end():
    place = Scripted("vncgate\n" + "".join(f"{nonce} gone -\n" for nonce in NONCES))
    first = asyncio.ensure_future(place.query(handle(NONCES[0])))
    await asyncio.sleep(MOMENT / 2)
    await asyncio.gather(first, place.query(handle(NONCES[1])))
    await place.query(handle(NONCES[2]))
    assert [call for _, call in place.calls] == [f"look {NONCES[0]} {NONCES[1]}", f"look {NONCES[2]}"]


@pytest.mark.parametrize(
    ("answer", "seen", "desktop", "said", "status"),
    [
        ("running ", Seen.RUNNING, None, "", None),
        (f"running {NONCES[0]} unix /x/vnc.sock", Seen.RUNNING, Desktop(unix="/x/vnc.sock"), "", None),
        (f"running {NONCES[1]} unix /x/vnc.sock", Seen.RUNNING, None, "", None),
        ("gone 3 it ended\x1b[1m", Seen.GONE, None, "it ended\\x1b[1m", 3),
        ("gone - ", Seen.GONE, None, "", None),
    ],
)
async def test_what_a_host_says_of_a_desktop(answer, seen, desktop, said, status):
    place = Scripted(f"vncgate\n{NONCES[0]} {answer}\n")
    found = await place.query(handle())
    assert (found.seen, found.desktop, found.said, found.exit_status) == (seen, desktop, said, status)
    assert found.reason == ""  # what a session wrote is no word of its place's
    assert place.let_go == ([NONCES[0]] if seen is Seen.GONE else [])


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (LaunchError("no such host"), "no such host"),
        (UnsureError("lost"), "lost"),
        ("vncgate\n", "node01 did not say how its desktops are"),
        ("This account is not available.\n", "node01 runs no shell for us: This account is not available."),
        ("", "node01 runs no shell for us: it said nothing"),
    ],
)
async def test_what_cannot_be_told_is_unknown(answer, why):
    seen = await Scripted(answer).query(handle())
    assert (seen.seen, seen.reason, seen.host) == (Seen.UNKNOWN, why, "node01")


async def test_a_start_of_which_nothing_is_known_is_a_handle():
    place = Scripted("vncgate\n/home/ada\n", UnsureError("lost"))
    assert await place.submit(spec()) == Handle("scripted", "ws01", NONCES[0], "node01", "ada", job=NONCES[0])
    assert "/home/ada/relative/" in place.calls[1][1]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("cat: write error: No space left on device", "is full: remove files"),
        ("mkdir: cannot create directory 'x': Disk quota exceeded", "is over its quota: remove files"),
        ("mkdir: cannot create directory 'x': Permission denied", "cannot create directory 'x': Permission denied"),
    ],
)
async def test_why_a_desktop_cannot_be_started_is_said_in_words(said, words):
    place = Scripted("vncgate\n/home/ada\n", f"vncgate\nfailed {said}\n")
    with pytest.raises(LaunchError, match=f"^node01: .*{words}"):
        await place.submit(spec())


async def test_the_password_is_in_no_argument_and_no_message(short_folder):
    place = Scripted("vncgate\n/home/ada\n", LaunchError("no"))
    with pytest.raises(LaunchError):
        await place.submit(spec())
    assert all("secret01" not in call for _, call in place.calls)


async def test_templates_are_read_outside_of_the_loop(monkeypatch):
    """Their file system may hang: then this one start fails."""
    monkeypatch.setattr(share, "TIMEOUT", 0.05)
    place, back = Scripted("vncgate\n/home/ada\n"), threading.Event()
    monkeypatch.setattr(place._scripts, "desktop", lambda *_: back.wait(30))
    with pytest.raises(SilentError, match="templates does not answer within 0.05 s: does its file system hang"):
        await place.submit(spec())
    back.set()


class Endless:
    """A shell's output that does not end."""

    def __init__(self) -> None:
        self.given = 0

    async def read(self, most):
        self.given += most
        return bytes(most)


async def test_no_more_is_read_of_a_host_than_it_may_say():
    output = Endless()
    with pytest.raises(
        UnsureError, match="^node01 wrote more than 1024 KiB to what it was asked: does a start-up file"
    ):
        await all_of(output, "node01")
    assert output.given <= 2 * host.LONGEST_ANSWER


@pytest.mark.parametrize("answer", ["vncgate\nfailed {}\n", "{}"])
async def test_a_reason_is_not_longer_than_what_somebody_reads(answer):
    with pytest.raises(LaunchError) as error:
        await Scripted(answer.format("x" * 100_000)).submit(spec())
    assert len(str(error.value)) < 1200


@pytest.mark.real
async def test_a_host_that_hangs_is_unknown(short_folder, monkeypatch):
    monkeypatch.setattr(host, "PATIENCE", 0.2)
    monkeypatch.setattr(host, "_PROGRAM", "sleep 1000")
    place = Local("local", LocalPlace(), short_folder, Scripts(None))
    seen = await place.query(Handle("local", "ws01", NONCES[0]))
    assert (seen.seen, seen.reason) == (Seen.UNKNOWN, "this host did not do within 0.2 s what it was asked")
