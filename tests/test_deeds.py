"""One deed at a time, and one thing beside."""

from __future__ import annotations

import asyncio

import pytest

from vncgate.deeds import Deeds


@pytest.fixture
async def deeds():
    deeds = Deeds()
    yield deeds
    await deeds.aclose()


async def test_the_outcome_or_the_defect_is_told(deeds):
    told = asyncio.Queue()

    async def fine():
        return 7

    async def broken():
        raise ZeroDivisionError

    deeds.do(fine, "fine", told.put_nowait)
    assert await told.get() == 7
    deeds.do(broken, "broken", told.put_nowait)
    assert isinstance(await told.get(), ZeroDivisionError)
    assert deeds.under_way is None


async def test_nobody_is_told_of_a_deed_that_another_took_the_place_of(deeds, caplog):
    told, first_goes_on = asyncio.Queue(), asyncio.Event()

    async def first():
        await first_goes_on.wait()
        raise ZeroDivisionError

    async def second():
        return 2

    deeds.do(first, "first", told.put_nowait)
    before = deeds.under_way
    deeds.do(second, "second", told.put_nowait)
    assert await told.get() == 2
    first_goes_on.set()
    await asyncio.wait([before])
    await asyncio.sleep(0)
    assert told.empty()
    assert "ZeroDivisionError" in caplog.text, "but a defect does not go unheard"


async def test_one_thing_runs_beside(deeds):
    begun = []

    async def forever(number):
        begun.append(number)
        await asyncio.Event().wait()

    deeds.do_aside(lambda: forever(1), "one")
    deeds.do_aside(lambda: forever(2), "two")
    await asyncio.sleep(0)
    assert begun == [1]
    await deeds.end_aside()
    deeds.do_aside(lambda: forever(3), "three")
    await asyncio.sleep(0)
    assert begun == [1, 3]
