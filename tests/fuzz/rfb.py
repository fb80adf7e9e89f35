"""The login at a VNC server: whatever it sends and however it comes, there is one result, the same for any chunks."""

from __future__ import annotations

from vncgate.model import Secret
from vncgate.rfb import MAX_TEXT, ClientHandshake, Refused, ServerInit

PASSWORD = "Secret#1"
LONGEST_ANSWER = 12 + 1 + 16 + 1
"""Bytes of a client's version, choice, answer to the challenge and ClientInit."""


def login(data: bytes, size: int) -> tuple[ServerInit | Refused | None, bytes]:
    """What is found and sent where `data` comes in chunks of `size` bytes, and no end yet."""
    handshake = ClientHandshake(Secret(PASSWORD))
    sent = b""
    for at in range(0, len(data), size):
        before = handshake.result
        handshake.receive_data(data[at : at + size])
        sent += handshake.data_to_send()
        assert before is None or handshake.result is before
    found = handshake.result
    handshake.receive_eof()
    assert isinstance(handshake.result, ServerInit | Refused)
    assert found is None or handshake.result is found
    assert handshake.data_to_send() == b""
    text = found.name if isinstance(found, ServerInit) else handshake.result.reason if found else ""
    assert text.isprintable()
    assert len(text) <= MAX_TEXT
    return handshake.result, sent


def one_input(data: bytes) -> None:
    """The first byte is the size of the chunks."""
    if not data:
        return
    whole = login(data[1:], max(1, len(data)))
    assert login(data[1:], max(1, data[0])) == whole
    assert len(whole[1]) <= LONGEST_ANSWER
    assert PASSWORD.encode() not in whole[1]
    assert not whole[1] or data[1:].startswith(b"RFB ")
