"""Both sides of an RFB login. Bytes in, bytes and a result out; no I/O.

Follows RFC 6143 (sections 7.1 to 7.3) for 3.8 and its appendix A for 3.3 and 3.7. Security types None and VncAuth.

    handshake = ClientHandshake(password)
    while handshake.result is None:
        data = read()
        handshake.receive_data(data) if data else handshake.receive_eof()
        write(handshake.data_to_send())

Where the password is somewhere else, `handshake.challenge` is there at some point, and `answer()` is to be called. A
server (ServerHandshake) has its first word to send before it reads.
"""

from __future__ import annotations

import enum
import re
import struct
import sys
from collections.abc import Generator
from dataclasses import astuple, dataclass
from typing import Generic, TypeVar

from Crypto.Cipher import DES

from vncgate.model import Secret
from vncgate.text import printable

SECURITY_NONE = 1
SECURITY_VNC_AUTH = 2
RESULT_OK = 0
RESULT_FAILED = 1
RESULT_TOO_MANY = 2
CHALLENGE_SIZE = 16
MAX_TEXT = 4096
"""Bytes that a server's reason or a desktop's name may have; a longer reason is cut, a longer name refused."""

_VERSION = re.compile(rb"RFB (\d{3})\.(\d{3})\n", re.ASCII)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_FILE_KEY = bytes((23, 82, 107, 6, 35, 78, 88, 7))  # the same in every VNC: password files are obfuscated, not secret
_FORMAT = struct.Struct(">BB??HHHBBB3x")
_INIT = struct.Struct(">HH16sI")


class Refusal(enum.Enum):
    """Why a login did not succeed: what the desktop did, in words."""

    WRONG_PASSWORD = "refused the password"  # noqa: S105 - no password
    TOO_MANY_FAILURES = "refuses logins for now after too many failures (its blacklist)"
    NO_COMMON_SECURITY = "offers no VNC password login ({reason})"
    REJECTED = "refused the login: {reason}"
    NOT_RFB = "does not speak VNC ({reason})"
    CLOSED = "closed the connection during the login"


@dataclass(frozen=True, slots=True)
class Refused:
    """The login failed. `reason` is the server's own text, or what was wrong with its bytes; it may be empty.

    As a text, it follows the name of the desktop.
    """

    kind: Refusal
    reason: str = ""

    def __str__(self) -> str:
        return self.kind.value.format(reason=self.reason or "it gave no reason")


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How a pixel is written (RFC 6143, section 7.4)."""

    bits_per_pixel: int
    depth: int
    big_endian: bool
    true_colour: bool
    red_max: int
    green_max: int
    blue_max: int
    red_shift: int
    green_shift: int
    blue_shift: int

    def pack(self) -> bytes:
        """Its 16 bytes."""
        return _FORMAT.pack(*astuple(self))

    @classmethod
    def unpack(cls, data: bytes) -> PixelFormat:
        """The format in 16 bytes; raises ValueError when its pixels are not of 8, 16 or 32 bits."""
        pixel_format = cls(*_FORMAT.unpack(data))
        if pixel_format.bits_per_pixel not in (8, 16, 32):
            raise ValueError(f"pixels of {pixel_format.bits_per_pixel} bits")
        return pixel_format


@dataclass(frozen=True, slots=True)
class ServerInit:
    """The login succeeded, and this is the desktop (RFC 6143, section 7.3.2)."""

    width: int
    height: int
    pixel_format: PixelFormat
    name: str

    def pack(self) -> bytes:
        """The message as a server sends it."""
        name = self.name.encode()
        return _INIT.pack(self.width, self.height, self.pixel_format.pack(), len(name)) + name


Found = TypeVar("Found")


class _Handshake(Generic[Found]):
    """What both sides have in common: a script that yields how many bytes it needs, is sent them, and returns what it
    found.
    """

    result: Found | Refused | None

    def __init__(self) -> None:
        self.result = None
        self._received = bytearray()
        self._to_send = bytearray()
        self._at_eof = Refused(Refusal.CLOSED)
        self._script = self._run()
        self._need = next(self._script)

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take what the other side sent; what follows the login is kept as `rest`."""
        self._received += data
        while self.result is None and len(self._received) >= self._need:
            chunk = bytes(self._received[: self._need])
            del self._received[: self._need]
            self._go_on(chunk)

    def receive_eof(self) -> None:
        """The other side closed the connection."""
        if self.result is None:
            self.result = self._at_eof

    @property
    def rest(self) -> bytes:
        """What the other side sent and the login did not need: what follows it, once there is a result."""
        return bytes(self._received)

    def data_to_send(self) -> bytes:
        """What is to be sent now; each byte is given once."""
        data = bytes(self._to_send)
        self._to_send.clear()
        return data

    def _go_on(self, chunk: bytes) -> None:
        try:
            self._need = self._script.send(chunk)
        except StopIteration as stop:
            self.result = stop.value

    def _run(self) -> Generator[int, bytes, Found | Refused]:
        raise NotImplementedError


