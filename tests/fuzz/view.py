"""The browser of somebody who may only watch: the login is as it should be, and nothing but whole messages that ask for
pictures come out behind it, the same for any chunks.
"""

from __future__ import annotations

from vncgate.rfb import Refused, ServerHandshake
from vncgate.rfb_view import PASSES, ViewFilter

SIZES = {0: 20, 2: 4, 3: 10, 150: 10, 248: 9}
"""Bytes of each message that passes, up to what is counted in it."""


def attend(data: bytes, size: int) -> tuple[object, bytes, bytes, str]:
    """How the login ends, what is said, what passes and what is wrong, where `data` comes in chunks of `size` bytes."""
    handshake, passes = ServerHandshake(), ViewFilter()
    said, passed = handshake.data_to_send(), b""
    for at in range(0, len(data), size):
        chunk = data[at : at + size]
        if handshake.result is None:
            handshake.receive_data(chunk)
            said += handshake.data_to_send()
            chunk = handshake.rest if handshake.result is not None else b""
        if isinstance(handshake.result, bool):
            passed += passes.feed(chunk)
    handshake.receive_eof()
    assert isinstance(handshake.result, bool | Refused)
    return handshake.result, said, passed, passes.wrong


def check(passed: bytes) -> None:
    """It is made of messages that pass; the last one may be cut. Another reading of the sizes than the filter's."""
    while passed:
        kind = passed[0]
        assert kind in PASSES
        size = SIZES[kind]
        if len(passed) >= size:
            size += 4 * int.from_bytes(passed[2:4], "big") if kind == 2 else passed[8] if kind == 248 else 0
        passed = passed[size:]


def one_input(data: bytes) -> None:
    """The first byte is the size of the chunks."""
    if not data:
        return
    whole = attend(data[1:], len(data))
    assert attend(data[1:], max(1, data[0])) == whole
    check(whole[2])
    assert len(whole[2]) < len(data)
