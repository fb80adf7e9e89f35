"""The gate's own login at a real Xvnc, and who may only watch there."""

from __future__ import annotations

import asyncio
import contextlib
import struct

import pytest

from tests.engines.desktop import limits
from tests.engines.raw import eventually
from tests.engines.vnc import COOKIE, DIGEST, OTHER, OTHER_DIGEST, browser, say
from tests.real.conftest import need
from tests.real.xvnc import Xvnc
from vncgate.engines.base import GOING_AWAY
from vncgate.engines.relay import Relay
from vncgate.errors import DesktopError
from vncgate.listeners import bind
from vncgate.model import Readiness, Route
from vncgate.people import Mode
from vncgate.rfb import vnc_auth

need("Xvnc", "openbox", "xterm")
pytestmark = pytest.mark.real

RETURN = 0xFF0D
WHOLE = struct.pack(">BBHHHH", 3, 0, 0, 0, 800, 600)
RAW_ONLY = struct.pack(">BxHi", 2, 1, 0)
PICTURE = 4 + 12 + 800 * 600 * 4
"""Bytes of a FramebufferUpdate of the whole screen in one rectangle."""


class Desk:
    """A relay before an Xvnc: COOKIE may use the desktop, OTHER may watch it."""

    def __init__(self, server):
        self.server = server
        self.password = server.password.reveal()
        self.suspects = []

    async def __aenter__(self):
        self.sock = bind("127.0.0.1", 0, "test")
        self.port = self.sock.getsockname()[1]
        self.relay = Relay(limits(guarded=True, max_connections=100))
        await self.relay.start(None)
        await self.relay.admit({"ws01": {DIGEST: Mode.CONTROL, OTHER_DIGEST: Mode.VIEW}})
        route = Route("ws01", self.server.desktop, "path", self.port, watch_input=True, guarded=True)
        self.proxy = await self.relay.open(route, self.sock, lambda *told: self.suspects.append(told), self.answer)
        return self

    async def __aexit__(self, *exc):
        await self.relay.aclose()
        await self.proxy.close(GOING_AWAY, "end of the test")
        self.sock.close()

    async def answer(self, challenge):
        if sum(readiness is Readiness.WRONG_PASSWORD for _, readiness in self.suspects) >= 3:
            raise DesktopError("left alone", Readiness.WRONG_PASSWORD)
        return vnc_auth(self.password, challenge) if challenge else b""

    @contextlib.asynccontextmanager
    async def inside(self, cookie=COOKIE):
        """A browser that is logged in: (transport, listener)."""
        async with browser(self.port, cookie=cookie) as (socket, heard):
            say(socket, b"RFB 003.008\n\1\1")
            await heard.until(lambda: len(heard.data) >= 12 + 2 + 4 + 24 or heard.closed, 30)
            yield socket, heard


def types(text):
    keys = [RETURN if character == "\n" else ord(character) for character in text]
    return b"".join(struct.pack(">BBxxI", 4, down, key) for key in keys for down in (1, 0))


def clicks(x, y):
    return b"".join(struct.pack(">BBHH", 5, mask, x, y) for mask in (0, 1, 0))


async def test_who_watches_sees_the_desktop_and_nothing_of_what_they_do_arrives(tmp_path):
    with Xvnc(tmp_path, session=True) as server:
        async with Desk(server) as desk, desk.inside() as (hands, _), desk.inside(OTHER) as (eyes, heard):
            del heard.data[:]
            say(eyes, RAW_ONLY + WHOLE)
            await heard.until(lambda: len(heard.data) >= PICTURE, 30)
            assert heard.data[:2] == b"\0\0", "a FramebufferUpdate"
            for piece in (types("touch watched\n"), clicks(400, 300), types("touch watched.too\n")):
                say(eyes, piece[:5])
                say(eyes, piece[5:])
            del heard.data[:]
            say(eyes, WHOLE)  # behind all that: when it is answered, Xvnc has had all that was to come
            await heard.until(lambda: len(heard.data) >= PICTURE, 30)
            say(hands, types("touch used\n"))
            await eventually((tmp_path / "used").exists, 30)
            assert not list(tmp_path.glob("watched*"))
            assert desk.proxy.traffic().connections == 2
            assert not heard.closed


async def test_whatever_browsers_do_the_servers_blacklist_is_not_filled(tmp_path):
    """Twenty leave in the middle of everything; the gate has one address, which would be locked out at five."""
    with Xvnc(tmp_path, blacklist=True) as server:
        async with Desk(server) as desk:
            for at in range(20):
                async with browser(desk.port) as (socket, _):
                    say(socket, b"RFB 003.008\n\1\1"[: at % 15])
                    await asyncio.sleep(0.002 * (at % 5))
            async with desk.inside() as (_, heard):
                assert not heard.closed
        assert not desk.suspects


async def test_a_wrong_password_of_many_impatient_browsers_locks_nobody_out(tmp_path):
    with Xvnc(tmp_path, blacklist=True) as server:
        async with Desk(server) as desk:
            right, desk.password = desk.password, "wrong"
            async with contextlib.AsyncExitStack() as stack:
                browsers = [await stack.enter_async_context(desk.inside()) for _ in range(10)]
                assert {heard.closed[0] for _, heard in browsers} == {1014}
            assert len(desk.suspects) == 3
            desk.password = right
            desk.suspects.clear()
            async with desk.inside() as (_, heard):
                assert not heard.closed


async def test_a_server_that_bans_is_told_as_such(tmp_path):
    with Xvnc(tmp_path, blacklist=True) as server:
        for _ in range(6):
            reader, writer = await asyncio.open_connection(server.desktop.host, server.desktop.port)
            await reader.read(12)
            writer.close()
        async with Desk(server) as desk, desk.inside() as (_, heard):
            assert heard.closed[0] == 1014
            assert "after too many failures" in heard.closed[1]
            assert [readiness for _, readiness in desk.suspects] == [Readiness.OFFLINE]
