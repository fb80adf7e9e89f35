"""What the master and a worker tell each other: a message a line of JSON, some with a socket beside it.

    master                                   worker
      | <------------------------------ Ready  |  it runs
      | Begin + the shared port's socket ----> |  limits; serve the shared port
      | Open + the account's own socket -----> |  serve an account
      | <-------------------- Opened or Failed |  with the ticket of the Open
      | Close -------------------------------> |  end an account and its sessions
      | <------------------------------ Closed |  with the ticket of the Close
      | Elsewhere ---------------------------> |  connections that accounts have in other workers
      | Admit -------------------------------> |  who may open the websockets of guarded accounts
      | <---------------------------- Admitted |  with the ticket of the Admit
      | <--------------------------- Challenge |  a browser is to be logged in to its desktop
      | Answer ------------------------------> |  with the ticket of the Challenge
      | Rest --------------------------------> |  accept on the shared port, or leave it to others for a while
      | Leave -------------------------------> |  accept nothing more, but end nothing: all is being stopped
      | <-------------------------------- Left |  with the ticket of the Leave: who was accepted is connected
      | <------------------------------ Report |  every second (the heartbeat), and when a browser came or went
      | <----------------------------- Suspect |  a desktop could not be connected to
      | Adopt -------------------------------> |  from a master that did not start it: what do you serve?
      | <---------------- Holds, Report, Ready |  the answer
      | Drain -------------------------------> |  accept nothing more, end with the last desktop
      | Stop --------------------------------> |  end all sessions now, then yourself

A master and a worker may be of different versions, after an upgrade: a kind or a field that is not known is ignored,
and a field that came later than its message has a default. No message holds a secret: cookies travel as their digests,
and the answer to a challenge is good for that challenge alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from vncgate.model import Desktop, Route
from vncgate.people import Mode

LONGEST = 131072
"""Bytes of a message at most: below what a socket pair takes at once (net.core.wmem_default, socket(7))."""
MOST_ACCOUNTS = 400
"""Accounts that one Report or Elsewhere tells of; more come in further ones."""
MOST_ADMITTED = 1000
"""Accounts and digests, taken together, that one Admit names."""
MOST_ROUTES = 100
"""The same for a Holds."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker runs, as process `pid` of this `version` of vncgate, since (seconds since the epoch).

    The first word of a new one, and the last of an old one's answer to Adopt.
    """

    pid: int
    version: str
    since: float


@dataclass(frozen=True, slots=True)
class Begin:
    """The first word to a new worker: `engines.base.Limits` as a mapping; Drain's time-out should the master die."""

    limits: dict[str, Any]
    drain_timeout: float
    log_level: str


@dataclass(frozen=True, slots=True)
class Open:
    """Serve an account, on the shared port and, where it `listens`, on its own, whose socket comes along.

    The socket is missing all the same where its receiver is out of descriptors.
    """

    ticket: int
    route: dict[str, Any]
    listens: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """The account of an Open is served."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The account of an Open cannot be served."""

    ticket: int
    reason: str


@dataclass(frozen=True, slots=True)
class Close:
    """End an account; its browsers are told `code` (RFC 6455, section 7.4.1) and `reason`."""

    ticket: int
    name: str
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The account of a Close is gone, with its sessions."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Connections of accounts in other workers, which count for the limit of connections an account."""

    connections: dict[str, int]


@dataclass(frozen=True, slots=True)
class Admit:
    """Who may open the websockets of these guarded accounts from now on: digest of a cookie, and what they may do.

    With `more` to come it is the beginning of a long list, and nothing is changed before the last of it is there.
    """

    ticket: int
    admissions: dict[str, dict[str, str]]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Admitted:
    """That of an Admit is so, and who had to go is sent away."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Challenge:
    """A VncAuth challenge of an account's desktop, in hex. An empty one asks whether it may be logged in to now."""

    ticket: int
    name: str
    challenge: str


@dataclass(frozen=True, slots=True)
class Answer:
    """To a Challenge: the response in hex, or why there is to be no login now: it may be that the desktop refused the
    password (`is_refused`).
    """

    ticket: int
    response: str
    objection: str = ""
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """While `on`, as from the start, do not accept on the shared port; a change waits for all Opens before it."""

    on: bool


