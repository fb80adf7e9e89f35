"""What participants are told about an account: a few words instead of the operator's states, and why."""

from __future__ import annotations

import enum
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from vncgate.kinds import Kind, Policy
from vncgate.model import Account, AccountStatus, DesktopState, DesktopStatus, Readiness, Roster, State, Want

LONGEST_REASON = 300
"""Characters of a reason that a page shows: it may be the end of some program's log."""
WHEN_OPENED = "it starts when you open it"
"""What the landing page says of a desktop that a visit starts."""


class Shown(enum.StrEnum):
    """An account's state as participants see it."""

    READY = "ready"
    IN_USE = "in use"
    OFFLINE = "offline"
    ATTENTION = "needs attention"
    CHECKING = "checking"
    STOPPED = "stopped"
    REQUESTED = "asked for"
    PENDING = "in the queue"
    STARTING = "starting"
    STOPPING = "being ended"
    FAILED = "failed"


class Offer(enum.StrEnum):
    """What a participant may have done with a desktop that is not there."""

    NOTHING = ""
    START = "start"
    AGAIN = "try again"


@dataclass(frozen=True, slots=True)
class Launched:
    """A desktop that the gate starts, as its participant is told; DesktopStatus has the meaning of the times.

    `state` is RUNNING only where the gate lets browsers through to it, `kind` is what it is called.
    """

    state: DesktopState
    reason: str = ""
    starts: float | None = None
    ends: float | None = None
    idle_end: float | None = None
    offer: Offer = Offer.NOTHING
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One account on the landing page. `state` is None where nobody knows it (static export), `desktop` where the
    gate does not start it.
    """

    account: Account
    state: Shown | None = None
    reason: str = ""
    desktop: Launched | None = None

    @property
    def is_launched(self) -> bool:
        """Whether the gate starts the desktop."""
        return self.desktop is not None or self.account.desktop is None

    @property
    def public(self) -> dict[str, Any]:
        """What the API tells: nothing that the pages do not show."""
        body = {
            "path": self.account.path,
            "name": self.account.name,
            "title": self.account.title,
            "state": self.state or Shown.CHECKING,
            "reason": self.reason,
        }
        return body if self.desktop is None else body | {"desktop": asdict(self.desktop)}


def cards(
    roster: Roster,
    statuses: Iterable[AccountStatus],
    desktops: Iterable[DesktopStatus] = (),
    kinds: Mapping[str, Kind] | None = None,
    *,
    is_over: bool = False,
) -> Mapping[str, Card]:
    """A card for every account of the roster, by path, in the file's order.

    `desktops` are those that the gate starts itself, of these `kinds`; `is_over` says that it starts no more.
    """
    proxies = {status.name: status for status in statuses}
    started = {status.account: status for status in desktops}
    startable = {} if is_over or kinds is None else kinds
    return {
        account.path: _card(account, proxies.get(account.name), started.get(account.name), startable)
        for account in roster.values()
    }


def _card(
    account: Account, proxy: AccountStatus | None, desktop: DesktopStatus | None, kinds: Mapping[str, Kind]
) -> Card:
    state, reason = shown(proxy) if proxy else (Shown.CHECKING, "")
    if desktop is None:
        return Card(account, state, reason)
    kind = kinds.get(desktop.kind)
    policy = kind.policy if kind else None
    told = launched(desktop, policy, is_served=proxy is not None and _is_served(proxy))
    told = replace(told, kind=(kind and kind.title) or desktop.kind)
    if told.state is not DesktopState.RUNNING:
        hint = WHEN_OPENED if told.offer is Offer.START and policy is not Policy.EAGER else ""
        state, reason = Shown[told.state.name], _joined(told.reason, hint)
    elif state is Shown.CHECKING:
        state = Shown.READY  # whoever started it has logged in to it; the prober will
    return Card(account, state, reason, told)


def _is_served(proxy: AccountStatus) -> bool:
    """Whether browsers are led to where the desktop is; what keeps them from it otherwise, they are told."""
    is_coming = proxy.want is Want.UP and proxy.state in (State.STOPPED, State.STARTING, State.STOPPING)
    return proxy.account.desktop is not None and not is_coming


def launched(status: DesktopStatus, policy: Policy | None, *, is_served: bool) -> Launched:
    """What a participant is told of a desktop.

    `policy` is None where it is started no more. `is_served`: browsers are let through to it, if it is there.
    """
    reason = textwrap.shorten(status.reason, LONGEST_REASON, placeholder=" …")
    match status.state:
        case DesktopState.RUNNING if is_served:
            return Launched(status.state, ends=status.ends if status.is_ending else None, idle_end=status.idle_end)
        case DesktopState.RUNNING:
            return Launched(DesktopState.STARTING)
        case DesktopState.STOPPED if policy is Policy.MANUAL:
            return Launched(status.state, _joined(reason, "the organizers start it"))
        case DesktopState.STOPPED if policy:
            return Launched(status.state, reason, offer=Offer.START)
        case DesktopState.FAILED if policy:
            return Launched(status.state, reason, offer=Offer.AGAIN)
        case _:
            return Launched(status.state, reason, starts=status.starts)


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))


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