class ServerHandshake(_Handshake[bool]):
    """One login as a server that asks for no password: whoever is here was let in by other means.

    `result` is None until the client has said all (then it is whether the client would share the desktop) or was
    refused. What a server says next, ServerInit, is for others to send. Nothing raises.
    """

    def _run(self) -> Generator[int, bytes, bool | Refused]:
        self._to_send += b"RFB 003.008\n"
        spoken = _spoken((yield from _greeting()))
        if spoken is None:
            return Refused(Refusal.NOT_RFB, "no RFB greeting")
        if spoken == 3:
            self._to_send += SECURITY_NONE.to_bytes(4, "big")
        else:
            self._to_send += bytes([1, SECURITY_NONE])
            chosen = (yield 1)[0]
            if chosen != SECURITY_NONE:
                reason = f"security type {chosen} was not offered"
                if spoken == 8:
                    self._to_send += struct.pack(">II", RESULT_FAILED, len(reason)) + reason.encode()
                return Refused(Refusal.NOT_RFB, reason)
        if spoken == 8:
            self._to_send += RESULT_OK.to_bytes(4, "big")
        return (yield 1) != b"\0"


class ClientHandshake(_Handshake[ServerInit]):
    """One login as a client that shares the desktop with others.

    `result` is None until the login has succeeded (ServerInit) or failed (Refused); it comes for any bytes and
    any chunking of them, and never changes again. Nothing raises, but what is no answer.

    Without a `password` the login waits for an answer from outside, once there is a `challenge`.
    """

    def __init__(self, password: Secret | None) -> None:
        self.challenge: bytes | None = None
        """What VncAuth asks, while nobody answered it."""
        self.server_init = b""
        """The desktop's last word in the login, as it came, once there is a ServerInit."""
        self._password = password
        super().__init__()

    def answer(self, response: bytes) -> None:
        """Answer the `challenge`. Raises ValueError where there is none, or the response is of another length."""
        if self.challenge is None or len(response) != CHALLENGE_SIZE or self.result is not None:
            raise ValueError("no answer to a VncAuth challenge, or no challenge")
        self.challenge = None
        self._to_send += response
        self._go_on(b"")
        self.receive_data(b"")

    # Each generator below yields how many bytes it needs, is sent them, and returns what it found.

    def _run(self) -> Generator[int, bytes, ServerInit | Refused]:
        version = yield from self._version()
        if isinstance(version, Refused):
            return version
        security = yield from self._choose_security(version)
        if isinstance(security, Refused):
            return security
        if security == SECURITY_VNC_AUTH:
            challenge = yield CHALLENGE_SIZE
            if self._password is None:
                self.challenge = challenge
                yield sys.maxsize  # until `answer()`
            else:
                self._to_send += vnc_auth(self._password.reveal(), challenge)
        if security == SECURITY_VNC_AUTH or version >= 8:
            refused = yield from self._security_result(version, security)
            if refused:
                return refused
        self._to_send += b"\x01"  # ClientInit: shared
        return (yield from self._server_init())

    def _version(self) -> Generator[int, bytes, int | Refused]:
        """The minor number of the version that both sides speak: 3, 7 or 8."""
        minor = _spoken((yield from _greeting()))
        if minor is None:
            return Refused(Refusal.NOT_RFB, "no RFB greeting")
        self._to_send += b"RFB 003.%03d\n" % minor
        return minor

    def _choose_security(self, version: int) -> Generator[int, bytes, int | Refused]:
        if version == 3:  # the server decides (appendix A.1)
            offered = [int.from_bytes((yield 4), "big")]
            if offered == [0]:
                return (yield from self._refusal(Refusal.REJECTED))
        else:
            count = (yield 1)[0]
            if count == 0:
                return (yield from self._refusal(Refusal.REJECTED))
            offered = list((yield count))
        wanted = (SECURITY_VNC_AUTH, SECURITY_NONE)
        if self._password is not None and not self._password:
            wanted = wanted[::-1]
        for security in wanted:
            if security in offered:
                if version != 3:
                    self._to_send.append(security)
                return security
        return Refused(Refusal.NO_COMMON_SECURITY, f"it offers {', '.join(map(str, offered))}")

    def _security_result(self, version: int, security: int) -> Generator[int, bytes, Refused | None]:
        result = int.from_bytes((yield 4), "big")
        if result == RESULT_OK:
            return None
        if result not in (RESULT_FAILED, RESULT_TOO_MANY):
            return Refused(Refusal.NOT_RFB, f"security result {result}")
        kind = Refusal.WRONG_PASSWORD if security == SECURITY_VNC_AUTH else Refusal.REJECTED
        if result == RESULT_TOO_MANY:
            kind = Refusal.TOO_MANY_FAILURES
        if version < 8:
            return Refused(kind)
        return (yield from self._refusal(kind))

    def _refusal(self, kind: Refusal) -> Generator[int, bytes, Refused]:
        """A refusal with the reason that follows; TigerVNC's blacklist is told by its reason alone."""
        self._at_eof = Refused(kind)
        length = int.from_bytes((yield 4), "big")
        reason = _text((yield min(length, MAX_TEXT)))
        if "too many" in reason.lower():
            kind = Refusal.TOO_MANY_FAILURES
        return Refused(kind, reason)

    def _server_init(self) -> Generator[int, bytes, ServerInit | Refused]:
        head = yield _INIT.size
        width, height, packed, length = _INIT.unpack(head)
        try:
            pixel_format = PixelFormat.unpack(packed)
        except ValueError as error:
            return Refused(Refusal.NOT_RFB, str(error))
        if length > MAX_TEXT:
            return Refused(Refusal.NOT_RFB, f"a name of {length} bytes")
        name = yield length
        self.server_init = head + name
        return ServerInit(width, height, pixel_format, _text(name))


