"""What to do when the roster changed: pure, from the accounts desired and those running.

Only what changed is touched. An account whose route (desktop, path, port) changed is stopped and started
again; one whose password or names changed is told so and keeps its connections. Stops come first, so that
a port that moves from one account to another is free when it is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vncgate.model import Account

MOST_NAMES = 10
"""Accounts that are named where a plan is put into words."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Accounts by what happens to them; together they are all accounts, old and new."""

    remove: tuple[Account, ...] = ()
    replace: tuple[Account, ...] = ()
    update: tuple[Account, ...] = ()
    add: tuple[Account, ...] = ()
    keep: tuple[Account, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.remove or self.replace or self.update or self.add)

    def __str__(self) -> str:
        """`2 added (ws04, ws05), 1 removed (ws02), 57 unchanged`."""
        parts = {"added": self.add, "removed": self.remove, "moved": self.replace, "updated": self.update}
        words = [f"{len(accounts)} {word} ({_names(accounts)})" for word, accounts in parts.items() if accounts]
        words += [f"{len(self.keep)} unchanged"] if self.keep else []
        return ", ".join(words) or "no accounts"


def _names(accounts: tuple[Account, ...]) -> str:
    names = [account.name for account in accounts[:MOST_NAMES]]
    return ", ".join([*names, "..."] if len(accounts) > MOST_NAMES else names)


def plan(desired: Mapping[str, Account], running: Mapping[str, Account]) -> Plan:
    """Compare by name. `replace`, `update` and `keep` hold the new accounts, `remove` the old ones."""
    remove = tuple(account for name, account in running.items() if name not in desired)
    replace, update, add, keep = [], [], [], []
    for name, account in desired.items():
        old = running.get(name)
        if old is None:
            add.append(account)
        elif old.route != account.route:
            replace.append(account)
        elif old != account:
            update.append(account)
        else:
            keep.append(account)
    return Plan(remove, tuple(replace), tuple(update), tuple(add), tuple(keep))
