"""What a place must do, and what it is told.

A place starts desktops, says how they are, and ends them. It keeps nothing of its own about them that it would miss: a
`Handle` is plain data that outlives the daemon, and whatever else a place needs to find a desktop again follows from
the handle's nonce. So a handle is written to disk before `submit()` is called, and a daemon that was killed in the
middle asks `query()` whether there is such a desktop, instead of starting another.
"""

from __future__ import annotations

import csv
import enum
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from vncgate.kinds import Kind
from vncgate.model import Desktop, DesktopStatus, Secret

Whom = tuple[str, str]
"""A host, and the user that one is there; empty: who one is there by itself."""


class Seen(enum.StrEnum):
    """How a place finds a desktop."""

    PENDING = "pending"
    """It waits for its turn."""
    RUNNING = "running"
    """Its process is there."""
    GONE = "gone"
    """There is no such desktop (any more)."""
    UNKNOWN = "unknown"
    """The place cannot tell now: a lost connection, a silent controller. Whoever asks takes it for alive."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What `query()` found. Times are seconds since the epoch.

    `desktop` is where its VNC server can be reached by the gate, as soon as it has reported that. `reason` is in words:
    why it waits, or why it is gone where the place knows that; `said` is the last line that a session wrote which is
    GONE, and may be anybody's words. `exit_status` is that of its session, where it is GONE
    and the place knows it: 0 is a participant who logged out, or an end that was meant (its time was up).
    """

    seen: Seen
    desktop: Desktop | None = None
    host: str = ""
    reason: str = ""
    said: str = ""
    starts: float | None = None
    ends: float | None = None
    exit_status: int | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """All that a place needs to start one desktop. `kind` has its size's resources already.

    `user` is the Unix user that it runs as (empty: whoever the place is by itself), `home` its home folder (empty: the
    user's own). `password` is for the VNC server alone.
    """

    account: str
    nonce: str
    host: str
    kind: Kind
    password: Secret
    user: str = ""
    home: str = ""


@dataclass(frozen=True, slots=True)
class Handle:
    """By what a place finds a desktop again. `nonce` names this one start, and nothing else: letters and digits, 16 of
    them.

    `host` is the host that the launcher chose (empty where the place chooses), `user` whom it runs as, `job` what the
    place calls it (empty until `submit()` returned).
    """

    place: str
    account: str
    nonce: str
    host: str = ""
    user: str = ""
    job: str = ""

    def to_json(self) -> dict[str, str]:
        """As it is kept on disk."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Handle:
        """The reverse of `to_json()`. Raises KeyError or TypeError for what is none."""
        return cls(**{name: str(body[name]) for name in cls.__slots__})


class Place(Protocol):
    """Where desktops run. Every method may be called for many desktops at once, and time-outs are the place's own.

    What cannot be done raises LaunchError, in words that a person can act on (no such partition, image missing, home
    full). Where nobody said no, because the place does not answer (a host that is down, a controller or an engine that
    is away, a file system that hangs), that is a SilentError, and is tried again for as long as it takes.
    """

    hosts: Sequence[str]
    """Among which the launcher chooses; empty where the place does so itself."""

    async def submit(self, spec: Spec) -> Handle:
        """Start a desktop. When this fails, nothing of it is left, and nothing of it comes later."""

    async def query(self, handle: Handle) -> Sighting:
        """How it is now. Never raises LaunchError: what cannot be told is UNKNOWN."""

    async def cancel(self, handle: Handle) -> None:
        """End it, and all that it started, and remove its files; nothing of it is left when this returns.

        Of one that is gone the files are removed. Raises LaunchError where the place cannot be reached.
        """

    async def logs(self, handle: Handle, lines: int = 200) -> str:
        """The end of what its session wrote. Empty where there is nothing (any more)."""

    async def rekey(self, handle: Handle, password: Secret) -> None:
        """From now on its VNC server asks for `password`."""

    async def aclose(self) -> None:
        """Let go of connections and tasks; desktops stay."""


class DesktopCommands(Protocol):
    """What operators and portals may do with the desktops that the gate starts itself; the launcher fulfils it.

    Names may be patterns (`ws0*`). Verbs return the names that were meant as soon as that is asked for, and raise
    ControlError for a name that is not there: how far it is, `statuses()` says.
    """

    def statuses(self) -> Sequence[DesktopStatus]:
        """Every account's desktop, in the roster's order."""

    def spares(self) -> Sequence[DesktopStatus]:
        """Every desktop of a pool that nobody has yet, by a name that no account has, and those of accounts that are
        not in the roster any more; verbs take their names, too.
        """

    def status(self, name: str) -> DesktopStatus | None:
        """One account's desktop; None where there is no such account, or its desktop is not ours."""

    async def start_desktops(self, names: Sequence[str]) -> list[str]:
        """Start desktops."""

    async def start_as(self, name: str, kind: str, size: str) -> None:
        """Start one desktop, and until it ends have it be of that kind and size, which the settings have. Raises
        ControlError where another is there already.
        """

    async def stop_desktops(self, names: Sequence[str]) -> list[str]:
        """End desktops."""

    async def restart_desktops(self, names: Sequence[str]) -> list[str]:
        """End desktops and start them anew."""

    async def logs(self, name: str, lines: int = 200) -> str:
        """The end of what one desktop's session wrote. Raises LaunchError where its place cannot be reached."""


def expand(pattern: str, account: str) -> str:
    """A pattern of the settings with the account's name in place of `{account}`."""
    return pattern.replace("{account}", account)


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder or file of the outside, and where the inside sees it."""

    source: str
    target: str
    readonly: bool

    def as_mount(self, source: str, target: str, readonly: str) -> str:
        """As --mount of container engines takes it: one record of comma-separated values, named as the engine does."""
        fields = ["type=bind", f"{source}={self.source}", f"{target}={self.target}"]
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow([*fields, readonly] if self.readonly else fields)
        return line.getvalue()


def binds(kind: Kind, account: str) -> list[Bind]:
    """The `binds` of a kind: SOURCE, SOURCE:TARGET, and either with :ro behind it."""
    found = []
    for text in kind.binds:
        source, *rest = (expand(part, account) for part in text.split(":"))
        target = rest[0] if rest and rest[0].startswith("/") else source
        found.append(Bind(source, target, rest[-1:] == ["ro"]))
    return found
