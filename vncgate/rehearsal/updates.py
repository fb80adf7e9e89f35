"""What a desktop sends to a viewer that is logged in, passed over without being decoded. Bytes in, counts out; pure.

Follows RFC 6143, section 7.6, and for Tight the community's rfbproto. Of every encoding that ENCODINGS asks for, the
length can be told exactly without decoding: Raw and CopyRect by the rectangle, ZRLE by its length, Tight by its control
byte and its lengths (JPEG included). Hextile and RRE would have to be walked through tile by tile, and are not asked
for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator

from vncgate.rfb import PixelFormat

PIXELS = PixelFormat(32, 24, False, True, 255, 255, 255, 0, 8, 16)
"""What pixels are asked for: those that noVNC asks for. Tight then sends three bytes for one."""
RAW, COPY_RECT, TIGHT, ZRLE = 0, 1, 7, 16
DESKTOP_SIZE, LAST_RECT = -223, -224
ENCODINGS = (COPY_RECT, TIGHT, ZRLE, RAW, -26, -254, DESKTOP_SIZE, LAST_RECT)
"""As noVNC prefers them, with its JPEG quality 6 (-26) and compression level 2 (-254)."""
LARGEST_TEXT = 16 * 1024 * 1024
"""Bytes of a clipboard; what claims to be longer is no RFB."""

_PIXEL = 4
_TIGHT_PIXEL = 3
_RECT = struct.Struct(">HHHHi")
_COUNT = struct.Struct(">xH")
_COLOURS = struct.Struct(">xHH")
_TEXT = struct.Struct(">xxxi")
_UNCOMPRESSED = 12  # below so many bytes Tight neither compresses nor says how many

Walk = Generator[int, bytes, None]


class Updates:
    """Follows the server's messages in whatever pieces they come.

    `updated(touched)` is called at the end of each FramebufferUpdate; `touched` says whether one of its rectangles
    reaches into the corner of `corner` pixels (width, height) at the top left.
    """

    def __init__(self, updated: Callable[[bool], None], corner: tuple[int, int]) -> None:
        self._updated = updated
        self._corner = corner
        self._touched = False
        self._partial = bytearray()
        self._walk = self._messages()
        self._need = next(self._walk)

    def feed(self, data: bytes | memoryview) -> None:
        """Take what the server sent. Raises ValueError, in words, where that is no RFB; feed it no more then."""
        at, end = 0, len(data)
        send, partial = self._walk.send, self._partial
        while True:
            need = self._need
            if need < 0:  # bytes to pass over
                if at - need > end:
                    self._need = need + end - at
                    return
                at -= need
                self._need = send(b"")
            elif partial or at + need > end:
                taken = need - len(partial)
                partial += data[at : at + taken]
                if len(partial) < need:
                    return
                at += taken
                piece = bytes(partial)
                partial.clear()
                self._need = send(piece)
            else:
                at += need
                self._need = send(bytes(data[at - need : at]))

    # Each generator below yields how many bytes it wants, or, negative, how many are to be passed over.

    def _messages(self) -> Walk:
        while True:
            kind = (yield 1)[0]
            if kind == 0:  # FramebufferUpdate
                yield from self._update()
            elif kind == 1:  # SetColourMapEntries
                yield -6 * _COLOURS.unpack((yield 5))[1]
            elif kind == 3:  # ServerCutText; negative: the extended clipboard's
                length = abs(_TEXT.unpack((yield 7))[0])
                if length > LARGEST_TEXT:
                    raise ValueError(f"it sent a clipboard of {length} bytes")
                yield -length
            elif kind != 2:  # Bell
                raise ValueError(f"it sent a message of type {kind}, which nobody asked for")

    def _update(self) -> Walk:
        (count,) = _COUNT.unpack((yield 3))
        self._touched = False
        width, height = self._corner
        for _ in range(count):  # 65,535, where LastRect is to end it
            x, y, w, h, encoding = _RECT.unpack((yield 12))
            if encoding == LAST_RECT:
                break
            if encoding == DESKTOP_SIZE:
                continue
            if x < width and y < height:
                self._touched = True
            if encoding == RAW:
                yield -_PIXEL * w * h
            elif encoding == TIGHT:
                yield from _tight(w, h)
            elif encoding == ZRLE:
                yield -int.from_bytes((yield 4), "big")
            elif encoding == COPY_RECT:
                yield -4
            else:
                raise ValueError(f"it sent a rectangle in encoding {encoding}, which nobody asked for")
        self._updated(self._touched)


def _tight(width: int, height: int) -> Walk:
    control = (yield 1)[0] >> 4
    if control == 8:  # fill
        yield -_TIGHT_PIXEL
    elif control == 9:  # JPEG
        yield -(yield from _compact_length())
    elif control > 7:
        raise ValueError(f"it sent a Tight rectangle of type {control}, which there is not")
    else:
        row = width * _TIGHT_PIXEL
        if control & 4:
            kind = (yield 1)[0]
            if kind == 1:  # palette
                colours = (yield 1)[0] + 1
                yield -_TIGHT_PIXEL * colours
                row = (width + 7) // 8 if colours == 2 else width
            elif kind > 2:
                raise ValueError(f"it sent a Tight rectangle with filter {kind}, which there is not")
        size = row * height
        yield -size if size < _UNCOMPRESSED else -(yield from _compact_length())


def _compact_length() -> Generator[int, bytes, int]:
    """One to three bytes, the lowest seven bits first."""
    length = 0
    for shift in (0, 7, 14):
        byte = (yield 1)[0]
        length |= (byte if shift == 14 else byte & 0x7F) << shift
        if byte < 0x80:
            break
    return length
