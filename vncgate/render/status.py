"""How all accounts are, for the operator: JSON values for the control socket, one line for systemd and the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vncgate.model import AccountStatus, DesktopStatus, Readiness, State

TROUBLES = ("offline", "wrong_password", "not_running")
"""Totals that are only worth a word when they are not zero."""


def report(statuses: Sequence[AccountStatus], desktops: Sequence[DesktopStatus] = ()) -> dict[str, Any]:
    """`accounts`, each with all that is known of it but its password, and `totals`; `since` is in seconds (epoch).

    The other half of an account whose desktop the gate starts itself is its `launched`; of others that is None.
    """
    halves = {desktop.account: launched(desktop) for desktop in desktops}
    accounts = [{**_account(status), "launched": halves.get(status.name)} for status in statuses]
    return {"accounts": accounts, "totals": _totals(statuses)}


def launched(status: DesktopStatus) -> dict[str, Any]:
    """A desktop that the gate starts itself, as JSON values; times are in seconds (epoch), None where not known."""
    body = {**asdict(status), "desktop": str(status.desktop) if status.desktop else None}
    del body["is_ending"], body["is_again"], body["told"]  # whoever reads this has a clock, and the reason
    return body


def summary(statuses: Sequence[AccountStatus], trouble: str) -> str:
    """One line: `60 accounts, 12 in use, 3 offline; workshop.tokens has 1 error; ...`."""
    totals = _totals(statuses)
    count = totals["accounts"]
    parts = [f"{count} account{'' if count == 1 else 's'}", f"{totals['in_use']} in use"]
    parts += [f"{totals[key]} {key.replace('_', ' ')}" for key in TROUBLES if totals[key]]
    text = ", ".join(parts)
    return f"{text}; {trouble}" if trouble else text


def _totals(statuses: Sequence[AccountStatus]) -> dict[str, int]:
    running = [status for status in statuses if status.state is State.RUNNING]
    return {
        "accounts": len(statuses),
        "in_use": sum(status.traffic.connections > 0 for status in statuses),
        "ready": sum(status.readiness is Readiness.READY for status in running),
        "offline": sum(status.readiness is Readiness.OFFLINE for status in running),
        "wrong_password": sum(status.readiness is Readiness.WRONG_PASSWORD for status in running),
        "not_running": len(statuses) - len(running),
        "connections": sum(status.traffic.connections for status in statuses),
        "bytes_up": sum(status.traffic.bytes_up or 0 for status in statuses),
        "bytes_down": sum(status.traffic.bytes_down or 0 for status in statuses),
    }


def _account(status: AccountStatus) -> dict[str, Any]:
    account, traffic = status.account, status.traffic
    return {
        "name": account.name,
        "title": account.title,
        "path": account.path,
        "port": account.port,
        "desktop": str(account.desktop) if account.desktop else None,
        "want": status.want,
        "state": status.state,
        "ready": status.readiness,
        "reason": status.reason,
        "since": status.since,
        "connections": traffic.connections,
        "bytes_up": traffic.bytes_up,
        "bytes_down": traffic.bytes_down,
        "restarts": status.restarts,
        "last_error": status.last_error,
    }
