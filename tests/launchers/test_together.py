"""Tests of vncgate.launchers.together: what is asked within a moment is one question."""

from __future__ import annotations

import asyncio

import pytest

from vncgate.errors import LaunchError
from vncgate.launchers.together import MOMENT, Together

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def asked():
    return []


@pytest.fixture
async def together(asked):
    async def ask(names):
        asked.append(names)
        await asyncio.sleep(1)
        if "bad" in names:
            raise LaunchError("nobody there")
        return {name: f"{name} is well" for name in names}

    together = Together(ask, "a place")
    yield together
    await together.aclose()


async def test_who_asks_within_a_moment_shares_a_question_and_who_comes_later_does_not(together, asked):
    first = asyncio.ensure_future(together.look("a"))
    await asyncio.sleep(MOMENT / 2)
    second = asyncio.ensure_future(together.look("b"))
    await asyncio.sleep(MOMENT)
    third = await together.look("c")  # while the first question is still being answered
    assert (await first)["a"] == "a is well"
    assert await second == await first
    assert third == {"c": "c is well"}
    assert asked == [["a", "b"], ["c"]]


async def test_all_are_told_of_a_failure_and_the_next_question_is_another(together, asked):
    failed = await asyncio.gather(together.look("a"), together.look("bad"), return_exceptions=True)
    assert [str(error) for error in failed] == ["nobody there"] * 2
    assert await together.look("a") == {"a": "a is well"}


async def test_who_waits_no_more_takes_the_answer_from_nobody(together):
    first = asyncio.ensure_future(together.look("a"))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(together.look("b"))
    await asyncio.sleep(MOMENT)
    first.cancel()
    assert (await second)["b"] == "b is well"