def _greeting() -> Generator[int, bytes, bytes]:
    """The other side's version, as far as it is one."""
    banner = yield 4  # no more, so that somebody of another kind with a short greeting is recognised at once
    return banner + (yield 8) if banner == b"RFB " else banner


def _spoken(greeting: bytes) -> int | None:
    """The minor number of the version that is spoken with who greets so: 3, 7 or 8; None: it is no greeting."""
    match = _VERSION.fullmatch(greeting)
    offered = (int(match[1]), int(match[2])) if match else (0, 0)
    if offered < (3, 3):
        return None
    # Odd numbers between are 3.3 (RFC 6143, section 7.1.1); Apple's 3.889 and RealVNC's 4 and 5 know 3.8.
    return 8 if offered >= (3, 8) else 7 if offered == (3, 7) else 3


def vnc_auth(password: str, challenge: bytes) -> bytes:
    """The answer to a VncAuth challenge (RFC 6143, section 7.2.2): DES with each key byte's bits reversed."""
    return _des(_key(password), challenge)


def password_file(password: Secret) -> bytes:
    """The content of a password file (`vncpasswd -f`), which Xvnc's -PasswordFile reads."""
    return _des(_FILE_KEY, _key(password.reveal()))


def _des(key: bytes, data: bytes) -> bytes:
    return DES.new(key.translate(_REVERSED), DES.MODE_ECB).encrypt(data)  # noqa: S304 - the protocol has no other


def _key(password: str) -> bytes:
    """The 8 significant bytes: a character a byte, as noVNC does, and UTF-8 where a character has no such byte."""
    try:
        raw = password.encode("latin-1")
    except UnicodeEncodeError:
        raw = password.encode("utf-8", "replace")
    return raw[:8].ljust(8, b"\0")


def _text(raw: bytes) -> str:
    """A server's text, fit for one line of a log."""
    return printable(raw.decode("utf-8", "replace"), " ").strip()
