"""What a process leaves to the one after it: sockets by name, and what cannot be read from disk again.

Two ways lead here, and end in one `Inheritance`. systemd holds sockets across a crash or a restart and passes them as
sd_listen_fds(3) has it. A daemon that starts anew as the same process (execve(2)) passes them itself, with its `State`
in a file of memory that has no name (memfd_create(2)): that holds passwords, and is on no disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import stat
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from vncgate.errors import SettingsError

VARIABLE = "VNCGATE_STATE"
"""The environment's variable that names the descriptor of the state."""
_FIRST = 3  # SD_LISTEN_FDS_START
_MOST = 65536  # descriptors that systemd is believed to pass
_LENGTH = 12
"""Digits of the length that the state's file begins with."""
_SECRET = ("tokens", "roster")


@dataclass(slots=True)
class State:
    """What a daemon tells the next one, as JSON values.

    `tokens` and `config` are files that were handed over (control.HandedOver.to_json()), `stopped` the accounts that an
    operator stopped, `tally` what ended workers had counted (tally.Tally.to_json()), `passed` their bytes by account,
    `listening` the names of all listening sockets, `control` the path of the control socket. `roster` is the last good
    one, as the text of a token file: what the next daemon begins with should the file be broken just then.
    """

    tokens: dict[str, Any] | None = None
    roster: str = ""
    control: str = ""
    config: dict[str, Any] | None = None
    stopped: list[str] = field(default_factory=list)
    tally: dict[str, Any] = field(default_factory=dict)
    passed: dict[str, list[int]] = field(default_factory=dict)
    listening: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Inheritance:
    """What was left by the process before. `workers` are channels by process number, `control` the control socket."""

    state: State = field(default_factory=State)
    listening: dict[str, socket.socket] = field(default_factory=dict)
    workers: dict[int, socket.socket] = field(default_factory=dict)
    control: socket.socket | None = None
    secret: int = -1
    """The descriptor of what `reveal()` reads."""

    def reveal(self) -> None:
        """Read what has passwords of `state`: not before the nursery is forked, whose memory must have none."""
        if self.secret >= 0:
            with os.fdopen(self.secret, "rb") as file:
                self.secret, secrets = -1, json.load(file)
            self.state.tokens = secrets.get("tokens")
            self.state.roster = secrets.get("roster", "")


def inherit(environ: MutableMapping[str, str]) -> Inheritance:
    """Take up what was left, and strike it from `environ`, so that no child believes it to be its own.

    What is no socket, or has a name that says nothing to us, is closed. What has passwords is left for `reveal()`.
    Raises SettingsError for a state that no daemon left.
    """
    found, descriptors = _left_by_ourselves(environ)
    descriptors += _left_by_systemd(environ)
    for name, descriptor in descriptors:
        try:
            os.set_inheritable(descriptor, False)
            is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
        except OSError:  # there is none of that number
            continue
        if not is_socket:
            os.close(descriptor)
            continue
        sock = socket.socket(fileno=descriptor)
        kind, _, rest = name.partition("-")
        if name == "control":
            found.control = sock
        elif kind == "worker" and rest.isdecimal():
            found.workers[int(rest)] = sock
        elif kind == "listen":
            sock.setblocking(False)
            found.listening[name] = sock
        else:
            sock.close()
    return found


def state_file(state: State, descriptors: Mapping[str, int] | None = None) -> int:
    """A descriptor of a file of memory that has all that `inherit()` finds again.

    It begins with the length of what has no passwords; what has is the rest.
    """
    body = {**dataclasses.asdict(state), "descriptors": dict(descriptors or {})}
    secrets = json.dumps({name: body.pop(name) for name in _SECRET}).encode()
    head = json.dumps(body).encode()
    descriptor = os.memfd_create("vncgate-state")
    left = b"%0*d" % (_LENGTH, len(head)) + head + secrets
    while left:
        left = left[os.write(descriptor, left) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def start_anew(
    argv: Sequence[str], environ: Mapping[str, str], state: State, sockets: Mapping[str, socket.socket]
) -> NoReturn:
    """Become `argv` (a path first), as the same process. Raises OSError, and nothing is changed, when that fails."""
    descriptors = {name: sock.fileno() for name, sock in sockets.items()}
    file = state_file(state, descriptors)
    _close_on_exec()  # what libraries opened, too: watchdog's inotify would stay for ever
    try:
        with _inheritable([*descriptors.values(), file]):
            os.execve(argv[0], list(argv), {**environ, VARIABLE: str(file)})  # noqa: S606
    finally:
        os.close(file)


def _close_on_exec() -> None:
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  (numbers)
        if int(name) >= _FIRST:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.set_inheritable(int(name), False)


@contextlib.contextmanager
def _inheritable(descriptors: Sequence[int]) -> Iterator[None]:
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        yield
    finally:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.set_inheritable(descriptor, False)


def _left_by_ourselves(environ: MutableMapping[str, str]) -> tuple[Inheritance, list[tuple[str, int]]]:
    number = environ.pop(VARIABLE, "")
    if not number.isdecimal():
        return Inheritance(), []
    descriptor = int(number)
    try:
        if descriptor < _FIRST:  # stdin, whose number something else would get
            descriptor = os.dup(descriptor)
        os.set_inheritable(descriptor, False)
        body = json.loads(_read(descriptor, int(_read(descriptor, _LENGTH))))  # and not a byte more
        known = {field.name: body[field.name] for field in dataclasses.fields(State) if field.name in body}
        left = [(name, int(number)) for name, number in body.get("descriptors", {}).items()]
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, MemoryError):
        raise SettingsError(f"{VARIABLE} is what a daemon leaves to the one after it; do not set it") from None
    return Inheritance(State(**known), secret=descriptor), left


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data


def _left_by_systemd(environ: MutableMapping[str, str]) -> list[tuple[str, int]]:
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    descriptors = range(_FIRST, _FIRST + min(int(count), _MOST))
    return [(names[n] if n < len(names) else "", descriptor) for n, descriptor in enumerate(descriptors)]
