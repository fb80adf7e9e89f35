"""One start of one desktop: what stands on disk at which moment."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.fakeplace import FakePlace, MemoryStore
from vncgate.errors import LaunchError
from vncgate.kinds import Kind, LocalPlace
from vncgate.launch import Launch
from vncgate.launchers.base import Handle
from vncgate.model import Secret, Want
from vncgate.store import Entry
from vncgate.yard import Yard

pytestmark = pytest.mark.virtual_time
KIND = Kind(command=("startxfce4",), home="/scratch/{account}")


class OrderedStore(MemoryStore):
    """Writes down in which order files come and go."""

    def __init__(self):
        super().__init__()
        self.order, self.slow = [], 0.1

    async def put(self, entry):
        pause, self.slow = self.slow, 0.0
        await asyncio.sleep(pause)
        await super().put(entry)
        self.order.append((entry.asked, entry.handle.job, entry.want))

    async def remove(self, handle):
        await super().remove(handle)
        self.order.append("removed")


@pytest.fixture
async def place():
    return FakePlace()


@pytest.fixture
async def launch(place):
    entry = Entry(Handle("local", "ws01", "0123456789abcdef"), "ws01", "xfce", "", Want.UP, 0.0, asked=False)
    yard = Yard("local", LocalPlace(user="u-{account}"), place)
    return Launch(entry, yard, OrderedStore(), is_kept=False)


async def test_a_word_is_on_disk_before_its_place_is_asked_and_until_nothing_is_left(launch, place):
    submit, store = place.submit, launch._store

    async def asked(spec):
        assert store.order == [(True, "", Want.UP)]
        return await submit(spec)

    place.submit = asked
    assert launch.handle is None
    await launch.submit("ws01", KIND, Secret("secret"))
    assert store.order[1:] == [(True, "job1", Want.UP)]
    assert (launch.handle.user, place.of("ws01").spec.home) == ("u-ws01", "/scratch/ws01")
    await launch.unwanted("nobody used it")
    assert await launch.cancel() == ""
    await launch.forget()
    assert store.order[2:] == [(True, "job1", Want.DOWN), "removed"]
    assert (launch.handle, place.running) == (None, {})


async def test_what_its_place_refused_is_nowhere(launch, place):
    place.refuse = "no such partition"
    with pytest.raises(LaunchError, match="no such partition"):
        await launch.submit("ws01", KIND, Secret("secret"))
    assert (launch.handle, launch._store.files) == (None, {})
    assert await launch.cancel() == ""
    assert place.calls["cancel"] == 0


async def test_nothing_is_asked_of_a_place_that_is_not_on_disk(launch, place):
    launch._store.broken = OSError(28, "No space left on device")
    with pytest.raises(LaunchError, match="the gate cannot write /memory: No space left on device"):
        await launch.submit("ws01", KIND, Secret("secret"))
    assert (launch.handle, place.calls["submit"]) == (None, 0)


async def test_no_word_comes_after_the_last(launch):
    """Words race with each other and with the end: in the order in which they were given, and none after that."""
    keeping = asyncio.ensure_future(launch.keep())
    await asyncio.sleep(0)
    unwanted = asyncio.ensure_future(launch.unwanted("nobody used it"))
    await asyncio.sleep(0)
    forgetting = asyncio.ensure_future(launch.forget())
    await asyncio.gather(keeping, unwanted, forgetting)
    launch.entry = replace(launch.entry, account="somebody else")
    await launch.keep()
    assert launch._store.order[-1] == "removed"
    assert launch._store.order[0] == (False, "", Want.UP)
    assert launch._store.files == {}


async def test_why_it_cannot_be_ended(launch, place, caplog):
    await launch.submit("ws01", KIND, Secret("secret"))
    place.silent = True
    assert await launch.cancel() == "no answer"

    async def broken(handle):
        raise ZeroDivisionError("a defect")

    place.cancel = broken
    assert await launch.cancel() == "the gate's log says why"
    assert "ZeroDivisionError" in caplog.text


async def test_a_log_that_cannot_be_read_hinders_no_end(launch, place, caplog):
    await launch.submit("ws01", KIND, Secret("secret"))
    for error in (LaunchError("no answer"), ZeroDivisionError("a defect")):

        async def broken(handle, lines, error=error):
            raise error

        place.logs = broken
        assert await launch.last_log() == ""
    assert "ZeroDivisionError" in caplog.text


async def test_a_password_is_set_once(launch, place):
    await launch.submit("ws01", KIND, Secret("secret"))
    assert await launch.settle(Secret("secret")) == ""
    assert place.calls["rekey"] == 0
    assert await launch.settle(Secret("better")) == ""
    assert [launch.has(Secret(password)) for password in ("better", "", "secret")] == [True, True, False]
    assert (place.of("ws01").password, launch.secret) == ("better", Secret("better"))
    place.silent = True
    assert await launch.settle(Secret("another")) == "its password could not be set: no answer"
    assert launch.has(Secret("better"))
