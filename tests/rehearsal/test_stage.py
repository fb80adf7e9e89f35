"""Players through a real gate in this process, with embedded desktops; and over plain TCP."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from tests.engines.desktop import Peer
from tests.workshop import Workshop
from vncgate import rehearsal, rfb
from vncgate.demo import desktop as embedded
from vncgate.model import Account, Desktop, Secret
from vncgate.rehearsal import Plan, Play, Rehearsal, Target

NAMES = ("ws01", "ws02", "ws03")


def password(name):
    return f"Canary{name[2:]}"


@pytest.fixture
async def workshop(tmp_path, free_port):
    """A gate with three embedded desktops."""
    made = Workshop(tmp_path, free_port)
    async with contextlib.AsyncExitStack() as stack:
        for name in NAMES:
            account = Account(name, Desktop(unix=str(tmp_path / name)), name, None, Secret(password(name)))
            await stack.enter_async_context(embedded.serve(account, tmp_path / name, 0.6))
        made.write(*(f"{name} unix:{tmp_path / name} path-{name} - - {password(name)}" for name in NAMES))
        async with made.running():
            yield made


def seat(workshop, name, path="", **values):
    url = f"ws://127.0.0.1:{workshop.shared}/ws/{path or f'path-{name}'}"
    return Target(name, url, **({"password": Secret(password(name))} | values))


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("play", list(Play))
async def test_a_class_plays_through_the_gate(workshop, play):
    seats = [seat(workshop, name) for name in NAMES] * 2
    async with Rehearsal(seats, Plan(play, rate=50)) as rehearsed:
        await rehearsed.arrive()
        await until(lambda: rehearsed.report().latency.count >= 60)
        report = rehearsed.report()
        assert [account["connections"] for account in workshop.gate.status()["accounts"]] == [2, 2, 2]
    assert (report.participants, report.connected, report.playing, report.failed, report.drops) == (6, 6, 6, {}, {})
    assert report.updates > 0
    assert report.connecting.count == report.banner.count == report.login.count == 6
    assert report.bytes_down > report.updates * 64 * 32 * 4
    arrival = [times.quantile(1) for times in (report.connecting, report.banner, report.login, report.picture)]
    assert arrival == sorted(arrival)
    # Hanging up at the end is no drop, and everybody has gone.
    assert rehearsed.report().drops == {}
    await workshop.until(lambda status: not any(account["connections"] for account in status["accounts"]))


async def test_the_bytes_are_those_that_the_gate_counts(workshop):
    async with Rehearsal([seat(workshop, "ws01")], Plan(Play.FIXED, rate=50)) as rehearsed:
        await rehearsed.arrive()
        await until(lambda: rehearsed.report().updates >= 3)
    report = rehearsed.report()
    await workshop.until(lambda status: not status["accounts"][0]["connections"])
    seen = workshop.gate.status()["accounts"][0]
    assert (seen["bytes_down"], seen["bytes_up"]) == (report.bytes_down, report.bytes_up)


async def test_a_report_is_of_its_moment(workshop):
    async with Rehearsal([seat(workshop, "ws01")], Plan(Play.FIXED, rate=50)) as rehearsed:
        before = rehearsed.report()
        await rehearsed.arrive()
        await until(lambda: rehearsed.report().latency.count)
        assert (before.connected, before.latency.count, before.login.count) == (0, 0, 0)


async def test_what_was_counted_before_a_reset_is_forgotten_but_who_is_there_is_not(workshop):
    async with Rehearsal([seat(workshop, "ws01")], Plan(Play.FIXED, rate=0)) as rehearsed:
        await rehearsed.arrive()
        before = rehearsed.report()
        assert before.bytes_down > 0
        rehearsed.reset()
        report = rehearsed.report()
    assert (report.bytes_down, report.asked, report.latency.count) == (0, 0, 0)
    assert (report.connected, report.playing, report.login.count) == (1, 1, 1)


async def test_a_wrong_password_is_tried_once_and_the_others_play_on(workshop):
    wrong = seat(workshop, "ws02", password=Secret("mistaken"))
    report = await rehearsal.play([wrong, seat(workshop, "ws01"), wrong, wrong], Plan(seconds=0.05, ramp=0.4))
    assert report.failed == {"the desktop refused the password": ["ws02", "ws02#2", "ws02#3"]}
    assert (report.connected, report.banner.count, report.drops) == (1, 2, {})


async def test_each_trouble_on_the_way_is_told_in_words(workshop, free_port):
    seats = [
        seat(workshop, "ws01", path="nosuch"),
        seat(workshop, "ws02", origin="https://elsewhere.example"),
        Target("ws03", f"ws://127.0.0.1:{free_port()}/ws/path-ws03"),
        Target("ws04", f"ws://127.0.0.1:{workshop.web}/"),
        Target("ws05", f"tcp://127.0.0.1:{workshop.web}"),
    ]
    report = await rehearsal.play(seats, Plan(patience=0.3, seconds=60))
    told = {who[0]: reason for reason, who in report.failed.items()}
    assert told["ws01"] == "the gate refused it (HTTP 404): There is no such desktop, or it is stopped."
    assert told["ws02"].startswith("the gate refused it (HTTP 403): ")
    assert "`origins`" in told["ws02"]
    assert told["ws03"] == "the connection is refused: nobody listens there"
    assert told["ws04"].startswith("the websocket")  # a page is there
    assert told["ws05"] == "no word from the desktop came within 0.3 s"
    assert report.seconds < 30  # nobody is left to play on


async def test_a_desktop_that_is_dead_is_told_as_the_gate_tells_it(workshop, free_port):
    port = free_port()
    workshop.write(f"ws09 127.0.0.1 path-ws09 - {port} secret09")
    await workshop.until(lambda status: [account["name"] for account in status["accounts"]] == ["ws09"])
    report = await rehearsal.play([seat(workshop, "ws09")], Plan(seconds=60))
    assert report.failed == {f"the gate said: desktop 127.0.0.1:{port} refused the connection": ["ws09"]}


async def test_a_desktop_that_is_stopped_is_a_drop_and_the_last_one_ends_the_rehearsal(workshop):
    async with Rehearsal([seat(workshop, name) for name in NAMES], Plan()) as rehearsed:
        await rehearsed.arrive()
        playing = asyncio.ensure_future(rehearsed.go_on(60))
        await workshop.gate.stop(["ws02"])
        await until(lambda: rehearsed.report().dropped)
        report = rehearsed.report()
        assert report.drops == {"the gate said: stopped by the organizers": ["ws02"]}
        assert (report.connected, report.playing) == (3, 2)
        await workshop.gate.stop(["ws*"])
        async with asyncio.timeout(10):
            await playing


# ---- desktops of our own making


class Scripted:
    """A desktop without a password: a login, then `update` for each request, as long as it is asked to answer."""

    update = b"\0\0\0\1" + b"\0\0\0\0\0\2\0\1\0\0\0\0" + bytes(8)

    def __init__(self):
        self.answers = self.listens = True
        self.greeting = b"RFB 003.008\n"
        self.after = b""
        self.transports = []

    def __call__(self):
        return Session(self)

    @contextlib.asynccontextmanager
    async def serving(self):
        server = await asyncio.get_running_loop().create_server(self, "127.0.0.1", 0)
        try:
            yield Target("ws01", f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        finally:
            server.close()
            for transport in self.transports:
                transport.abort()


class Session(asyncio.Protocol):
    def __init__(self, desktop):
        self.desktop = desktop
        self.received = b""
        self.replies = iter(
            [
                (12, b"\x01\x01"),
                (1, bytes(4)),
                (1, rfb.ServerInit(640, 480, rfb.PixelFormat.unpack(bytes([32]) + bytes(15)), "x").pack()),
                (28, b""),
            ]
        )
        self.reply = next(self.replies)

    def connection_made(self, transport):
        self.transport = transport
        self.desktop.transports.append(transport)
        transport.write(self.desktop.greeting)

    def data_received(self, data):
        self.received += data
        while self.desktop.listens and self.reply is not None and len(self.received) >= self.reply[0]:
            size, answer = self.reply
            self.received = self.received[size:]
            self.reply = next(self.replies, None)
            self.transport.write(answer + (self.desktop.after if len(answer) > 4 else b""))
        while self.reply is None and len(self.received) >= 10:
            self.received = self.received[10:]
            if self.desktop.answers:
                self.transport.write(self.desktop.update)


async def test_rfb_over_plain_tcp_without_a_password():
    desktop = Scripted()
    async with desktop.serving() as target, Rehearsal([target] * 3, Plan(Play.FIXED, rate=100)) as rehearsed:
        await rehearsed.arrive()
        await until(lambda: rehearsed.report().latency.count >= 100)
        report = rehearsed.report()
    assert (report.connected, report.drops) == (3, {})
    assert 0 < report.updates <= report.latency.count  # a late answer stands for questions not asked meanwhile, too


async def test_what_a_desktop_says_in_one_piece_with_the_login_is_heard():
    desktop = Scripted()
    desktop.after = b"\x02" + Scripted.update  # a bell, and an update before anybody asked
    async with desktop.serving() as target, Rehearsal([target], Plan(Play.FIXED, rate=0)) as rehearsed:
        await rehearsed.arrive()
        assert rehearsed.report().updates == 1


async def test_a_desktop_that_falls_silent_is_named_and_its_questions_are_late(monkeypatch):
    monkeypatch.setattr("vncgate.rehearsal.stage.SILENCE", 0.05)
    desktop = Scripted()
    async with desktop.serving() as target, Rehearsal([target], Plan(Play.FIXED, rate=100)) as rehearsed:
        await rehearsed.arrive()
        await until(lambda: rehearsed.report().updates)
        desktop.answers = False
        await until(lambda: rehearsed.report().silent)
        report = rehearsed.report()
    assert report.silent == ["ws01"]
    assert report.late > 0
    assert report.asked == report.updates + 1


async def test_a_desktop_that_does_not_keep_to_rfb_is_a_drop():
    desktop = Scripted()
    desktop.update = b"\xff"
    async with desktop.serving() as target, Rehearsal([target], Plan(Play.FIXED, rate=100)) as rehearsed:
        await rehearsed.arrive()
        async with asyncio.timeout(10):
            await rehearsed.go_on(60)
        drops = rehearsed.report().drops
    assert drops == {
        "the desktop does not keep to RFB: it sent a message of type 255, which nobody asked for": ["ws01"]
    }


async def test_a_connection_that_is_cut_is_a_drop():
    desktop = Scripted()
    async with desktop.serving() as target, Rehearsal([target], Plan(Play.FIXED, rate=0)) as rehearsed:
        await rehearsed.arrive()
        desktop.transports[0].abort()
        async with asyncio.timeout(10):
            await rehearsed.go_on(60)
        assert rehearsed.report().drops == {"the connection was cut without a word": ["ws01"]}


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "the desktop does not speak VNC (no RFB greeting)"),
        (b"RFB 003.008\n", "the desktop did not finish the login within 0.2 s"),
        (b"", "no word from the desktop came within 0.2 s"),
    ],
)
async def test_a_desktop_that_cannot_be_logged_in_to(greeting, words):
    desktop = Scripted()
    desktop.greeting, desktop.listens = greeting, False
    async with desktop.serving() as target:
        report = await rehearsal.play([target], Plan(patience=0.2))
    assert report.failed == {words: ["ws01"]}


async def test_a_websocket_that_is_never_opened_is_let_go_in_time():
    async with Peer() as peer:
        peer.echo = False
        target = Target("ws01", f"ws://127.0.0.1:{peer.port}/")
        report = await rehearsal.play([target], Plan(patience=0.2))
    assert report.failed == {"the site did not open the way within 0.2 s": ["ws01"]}


async def test_a_site_that_hangs_up_on_the_request_is_told_at_once():
    async with Peer() as peer:
        peer.echo = False
        arriving = asyncio.ensure_future(rehearsal.play([Target("ws01", f"ws://127.0.0.1:{peer.port}/")], Plan()))
        await until(lambda: peer.received)
        peer.writer.transport.abort()
        async with asyncio.timeout(10):
            report = await arriving
    assert [*report.failed] == ["the connection was cut before the websocket stood: is the URL's https or http right?"]


async def test_it_can_be_ended_while_they_still_arrive(workshop, caplog):
    caplog.set_level(logging.WARNING)
    async with Rehearsal([seat(workshop, name) for name in NAMES], Plan(ramp=600)) as rehearsed:
        arriving = asyncio.ensure_future(rehearsed.arrive())
        await until(lambda: rehearsed.report().connected)
        arriving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await arriving
        assert rehearsed.report().connected == 1
    assert caplog.records == []


def test_no_report_and_no_seat_shows_a_password():
    target = Target("ws01", "wss://x/ws/ws01", Secret("Canary01"))
    assert "Canary" not in repr(target)
