"""What passes from the VNC client of somebody who may watch and nothing else: bytes in, bytes out; no I/O.

Asking for pictures passes, and saying how they should be; keys, pointer, clipboard and all else that would do something
to the desktop are dropped. What passes is made of whole messages whose sizes no extension of the protocol changes, so
the desktop reads them as we did, whatever the client may have meant by the rest. Follows RFC 6143 (section 7.5), and
rfbproto for fences and continuous updates.
"""

from __future__ import annotations

from vncgate.rfb_input import (
    CONTINUOUS_UPDATES,
    COUNTED,
    CUT_TEXT,
    FENCE,
    FIXED,
    KEY,
    MORE_BUTTONS,
    POINTER,
    QEMU,
    QEMU_KEY,
    SET_ENCODINGS,
    SET_PIXEL_FORMAT,
    UPDATE_REQUEST,
)

PASSES = frozenset({SET_PIXEL_FORMAT, SET_ENCODINGS, UPDATE_REQUEST, CONTINUOUS_UPDATES, FENCE})
"""Messages that somebody who watches may send."""
_HEADS = {**FIXED, **{kind: head for kind, (head, _, _) in COUNTED.items()}, KEY: 8, POINTER: 2, CUT_TEXT: 8, QEMU: 2}
"""Bytes of each message up to where its length is known."""


class ViewFilter:
    """Reads one connection's bytes from client to server, behind the login, and gives what may pass.

    `wrong` says, once it is not empty, why the connection is to be ended: a message that is not known, whose end nobody
    knows. Nothing that comes after it passes. Nothing raises.
    """

    __slots__ = ("_head", "_left", "_need", "_passes", "wrong")

    def __init__(self) -> None:
        self.wrong = ""
        self._head = bytearray()
        self._need = 1
        self._left = 0
        self._passes = False

    def feed(self, data: bytes | memoryview) -> bytes:
        """What passes of what comes next. Any chunking of the bytes gives the same."""
        passed = bytearray()
        at, size = 0, len(data)
        while at < size and not self.wrong:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                if self._passes:
                    passed += data[at : at + step]
            else:
                step = min(self._need - len(self._head), size - at)
                self._head += data[at : at + step]
                if len(self._head) == self._need:
                    passed += self._begin()
            at += step
        return bytes(passed)

    def _begin(self) -> bytes:
        """The beginning of a message is there: see how long it is, and give what passes of it."""
        head, kind = bytes(self._head), self._head[0]
        if kind not in _HEADS:
            self.wrong = f"a message of type {kind}"
            return b""
        if len(head) < _HEADS[kind]:
            self._need = _HEADS[kind]
            return b""
        self._head.clear()
        self._need = 1
        self._passes = kind in PASSES
        self._left = self._rest(kind, head)
        return head if self._passes else b""

    def _rest(self, kind: int, head: bytes) -> int:
        """Bytes that follow the head of a message."""
        if kind in COUNTED:
            _, count, each = COUNTED[kind]
            return each * int.from_bytes(head[count], "big")
        if kind == POINTER:
            return 5 if head[1] & MORE_BUTTONS else 4
        if kind == CUT_TEXT:  # a negative length is that of an extended clipboard
            return abs(int.from_bytes(head[4:], "big", signed=True))
        if kind == QEMU:
            if head[1] != QEMU_KEY:
                self.wrong = f"a QEMU message of sub-type {head[1]}"
            return 10
        return 0
