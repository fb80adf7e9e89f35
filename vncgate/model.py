"""The nouns: secrets, desktops, accounts, the roster, problems of a token file, how accounts and workers are.

Values only. Nothing here touches a socket, a clock or a file.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


class Secret:
    """A text that never shows itself: `str()` and `repr()` give `***`; `reveal()` gives the text.

    Equality compares the text, so that a changed password is seen as a change.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself. Call it only where the secret is used, never where it is shown."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True, slots=True)
class Desktop:
    """Where a VNC server listens: `host` and `port`, or the path of a unix socket.

    A socket with an `owner` lies where somebody else may write: its path is not followed through a link, and what
    listens there must be of that user (number; -1: of any).

    `str()` gives `node01:5901`, `[::1]:5901` or `unix:/run/x.sock`, as logs and close reasons show it.
    """

    host: str = ""
    port: int = 0
    unix: str = ""
    owner: int | None = None

    def __str__(self) -> str:
        if self.unix:
            return f"unix:{self.unix}"
        return f"{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    """A host as it stands before a port: an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class Route:
    """What a proxy needs of its account: when this changes, the proxy is replaced. It has no secret.

    `path` is the websocket's on the shared port, `port` its own (None: it has none). With `watch_input`, what browsers
    send is read so far that Traffic tells when somebody last used the desktop. A `guarded` one opens for those alone
    who were admitted (engines.base), and the gate logs in to its desktop itself.
    """

    name: str
    desktop: Desktop | None
    path: str
    port: int | None
    watch_input: bool = False
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """One line of the token file.

    `desktop` is None where the line leaves it to a launcher (`-`); `port` is None where the account has
    no websocket port of its own (`-`). `kind` and `size` are what a launcher is to start (empty: the default ones),
    `policy` when (empty: as its kind says). `pin` opens its seat by hand (empty: none does). `watch_input` is whether
    it matters when somebody last used it, `guarded` whether the gate lets people in and logs in for them (setting
    `access`). `line` is where it stands (1-based), and is no part of equality.
    """

    name: str
    desktop: Desktop | None
    path: str
    port: int | None
    password: Secret
    display_name: str = ""
    kind: str = ""
    size: str = ""
    policy: str = ""
    pin: Secret = field(default=Secret(""))
    watch_input: bool = False
    guarded: bool = False
    line: int = field(default=0, compare=False)

    @property
    def title(self) -> str:
        """What a person is shown: the display name, or the account's name."""
        return self.display_name or self.name

    @property
    def route(self) -> Route:
        """What its proxy depends on."""
        return Route(self.name, self.desktop, self.path, self.port, self.watch_input, self.guarded)


@dataclass(frozen=True)
class Roster(Mapping[str, Account]):
    """All accounts of a token file by name, in the file's order."""

    accounts: tuple[Account, ...] = ()

    @functools.cached_property
    def _by_name(self) -> dict[str, Account]:
        return {account.name: account for account in self.accounts}

    @functools.cached_property
    def by_path(self) -> dict[str, Account]:
        """The accounts by websocketpath."""
        return {account.path: account for account in self.accounts}

    def __getitem__(self, name: str) -> Account:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self.accounts)


class Severity(enum.StrEnum):
    """Errors keep the last good roster in place; warnings do not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a file, at `line` and `column` (1-based; 0 where it is the file itself)."""

    line: int
    column: int
    severity: Severity
    message: str

    def place(self, filename: str) -> str:
        """`FILE:LINE:COL`, or the file alone where it is about the whole of it."""
        return f"{filename}:{self.line}:{self.column}" if self.line else filename

    def render(self, filename: str) -> str:
        """`FILE:LINE:COL: error: message`, as editors understand it."""
        return f"{self.place(filename)}: {self.severity}: {self.message}"


class Want(enum.StrEnum):
    """What the operator asked for."""

    UP = "up"
    DOWN = "down"


class State(enum.StrEnum):
    """What a proxy is, in the words of supervisord."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    FATAL = "FATAL"


class Readiness(enum.StrEnum):
    """Whether a desktop can be used now, as the last full VNC login found it."""

    UNKNOWN = "unknown"
    READY = "ready"
    OFFLINE = "offline"
    WRONG_PASSWORD = "wrong password"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Traffic:
    """What passed through a proxy since it was started. Bytes are payload; None where an engine cannot tell.

    `used` is when somebody last used the desktop by key, pointer or clipboard, in seconds of CLOCK_MONOTONIC, which all
    processes of a machine share. 0: never, or not known, as with engine websockify and where the route does not ask.
    `delay` is how many seconds the last ping to a browser that is connected now took there and back, and with it all
    that waited before it; of several browsers the longest. 0: not known.
    """

    connections: int = 0
    bytes_up: int | None = 0
    bytes_down: int | None = 0
    used: float = 0.0
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account as the operator and the landing page see it. `since` is seconds since the epoch."""

    account: Account
    want: Want
    state: State
    readiness: Readiness
    reason: str
    since: float
    traffic: Traffic
    restarts: int
    last_error: str

    @property
    def name(self) -> str:
        """The account's name."""
        return self.account.name


class DesktopState(enum.StrEnum):
    """What a desktop that a launcher starts is."""

    STOPPED = "STOPPED"
    REQUESTED = "REQUESTED"
    PENDING = "PENDING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class DesktopStatus:
    """A desktop that a launcher starts, as operator and participant see it. Times are seconds since the epoch; None:
    not known, or never.

    `reason` says in words why it is so: what a queue says, why it failed, when it is tried again. It is for operators;
    `told` is what participants read in its place. With `is_again` it ended, or could not be started, and is
    started again without anybody's word. `starts` is when a queue expects it to start, `ends` when it ends by itself
    for want of time, `idle_end` when it will be ended because nobody uses it. Its participant is
    warned while `idle_end` is set, and of `ends` while `is_ending`.
    """

    account: str
    kind: str
    size: str
    place: str
    host: str
    want: Want
    state: DesktopState
    reason: str
    since: float
    desktop: Desktop | None = None
    starts: float | None = None
    ends: float | None = None
    is_ending: bool = False
    idle_end: float | None = None
    restarts: int = 0
    is_again: bool = False
    told: str = ""


class WorkerState(enum.StrEnum):
    """What a worker process does: a draining one accepts nothing more and ends with its last desktop."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process as the operator sees it. `pid` is 0 until it has one; `since` is seconds since the epoch.

    `version` is that of the code it runs, which after an upgrade is not the master's; `restarts` is how many
    workers ended unasked in its place before it.
    """

    pid: int
    state: WorkerState
    version: str
    connections: int
    since: float
    restarts: int


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How often something went well and how often it failed, and whether it did well the last time."""

    successes: int = 0
    failures: int = 0
    is_good: bool = True

    def then(self, is_good: bool) -> Outcomes:
        """These and one more."""
        return Outcomes(self.successes + is_good, self.failures + (not is_good), is_good)
