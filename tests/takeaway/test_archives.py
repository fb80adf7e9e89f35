"""Archives that are built beforehand: whole, or none; gone on with by the next gate; removed in time."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import zipfile

import pytest

from tests.takeaway.test_agents import account, agents
from vncgate.errors import ControlError, SettingsError
from vncgate.model import Roster
from vncgate.takeaway import archives as module
from vncgate.takeaway.archives import Archives


class House:
    """Accounts ws01 to ws03 with a file each."""

    def __init__(self, folder):
        self.folder = folder / "archives"
        self.files = folder / "files"
        self.roster = Roster(tuple(account(f"ws{number:02}") for number in range(1, 4)))
        for name in self.roster:
            (self.files / name).mkdir(parents=True)
            (self.files / name / "work").write_text(name)

    def archives(self, days=30.0):
        return Archives(self.folder, days, agents(self.files / "{account}"), lambda: self.roster)

    def there(self):
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


@pytest.fixture
async def archives(house):
    made = house.archives()
    await made.start()
    yield made
    await made.aclose()


async def test_built_for_all(house, archives):
    assert await archives.build() == ["ws01", "ws02", "ws03"]
    await archives.wait()
    assert [built.state for built in archives.statuses()] == ["ready"] * 3
    assert house.there() == sorted(f"{name}.zip{end}" for name in house.roster for end in ("", ".sha256"))
    for name in house.roster:
        path = archives.path(name)
        with zipfile.ZipFile(path) as archive:
            assert archive.read(f"{name}/work") == name.encode()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert archives.status(name).sha256 == digest
        assert (house.folder / f"{name}.zip.sha256").read_text() == f"{digest}  {name}.zip\n"
        assert path.stat().st_mode & 0o777 == 0o600
    assert house.folder.stat().st_mode & 0o777 == 0o700


async def test_for_some(house, archives):
    assert await archives.build(["ws02", "ws*3"]) == ["ws02", "ws03"]
    await archives.wait()
    assert [built.state for built in archives.statuses()] == ["none", "ready", "ready"]
    with pytest.raises(ControlError, match="there is no account ws99"):
        await archives.build(["ws99"])
    assert await archives.remove(["ws02"]) == ["ws02"]
    assert house.there() == ["ws03.zip", "ws03.zip.sha256"]
    assert await archives.remove() == ["ws03"]
    assert house.there() == []


async def test_the_next_gate_offers_them(house, archives):
    await archives.build(["ws01"])
    await archives.wait()
    next_one = house.archives()
    await next_one.start()
    assert next_one.status("ws01").sha256 == archives.status("ws01").sha256
    assert next_one.path("ws01") == archives.path("ws01")


async def test_the_next_gate_goes_on_with_what_was_not_done(house):
    house.folder.mkdir()
    for name in ("ws01.zip.wanted", "ws01.zip.part", "ws03.zip.wanted", "gone.zip.wanted"):
        (house.folder / name).write_text("half")
    archives = house.archives()
    await archives.start()
    await archives.wait()
    assert [built.state for built in archives.statuses()] == ["ready", "none", "ready"]
    assert not {"ws01.zip.part", "ws01.zip.wanted"} & {*house.there()}
    await archives.aclose()


async def test_a_gate_that_stops_leaves_it_to_the_next(house):
    (house.files / "ws01" / "large").write_bytes(os.urandom(20_000_000))
    archives = house.archives()
    await archives.start()
    await archives.build(["ws01"])
    while not archives.status("ws01").bytes:
        await asyncio.sleep(0.01)
    await archives.aclose()
    assert house.there() in (["ws01.zip.wanted"], ["ws01.zip", "ws01.zip.sha256"])


async def test_a_full_disk_leaves_no_half_file(house, archives, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_put", full)
    await archives.build(["ws01"])
    await archives.wait()
    built = archives.status("ws01")
    assert built.state == "failed"
    assert built.reason == f"the disk of {house.folder} is full: make room there, and build it again"
    assert house.there() == []
    assert archives.path("ws01") is None


async def test_one_that_fails_leaves_the_old_one(house, archives):
    await archives.build(["ws01"])
    await archives.wait()
    (house.files / "ws01").rename(house.files / "away")
    await archives.build(["ws01"])
    await archives.wait()
    assert archives.status("ws01").state == "failed"
    assert "there is no such file or folder" in archives.status("ws01").reason
    assert archives.path("ws01").exists()
    assert house.there() == ["ws01.zip", "ws01.zip.sha256"]


async def test_old_ones_go_and_no_others(house, monkeypatch):
    monkeypatch.setattr(module, "SWEEP", 0.0)
    looks = []
    remove = Archives.remove

    async def counted(self, names):
        looks.append(list(names))
        return await remove(self, names)

    monkeypatch.setattr(Archives, "remove", counted)
    house.folder.mkdir()
    for name, days in (("ws01", 3), ("ws02", 1)):
        (house.folder / f"{name}.zip").write_text("x")
        (house.folder / f"{name}.zip.sha256").write_text("abc  x\n")
        os.utime(house.folder / f"{name}.zip", (0, time.time() - days * 86400))
    archives = house.archives(days=2)
    await archives.start()
    task = asyncio.ensure_future(archives.run())
    while len(looks) < 3:  # once there is nothing to be removed, nothing is
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert house.there() == ["ws02.zip", "ws02.zip.sha256"]


async def test_a_folder_that_cannot_be(house):
    house.folder.touch()
    with pytest.raises(SettingsError, match="files.archives: .* cannot be used: File exists"):
        await house.archives().start()


async def test_no_more_than_a_few_at_a_time(house, archives, monkeypatch):
    states = []
    real = Archives._write

    async def write(self, account, built):
        states.append([each.state for each in self.statuses()].count("building"))
        return await real(self, account, built)

    monkeypatch.setattr(Archives, "_write", write)
    monkeypatch.setattr(archives, "_turns", asyncio.Semaphore(1))
    await archives.build()
    await archives.wait()
    assert states == [1, 1, 1]