@dataclass(frozen=True, slots=True)
class Leave:
    """Accept nothing more, on any port; answer when whoever was accepted before is connected or refused."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Left:
    """That of a Leave is done."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Report:
    """All connections now; of accounts whose traffic changed: connections, bytes up, bytes down; a `tally.Tally`.

    `used` has those of them that were ever used, as far as that is watched, `delay` those whose browsers answered a
    ping (model.Traffic).
    """

    connections: int
    traffic: dict[str, tuple[int, int | None, int | None]]
    tally: dict[str, Any] | None = None
    used: dict[str, float] = field(default_factory=dict)
    delay: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A desktop could not be connected to; or it refused the password (`is_refused`)."""

    name: str
    reason: str
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class Adopt:
    """A new master took this channel up."""


@dataclass(frozen=True, slots=True)
class Holds:
    """Accounts that are served; a Report of all of them, and Ready, follow."""

    routes: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Drain:
    """Accept nothing more, and end with the last session, or after `timeout` seconds (0: never)."""

    timeout: float


@dataclass(frozen=True, slots=True)
class Stop:
    """End all sessions with this code and reason, then the process."""

    code: int
    reason: str


Message: TypeAlias = (
    Ready
    | Begin
    | Open
    | Opened
    | Failed
    | Close
    | Closed
    | Elsewhere
    | Admit
    | Admitted
    | Challenge
    | Answer
    | Rest
    | Leave
    | Left
    | Report
    | Suspect
    | Adopt
    | Holds
    | Drain
    | Stop
)
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in Message.__args__}
_FIELDS = {name: tuple(field.name for field in dataclasses.fields(kind)) for name, kind in _KINDS.items()}


def encode(message: Message) -> bytes:
    """A message as its line."""
    kind = type(message).__name__
    body = {"is": kind, **{name: getattr(message, name) for name in _FIELDS[kind]}}
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message | None:
    """The message of a line; None for a kind that is not known, or one that lacks what every version sends."""
    try:
        body = json.loads(line)
        kind = body.pop("is")
        known = _FIELDS[kind]
        message: Message = _KINDS[kind](**{name: value for name, value in body.items() if name in known})
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return message


def route_to_json(route: Route) -> dict[str, Any]:
    """A route as it travels."""
    desktop = route.desktop
    place = dataclasses.asdict(desktop) if desktop else None
    body = {"name": route.name, "desktop": place, "path": route.path, "port": route.port}
    return {**body, "watch_input": route.watch_input, "guarded": route.guarded}


def route_from_json(body: dict[str, Any]) -> Route:
    """The reverse of `route_to_json()`."""
    desktop = body["desktop"]
    later = {name: bool(body.get(name, False)) for name in ("watch_input", "guarded")}  # than the first version
    return Route(body["name"], Desktop(**desktop) if desktop else None, body["path"], body["port"], **later)


def admits(ticket: int, admissions: Mapping[str, Mapping[str, Mode]]) -> Iterator[Admit]:
    """The messages that say so, each of a size that can be sent; there is at least one."""
    part: dict[str, dict[str, str]] = {}
    size = 0
    for name, admitted in admissions.items():
        digests = list(admitted.items())
        while digests or name not in part:
            if size >= MOST_ADMITTED - 1:
                yield Admit(ticket, part, more=True)
                part, size = {}, 0
            some, digests = digests[: MOST_ADMITTED - size - 1], digests[MOST_ADMITTED - size - 1 :]
            part[name] = {digest: str(mode) for digest, mode in some}
            size += 1 + len(some)
    yield Admit(ticket, part)


def admissions_from(parts: Sequence[Admit]) -> dict[str, dict[str, Mode]]:
    """The reverse of `admits()`. What somebody may do in a way that is not known here is not admitted."""
    known = {str(mode): mode for mode in Mode}
    admissions: dict[str, dict[str, Mode]] = {}
    for part in parts:
        for name, admitted in part.admissions.items():
            some = {digest: known[mode] for digest, mode in admitted.items() if mode in known}
            admissions.setdefault(name, {}).update(some)
    return admissions
