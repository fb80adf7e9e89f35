"""Whatever befalls the token file, who types goes on typing; the last good roster stays until there is a good one."""

from __future__ import annotations

import asyncio
import os
import resource

import pytest

from tests.engines.desktop import Peer
from tests.faults.typist import typing
from tests.workshop import Workshop

MIB = 1 << 20


@pytest.fixture
def workshop(tmp_path, free_port):
    return Workshop(tmp_path, free_port)


@pytest.fixture
async def peer():
    async with Peer() as peer:
        yield peer


def line(peer, name="ws01"):
    return f"{name} 127.0.0.1 path-{name} - {peer.port} pass{name}"


def cut_in_a_line(path):
    with path.open("r+b") as file:
        file.truncate(12)


def link_to(target):
    def swap(path):
        link = path.with_suffix(".link")
        link.symlink_to(target)
        link.rename(path)

    return swap


def directory(path):
    path.unlink()
    path.mkdir()


BEFALLS = {
    "cut in a line": (cut_in_a_line, "has 1 error"),
    "empty": (lambda path: path.write_bytes(b""), "has no accounts"),
    "only zeros": (lambda path: path.write_bytes(bytes(4096)), "has 1 error"),
    "binary": (lambda path: path.write_bytes(os.urandom(MIB)), "error"),
    "UTF-16": (lambda path: path.write_bytes(path.read_bytes().decode().encode("utf-16")), "has 1 error"),
    "vanished": (lambda path: path.unlink(), "cannot be read: No such file or directory"),
    "a directory": (directory, "cannot be read: Is a directory"),
    "a link to itself": (link_to("workshop.tokens"), "cannot be read: Too many levels of symbolic links"),
    "a link to nothing": (link_to("nowhere"), "cannot be read: No such file or directory"),
    "a device without end": (link_to("/dev/zero"), "is larger than 16 MiB"),
    "larger than any": (lambda path: os.truncate(path, 1 << 40), "is larger than 16 MiB"),
}


@pytest.mark.parametrize("fault", BEFALLS)
async def test_the_last_good_roster_stays_until_the_file_is_good_again(workshop, peer, caplog, fault):
    befall, words = BEFALLS[fault]
    workshop.write(line(peer))
    async with workshop.running(), typing(workshop.shared, "/ws/path-ws01"):
        befall(workshop.tokens)
        await workshop.until(lambda status: status["trouble"])
        trouble = workshop.gate.status()["trouble"]
        assert words in trouble
        assert trouble.endswith("; the last good roster stays") or "no accounts" in trouble
        assert trouble in caplog.text
        assert [account["name"] for account in workshop.gate.status()["accounts"]] == ["ws01"]
        if workshop.tokens.is_dir() and not workshop.tokens.is_symlink():
            workshop.tokens.rmdir()
        workshop.write(line(peer), line(peer, "ws02"))
        await workshop.until(lambda status: not status["trouble"] and len(status["accounts"]) == 2)


async def test_a_file_that_is_swapped_by_a_link_is_followed(workshop, peer):
    """As Kubernetes and configuration management put files in place: the link is renamed over, the file never is."""
    for name in ("one", "two"):
        folder = workshop.folder / name
        folder.mkdir()
        (folder / "workshop.tokens").write_text(line(peer) + "\n" + line(peer, name) + "\n")
    current = workshop.folder / "current"
    current.symlink_to("one")
    workshop.tokens.symlink_to("current/workshop.tokens")
    async with workshop.running(), typing(workshop.shared, "/ws/path-ws01"):
        for name in ("two", "one", "two"):
            link_to(name)(current)
            await workshop.until(lambda status, name=name: status["accounts"][1]["name"] == name)


MILLIONS = {
    "comments": (b"# x\n" * 1_000_000, None),
    "errors": (b"nonsense line\n" * 1_000_000, "has 201 errors"),
    "accounts": (b"".join(b"%x h %x - 1 p\n" % (n, n) for n in range(800_000))[: 16 * MIB], "more than 20000 accounts"),
    "blanks": (b" \t\n" * 1_000_000, None),
}


@pytest.mark.parametrize("kind", MILLIONS)
async def test_a_million_lines_hold_up_nobody(workshop, peer, kind):
    content, words = MILLIONS[kind]
    workshop.write(line(peer))
    async with workshop.running(watch="poll", poll_interval=3600.0), typing(workshop.shared, "/ws/path-ws01") as typist:
        workshop.tokens.write_bytes(content + line(peer).encode() + b"\n")
        before, largest = typist.echoes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reload = asyncio.ensure_future(workshop.gate.reload())
        await asyncio.wait([reload])
        assert typist.echoes - before >= 3, "the loop must turn meanwhile"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - largest < 300 * 1024
        if words is None:
            assert reload.result() == {"changes": "1 unchanged"}
        else:
            assert words in str(reload.exception())
            assert len(str(reload.exception())) < 500_000
        assert [account["name"] for account in workshop.gate.status()["accounts"]] == ["ws01"]
