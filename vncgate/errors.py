"""What can go wrong, as one tree. Every message names what, where, and what would be right.

    VncgateError
    ├── SettingsError     a setting is unknown, ill-typed or contradicts another
    ├── HostListError     a list of hosts is not in Slurm's notation
    ├── NewAccountsError        the accounts of a workshop cannot be laid out as asked
    ├── TokensError       the token file cannot be read, or has errors
    ├── DesktopError      a desktop does not answer, or refuses the login (carries the kind)
    ├── ListenError       a port or an address cannot be bound
    ├── ProxyError        a proxy cannot be started
    ├── LaunchError       a desktop cannot be started, or its place did not do as asked
    │   └── SilentError   its place does not answer
    │       └── UnsureError   nobody knows whether it did as asked
    ├── PublishError      a generated file could not be put in place
    ├── LedgerError       the database of people, seats and sessions does not do as asked
    ├── FullError         there is no seat, nor a place on a waiting list
    ├── SeatTakenError    somebody else has that seat, or a person's own is another
    ├── UnknownPersonError  nobody with that id has signed up
    ├── WorkshopError     the workshop is not in a phase in which that can be done
    ├── PrintError        cards, or the report, cannot be made
    ├── OrganizingError   what an organizer asks for cannot be done now
    │   ├── GivenError        what they gave for it cannot be used (carries a table's problems)
    │   └── UnknownError      there is no such account, person or deed
    ├── FilesError        a file or folder of an account cannot be had (carries the kind)
    └── ControlError      the operator's command cannot be carried out

A command prints the message of any of these and exits; none of them ever shows a traceback, and none
carries a secret. Outside of the tree stands only `lifecycle.IllegalEventError`: no operator can cause it or mend
it, it is a defect of the caller, and is to be seen with its traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vncgate.model import Problem, Readiness


class VncgateError(Exception):
    """Base of all errors that an operator may see. `str()` of it is one or more plain lines."""


class SettingsError(VncgateError):
    """Settings cannot be used; the message has a line for each problem."""


class HostListError(VncgateError):
    """A host list is not in Slurm's notation, or too long; the message says what is wrong and where."""


class NewAccountsError(VncgateError):
    """The accounts cannot be laid out as asked; the message says why."""


class TokensError(VncgateError):
    """The token file cannot be read, or has errors; the message has a line for each."""


class DesktopError(VncgateError):
    """A desktop is not usable now; `readiness` says whether it is offline or the password is wrong."""

    def __init__(self, message: str, readiness: Readiness) -> None:
        super().__init__(message)
        self.readiness = readiness


class ListenError(VncgateError):
    """A port or an address cannot be bound; the message names owner, port and reason."""


class ProxyError(VncgateError):
    """A proxy cannot be started; the message says why."""


class LaunchError(VncgateError):
    """A place did not do as asked; the message says why, in words that a person can act on."""


class SilentError(LaunchError):
    """A place does not answer now, and may do so later: nobody said no."""


class UnsureError(SilentError):
    """A place was asked to do something, and nothing is known about what became of it."""


class PublishError(VncgateError):
    """A generated file was not put in place; the old one still stands."""


class LedgerError(VncgateError):
    """The database of people, seats and sessions does not do as asked now; the message says which, and why."""


class FullError(VncgateError):
    """All seats are taken, and nobody is put on a waiting list."""


class SeatTakenError(VncgateError):
    """Somebody else has that seat, or the person has another already."""


class UnknownPersonError(VncgateError):
    """Nobody with that id has signed up, or they were forgotten."""


class WorkshopError(VncgateError):
    """The workshop is not in a phase in which that can be done; the message says what can."""


class PrintError(VncgateError):
    """Access cards, or the report, cannot be made; the message says why."""


class OrganizingError(VncgateError):
    """What an organizer asks for cannot be done now; the message says why."""


class GivenError(OrganizingError):
    """What was given for a deed cannot be used; `problems` are those of a table, where it was one."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        places = [f"line {each.line}, cell {each.column}" if each.line else "the table" for each in self.problems]
        told = [f"{place}: {each.message}" for place, each in zip(places, self.problems, strict=True)]
        return "\n".join([str(self.args[0]), *told])


class UnknownError(OrganizingError):
    """There is no such account, person or deed."""


class ControlError(VncgateError):
    """The daemon refused an operator's command, or there is no daemon at the control socket."""


class FilesError(VncgateError):
    """A file or a folder of an account cannot be had; `kind` is one of those of takeaway/agent, or "busy" or "away"
    where nobody could be asked. `about` is the name, and `more` the figures that belong to it.
    """

    def __init__(self, message: str, kind: str, about: str = "", **more: object) -> None:
        super().__init__(message)
        self.kind = kind
        self.about = about
        self.more = more
