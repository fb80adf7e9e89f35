"""The embedded desktop, seen by a viewer that speaks RFB over its socket."""

import asyncio
import contextlib
import struct

import pytest

from vncgate import probe
from vncgate.demo import desktop as module
from vncgate.demo.canvas import NATIVE
from vncgate.demo.screen import HEIGHT, PANEL, WIDTH
from vncgate.errors import DesktopError
from vncgate.model import Account, Desktop, Readiness, Secret
from vncgate.rfb import ClientHandshake, PixelFormat, ServerInit

PASSWORD = Secret("secret01")
RGB565 = PixelFormat(16, 16, True, True, 31, 63, 31, 11, 5, 0)


class Viewer:
    """Logs in, asks, and keeps the picture it was sent."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.format = NATIVE
        self.picture = {}

    async def log_in(self) -> ServerInit:
        handshake = ClientHandshake(PASSWORD)
        while handshake.result is None:
            handshake.receive_data(await self.reader.read(4096))
            self.writer.write(handshake.data_to_send())
        return handshake.result

    def ask(self, *, incremental: bool) -> None:
        self.writer.write(struct.pack(">BBHHHH", 3, incremental, 0, 0, WIDTH, HEIGHT))

    def key(self, char: str) -> None:
        for down in (1, 0):
            self.writer.write(struct.pack(">BBxxI", 4, down, ord(char)))

    async def update(self) -> list[tuple[int, int, int, int]]:
        """Read one update; returns its rectangles, and keeps their pixels by place."""
        kind, count = struct.unpack(">BxH", await self.reader.readexactly(4))
        assert kind == 0
        rects = []
        for _ in range(count):
            *rect, encoding = struct.unpack(">HHHHi", await self.reader.readexactly(12))
            assert encoding == 0
            x, y, width, height = rect
            assert x + width <= WIDTH
            assert y + height <= HEIGHT
            self.picture[tuple(rect)] = await self.reader.readexactly(width * height * self.format.bits_per_pixel // 8)
            rects.append(tuple(rect))
        return rects

    async def first_picture(self) -> None:
        self.ask(incremental=False)
        rects = await self.update()
        assert sum(width * height for _, _, width, height in rects) >= WIDTH * HEIGHT


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ws01"


@pytest.fixture
async def desktop(path, monkeypatch):
    monkeypatch.setattr(module.time, "strftime", lambda _: "12:34:56")
    account = Account("ws01", Desktop(unix=str(path)), "websocketpath01", None, PASSWORD)
    async with module.serve(account, path, 0.6):
        yield account.desktop


@contextlib.asynccontextmanager
async def viewing(desktop, log_in: bool = True):
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(desktop.unix)
        viewer = Viewer(reader, writer)
        if log_in:
            await viewer.log_in()
        try:
            yield viewer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_it_is_an_ordinary_desktop_to_the_probe(desktop):
    found = await probe.login(desktop, PASSWORD, connect_timeout=5, timeout=5)
    assert found == ServerInit(WIDTH, HEIGHT, NATIVE, "ws01 (vncgate demo)")
    with pytest.raises(DesktopError, match="refused the password") as caught:
        await probe.login(desktop, Secret("wrong"), connect_timeout=5, timeout=5)
    assert caught.value.readiness is Readiness.WRONG_PASSWORD


async def test_typing_changes_pixels_of_the_panel(desktop):
    async with viewing(desktop) as viewer:
        await viewer.first_picture()
        viewer.ask(incremental=True)
        viewer.key("a")
        rects = await viewer.update()
        assert any(PANEL.y < y < PANEL.y + PANEL.height for _, y, _, _ in rects)
        assert sum(width * height for _, _, width, height in rects) < WIDTH * HEIGHT // 4


async def test_the_pointer_is_drawn_where_it_is(desktop):
    async with viewing(desktop) as viewer:
        await viewer.first_picture()
        viewer.ask(incremental=True)
        viewer.writer.write(struct.pack(">BBHH", 5, 1, 300, 40))
        assert (300, 40, 12, 18) in await viewer.update()


async def test_all_viewers_share_the_screen(desktop):
    async with viewing(desktop) as one, viewing(desktop) as other:
        for viewer in (one, other):
            await viewer.first_picture()
            viewer.ask(incremental=True)
        one.key("a")
        assert await one.update()
        assert await other.update()


async def silent(viewer) -> bool:
    """Whether it is sent nothing for a moment."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await viewer.update()
            return False
    return True


