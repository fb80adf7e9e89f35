from __future__ import annotations

import asyncio
import contextlib
import json
from itertools import count

import pytest

from tests.web.values import Gate, accounts
from vncgate import tasks
from vncgate.languages import Catalogue, Words
from vncgate.model import Readiness, Roster
from vncgate.render.cards import cards
from vncgate.web import events
from vncgate.web.events import Events, difference


def parse(text):
    event, data = text.decode().removesuffix("\n\n").split("\n")
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.fixture
def gate():
    return Gate(accounts(3))


@pytest.fixture
def looks():
    return count()


@pytest.fixture
async def live(gate, looks, monkeypatch):
    """The events of `gate`, sampled as fast as the loop turns; `looks` counts the samples."""
    monkeypatch.setattr(events, "INTERVAL", 0.0)

    def look():
        next(looks)
        return cards(gate.roster(), gate.statuses())

    made = Events(look)
    task = asyncio.create_task(made.run(), name="sampler")
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_look_that_fails_is_told_and_ends_no_stream(live, gate, monkeypatch, caplog):
    async with contextlib.aclosing(live.listen()) as stream:
        await anext(stream)
        look, failing = live._look, asyncio.Event()

        def fail():
            failing.set()
            raise RuntimeError("a defect")

        live._look = fail
        await failing.wait()
        gate.set("ws02", Readiness.OFFLINE)
        live._look = look
        assert parse(await anext(stream))[0] == "change"
        assert "a defect: the accounts could not be looked at" in caplog.text


async def test_the_whole_list_first_then_only_what_differs(live, gate):
    async with contextlib.aclosing(live.listen()) as stream:
        event, value = parse(await anext(stream))
        assert event == "accounts"
        assert [(entry["path"], entry["state"]) for entry in value] == [(f"ws0{n}", "ready") for n in (1, 2, 3)]
        gate.set("ws02", Readiness.OFFLINE, reason="the desktop is away")
        assert parse(await anext(stream)) == (
            "change",
            {
                "changed": [
                    {
                        "path": "ws02",
                        "name": "ws02",
                        "title": "Person 2",
                        "state": "offline",
                        "label": "offline",
                        "reason": "the desktop is away",
                    }
                ],
                "removed": [],
            },
        )


async def test_accounts_that_come_and_go(live, gate):
    async with contextlib.aclosing(live.listen()) as stream:
        await anext(stream)
        gate.now = type(gate.now)((*accounts(4).accounts[1:],))
        event, value = parse(await anext(stream))
        assert event == "change"
        assert [entry["path"] for entry in value["changed"]] == ["ws04"]
        assert value["removed"] == ["ws01"]


async def test_a_slow_listener_gets_one_difference_to_what_is_now(live, gate):
    async with contextlib.aclosing(live.listen()) as slow, contextlib.aclosing(live.listen()) as quick:
        await anext(slow)
        await anext(quick)
        for number in range(5):  # the slow one reads none of these
            gate.set("ws01", connections=number + 1, readiness=Readiness.READY, reason=str(number))
            gate.set("ws02", Readiness.OFFLINE, reason=str(number))
            await anext(quick)
        _, value = parse(await anext(slow))
        assert [(entry["path"], entry["reason"]) for entry in value["changed"]] == [("ws01", ""), ("ws02", "4")]
        gate.set("ws03", Readiness.UNKNOWN)
        assert await anext(slow) == await anext(quick)


async def test_a_listener_to_one_account_is_told_of_that_alone(live, gate, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT", 0.02)
    async with contextlib.aclosing(live.listen("ws02")) as stream:
        event, value = parse(await anext(stream))
        assert (event, [entry["path"] for entry in value]) == ("accounts", ["ws02"])
        for number in range(3):  # the others' changes are no news, and do not put off the sign of life
            gate.set("ws01", Readiness.OFFLINE, reason=str(number))
            assert await anext(stream) == b": still here\n\n"
        gate.set("ws02", Readiness.OFFLINE, reason="away")
        while (text := await anext(stream)).startswith(b":"):
            pass
        assert [entry["reason"] for entry in parse(text)[1]["changed"]] == ["away"]
        gate.now = Roster(gate.now.accounts[:1])
        while (text := await anext(stream)).startswith(b":"):
            pass
        assert parse(text) == ("change", {"changed": [], "removed": ["ws02"]})


async def test_a_listener_to_an_account_that_is_not_there_hears_of_it_when_it_comes(live, gate):
    async with contextlib.aclosing(live.listen("ws04")) as stream:
        assert parse(await anext(stream)) == ("accounts", [])
        gate.now = accounts(4)
        _, value = parse(await anext(stream))
        assert [entry["path"] for entry in value["changed"]] == ["ws04"]


async def test_nobody_looks_while_nobody_listens(live, looks):
    async with contextlib.aclosing(live.listen()) as stream:
        await anext(stream)
        for _ in range(5):
            await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)  # the look that was under way
    before = next(looks)
    for _ in range(20):
        await asyncio.sleep(0)
    assert next(looks) == before + 1
    assert before > 2


