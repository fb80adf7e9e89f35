"""What comes in place of a websocket's handshake: no desktop is troubled before it is one."""

from __future__ import annotations

import re

from tests.fuzz.frames import relayed

ANSWER = re.compile(rb"HTTP/1\.1 (101|400|403|404|426|429|431|503) [ -~]+\r\n(?:[!-9;-~]+: [ -~]*\r\n)*\r\n")


def one_input(data: bytes) -> None:
    """It is answered in HTTP or not at all, and a desktop is connected to after a 101 alone."""
    got, _, reached = relayed().play(data, greeted=False)
    answer = ANSWER.match(got)
    assert answer or not got, got
    if answer and answer[1] == b"101":
        for header in (b"Upgrade: websocket", b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Version: "):
            assert header.lower() in data.lower()
    else:
        assert not reached
