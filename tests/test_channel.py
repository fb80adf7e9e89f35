"""The channel: whole messages in order, with their sockets, also to an end that is slow or gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket

import pytest

from vncgate import channel
from vncgate.channel import Channel
from vncgate.messages import LONGEST, Close, Closed, Drain, Elsewhere, Stop, encode


class End:
    """A channel that keeps all it hears."""

    def __init__(self, sock):
        self.heard = []
        self.besides = []
        self.ended = 0
        self.news = asyncio.Event()
        self.channel = Channel(sock, self._receive, self._ended)

    def _receive(self, message, beside):
        self.heard.append(message)
        self.besides.append(beside)
        self.news.set()

    def _ended(self):
        self.ended += 1
        self.news.set()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()

    def close(self):
        self.channel.close()
        for beside in self.besides:
            if beside is not None:
                beside.close()


@pytest.fixture
async def ends():
    one, two = map(End, channel.pair())
    yield one, two
    one.close()
    two.close()


@pytest.fixture
async def slow():
    """An end, and the raw socket at the other end, which nobody reads yet."""
    ours, theirs = channel.pair()
    end = End(ours)
    yield end, theirs
    end.close()
    theirs.close()


def test_programs_do_not_inherit_it():
    ours, theirs = channel.pair()
    with ours, theirs:
        assert not ours.get_inheritable()
        assert not theirs.get_inheritable()


async def test_messages_arrive_in_order_both_ways(ends):
    one, two = ends
    for number in range(500):  # more than are received at once
        one.channel.send(Closed(number))
        two.channel.send(Drain(number))
    await two.until(lambda: len(two.heard) == 500)
    await one.until(lambda: len(one.heard) == 500)
    assert two.heard == [Closed(number) for number in range(500)]
    assert one.heard == [Drain(number) for number in range(500)]


async def test_a_socket_comes_with_its_message(ends):
    one, two = ends
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one.channel.send(Closed(1))
        one.channel.send(Closed(2), listener)
        one.channel.send(Closed(3))
        await two.until(lambda: len(two.heard) == 3)
        first, second, third = two.besides
        assert first is third is None
        assert second.getsockname() == listener.getsockname()
        assert not second.get_inheritable()
        assert listener.fileno() >= 0, "it stays the sender's"


async def test_the_longest_message_goes_through_whole(ends):
    one, two = ends
    long = Stop(1001, "x" * (LONGEST - len(encode(Stop(1001, "")))))
    assert len(encode(long)) == LONGEST
    for _ in range(5):
        one.channel.send(long)
    await two.until(lambda: len(two.heard) == 5)
    assert two.heard == [long] * 5


async def test_what_a_slow_reader_cannot_take_waits_with_its_sockets(slow):
    end, theirs = slow
    with contextlib.ExitStack() as stack:
        ports = []
        for number in range(400):
            beside = None
            if number % 4 == 0:
                beside = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                ports.append(beside.getsockname()[1])
            end.channel.send(Close(number, "ws01", 1000, "x" * 1000), beside)
        assert end.channel.is_behind
        stack.close()  # they are the sender's to close, also while they wait
        reader = End(theirs)
        await reader.until(lambda: len(reader.heard) == 400)
        assert [message.ticket for message in reader.heard] == list(range(400))
        assert [beside.getsockname()[1] for beside in reader.besides if beside is not None] == ports
        assert all((beside is not None) == (number % 4 == 0) for number, beside in enumerate(reader.besides))
        assert not end.channel.is_behind
        reader.close()


async def test_sockets_that_wait_are_let_go_of_with_the_channel(slow):
    """The leak check counts them."""
    end, _ = slow
    with socket.create_server(("127.0.0.1", 0)) as listener:
        while not end.channel.is_behind:
            end.channel.send(Stop(1001, "x" * 1000))
        for number in range(3):
            end.channel.send(Closed(number), listener)
    end.channel.close()


async def test_the_end_is_told_once_and_what_was_sent_before_is_heard(ends):
    one, two = ends
    one.channel.send(Closed(1))
    one.channel.send(Closed(2))
    one.channel.close()
    one.channel.close()
    await two.until(lambda: two.ended)
    assert two.heard == [Closed(1), Closed(2)]
    await asyncio.sleep(0)
    assert (one.ended, two.ended) == (0, 1)


async def test_after_the_end_nothing_is_sent_and_nothing_raised(ends):
    one, two = ends
    one.channel.close()
    one.channel.send(Closed(1))
    two.channel.send(Closed(2))  # before it knows
    await two.until(lambda: two.ended)
    two.channel.send(Closed(3))
    assert not one.heard


async def test_nothing_is_heard_after_close(ends):
    one, two = ends
    two.channel.close()
    one.channel.send(Closed(1))
    await one.until(lambda: one.ended)
    assert not two.heard


async def test_what_is_not_known_is_ignored_and_its_socket_closed(slow):
    end, theirs = slow
    with socket.create_server(("127.0.0.1", 0)) as listener:
        socket.send_fds(theirs, [b'{"is":"Unheard"}\n'], [listener.fileno()])
        socket.send_fds(theirs, [b"\xff garbage"], [])
        theirs.send(encode(Closed(1)))
        await end.until(lambda: end.heard)
    assert end.heard == [Closed(1)]


async def test_a_message_that_cannot_be_followed_costs_no_other(caplog):
    ours, theirs = channel.pair()
    heard = asyncio.Queue()

    def receive(message, beside):
        if isinstance(message, Elsewhere):
            raise ValueError("worn out")  # noqa: TRY004
        heard.put_nowait(message)

    end, other = Channel(ours, receive, lambda: None), End(theirs)
    other.channel.send(Elsewhere({}))
    other.channel.send(Closed(1))
    async with asyncio.timeout(5):
        assert await heard.get() == Closed(1)
    assert ("vncgate.channel", logging.ERROR) in [(record.name, record.levelno) for record in caplog.records]
    assert "Elsewhere" in caplog.text
    assert "worn out" in caplog.text
    end.close()
    other.close()


@contextlib.contextmanager
def no_descriptors_left():
    """Every number below the limit is taken."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)
    os.close(spare)  # the lowest that is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_out_of_descriptors_a_message_comes_without_its_socket(ends):
    one, two = ends
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with no_descriptors_left():
            one.channel.send(Closed(1), listener)
            await two.until(lambda: two.heard)
        one.channel.send(Closed(2), listener)
        await two.until(lambda: len(two.heard) == 2)
    assert two.heard == [Closed(1), Closed(2)]
    assert two.besides[0] is None
    assert two.besides[1] is not None


async def test_out_of_descriptors_a_socket_that_would_have_to_wait_is_refused(slow):
    end, theirs = slow
    while not end.channel.is_behind:
        end.channel.send(Stop(1001, "x" * 1000))
    with socket.create_server(("127.0.0.1", 0)) as listener, no_descriptors_left(), pytest.raises(OSError):
        end.channel.send(Closed(1), listener)
    end.channel.send(Closed(2))
    reader = End(theirs)
    await reader.until(lambda: reader.heard and reader.heard[-1] == Closed(2))
    assert Closed(1) not in reader.heard
    reader.close()
