"""What participants are told about an account: a few words instead of the operator's states, and why."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from vncgate.desktop_words import AWAY, plain_of_login
from vncgate.kinds import DesktopsSettings, Kind, Policy
from vncgate.languages import N_, Words, joined
from vncgate.model import Account, AccountStatus, DesktopState, DesktopStatus, Readiness, Roster, State, Want

OVER = N_("the workshop is over")
WHEN_OPENED = N_("it starts when you open it")
"""What the landing page says of a desktop that a visit starts."""
BY_ORGANIZERS = N_("the organizers start it")
GOES_ON = N_("this page then goes on by itself")
"""What the viewer says beside that, and the landing page does not."""


class Shown(enum.StrEnum):
    """An account's state as participants see it."""

    READY = N_("ready")
    IN_USE = N_("in use")
    OFFLINE = N_("offline")
    ATTENTION = N_("needs attention")
    CHECKING = N_("checking")
    STOPPED = N_("stopped")
    REQUESTED = N_("waiting")
    PENDING = N_("in the queue")
    STARTING = N_("starting")
    STOPPING = N_("being ended")
    AGAIN = N_("trying again")
    FAILED = N_("failed")


class Offer(enum.StrEnum):
    """What a participant may have done with a desktop that is not there."""

    NOTHING = ""
    START = N_("start")
    AGAIN = N_("try again")


