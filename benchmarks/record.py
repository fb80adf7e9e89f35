"""Records the sessions that the workload `mix` replays: `python -m benchmarks.record` (two minutes) writes RECORDING.

Each scene is a real TigerVNC (Xvnc, 1280 x 800) with openbox and a program, and a viewer that asks as noVNC does: for
its encodings, quality and compression, and for the next change as soon as the one before is there.

    typing      somebody types prose into an xterm
    scrolling   text runs through an xterm of the whole screen, 20 lines a second, as from a build
    video       video.py: 480 x 270, 25 pictures a second
    windows     somebody drags an xterm over another, both full of text, and rests, in turn

Of each update the time since the one before is kept, in milliseconds, and its bytes: what is on the screen is not.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import random
import select
import shlex
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workloads import RECORDING
from tests.real.xvnc import Xvnc
from vncgate.rehearsal.plan import Plan
from vncgate.rehearsal.script import script
from vncgate.rehearsal.updates import Updates
from vncgate.rfb import ClientHandshake, ServerInit

SECONDS = 20.0
SETTLE = 4.0
"""Seconds until windows have appeared, and the whole screen has been sent."""
TEXT = Path(__file__).parents[1] / "LICENSE"
RETURN = 0xFF0D
"""keysymdef.h, XK_Return; the printable characters of ASCII are their own keysyms."""
Action = tuple[float, bytes]
"""Seconds to wait, and then the viewer's messages (RFC 6143, sections 7.5.4 and 7.5.5)."""


@dataclass(frozen=True)
class Scene:
    """A program, and what somebody does with it."""

    program: list[str]
    actions: Callable[[], Iterator[Action]]


def typing() -> Iterator[Action]:
    """Six keys a second or so, with a rest after each word."""
    pace = random.Random(1)  # noqa: S311
    for character in itertools.cycle(" ".join(TEXT.read_text().split())):
        key = RETURN if character == "." else ord(character)
        pause = pace.uniform(0.2, 0.6) if character == " " else pace.uniform(0.07, 0.2)
        yield pause, struct.pack(">BBxxI", 4, True, key) + struct.pack(">BBxxI", 4, False, key)


def dragging() -> Iterator[Action]:
    """Two seconds of moving with the button down, 50 places a second, then one of rest."""
    for step in itertools.count():
        turn = step / 50
        x, y = 600 + round(250 * math.sin(turn)), 200 + round(150 * math.sin(turn * 1.7))
        yield 0.02, struct.pack(">BBHH", 5, 1, x, y)
        if step % 100 == 99:
            yield 0.02, struct.pack(">BBHH", 5, 0, x, y)
            yield 1.0, b""


def nothing() -> Iterator[Action]:
    """Only look."""
    return iter(())


def _shell(command: str, *options: str) -> list[str]:
    return ["xterm", *options, "-e", "/bin/sh", "-c", command]


def _page(*options: str) -> str:
    return shlex.join(_shell(f"cat {_TEXT}; exec sleep 1000", *options))


_TEXT = shlex.quote(str(TEXT))
SCENES = {
    "typing": Scene(_shell("exec cat", "-maximized"), typing),
    "scrolling": Scene(
        _shell(f"while :; do while read -r line; do echo $line; sleep 0.05; done <{_TEXT}; done", "-maximized"), nothing
    ),
    "video": Scene([sys.executable, str(Path(__file__).with_name("video.py"))], nothing),
    "windows": Scene(
        # The second one's title bar is where the dragging begins; it comes when the first has been placed.
        ["/bin/sh", "-c", f"{_page('-maximized')} & sleep 1; exec {_page('-geometry', '90x30+400+190')}"],
        dragging,
    ),
}


class Viewer:
    """A viewer that is logged in and has asked for the whole screen."""

    def __init__(self, server: Xvnc) -> None:
        self._sock = socket.create_connection((server.desktop.host, server.desktop.port), 10)
        handshake = ClientHandshake(server.password)
        while handshake.result is None:
            self._sock.sendall(handshake.data_to_send())
            handshake.receive_data(self._sock.recv(65536))
        if not isinstance(handshake.result, ServerInit):
            raise ConnectionRefusedError(str(handshake.result))
        lines = script(handshake.result.width, handshake.result.height, Plan())
        self._want = lines.want
        self._updates = Updates(self._updated, (0, 0))
        self._track: list[tuple[float, int]] = []
        self._bytes, self._before = 0, time.monotonic()
        self._sock.sendall(lines.opening)

    def watch(self, seconds: float, actions: Iterator[Action]) -> list[tuple[float, int]]:
        """Act for `seconds`; the (milliseconds since the one before, bytes) of the updates that came meanwhile."""
        self._track = []
        now = self._before = time.monotonic()
        end, due, message = now + seconds, now, b""
        while now < end:
            if now >= due:
                self._sock.sendall(message)
                delay, message = next(actions, (seconds, b""))
                due += delay
            elif select.select([self._sock], [], [], min(due, end) - now)[0]:
                self._receive(self._sock.recv(262144))
            now = time.monotonic()
        return self._track

    def _receive(self, data: bytes) -> None:
        if not data:
            raise ConnectionResetError("the desktop hung up")
        self._bytes += len(data)
        self._updates.feed(data)

    def _updated(self, _: bool) -> None:
        # Nothing else has come: it sends no update before it is asked for the next.
        now = time.monotonic()
        self._track.append((round((now - self._before) * 1e3, 1), self._bytes))
        self._bytes, self._before = 0, now
        self._sock.sendall(self._want)

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()


def record(scene: Scene, folder: Path, seconds: float = SECONDS) -> list[tuple[float, int]]:
    """Play a scene in `folder`, and record it once its windows stand."""
    with Xvnc(folder, geometry="1280x800") as server:
        # Only a window that openbox sees appear gets the focus, so it starts the program itself.
        server.spawn("openbox", "--startup", shlex.join(scene.program))
        with Viewer(server) as viewer:
            viewer.watch(SETTLE, nothing())
            return viewer.watch(seconds, scene.actions())


def main() -> None:
    """Record all scenes."""
    recording = {}
    with tempfile.TemporaryDirectory(prefix="vncgate-record-") as folder:
        for name, scene in SCENES.items():
            track = recording[name] = record(scene, Path(folder, name))
            size = sum(size for _, size in track)
            print(f"{name:10} {len(track) / SECONDS:5.1f} updates/s, {size / SECONDS / 1024:7.1f} KiB/s", flush=True)
    RECORDING.write_bytes(gzip.compress(json.dumps(recording, separators=(",", ":")).encode(), mtime=0))
    print(f"{RECORDING}: {RECORDING.stat().st_size} bytes")


if __name__ == "__main__":
    main()