async def test_a_class_that_comes_together_shares_one_look_and_one_message(gate, looks, monkeypatch):
    monkeypatch.setattr(events, "INTERVAL", 3600.0)
    gate.now = accounts(200)

    def look():
        next(looks)
        return cards(gate.roster(), gate.statuses())

    live = Events(look)
    sampler = asyncio.create_task(live.run(), name="sampler")
    streams = [live.listen() for _ in range(200)]
    first = await asyncio.gather(*(anext(stream) for stream in streams))
    assert next(looks) == 1
    assert len({id(text) for text in first}) == 1
    for stream in streams:
        await stream.aclose()
    await tasks.end(sampler)


async def test_what_happens_to_one_wakes_nobody_else(live, gate):
    gate.now = accounts(200)
    async with contextlib.AsyncExitStack() as stack:
        streams = {path: await stack.enter_async_context(contextlib.aclosing(live.listen(path))) for path in gate.now}
        for stream in streams.values():
            await anext(stream)
        waiting = {path: asyncio.create_task(anext(stream), name=path) for path, stream in streams.items()}
        for reason in "abc":
            gate.set("ws07", Readiness.OFFLINE, reason=reason)
            text = await asyncio.wait_for(waiting.pop("ws07"), 10)
            assert parse(text)[1]["changed"][0]["reason"] == reason
            waiting["ws07"] = asyncio.create_task(anext(streams["ws07"]), name="ws07")
        assert not [path for path, task in waiting.items() if task.done()]
        await tasks.end(*waiting.values())


async def test_who_comes_while_the_last_one_goes_is_told_of_changes(gate, monkeypatch):
    monkeypatch.setattr(events, "INTERVAL", 0.0)
    leaving, going = [], []

    def look():
        if leaving:  # the first one goes after this look, and before the second knows of it
            going.append(asyncio.create_task(leaving.pop().aclose(), name="goes"))
        return cards(gate.roster(), gate.statuses())

    live = Events(look)
    sampler = asyncio.create_task(live.run(), name="sampler")
    first, second = live.listen("ws01"), live.listen("ws02")
    await anext(first)
    leaving.append(first)
    await anext(second)
    for reason in "abc":
        gate.set("ws02", Readiness.OFFLINE, reason=reason)
        assert parse(await asyncio.wait_for(anext(second), 5))[0] == "change"
    await second.aclose()
    await tasks.end(sampler)


async def test_silence_is_broken_by_a_comment(live, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT", 0.0)
    async with contextlib.aclosing(live.listen()) as stream:
        await anext(stream)
        assert await anext(stream) == b": still here\n\n"


async def test_close_ends_the_streams_that_are_and_those_to_come(live):
    async with contextlib.aclosing(live.listen()) as stream:
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        await live.close()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(waiting, 5)
    late = [text async for text in live.listen()]
    assert [parse(text)[0] for text in late] == ["accounts"]


def test_a_newline_in_a_reason_cannot_end_an_event():
    gate = Gate(accounts(1))
    gate.set("ws01", Readiness.OFFLINE, reason="one\n\nevent: accounts\ndata: []")
    text = difference({}, cards(gate.roster(), gate.statuses()))
    assert text.count(b"\n") == 3


async def test_every_listener_is_told_in_its_own_language(live, gate):
    german = Words("de", Catalogue({"ready": ("bereit",), "offline": ("weg",)}))
    async with contextlib.aclosing(live.listen()) as one, contextlib.aclosing(live.listen(words=german)) as other:
        said = [parse(await anext(stream))[1][0]["label"] for stream in (one, other)]
        assert said == ["ready", "bereit"]
        gate.set("ws01", Readiness.OFFLINE)
        said = [parse(await anext(stream))[1]["changed"][0]["label"] for stream in (one, other)]
        assert said == ["offline", "weg"]
