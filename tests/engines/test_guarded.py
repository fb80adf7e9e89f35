"""Guarded accounts: who is let in, the gate's own login, who may only watch, and who is sent away."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from types import SimpleNamespace

import pytest

from tests.engines.desktop import limits
from tests.engines.raw import eventually, request
from tests.engines.vnc import COOKIE, DIGEST, INIT, OTHER, OTHER_DIGEST, PASSWORD, Keeper, Vnc, browser, enter, say
from vncgate import cookies
from vncgate.engines.base import GOING_AWAY
from vncgate.engines.relay import Relay
from vncgate.errors import DesktopError
from vncgate.listeners import bind
from vncgate.model import Desktop, Readiness, Route
from vncgate.people import Mode

KEY = struct.pack(">BBxxI", 4, 1, 0x61)
POINTER = struct.pack(">BBHH", 5, 1, 10, 10)
REQUEST = struct.pack(">BBHHHH", 3, 1, 0, 0, 64, 48)


class World:
    """A relay with two guarded accounts, on their own ports and the shared one."""

    def __init__(self, desktop, held_to):
        self.relay = Relay(held_to)
        self.desktop = desktop
        self.sockets = [bind("127.0.0.1", 0, "test") for _ in range(3)]
        self.port, self.other_port, self.shared_port = (sock.getsockname()[1] for sock in self.sockets)
        self.keeper = Keeper()
        self.suspects = []

    async def open(self):
        await self.relay.start(self.sockets[2])
        await self.relay.rest(on=False)
        self.proxies = [
            await self.relay.open(
                Route(name, self.desktop, f"path-{name}", sock.getsockname()[1], watch_input=True, guarded=True),
                sock,
                lambda *told: self.suspects.append(told),
                self.keeper,
            )
            for name, sock in zip(("ws01", "ws02"), self.sockets, strict=False)
        ]
        return self

    def traffic(self):
        return self.proxies[0].traffic()

    async def close(self):
        await self.relay.aclose()
        await asyncio.gather(*(proxy.close(GOING_AWAY, "end of the test") for proxy in self.proxies))
        for sock in self.sockets:
            sock.close()


@contextlib.asynccontextmanager
async def guarded(server, **changes):
    """A World before `server`, where ws01 is open to COOKIE."""
    world = await World(Desktop("127.0.0.1", server.port), limits(guarded=True, **changes)).open()
    await world.relay.admit({"ws01": {DIGEST: Mode.CONTROL}, "ws02": {}})
    try:
        yield world
    finally:
        await world.close()


@pytest.fixture
async def server():
    async with Vnc() as server:
        yield server


@pytest.fixture
async def world(server):
    async with guarded(server) as world:
        yield world


async def answer(port, *lines, path="/websockify"):
    """What a handshake is answered: status line, headers and body."""
    reader, writer, head = await request(port, "Connection: Upgrade", *lines, path=path)
    body = b""
    if not head.startswith("HTTP/1.1 101"):
        async with asyncio.timeout(30):
            body = await reader.read()
    writer.close()
    return head, body


def cookie(value=COOKIE, name=cookies.SESSION):
    return f"Cookie: {name}={value}"


REFUSED = {
    "no cookie": [],
    "another's": [cookie(OTHER)],
    "twice": [f"Cookie: vncgate_session={COOKIE}; vncgate_session={COOKIE}"],
    "twice, in two headers": [cookie(), cookie()],
    "of the other name": [cookie(name=cookies.SECURE_SESSION)],
    "empty": [cookie("")],
    "its digest": [cookie(DIGEST)],
    "quoted": [f'Cookie: vncgate_session="{COOKIE}"'],
}


@pytest.mark.parametrize("lines", REFUSED.values(), ids=REFUSED)
async def test_who_is_not_admitted_gets_nothing_of_the_desktop(world, server, caplog, lines):
    head, body = await answer(world.port, *lines)
    assert head.startswith("HTTP/1.1 403 ")
    assert b"sign in" in body
    assert not server.connections
    assert world.relay.tally().refused == {"not signed in": 1}
    assert "refused a browser (not signed in)" in caplog.text
    for secret in (COOKIE, OTHER, DIGEST, PASSWORD):
        assert secret not in caplog.text


async def test_an_account_is_open_to_its_own_sessions_only(world):
    await world.relay.admit({"ws02": {OTHER_DIGEST: Mode.CONTROL}})
    for port, mine in ((world.port, COOKIE), (world.other_port, OTHER)):
        for value in (COOKIE, OTHER):
            head, _ = await answer(port, cookie(value))
            assert head.startswith("HTTP/1.1 101" if value == mine else "HTTP/1.1 403")
    for path, mine in (("ws01", COOKIE), ("ws02", OTHER)):
        for value in (COOKIE, OTHER):
            head, _ = await answer(world.shared_port, cookie(value), path=f"/ws/path-{path}")
            assert head.startswith("HTTP/1.1 101" if value == mine else "HTTP/1.1 403")


async def test_nobody_learns_which_accounts_there_are(world):
    """One that is there, one that is full, one that was stopped, one that never was: one answer."""
    await world.proxies[1].close(GOING_AWAY, "stopped")
    world.proxies[0].elsewhere = 100
    answers = [
        await answer(world.shared_port, *lines, path=path)
        for path in ("/ws/path-ws01", "/ws/path-ws02", "/ws/nobody", "/elsewhere", "/ws/", "/")
        for lines in ([], [cookie(OTHER)])
    ]
    assert len(set(answers)) == 1
    head, _ = await answer(world.shared_port, cookie(), path="/ws/path-ws01")
    assert head.startswith("HTTP/1.1 503"), "its owner is told"


async def test_what_is_wrong_with_a_request_is_said_the_same_everywhere(world):
    origin = "Origin: https://evil.example"
    answers = [
        await answer(world.shared_port, origin, *lines, path=path)
        for path in ("/ws/path-ws01", "/ws/nobody")
        for lines in ([], [cookie()])
    ]
    assert len(set(answers)) == 1
    assert b"Pages of" in answers[0][1]


async def test_over_https_only_the_hosts_own_cookie_counts_and_only_over_https(server):
    secure = cookie(name=cookies.SECURE_SESSION)
    https = "X-Forwarded-Proto: https"
    async with guarded(server, secure=True) as world:
        for lines, status in [
            ([secure, https], 101),
            ([secure], 403),
            ([secure, "X-Forwarded-Proto: http"], 403),
            ([secure, "X-Forwarded-Proto: https, http"], 403),
            ([secure, https, "X-Forwarded-Proto: http"], 403),
            ([secure, https, "Origin: https://x"], 101),
            ([secure, https, "Origin: http://x"], 403),
            ([secure, https, "Origin: null"], 403),
            ([cookie(), https], 403),
            ([https], 403),
        ]:
            head, _ = await answer(world.port, *lines)
            assert head.startswith(f"HTTP/1.1 {status}"), lines
        assert world.relay.tally().refused == {"not over https": 5, "other site": 1, "not signed in": 2}
    async with guarded(server, secure=True, trusted_proxies=()) as world:
        head, _ = await answer(world.port, secure, https)
        assert head.startswith("HTTP/1.1 403"), "anybody can write that header"


@pytest.mark.parametrize("version", [b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.008\n"])
async def test_the_gate_logs_in_and_the_browser_needs_no_password(world, server, version):
    async with browser(world.port) as (socket, heard):
        await enter(socket, heard, version)
        assert bytes(heard.data) == INIT, "as the desktop said it"
        say(socket, REQUEST + KEY)
        await server.until(lambda: len(server.received) == 18)
        assert bytes(server.received) == REQUEST + KEY
        server.writers[-1].write(b"picture")
        await heard.until(lambda: heard.data.endswith(b"picture"))
        assert world.traffic().used > 0
        assert world.keeper.asked[0] == b""
        assert len(world.keeper.asked[1]) == 16
    assert not world.suspects


async def test_a_desktop_without_a_password_is_entered_too():
    async with Vnc(security=1) as server, guarded(server) as world, browser(world.port) as (socket, heard):
        await enter(socket, heard)
        assert bytes(heard.data) == INIT
        assert world.keeper.asked == [b""]


async def test_the_desktop_is_not_troubled_before_the_browser_has_said_all(world, server):
    async with browser(world.port) as (socket, heard):
        await heard.until(lambda: heard.data)
        say(socket, b"RFB 003.008\n\1")
        await heard.until(lambda: len(heard.data) >= 18)
        assert not server.connections
        assert not world.keeper.asked


async def test_what_is_said_too_early_waits_for_the_desktop(world, server):
    server.go_on.clear()
    async with browser(world.port) as (socket, heard):
        say(socket, b"RFB 003.008\n\1\1" + REQUEST)
        say(socket, KEY)
        await eventually(lambda: server.connections)
        server.go_on.set()
        await server.until(lambda: len(server.received) == 18)
        assert bytes(server.received) == REQUEST + KEY
        assert heard.data.endswith(INIT)


@pytest.mark.parametrize("bytewise", [b"RFB 003.008\n\2", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_browser_that_speaks_no_vnc_is_refused(world, server, bytewise):
    async with browser(world.port) as (socket, heard):
        for at in range(len(bytewise)):
            say(socket, bytewise[at : at + 1])
        await heard.until(lambda: heard.closed)
        assert heard.closed[0] == 1002
        assert "does not speak VNC" in heard.closed[1]
    assert not server.connections


async def test_a_browser_that_says_nothing_is_sent_away(server):
    async with guarded(server, handshake_timeout=0.2) as world, browser(world.port) as (_, heard):
        await heard.until(lambda: heard.closed)
        assert "did not finish the VNC handshake within 0.2 s" in heard.closed[1]


async def test_a_wrong_password_is_told_and_counted_once(world, server):
    world.keeper.password = "wrong"
    async with browser(world.port) as (socket, heard):
        await enter(socket, heard)
        assert heard.closed == (1014, f"desktop 127.0.0.1:{server.port} refused the password")
    assert world.suspects == [(f"desktop 127.0.0.1:{server.port} refused the password", Readiness.WRONG_PASSWORD)]
    assert server.wrong == 1


async def test_a_whole_class_at_once_tries_a_wrong_password_one_by_one(world, server):
    """So that it can be known to be wrong before the fifth has had the server ban everybody."""
    world.keeper.password = "wrong"
    refused = DesktopError("desktop refused the password", Readiness.WRONG_PASSWORD)

    def count(*told):
        if server.wrong >= 3:
            world.keeper.objection = refused

    world.proxies[0].logins._suspect = count
    async with contextlib.AsyncExitStack() as stack:
        browsers = [await stack.enter_async_context(browser(world.port)) for _ in range(12)]
        await asyncio.gather(*(enter(*each) for each in browsers))
        assert {heard.closed[0] for _, heard in browsers} == {1014}
    assert server.wrong == server.connections == 3


async def test_a_desktop_that_is_to_be_left_alone_is(world, server):
    world.keeper.objection = DesktopError("the gate is being renewed: connect again", Readiness.UNKNOWN)
    async with browser(world.port) as (socket, heard):
        await enter(socket, heard)
        assert heard.closed == (1012, "the gate is being renewed: connect again")
    assert not server.connections
    assert not world.suspects


async def test_a_login_that_was_begun_is_finished_though_the_browser_left(world, server):
    """Else the server would count a failure: five impatient people would lock out everybody."""
    server.go_on.clear()
    async with browser(world.port) as (socket, _):
        say(socket, b"RFB 003.008\n\1\1")
        await eventually(lambda: server.connections)
    server.go_on.set()
    await asyncio.wait_for(server.gone.wait(), 30)
    assert (server.logins, server.unfinished) == (1, 0)
    await eventually(lambda: not world.traffic().connections)


async def test_a_desktop_that_hangs_in_the_login_is_given_up(server):
    server.go_on.clear()
    async with guarded(server, handshake_timeout=0.2) as world:
        async with browser(world.port) as (socket, heard):
            await enter(socket, heard)
            assert heard.closed[0] == 1014
            assert "did not finish the login within 0.2 s" in heard.closed[1]
        assert [readiness for _, readiness in world.suspects] == [Readiness.OFFLINE]


async def test_a_desktop_that_is_none_is_told():
    async def serve(reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        other = SimpleNamespace(port=server.sockets[0].getsockname()[1])
        async with guarded(other) as world, browser(world.port) as (socket, heard):
            await enter(socket, heard)
            assert heard.closed[0] == 1014
            assert "does not speak VNC" in heard.closed[1]


async def test_who_only_watches_sends_no_key_and_no_pointer(world, server):
    await world.relay.admit({"ws01": {DIGEST: Mode.VIEW}})
    async with browser(world.port) as (socket, heard):
        await enter(socket, heard)
        assert bytes(heard.data) == INIT
        say(socket, KEY + REQUEST + POINTER)
        say(socket, KEY)
        say(socket, POINTER)
        say(socket, REQUEST)
        await server.until(lambda: len(server.received) >= 20)
        assert bytes(server.received) == REQUEST + REQUEST
        server.writers[-1].write(b"picture")
        await heard.until(lambda: heard.data.endswith(b"picture"))
        assert world.traffic().used == 0, "to watch is no use"
        say(socket, REQUEST + b"\x63" + KEY)
        await heard.until(lambda: heard.closed)
        assert heard.closed == (1008, "who only watches may not send a message of type 99")
    assert not server.received.endswith(KEY)


async def test_those_who_watch_do_not_keep_the_owner_out(server):
    async with guarded(server, max_connections=4) as world, contextlib.AsyncExitStack() as stack:
        await world.relay.admit({"ws01": {DIGEST: Mode.CONTROL, OTHER_DIGEST: Mode.VIEW}})
        for _ in range(2):
            await stack.enter_async_context(browser(world.port, cookie=OTHER))
        head, _ = await answer(world.port, cookie(OTHER))
        assert head.startswith("HTTP/1.1 503")
        for _ in range(2):
            await stack.enter_async_context(browser(world.port))
        head, _ = await answer(world.port, cookie())
        assert head.startswith("HTTP/1.1 503")


async def test_strangers_do_not_fill_the_log(world, caplog):
    for _ in range(50):
        await answer(world.port)
    assert world.relay.tally().refused == {"not signed in": 50}
    assert 1 <= caplog.text.count("refused a browser") < 20


async def test_who_is_signed_out_is_sent_away_and_others_stay(world, server):
    await world.relay.admit({"ws01": {DIGEST: Mode.CONTROL, OTHER_DIGEST: Mode.CONTROL}})
    async with browser(world.port) as (one, gone), browser(world.port, cookie=OTHER) as (two, stays):
        await enter(one, gone)
        await enter(two, stays)
        await world.relay.admit({"ws02": {}})
        await world.relay.admit({"ws01": {OTHER_DIGEST: Mode.CONTROL}})
        await gone.until(lambda: gone.closed)
        assert gone.closed == (1008, "you were signed out")
        say(two, KEY)
        await server.until(lambda: server.received.endswith(KEY))
        assert not stays.closed
        head, _ = await answer(world.port, cookie())
        assert head.startswith("HTTP/1.1 403")


async def test_whose_mode_changed_comes_again(world, server):
    async with browser(world.port) as (socket, heard):
        await enter(socket, heard)
        await world.relay.admit({"ws01": {DIGEST: Mode.VIEW}})
        await heard.until(lambda: heard.closed)
        assert heard.closed == (1012, "what you may do here has changed: connect again")
    async with browser(world.port) as (socket, heard):
        await enter(socket, heard)
        say(socket, KEY + REQUEST)
        await server.until(lambda: server.received)
        assert bytes(server.received) == REQUEST


async def test_who_is_signed_out_in_the_middle_of_the_login_sees_nothing(world, server):
    server.go_on.clear()
    async with browser(world.port) as (socket, heard):
        say(socket, b"RFB 003.008\n\1\1")
        await eventually(lambda: server.connections)
        await world.relay.admit({"ws01": {}})
        server.go_on.set()
        await heard.until(lambda: heard.closed)
        assert heard.closed[0] == 1008
        assert INIT not in heard.data
    await asyncio.wait_for(server.gone.wait(), 30)
    assert (server.logins, server.unfinished) == (1, 0)


async def test_before_anybody_was_admitted_nobody_is(server):
    world = await World(Desktop("127.0.0.1", server.port), limits(guarded=True)).open()
    try:
        head, _ = await answer(world.port, cookie())
        assert head.startswith("HTTP/1.1 403")
    finally:
        await world.close()


async def test_how_far_away_a_browser_is_is_known_though_it_is_busy(server):
    async with guarded(server, ping_interval=0.1) as world, browser(world.port) as (socket, heard):
        await enter(socket, heard)
        pings = heard.pings
        while heard.pings < pings + 3:
            say(socket, KEY)
            await asyncio.sleep(0.01)
        assert 0 < world.traffic().delay < 30
        assert not heard.closed
        heard.on_ws_frame = lambda *_: None  # it answers nothing any more
        before = world.traffic().delay
        await eventually(lambda: world.traffic().delay > before + 0.05)


async def test_closing_an_account_ends_logins_that_hang(server):
    server.go_on.clear()
    async with guarded(server) as world, browser(world.port) as (socket, _):
        say(socket, b"RFB 003.008\n\1\1")
        await eventually(lambda: server.connections)
