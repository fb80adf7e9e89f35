"""A picture in memory: rectangles and text are drawn into it, and what changed is told. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vncgate.demo import font
from vncgate.rfb import PixelFormat

NATIVE = PixelFormat(32, 24, sys.byteorder == "big", True, 255, 255, 255, 16, 8, 0)
"""The canvas's own pixels: 0x00RRGGBB in this machine's byte order."""
BYTES = 4

Colour = int
"""0xRRGGBB"""


class Rect(NamedTuple):
    """A rectangle of pixels."""

    x: int
    y: int
    width: int
    height: int

    def clip(self, other: Rect) -> Rect:
        """What of this lies in `other`; without area where that is nothing."""
        left, top = max(self.x, other.x), max(self.y, other.y)
        right = min(self.x + self.width, other.x + other.width)
        bottom = min(self.y + self.height, other.y + other.height)
        return Rect(left, top, max(0, right - left), max(0, bottom - top))

    def join(self, other: Rect) -> Rect:
        """The smallest that has both in it."""
        left, top = min(self.x, other.x), min(self.y, other.y)
        right = max(self.x + self.width, other.x + other.width)
        bottom = max(self.y + self.height, other.y + other.height)
        return Rect(left, top, right - left, bottom - top)

    @property
    def area(self) -> int:
        """Its pixels."""
        return self.width * self.height

    def bands(self, height: int) -> Iterator[Rect]:
        """Itself in pieces of at most `height` lines."""
        for top in range(self.y, self.y + self.height, height):
            yield Rect(self.x, top, self.width, min(height, self.y + self.height - top))


class Region:
    """What a viewer has not seen yet: a few rectangles, joined to one when they become many."""

    LIMIT = 16

    def __init__(self) -> None:
        self._rects: list[Rect] = []

    def __bool__(self) -> bool:
        return bool(self._rects)

    def add(self, rect: Rect) -> None:
        """`rect` changed."""
        if not rect.area or any(rect.clip(known) == rect for known in self._rects):
            return
        self._rects = [known for known in self._rects if known.clip(rect) != known]
        self._rects.append(rect)
        if len(self._rects) > self.LIMIT:
            first, *others = self._rects
            for other in others:
                first = first.join(other)
            self._rects = [first]

    def take(self) -> Sequence[Rect]:
        """All rectangles; the region is empty then."""
        taken, self._rects = self._rects, []
        return taken


class Canvas:
    """`width` x `height` pixels, with a pointer that lies over them without being drawn into them.

    `changed` has the rectangles that changed since somebody last cleared it.
    """

    def __init__(self, width: int, height: int) -> None:
        self.rect = Rect(0, 0, width, height)
        self.changed: list[Rect] = []
        self._pixels = bytearray(width * height * BYTES)
        self._pointer = (width, height, 0)  # out of sight

    def fill(self, rect: Rect, colour: Colour) -> None:
        """Paint a rectangle; what lies outside the canvas is cut off."""
        self.changed.append(self._paint(rect, colour))

    def shade(self, rect: Rect, top: Colour, bottom: Colour) -> None:
        """Paint a rectangle as the part that it is of a canvas which goes over from `top` to `bottom`."""
        for line in rect.bands(1):
            self._paint(line, blend(top, bottom, line.y / self.rect.height))
        self.changed.append(rect.clip(self.rect))

    def text(self, x: int, y: int, words: str, colour: Colour, scale: int = 1) -> None:
        """Write a line of text with its top left corner at `x`, `y`, each dot `scale` pixels wide."""
        for place, char in enumerate(words):
            left = x + place * font.ADVANCE * scale
            for column, bits in enumerate(font.columns(char)):
                for top, length in _runs(bits):
                    self._paint(Rect(left + column * scale, y + top * scale, scale, length * scale), colour)
        self.changed.append(text_box(x, y, words, scale).clip(self.rect))

    def point(self, x: int, y: int, colour: Colour) -> None:
        """Show the pointer, its tip at `x`, `y`."""
        for left, top, _ in (self._pointer, (x, y, colour)):
            self.changed.append(Rect(left, top, *POINTER_SIZE).clip(self.rect))
        self._pointer = (x, y, colour)

    def pixels(self, rect: Rect) -> bytes:
        """The native pixels of a rectangle within the canvas, line by line, the pointer over them."""
        size = rect.width * BYTES
        starts = (self._offset(rect.x, row) for row in range(rect.y, rect.y + rect.height))
        lines = [self._pixels[start : start + size] for start in starts]
        left, top, colour = self._pointer
        for row, dots in enumerate(_POINTER, start=top - rect.y):
            if 0 <= row < len(lines):
                for column, dot in enumerate(dots, start=left - rect.x):
                    if dot != " " and 0 <= column < rect.width:
                        shown = colour if dot == "#" else 0
                        lines[row][column * BYTES : (column + 1) * BYTES] = shown.to_bytes(BYTES, sys.byteorder)
        return b"".join(lines)

    def _paint(self, rect: Rect, colour: Colour) -> Rect:
        """Paint what of a rectangle lies in the canvas, and return that."""
        rect = rect.clip(self.rect)
        line = colour.to_bytes(BYTES, sys.byteorder) * rect.width
        for row in range(rect.y, rect.y + rect.height):
            start = self._offset(rect.x, row)
            self._pixels[start : start + len(line)] = line
        return rect

    def _offset(self, x: int, y: int) -> int:
        return (y * self.rect.width + x) * BYTES


def text_box(x: int, y: int, words: str, scale: int = 1) -> Rect:
    """The pixels that `words` take."""
    width = (len(words) * font.ADVANCE - (font.ADVANCE - font.WIDTH)) * scale
    return Rect(x, y, max(0, width), font.HEIGHT * scale)


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """A colour between two: `share` 0 is the first, 1 the second."""
    mixed = 0
    for shift in (16, 8, 0):
        start, end = first >> shift & 255, second >> shift & 255
        mixed |= round(start + (end - start) * share) << shift
    return mixed


class Translation(dict[int, bytes]):
    """Native pixels in a viewer's format (RFC 6143, section 7.4), each worked out once.

    Raises ValueError when the format is one with a colour map, which this is not made for.
    """

    def __init__(self, wanted: PixelFormat) -> None:
        if not wanted.true_colour:
            raise ValueError("a viewer without true colour")
        super().__init__()
        self._wanted = wanted

    def __missing__(self, pixel: int) -> bytes:
        wanted = self._wanted
        value = 0
        for shift, most, place in (
            (16, wanted.red_max, wanted.red_shift),
            (8, wanted.green_max, wanted.green_shift),
            (0, wanted.blue_max, wanted.blue_shift),
        ):
            value |= ((pixel >> shift & 255) * most + 127) // 255 << place
        value &= (1 << wanted.bits_per_pixel) - 1
        self[pixel] = value.to_bytes(wanted.bits_per_pixel // 8, "big" if wanted.big_endian else "little")
        return self[pixel]

    def translate(self, pixels: bytes) -> bytes:
        """Native pixels, as the viewer wants them."""
        if self._wanted == NATIVE:
            return pixels
        return b"".join(map(self.__getitem__, memoryview(pixels).cast("I")))


def _runs(bits: int) -> Iterator[tuple[int, int]]:
    """The runs of set bits in a column: where each begins and how long it is."""
    row = 0
    while bits >> row:
        length = 0
        while bits >> row & 1:
            row, length = row + 1, length + 1
        if length:
            yield row - length, length
        row += 1


_POINTER = (
    ".",
    "..",
    ".#.",
    ".##.",
    ".###.",
    ".####.",
    ".#####.",
    ".######.",
    ".#######.",
    ".########.",
    ".#########.",
    ".######.....",
    ".###.##.",
    ".##. .##.",
    ".#.  .##.",
    "..    .##.",
    ".     .##.",
    "       ..",
)
POINTER_SIZE = (max(map(len, _POINTER)), len(_POINTER))