async def test_nothing_is_sent_while_nothing_changes(desktop):
    async with viewing(desktop) as viewer:
        await viewer.first_picture()
        viewer.ask(incremental=True)
        assert await silent(viewer)


async def test_nothing_is_sent_that_was_not_asked_for(desktop):
    async with viewing(desktop) as viewer:
        await viewer.first_picture()
        viewer.key("a")
        assert await silent(viewer)


async def test_the_clock_turns(desktop, monkeypatch):
    async with viewing(desktop) as viewer:
        await viewer.first_picture()
        monkeypatch.setattr(module.time, "strftime", lambda _: "12:34:57")
        viewer.ask(incremental=True)
        assert await viewer.update()


async def test_a_viewer_has_its_own_pixel_format(desktop):
    async with viewing(desktop) as viewer:
        viewer.format = RGB565
        viewer.writer.write(struct.pack(">Bxxx", 0) + RGB565.pack())
        viewer.writer.write(struct.pack(">BxHii", 2, 2, 7, 0))
        await viewer.first_picture()


async def test_a_clipboard_is_read_past(desktop):
    async with viewing(desktop) as viewer:
        viewer.writer.write(struct.pack(">BxxxI", 6, 100_000) + b"x" * 100_000)
        await viewer.first_picture()


@pytest.mark.parametrize(
    "data",
    [
        b"\x63",  # no such message
        struct.pack(">BxxxI", 6, 2**31),  # a clipboard without end
        struct.pack(">Bxxx", 0) + PixelFormat(8, 8, False, False, 0, 0, 0, 0, 0, 0).pack(),  # a colour map
        struct.pack(">Bxxx", 0) + bytes(16),  # pixels of no bits
    ],
)
async def test_a_viewer_that_cannot_be_served_is_sent_away(desktop, data):
    async with viewing(desktop) as viewer:
        viewer.writer.write(data)
        assert await viewer.reader.read(1) == b""
    async with viewing(desktop) as viewer:
        await viewer.first_picture()


@pytest.mark.parametrize("data", [b"RFB 003.003\n", b"RFB 003.008\n\x01", b"GET / HTTP/1.1\r\n\r\n"])
async def test_only_a_login_by_rfb_3_8_and_vncauth(desktop, data):
    async with viewing(desktop, log_in=False) as viewer:
        viewer.writer.write(data)
        assert (await viewer.reader.read()) in (b"RFB 003.008\n", b"RFB 003.008\n\x01\x02")


async def test_who_does_not_log_in_is_sent_away(desktop, monkeypatch):
    monkeypatch.setattr(module, "HANDSHAKE_TIMEOUT", 0.05)
    async with viewing(desktop, log_in=False) as viewer:
        assert await viewer.reader.read() == b"RFB 003.008\n"


@contextlib.asynccontextmanager
async def serving(shown: module.DemoDesktop, path):
    async with await asyncio.start_unix_server(shown.accept, path):
        try:
            yield Desktop(unix=str(path))
        finally:
            await shown.drop_viewers()


async def test_a_viewer_that_does_not_read_costs_little_and_stops_nobody(path):
    shown = module.DemoDesktop(Account("ws01", None, "websocketpath01", None, PASSWORD), 0.6)
    async with serving(shown, path) as desktop, viewing(desktop) as idle:
        for _ in range(200):
            idle.ask(incremental=False)
            idle.key("a")
        async with viewing(desktop) as other:
            await other.first_picture()
            held = [viewer._writer.transport.get_write_buffer_size() for viewer in shown.viewers]
            assert 0 < max(held) < 2 * module.BAND * WIDTH * 4


async def test_leaving_drops_the_viewers(path):
    account = Account("ws01", Desktop(unix=str(path)), "websocketpath01", None, PASSWORD)
    async with module.serve(account, path, 0.6):
        reader, writer = await asyncio.open_unix_connection(path)
        viewer = Viewer(reader, writer)
        await viewer.log_in()
        viewer.ask(incremental=True)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
