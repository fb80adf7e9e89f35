"""Whether somebody uses a desktop, as the messages of their VNC client tell: bytes in, yes or no out; no I/O.

A viewer that only watches talks, too: it asks for updates, echoes fences, says what it can. Use is a key, a pointer
that moved or pressed, a clipboard that was handed over. Follows RFC 6143 (sections 7.1 to 7.3, 7.5), and rfbproto for
what browsers send beyond it (fences, continuous updates, extended clipboard, more keys and mouse buttons).
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from vncgate.rfb import CHALLENGE_SIZE, SECURITY_NONE, SECURITY_VNC_AUTH

SET_PIXEL_FORMAT, SET_ENCODINGS, UPDATE_REQUEST, KEY, POINTER, CUT_TEXT = 0, 2, 3, 4, 5, 6
CONTINUOUS_UPDATES, FENCE, XVP, SET_DESKTOP_SIZE, QEMU = 150, 248, 250, 251, 255
QEMU_KEY = 0
_VERSIONS = (b"RFB 003.007\n", b"RFB 003.008\n")
FIXED = {SET_PIXEL_FORMAT: 20, UPDATE_REQUEST: 10, CONTINUOUS_UPDATES: 10, XVP: 4}
"""Bytes of messages that are no use and always as long."""
COUNTED = {SET_ENCODINGS: (4, slice(2, 4), 4), FENCE: (9, slice(8, 9), 1), SET_DESKTOP_SIZE: (8, slice(6, 7), 16)}
"""Of those that are no use and have a count: bytes up to what is counted, where the count is, bytes of each."""
MORE_BUTTONS = 0x80
"""In the mask of a pointer event that has one byte more, for further buttons."""
_CAPS, _NOTIFY, _PROVIDE = 1 << 24, 1 << 27, 1 << 28
"""Actions of the extended clipboard; the others a client takes by itself, in answer to the server."""


class InputReader:
    """Reads one connection's bytes from client to server, as far as it must.

    What it cannot read (another way of logging in, which may be encrypted; RFB 3.3, where only the server says whether
    a password comes; a message that it does not know) makes it blind: then it calls `blind` with the reason, and
    whatever comes from there on is taken for use, so that no desktop is ended under somebody's hands. Nothing raises.
    With `logged_in` the bytes begin behind the login.
    """

    __slots__ = ("_at_message", "_blind", "_kept", "_logged_in", "_need", "_pointer", "_reading", "_skip", "_used")

    def __init__(self, blind: Callable[[str], None], *, logged_in: bool = False) -> None:
        self._blind = blind
        self._logged_in = logged_in
        self._at_message = False
        self._kept = bytearray()
        self._skip = 0
        self._used = False
        self._pointer = b""
        self._reading = self._run()
        self._need = next(self._reading)

    def feed(self, data: bytes | memoryview) -> bool:
        """Take what comes next; whether somebody used the desktop with it. Any chunking of the bytes tells the same."""
        if self._at_message and not self._skip:  # what is the whole of a message, as most frames of browsers are
            size = len(data)
            if size == 10:
                kind = data[0]
                if kind == UPDATE_REQUEST or (kind == FENCE and data[8] == 1):
                    return False
            elif size == 6:
                if data[0] == POINTER and data[1] < MORE_BUTTONS:
                    return self._points(bytes(data[1:]))
            elif size == 8 and data[0] == KEY:
                return True
        return self._read(data)

    def _read(self, data: bytes | memoryview) -> bool:
        if not self._need:
            return len(data) > 0
        self._used = False
        at, size = 0, len(data)
        while at < size:
            if self._skip:
                step = min(self._skip, size - at)
                self._skip -= step
            else:
                step = min(self._need - len(self._kept), size - at)
                self._kept += data[at : at + step]
                if len(self._kept) == self._need and not self._go_on():
                    return True
            at += step
        return self._used

    def _go_on(self) -> bool:
        """Hand over what was asked for; whether there is more to read."""
        piece = bytes(self._kept)
        self._kept.clear()
        try:
            self._need = self._reading.send(piece)
        except StopIteration as stop:
            self._need = 0
            self._blind(stop.value)
            return False
        return True

    def _points(self, pointer: bytes) -> bool:
        """A pointer event; one that is as the last one was is none of a person's."""
        moved, self._pointer = pointer != self._pointer, pointer
        return moved

    # Each generator below yields how many bytes it needs, and is sent them; `_skip` bytes are passed over before.

    def _run(self) -> Generator[int, bytes, str]:
        """The whole connection; ends with why it cannot be read."""
        if not self._logged_in and (unreadable := (yield from self._login())):
            return unreadable
        while True:
            self._at_message = True
            kind = (yield 1)[0]
            self._at_message = False
            if kind in FIXED:
                self._skip = FIXED[kind] - 1
            elif kind in COUNTED:
                size, count, each = COUNTED[kind]
                head = bytes([kind]) + (yield size - 1)
                self._skip = each * int.from_bytes(head[count], "big")
            elif unreadable := (yield from self._use(kind)):
                return unreadable

    def _login(self) -> Generator[int, bytes, str]:
        """All up to the first message; gives why it cannot be read, else nothing."""
        version = yield 12
        if version not in _VERSIONS:
            return f"a client that says {version!r}"
        security = (yield 1)[0]
        if security not in (SECURITY_NONE, SECURITY_VNC_AUTH):
            return f"a login of security type {security}"
        self._skip = (CHALLENGE_SIZE if security == SECURITY_VNC_AUTH else 0) + 1  # and ClientInit
        return ""

    def _use(self, kind: int) -> Generator[int, bytes, str]:
        """A message that may be use; gives why it cannot be read, else nothing."""
        if kind == KEY:
            yield 7
            self._used = True
        elif kind == POINTER:
            pointer = yield 5
            if pointer[0] & MORE_BUTTONS:
                pointer += yield 1
            self._used |= self._points(pointer)
        elif kind == CUT_TEXT:
            yield from self._cut_text()
        elif kind == QEMU:
            sub_type = (yield 1)[0]
            if sub_type != QEMU_KEY:
                return f"a QEMU message of sub-type {sub_type}"
            yield 10
            self._used = True
        else:
            return f"a message of type {kind}"
        return ""

    def _cut_text(self) -> Generator[int, bytes, None]:
        """A clipboard's text, or, where the length is negative, an extended clipboard: flags first."""
        size = int.from_bytes((yield 7)[3:], "big", signed=True)
        if size >= 0:
            self._used = True
            self._skip = size
        elif size <= -4:
            flags = int.from_bytes((yield 4), "big")
            self._used |= bool(flags & (_NOTIFY | _PROVIDE)) and not flags & _CAPS
            self._skip = -size - 4
        else:
            self._skip = -size
