"""The embedded desktop: a small RFB 3.8 server (RFC 6143; VncAuth, Raw encoding) for where there is no TigerVNC.

All viewers of a desktop share its screen. A viewer is sent what changed when it asks for it, band by band as it
reads: one that does not read costs a band of pixels in its buffer and a few rectangles.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

from vncgate import rfb, tasks
from vncgate.demo.canvas import NATIVE, Rect, Region, Translation
from vncgate.demo.screen import HEIGHT, WIDTH, Screen
from vncgate.model import Account

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a viewer may take to log in."""
LINGER = 1.0
"""Seconds that a viewer may take to read the last words."""
BAND = 50
"""Lines of a picture that are sent at once, so that no other viewer waits long."""
MAX_CUT_TEXT = 1 << 20
"""Bytes of clipboard that a viewer may send; they are dropped."""

_RECT = struct.Struct(">HHHHi")
_RAW = 0


@contextlib.asynccontextmanager
async def serve(account: Account, socket: Path, hue: float) -> AsyncIterator[None]:
    """A desktop for `account` on the unix socket `socket`, in the colour `hue` (0 to 1)."""
    desktop = DemoDesktop(account, hue)
    server = await asyncio.start_unix_server(desktop.accept, socket)
    clock = tasks.spawn(desktop.keep_time(), f"{account.name}: clock")
    try:
        yield
    finally:
        server.close()
        await tasks.end(clock)
        await desktop.drop_viewers()
        await server.wait_closed()


class DemoDesktop:
    """One account's screen, and who looks at it."""

    def __init__(self, account: Account, hue: float) -> None:
        self.account = account
        self.screen = Screen(account.title, hue)
        self.viewers: set[Viewer] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A viewer connected."""
        task = tasks.spawn(self._attend(reader, writer), f"{self.account.name}: viewer")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drop_viewers(self) -> None:
        """Send all viewers away; ends when they are gone."""
        await tasks.end(*self._tasks)

    async def keep_time(self) -> None:
        """Turn the clock."""
        while True:
            self.screen.tick(time.strftime("%H:%M:%S"))
            self.publish()
            await asyncio.sleep(1 - time.time() % 1)

    def publish(self) -> None:
        """Tell every viewer what was drawn."""
        changed = self.screen.canvas.changed
        for viewer in self.viewers:
            viewer.see(changed)
        changed.clear()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                welcome = await self._log_in(reader, writer)
            if welcome:
                await Viewer(self, reader, writer).attend()
        except (OSError, EOFError, ValueError):  # gone, too slow, or speaking something else: no viewer any more
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(LINGER):
                    await writer.wait_closed()
            writer.transport.abort()

    async def _log_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """The server's side of the handshake (RFC 6143, section 7.1 to 7.3)."""
        writer.write(b"RFB 003.008\n")
        if await reader.readexactly(12) != b"RFB 003.008\n":
            raise ValueError("a viewer that does not speak RFB 3.8")
        writer.write(bytes([1, rfb.SECURITY_VNC_AUTH]))
        if await reader.readexactly(1) != bytes([rfb.SECURITY_VNC_AUTH]):
            raise ValueError("a viewer that does not know VncAuth")
        challenge = secrets.token_bytes(rfb.CHALLENGE_SIZE)
        writer.write(challenge)
        answer = rfb.vnc_auth(self.account.password.reveal(), challenge)
        if not hmac.compare_digest(await reader.readexactly(rfb.CHALLENGE_SIZE), answer):
            reason = b"Authentication failure"
            writer.write(struct.pack(">II", rfb.RESULT_FAILED, len(reason)) + reason)
            return False
        writer.write(rfb.RESULT_OK.to_bytes(4, "big"))
        await reader.readexactly(1)  # ClientInit: shared or not, the screen is
        writer.write(rfb.ServerInit(WIDTH, HEIGHT, NATIVE, f"{self.account.title} (vncgate demo)").pack())
        await writer.drain()
        return True


class Viewer:
    """One viewer: what it has not seen yet, and whether it has asked."""

    def __init__(self, desktop: DemoDesktop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._desktop = desktop
        self._reader = reader
        self._writer = writer
        self._translation = Translation(NATIVE)
        self._unseen = Region()
        self._asked = False
        self._due = asyncio.Event()

    async def attend(self) -> None:
        """Serve it until it goes; raises OSError, EOFError or ValueError then."""
        painter = tasks.spawn(self._paint(), f"{self._desktop.account.name}: painter")
        self._desktop.viewers.add(self)
        try:
            while True:
                await self._obey((await self._reader.readexactly(1))[0])
        finally:
            self._desktop.viewers.discard(self)
            self._desktop.screen.release_keys()
            await tasks.end(painter)

    def see(self, changed: list[Rect]) -> None:
        """These rectangles of the screen have changed."""
        for rect in changed:
            self._unseen.add(rect)
        self._wake()

    def _wake(self) -> None:
        if self._asked and self._unseen:
            self._due.set()

    async def _obey(self, kind: int) -> None:
        """Read one message (RFC 6143, section 7.5) and do what it says."""
        read, screen = self._reader.readexactly, self._desktop.screen
        match kind:
            case 0:  # SetPixelFormat
                self._translation = Translation(rfb.PixelFormat.unpack((await read(19))[3:]))
            case 2:  # SetEncodings: Raw is in every list
                (count,) = struct.unpack(">xH", await read(3))
                await read(4 * count)
            case 3:  # FramebufferUpdateRequest
                incremental, *area = struct.unpack(">BHHHH", await read(9))
                if not incremental:
                    self._unseen.add(Rect(*area).clip(screen.canvas.rect))
                self._asked = True
                self._wake()
            case 4:  # KeyEvent
                down, keysym = struct.unpack(">BxxI", await read(7))
                screen.key(keysym, bool(down))
                self._desktop.publish()
            case 5:  # PointerEvent
                buttons, x, y = struct.unpack(">BHH", await read(5))
                screen.pointer(x, y, buttons)
                self._desktop.publish()
            case 6:  # ClientCutText
                (length,) = struct.unpack(">xxxI", await read(7))
                if length > MAX_CUT_TEXT:
                    raise ValueError(f"a clipboard of {length} bytes")
                await read(length)
            case _:
                raise ValueError(f"message {kind}")

    async def _paint(self) -> None:
        """Send an update whenever one is asked for and something has changed."""
        canvas = self._desktop.screen.canvas
        with contextlib.suppress(OSError):  # whoever reads from the viewer notices too
            while True:
                await self._due.wait()
                self._due.clear()
                self._asked = False
                translation = self._translation  # the one that it asked in
                bands = [band for rect in self._unseen.take() for band in rect.bands(BAND)]
                self._writer.write(struct.pack(">BxH", 0, len(bands)))
                for band in bands:
                    pixels = translation.translate(canvas.pixels(band))
                    self._writer.write(_RECT.pack(*band, _RAW) + pixels)
                    await self._writer.drain()
                    await asyncio.sleep(0)
