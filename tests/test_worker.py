"""A worker process, spoken to in its own language (tests/engines/test_pool_workers.py has the master's side of it)."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from tests.engines.desktop import Peer, client, limits
from tests.engines.raw import eventually, handshake, request
from tests.engines.vnc import COOKIE, DIGEST, INIT, OTHER, OTHER_DIGEST, PASSWORD, Vnc, browser, enter, say
from vncgate.channel import Channel
from vncgate.errors import ListenError
from vncgate.listeners import bind
from vncgate.messages import (
    Admit,
    Admitted,
    Adopt,
    Answer,
    Begin,
    Challenge,
    Close,
    Elsewhere,
    Failed,
    Holds,
    Leave,
    Left,
    Open,
    Opened,
    Ready,
    Report,
    Rest,
    Stop,
    Suspect,
    route_to_json,
)
from vncgate.model import Desktop, Route
from vncgate.nursery import Nursery
from vncgate.rfb import vnc_auth


class Master:
    """The other end of a worker's channel."""

    def __init__(self, sock):
        self.heard = []
        self.ended = asyncio.Event()
        self.channel = Channel(sock, lambda message, _: self.heard.append(message), self.ended.set)
        self.send = self.channel.send

    async def until_it_says(self, *messages):
        await eventually(lambda: all(message in self.heard for message in messages))


@pytest.fixture
async def worker():
    nursery = await Nursery.execute()
    master = Master(nursery.start())
    master.send(Begin(dataclasses.asdict(limits(max_connections=5)), 0.0, "info"))
    yield master
    master.send(Stop(1001, "end of the test"))
    master.channel.close()
    nursery.close()


@pytest.fixture
async def peer():
    async with Peer() as peer:
        yield peer


@pytest.fixture
def own():
    with bind("127.0.0.1", 0, "test") as sock:
        yield sock


def opens(ticket, peer, own, name="ws01"):
    route = Route(name, Desktop("127.0.0.1", peer.port), f"path-{name}", own.getsockname()[1])
    return Open(ticket, route_to_json(route), listens=True)


async def refused(own):
    _, writer, head = await request(own.getsockname()[1], "Connection: Upgrade")
    writer.close()
    return head.split()[1]


async def test_what_is_elsewhere_counts_also_where_the_account_is_still_being_opened(worker, peer, own):
    worker.send(opens(1, peer, own), own)
    worker.send(Elsewhere({"ws01": 5, "unknown": 1}))
    await worker.until_it_says(Opened(1))
    assert await refused(own) == "503"
    worker.send(Elsewhere({"ws01": 4}))
    worker.send(Rest(on=True))
    worker.send(opens(2, peer, own, "ws02"))  # answered after that
    await eventually(lambda: any(isinstance(each, Failed) and each.ticket == 2 for each in worker.heard))
    assert await refused(own) == "101"


async def test_told_to_leave_it_connects_whom_it_accepted_and_nobody_else(worker, peer, own):
    worker.send(opens(1, peer, own), own)
    await worker.until_it_says(Opened(1))
    port = own.getsockname()[1]
    reader, early = await asyncio.open_connection("127.0.0.1", port)
    _, first = await asyncio.open_connection("127.0.0.1", port)
    first.write(handshake())
    await eventually(lambda: any(isinstance(each, Report) and each.connections for each in worker.heard))
    worker.send(Leave(7))
    early.write(handshake())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    await worker.until_it_says(Left(7))
    _, late = await asyncio.open_connection("127.0.0.1", port)
    own.accept()[0].close()
    for each in (early, first, late):
        each.close()


async def test_an_account_that_was_closed_begins_with_nothing_elsewhere(worker, peer, own):
    worker.send(opens(1, peer, own), own)
    worker.send(Elsewhere({"ws01": 5}))
    worker.send(Close(2, "ws01", 1012, "restarted"))
    worker.send(opens(3, peer, own), own)
    await worker.until_it_says(Opened(3))
    assert await refused(own) == "101"


async def test_one_that_is_adopted_tells_all_and_then_that_it_did(worker, peer, own):
    worker.send(opens(1, peer, own), own)
    await worker.until_it_says(Opened(1))
    async with client(own.getsockname()[1]) as (_, heard):
        await heard.until(lambda: heard.data)
        await eventually(lambda: any(isinstance(each, Report) and each.connections for each in worker.heard))
        before = len(worker.heard)
        worker.send(Adopt())
        await eventually(lambda: any(isinstance(each, Ready) for each in worker.heard[before:]))
        told = [each for each in worker.heard[before:] if isinstance(each, (Holds, Ready)) or each.traffic]
        assert [type(each) for each in told] == [Holds, Report, Ready]
        assert told[0].routes == [opens(1, peer, own).route]
        assert told[1].traffic["ws01"][0] == 1


async def test_what_is_still_to_be_opened_when_the_master_dies_is_not_served(worker, peer):
    """Or the next master could not bind the port for as long as a desktop is in use here."""
    first, second = bind("127.0.0.1", 0, "test"), bind("127.0.0.1", 0, "test")
    with first, second:
        worker.send(opens(1, peer, first), first)
        worker.send(opens(2, peer, second, "ws02"), second)
        await worker.until_it_says(Opened(1), Opened(2))
        port, other = first.getsockname()[1], second.getsockname()[1]
        _, stays, _ = await request(port, "Connection: Upgrade")
        _, silent, _ = await request(other, "Connection: Upgrade")  # answers no close: its account's end takes seconds
        worker.send(Close(3, "ws02", 1012, "restarted"))
        worker.send(opens(4, peer, second, "ws02"), second)
        worker.channel.close()
    try:
        for each in (port, other):
            await eventually(lambda: can_be_bound(each), seconds=5)  # noqa: B023
    finally:
        stays.close()
        silent.close()


