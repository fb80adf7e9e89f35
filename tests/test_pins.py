"""PINs: which fit, what work it is, and how many at once."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.seats import CHEAP
from vncgate import pins
from vncgate.model import Secret
from vncgate.pins import HASHER, BusyError, Pins, new_pin, typed
from vncgate.tokens import is_pin

NONE = Secret("")


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(pins, "HASHER", CHEAP)


async def test_a_hashed_pin_fits_alone():
    looks = Pins()
    encoded = await looks.hash(Secret("123456"))
    assert encoded.startswith("$argon2id$")
    assert "123456" not in encoded
    assert await looks.fits(Secret("123456"), encoded, NONE)
    assert not await looks.fits(Secret("123457"), encoded, NONE)
    assert not await looks.fits(Secret("654321"), encoded, Secret("654321"))  # the token file's counts no more


async def test_the_token_files_pin_fits_where_there_is_no_other():
    assert await Pins().fits(Secret("123456"), "", Secret("123456"))
    assert not await Pins().fits(Secret("123457"), "", Secret("123456"))


@pytest.mark.parametrize("encoded", ["", "!", "$argon2id$broken", "x"])
async def test_an_empty_pin_fits_nothing(encoded):
    assert not await Pins().fits(NONE, encoded, NONE)


async def test_a_wrong_pin_is_the_same_work_whether_there_is_an_account_or_not(monkeypatch):
    looked = []

    class Counting:
        hash = staticmethod(CHEAP.hash)

        @staticmethod
        def verify(encoded, pin):
            looked.append(encoded.split("$")[3])  # the parameters, which are the work
            return CHEAP.verify(encoded, pin)

    monkeypatch.setattr(pins, "HASHER", Counting)
    looks = Pins()
    hashed = CHEAP.hash("111111")
    for encoded, plain in ((hashed, NONE), ("", Secret("222222")), ("", NONE)):
        assert not await looks.fits(Secret("123456"), encoded, plain)
    assert len(looked) == 3
    assert len(set(looked)) == 1


async def test_no_more_than_the_cores_are_at_work_and_a_flood_is_told_to_come_again(monkeypatch):
    go_on, at_work, most = threading.Event(), [], []

    class Slow:
        @staticmethod
        def hash(pin):
            at_work.append(pin)
            most.append(len(at_work))
            go_on.wait(30)
            at_work.remove(pin)
            return "done"

    monkeypatch.setattr(pins, "HASHER", Slow)
    monkeypatch.setattr(pins, "MOST_WAITING", 5)
    monkeypatch.setattr(pins.os, "sched_getaffinity", lambda _: {0, 1})
    looks = Pins()
    tasks = [asyncio.ensure_future(looks.hash(Secret(str(n)))) for n in range(5)]
    await asyncio.sleep(0)
    assert looks.is_busy
    with pytest.raises(BusyError):
        await looks.hash(Secret("6"))
    go_on.set()
    assert await asyncio.gather(*tasks) == ["done"] * 5
    assert max(most) <= 2
    assert not looks.is_busy


def test_what_a_pin_costs_is_what_owasp_asks_for():
    assert (HASHER.time_cost, HASHER.memory_cost, HASHER.parallelism) == (2, 19456, 1)


def test_pins_are_as_the_token_file_takes_them_and_read_as_they_are_typed():
    assert all(is_pin(new_pin().reveal()) for _ in range(100))
    assert len({new_pin() for _ in range(100)}) > 90
    assert typed(" 480 113\t") == typed("480-113") == Secret("480113")
