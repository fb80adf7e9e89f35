"""A disk that is full, or may not be written: what lies there stays whole, and the gate mends it when it can."""

from __future__ import annotations

import contextlib

import pytest

from tests.engines.desktop import Peer, client
from tests.faults.namespaces import mount
from tests.real.gate import RunningGate
from tests.workshop import Workshop

FULL = "No space left on device"
READ_ONLY = "Read-only file system"


@pytest.fixture
def disk(tmp_path):
    """A disk of 2 MiB, mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", folder)
    return folder


@pytest.fixture
def workshop(tmp_path, free_port):
    return Workshop(tmp_path, free_port)


def fill(disk):
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def content(disk):
    """Every file but the filler, temporary ones included."""
    return {path: path.read_bytes() for path in disk.rglob("*") if path.is_file() and path.name != "filler"}


@pytest.mark.parametrize("form", ["guide", "single"])
@pytest.mark.parametrize("why", [FULL, READ_ONLY])
async def test_what_was_published_stays_whole_and_is_made_true_later(workshop, disk, caplog, why, form):
    def line(name, peer):
        return f"{name} 127.0.0.1 path-{name} {ports[name]} {peer.port} pass{name}"

    ports = dict(zip(("ws01", "ws02", "ws03"), workshop.free_port.many(3), strict=True))
    snippet, pages = disk / "vncgate.conf", disk / "pages"
    config = {
        "apache.snippet": snippet,
        "apache.form": form,
        "apache.configtest": "true",
        "apache.reload": "",
        "landing.export": pages,
    }
    async with Peer() as peer:
        workshop.write(line("ws01", peer))
        async with workshop.running(**config), client(ports["ws01"]) as (_, heard):
            before = content(disk)
            if why is FULL:
                fill(disk)
            else:
                mount("-o", "remount,ro", disk)
            workshop.write(line("ws01", peer), line("ws02", peer))
            await workshop.until(lambda status: status["pages_error"])
            status = workshop.gate.status()
            assert why in status["pages_error"]
            if form == "guide":
                assert status["apache_error"] == f"{snippet}: cannot be written: {why}"
                assert f"{snippet}: cannot be written: {why}" in caplog.text
            assert content(disk) == before, "not a byte is another, and no half file lies about"
            async with client(ports["ws02"]) as (_, new):  # what the disk is not needed for goes on
                await new.until(lambda: new.data)
            if why is FULL:
                (disk / "filler").unlink()
            else:
                mount("-o", "remount,rw", disk)
            assert (await workshop.ask("/reload", {})) == {"changes": "2 unchanged"}
            status = workshop.gate.status()
            assert (status["pages_error"], status["apache_error"]) == ("", "")
            assert "path-ws02" in (pages / "index.html").read_text()
            assert form == "single" or "path-ws02" in snippet.read_text()
            await heard.until(lambda: heard.data)
            assert heard.closed is None


def test_a_log_on_a_full_disk_loses_lines_and_nothing_else(tmp_path, disk):
    gate = RunningGate(tmp_path)
    gate._log = disk / "gate.log"
    gate.write("ws01 127.0.0.1 path-ws01 - 5901 secret01")
    with gate:
        fill(disk)
        with contextlib.suppress(OSError), gate._log.open("ab", buffering=0) as file:
            while True:  # the last page of the log, too
                file.write(b"\n")
        for name in ("ws02", "ws03"):  # each is a line of the log that finds no room
            gate.write(f"{name} 127.0.0.1 path-{name} - 5901 secret01")
            gate.until(lambda name=name: [account["name"] for account in gate.status()["accounts"]] == [name])
        (disk / "filler").unlink()
        gate.write("ws04 127.0.0.1 path-ws04 - 5901 secret01")
        gate.until(lambda: "1 added (ws04)" in gate.log)
        gate.stop()
