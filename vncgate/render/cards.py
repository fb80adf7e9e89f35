"""What participants are told about an account: five words instead of the operator's states, and why."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vncgate.model import Account, AccountStatus, Readiness, Roster, State, Want


class Shown(enum.StrEnum):
    """An account's state as participants see it."""

    READY = "ready"
    IN_USE = "in use"
    OFFLINE = "offline"
    ATTENTION = "needs attention"
    CHECKING = "checking"


@dataclass(frozen=True, slots=True)
class Card:
    """One account on the landing page. `state` is None where nobody knows it (static export)."""

    account: Account
    state: Shown | None = None
    reason: str = ""

    @property
    def public(self) -> dict[str, str]:
        """What the API tells: nothing that the landing page does not show."""
        return {
            "path": self.account.path,
            "name": self.account.name,
            "title": self.account.title,
            "state": self.state or Shown.CHECKING,
            "reason": self.reason,
        }


def cards(roster: Roster, statuses: Iterable[AccountStatus]) -> Mapping[str, Card]:
    """A card for every account of the roster, by path, in the file's order."""
    known = {status.name: status for status in statuses}
    return {
        account.path: Card(account, *(shown(known[account.name]) if account.name in known else (Shown.CHECKING, "")))
        for account in roster.values()
    }


def shown(status: AccountStatus) -> tuple[Shown, str]:
    """What participants are told of a status, and the reason for it (empty where there is none)."""
    if status.state is not State.RUNNING:
        return _not_running(status)
    if status.traffic.connections:
        return Shown.IN_USE, ""
    match status.readiness:
        case Readiness.READY:
            return Shown.READY, ""
        case Readiness.OFFLINE:
            return Shown.OFFLINE, status.reason or "the desktop does not answer"
        case Readiness.WRONG_PASSWORD:
            return Shown.ATTENTION, "the organizers must check this desktop's password"
        case _:
            return Shown.CHECKING, ""


def _not_running(status: AccountStatus) -> tuple[Shown, str]:
    match status.state:
        case _ if status.want is Want.DOWN:
            return Shown.OFFLINE, "stopped by the organizers"
        case State.STARTING | State.STOPPED | State.STOPPING:
            return Shown.CHECKING, "it is being started"
        case State.FATAL:
            return Shown.OFFLINE, "the gate cannot serve it; please tell the organizers"
        case _:
            return Shown.OFFLINE, "the gate lost it and is starting it again"