def can_be_bound(port):
    try:
        bind("127.0.0.1", port, "the next master").close()
    except ListenError:
        return False
    return True


@pytest.fixture
async def server():
    async with Vnc() as server:
        yield server


def guards(ticket, server, own):
    message = opens(ticket, server, own)
    return Open(ticket, {**message.route, "guarded": True}, listens=True)


async def challenged(worker):
    """The next question, once it is there."""
    await eventually(lambda: any(isinstance(each, Challenge) for each in worker.heard))
    question = next(each for each in worker.heard if isinstance(each, Challenge))
    worker.heard.remove(question)
    return question


async def answered(own, cookie):
    _, writer, head = await request(own.getsockname()[1], "Connection: Upgrade", f"Cookie: vncgate_session={cookie}")
    writer.close()
    return head.split()[1]


async def test_who_may_come_is_known_before_the_first_one_can(worker, server, own):
    """Admit and Open are sent together: nobody is refused in between."""
    worker.send(Admit(1, {"ws01": {DIGEST: "control"}}))
    worker.send(guards(2, server, own), own)
    assert await answered(own, COOKIE) == "101"
    assert await answered(own, OTHER) == "403"
    await worker.until_it_says(Admitted(1), Opened(2))


async def test_a_list_in_parts_counts_when_its_last_part_is_there(worker, server, own):
    worker.send(guards(1, server, own), own)
    worker.send(Admit(2, {"ws01": {DIGEST: "control"}}))
    worker.send(Admit(3, {"ws01": {OTHER_DIGEST: "control"}}, more=True))
    await worker.until_it_says(Opened(1), Admitted(2))
    assert await answered(own, OTHER) == "403"
    worker.send(Admit(3, {"ws02": {}}))
    await worker.until_it_says(Admitted(3))
    assert await answered(own, OTHER) == "101"
    assert await answered(own, COOKIE) == "403"


async def test_it_asks_the_master_for_every_answer(worker, server, own):
    worker.send(Admit(1, {"ws01": {DIGEST: "control"}}))
    worker.send(guards(2, server, own), own)
    async with browser(own.getsockname()[1]) as (socket, heard):
        say(socket, b"RFB 003.008\n\1\1")
        first = await challenged(worker)
        assert (first.name, first.challenge) == ("ws01", "")
        assert not server.connections, "it may not be wanted"
        worker.send(Answer(first.ticket, ""))
        second = await challenged(worker)
        worker.send(Answer(second.ticket, vnc_auth(PASSWORD, bytes.fromhex(second.challenge)).hex()))
        await heard.until(lambda: heard.data.endswith(INIT))


async def test_a_refused_password_is_told_as_one(worker, server, own):
    worker.send(Admit(1, {"ws01": {DIGEST: "control"}}))
    worker.send(guards(2, server, own), own)
    async with browser(own.getsockname()[1]) as (socket, heard):
        say(socket, b"RFB 003.008\n\1\1")
        worker.send(Answer((await challenged(worker)).ticket, ""))
        worker.send(Answer((await challenged(worker)).ticket, "00" * 16))
        await heard.until(lambda: heard.closed)
    await worker.until_it_says(
        Suspect("ws01", f"desktop 127.0.0.1:{server.port} refused the password", is_refused=True)
    )


async def test_without_a_master_nobody_is_logged_in_but_told_to_come_again(worker, server, own):
    worker.send(Admit(1, {"ws01": {DIGEST: "control"}}))
    worker.send(guards(2, server, own), own)
    async with browser(own.getsockname()[1]) as (inside, stays), browser(own.getsockname()[1]) as (socket, heard):
        say(inside, b"RFB 003.008\n\1\1")
        worker.send(Answer((await challenged(worker)).ticket, ""))
        second = await challenged(worker)
        worker.send(Answer(second.ticket, vnc_auth(PASSWORD, bytes.fromhex(second.challenge)).hex()))
        await stays.until(lambda: stays.data.endswith(INIT))
        say(socket, b"RFB 003.008\n\1\1")
        await challenged(worker)
        worker.channel.close()
        await heard.until(lambda: heard.closed)
        assert heard.closed == (1012, "the gate is being renewed: connect again")
        say(inside, b"typed")
        await server.until(lambda: server.received == b"typed")
    assert server.connections == 1


async def test_a_master_that_is_silent_is_not_waited_for_for_ever(server, own):
    nursery = await Nursery.execute()
    master = Master(nursery.start())
    master.send(Begin(dataclasses.asdict(limits(handshake_timeout=0.2)), 0.0, "info"))
    master.send(Admit(1, {"ws01": {DIGEST: "control"}}))
    master.send(guards(2, server, own), own)
    async with browser(own.getsockname()[1]) as (socket, heard):
        await enter(socket, heard)
        await heard.until(lambda: heard.closed)
        assert heard.closed == (1012, "the gate is being renewed: connect again")
    assert not server.connections
    master.send(Stop(1001, "end of the test"))
    await asyncio.wait_for(master.ended.wait(), 30)
    nursery.close()


async def test_it_goes_on_after_messages_that_make_no_sense(worker, peer, own):
    worker.send(Open(1, {"name": "ws01"}))
    worker.send(Close(2, "nobody", 1012, "restarted"))
    worker.send(opens(3, peer, own), own)
    await worker.until_it_says(Opened(3))


async def test_it_stops_when_told(worker):
    worker.send(Stop(1001, "the gate is being stopped"))
    async with asyncio.timeout(10):
        await worker.ended.wait()
