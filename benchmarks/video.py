"""A video on an X display: a window whose 480 x 270 pixels are new 25 times a second, until the display is gone.

It speaks the core of the X11 protocol by itself (X Window System Protocol, appendix B), so that a recording needs no
player, no codec and no film. Colours drift over it, with a camera's grain: a picture that Tight sends as JPEG.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time

import numpy as np

WIDTH, HEIGHT, RATE = 480, 270, 25
BANDS = 2
"""An image is sent in so many requests: one has 262,140 bytes at most."""
CREATE_WINDOW, MAP_WINDOW, CREATE_GC, PUT_IMAGE = 1, 8, 55, 72
Z_PIXMAP, INPUT_OUTPUT = 2, 1


def main() -> None:
    """Play on $DISPLAY, a local display of 24 bits that lets this user in without a cookie."""
    with socket.socket(socket.AF_UNIX) as display:
        display.connect("/tmp/.X11-unix/X" + os.environ["DISPLAY"].removeprefix(":"))  # noqa: S108
        display.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0))
        stream = display.makefile("rb")
        accepted, length = struct.unpack("<BxxxxxH", stream.read(8))
        setup = stream.read(4 * length)
        if accepted != 1:
            raise ConnectionRefusedError(f"the display refused: {setup!r}")
        (window,) = struct.unpack_from("<I", setup, 4)
        (vendor,) = struct.unpack_from("<H", setup, 16)
        (root,) = struct.unpack_from("<I", setup, 32 + (vendor + 3) // 4 * 4 + 8 * setup[21])
        context = window + 1
        display.sendall(
            struct.pack("<BBHIIhhHHHHII", CREATE_WINDOW, 0, 8, window, root, 0, 0, WIDTH, HEIGHT, 0, INPUT_OUTPUT, 0, 0)
            + struct.pack("<BxHI", MAP_WINDOW, 2, window)
            + struct.pack("<BxHIII", CREATE_GC, 4, context, window, 0)
        )
        rows = HEIGHT // BANDS
        words = 6 + WIDTH * rows
        began = time.monotonic()
        for number in itertools.count():
            frame = picture(number / RATE)
            for top in range(0, HEIGHT, rows):
                head = (PUT_IMAGE, Z_PIXMAP, words, window, context, WIDTH, rows, 0, top, 0, 24)
                display.sendall(struct.pack("<BBHIIHHhhBBxx", *head) + frame[top : top + rows].tobytes())
            time.sleep(max(0, began + (number + 1) / RATE - time.monotonic()))


def picture(seconds: float) -> np.ndarray:
    """The picture at a moment: rows of pixels of four bytes."""
    y, x = np.ogrid[0:HEIGHT, 0:WIDTH]
    grain = np.random.default_rng(round(seconds * RATE)).normal(0, 4, (HEIGHT, WIDTH))
    frame = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    for colour in range(3):
        wave = np.sin(x / (37 + 9 * colour) + seconds * 2) + np.sin(y / (23 + 7 * colour) - seconds * 1.5 + x / 90)
        frame[..., colour] = np.clip(128 + 50 * wave + grain, 0, 255)
    return frame


if __name__ == "__main__":
    main()
