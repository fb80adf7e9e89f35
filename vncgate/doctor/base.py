"""What all checks share: what they are given, what they find, and how they ask another program."""

from __future__ import annotations

import asyncio
import enum
import os
import shlex
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vncgate import control
from vncgate.model import Account, Roster
from vncgate.process import describe_exit, spawn
from vncgate.settings import EngineName, Settings

COMMAND_TIMEOUT = 20.0
"""Seconds that another program (apachectl, systemctl) may take; name look-ups can make Apache slow."""
SHOWN = 6
"""Names that a message lists at most."""
AS_ROOT = "run this as root: sudo vncgate doctor ..."
ADMIN_FOLDERS = "/usr/sbin:/sbin:/usr/local/sbin"
"""Where programs lie that are not on every user's PATH."""


class Result(enum.StrEnum):
    """How a step went. Only an error makes the exit status 1."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `advice` is what to do: a command to type, or a line to write and where."""

    step: str
    result: Result
    message: str
    advice: str = ""


@dataclass
class Case:
    """What is examined. `status` is what the running gate says (None: it does not answer); `sample` is how many
    accounts are tried through `url` (None: all); `usable` are the accounts that a login has just reached, `told` the
    reasons for which places cannot be used, as the report has them by now.
    """

    tokens: Path
    config: Path | None
    settings: Settings
    roster: Roster
    control: Path
    status: Mapping[str, Any] | None = None
    url: str = ""
    sample: int | None = 3
    usable: list[Account] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def own_ports(self) -> int:
        """How many accounts have a websocket port of their own."""
        return sum(account.port is not None for account in self.roster.accounts)

    @property
    def workers(self) -> int:
        """How many processes run the relay: those of the running gate, else those that the settings make."""
        if self.status is not None:  # a gate of a version before them tells of none
            return sum(worker["state"] != "draining" for worker in self.status.get("workers", ()))
        if self.settings.engine is not EngineName.RELAY:
            return 0
        return len(os.sched_getaffinity(0)) if self.settings.workers is None else self.settings.workers

    @property
    def command(self) -> str:
        """The token file and the settings, as our other commands are given them."""
        return f"{self.tokens}" + (f" --config {self.config}" if self.config else "")

    @property
    def at_gate(self) -> str:
        """What commands to this gate end with: where its control socket is, unless they find it by themselves."""
        found = os.environ.get("VNCGATE_CONTROL", control.default_path(os.environ, os.getuid()))
        return "" if str(found) == str(self.control) else f" --control {shlex.quote(str(self.control))}"


@dataclass(frozen=True, slots=True)
class Check:
    """A step of the registry. `seconds` is how long it may take in all; None: it has limits of its own."""

    step: str
    run: Callable[[Case], Awaitable[Iterable[Finding]]]
    seconds: float | None = 60.0


@dataclass(frozen=True, slots=True)
class Output:
    """What a program wrote, stdout and stderr together, and its exit status."""

    status: int
    lines: Sequence[str]

    @property
    def last(self) -> str:
        """The last line, which mostly says what is wrong."""
        return next((line.strip() for line in reversed(self.lines) if line.strip()), describe_exit(self.status))


async def output(*argv: str, timeout: float = COMMAND_TIMEOUT) -> Output | None:
    """Run a program and read what it says; None where it is not installed.

    Raises TimeoutError where it does not end within `timeout` seconds; it is ended then.
    """
    program = which(argv[0])
    if program is None:
        return None
    lines: list[str] = []
    process = await spawn([program, *argv[1:]], name=argv[0], log=lines.append)
    try:
        async with asyncio.timeout(timeout):
            status = await asyncio.shield(process.exited)
    except TimeoutError:
        raise TimeoutError(f"`{' '.join(argv)}` did not end within {timeout:g} s") from None
    finally:
        await process.stop(1.0)
    return Output(status, lines)


def which(program: str) -> str | None:
    """The full path of a program, also where only root's PATH leads."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{ADMIN_FOLDERS}")


def is_root() -> bool:
    """Whether we may see everything."""
    return os.geteuid() == 0


def some(names: Sequence[str]) -> str:
    """Names for a message: the first few, and how many more."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def count(number: int, what: str) -> str:
    """`1 account`, `2 accounts`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