@dataclass(frozen=True, slots=True)
class Launched:
    """A desktop that the gate starts, as its participant is told; DesktopStatus has the meaning of the times.

    `state` is RUNNING only where the gate lets browsers through to it, `kind` is what it is called. `headline` stands
    over `reason` in the waiting room. With `comes` it is there sooner or later without anything that its participant
    would have to do.
    """

    state: DesktopState
    headline: str = ""
    reason: str = ""
    starts: float | None = None
    ends: float | None = None
    idle_end: float | None = None
    offer: Offer = Offer.NOTHING
    comes: bool = False
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One account on the landing page. `state` is None where nobody knows it (static export), `desktop` where the
    gate does not start it. `waits_for_visit`: it starts when its participant opens it, which `reason` says to them.
    """

    account: Account
    state: Shown | None = None
    reason: str = ""
    desktop: Launched | None = None
    waits_for_visit: bool = False

    @property
    def is_launched(self) -> bool:
        """Whether the gate starts the desktop."""
        return self.desktop is not None or self.account.desktop is None

    def public(self, words: Words) -> dict[str, Any]:
        """What the API tells, in the language of `words`: nothing that the pages do not show. `state` is for programs
        and `label` the same for people.
        """
        state = self.state or Shown.CHECKING
        body: dict[str, Any] = {
            "path": self.account.path,
            "name": self.account.name,
            "title": self.account.title,
            "state": state,
            "label": words.of(state),
            "reason": words.of(self.reason),
        }
        if self.desktop is None:
            return body
        said = {"headline": self.desktop.headline, "reason": self.desktop.reason, "offer": self.desktop.offer}
        spoken = {name: words.of(text) for name, text in said.items()}
        return body | {"desktop": {**asdict(self.desktop), **spoken}}


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
    return {
        account.path: _card(account, proxies.get(account.name), started.get(account.name), kinds or {}, is_over)
        for account in roster.values()
    }


def cards_now(
    now: float,
    settings: DesktopsSettings,
    why_closed: Callable[[str], str],
    roster: Roster,
    statuses: Iterable[AccountStatus],
    desktops: Iterable[DesktopStatus],
) -> Mapping[str, Card]:
    """The same at a time (seconds since the epoch), in the workshop's life: `why_closed` says why the desktop of an
    account may not be used; empty where it may.
    """
    is_over = settings.end is not None and settings.end.timestamp() <= now
    told = cards(roster, statuses, desktops, settings.kinds, is_over=is_over)
    why = {path: why_closed(card.account.name) for path, card in told.items()}
    return {path: closed(card, why[path]) if why[path] else card for path, card in told.items()}


def closed(card: Card, words: str) -> Card:
    """The card of an account whose desktop may not be used now, however it is; `words` say why."""
    if not card.is_launched:
        return replace(card, state=Shown.OFFLINE, reason=words)
    told = Launched(DesktopState.STOPPED, N_("Your desktop is not open"), words)
    kind = card.desktop.kind if card.desktop else ""
    return Card(card.account, Shown.STOPPED, words, replace(told, kind=kind))


def _card(
    account: Account,
    proxy: AccountStatus | None,
    desktop: DesktopStatus | None,
    kinds: Mapping[str, Kind],
    is_over: bool,
) -> Card:
    state, reason = shown(proxy) if proxy else (Shown.CHECKING, "")
    if desktop is None:
        return Card(account, state, reason)
    kind = kinds.get(desktop.kind)
    policy = None if is_over or kind is None else kind.policy_for(account)
    told = launched(desktop, policy, is_served=proxy is not None and _is_served(proxy), is_over=is_over)
    told = replace(told, kind=(kind and kind.title) or desktop.kind)
    waits = told.offer is Offer.START and policy is not Policy.EAGER
    if told.state is not DesktopState.RUNNING:
        state, reason = _state(told, desktop), joined([told.reason, WHEN_OPENED if waits else ""])
        if policy is Policy.MANUAL and told.state is DesktopState.STOPPED:
            told = replace(told, reason=joined([told.reason, GOES_ON]))
    elif state is Shown.CHECKING:
        state = Shown.READY  # whoever started it has logged in to it; the prober will
    return Card(account, state, reason, told, waits)


def _state(told: Launched, status: DesktopStatus) -> Shown:
    is_again = status.is_again and told.state in (DesktopState.REQUESTED, DesktopState.STOPPING)
    return Shown.AGAIN if is_again else Shown[told.state.name]


def _is_served(proxy: AccountStatus) -> bool:
    """Whether browsers are led to where the desktop is; what keeps them from it otherwise, they are told."""
    is_coming = proxy.want is Want.UP and proxy.state in (State.STOPPED, State.STARTING, State.STOPPING)
    return proxy.account.desktop is not None and not is_coming


def launched(status: DesktopStatus, policy: Policy | None, *, is_served: bool, is_over: bool = False) -> Launched:
    """What a participant is told of a desktop.

    `policy` is None where it is started no more, as when the workshop `is_over`. `is_served`: browsers are let through
    to it, if it is there.
    """
    state, reason = status.state, status.told
    match state:
        case DesktopState.RUNNING if is_served:
            return Launched(state, ends=status.ends if status.is_ending else None, idle_end=status.idle_end)
        case DesktopState.STOPPED | DesktopState.FAILED if is_over:
            return Launched(state, N_("Your desktop is not started any more"), OVER)
        case DesktopState.STOPPED if policy is Policy.MANUAL:
            headline = N_("Your desktop has ended") if reason else N_("Your desktop is not started yet")
            return Launched(state, headline, joined([reason, BY_ORGANIZERS]))
        case DesktopState.STOPPED:
            headline = N_("Your desktop has ended") if reason else N_("Your desktop is not running")
            return Launched(state, headline, reason, offer=Offer.START if policy else Offer.NOTHING)
        case DesktopState.FAILED:
            words = reason or N_("the organizers can see why: please tell them")
            return Launched(state, N_("Your desktop has failed"), words, offer=Offer.AGAIN if policy else Offer.NOTHING)
        case DesktopState.STOPPING if not status.is_again:
            return Launched(state, N_("Your desktop is being ended"), reason)
        case _:
            return _coming(status, reason)


_WAITING = {"": N_("Your desktop is on its way"), AWAY: N_("Your desktop has to wait")}


def _coming(status: DesktopStatus, reason: str) -> Launched:
    """A desktop that is there sooner or later without anybody's word."""
    words: str
    match status.state:
        case DesktopState.REQUESTED | DesktopState.STOPPING if status.is_again:
            headline = N_("Your desktop has to wait") if reason == AWAY else N_("Your desktop is being started again")
            words = joined([reason or N_("something went wrong with it"), N_("it starts by itself")])
        case DesktopState.REQUESTED:
            headline, words = _WAITING.get(reason, N_("Your desktop waits for its turn")), reason
        case DesktopState.PENDING:
            headline, words = N_("Your desktop is in the queue"), reason
        case _:
            headline, words = N_("Your desktop is starting"), reason if status.state is DesktopState.STARTING else ""
    # Where its place lets nobody in yet, it is starting for its participant.
    state = DesktopState.STARTING if status.state is DesktopState.RUNNING else status.state
    return Launched(state, headline, words, starts=status.starts, comes=True)


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
            # Where it is, is nothing to participants.
            reason = status.reason.replace(f"desktop {status.account.desktop}", "the desktop")
            return Shown.OFFLINE, plain_of_login(reason) or reason or N_("the desktop does not answer")
        case Readiness.WRONG_PASSWORD:
            return Shown.ATTENTION, N_("the organizers must check this desktop's password")
        case _:
            return Shown.CHECKING, ""


def _not_running(status: AccountStatus) -> tuple[Shown, str]:
    match status.state:
        case _ if status.want is Want.DOWN:
            return Shown.OFFLINE, N_("stopped by the organizers")
        case State.STARTING | State.STOPPED | State.STOPPING:
            return Shown.CHECKING, N_("it is being started")
        case State.FATAL:
            return Shown.OFFLINE, N_("the gate cannot serve it; please tell the organizers")
        case _:
            return Shown.OFFLINE, N_("the gate lost it and is starting it again")
