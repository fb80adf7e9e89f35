"""Accounts and their states, as the tests of the pages need them."""

from __future__ import annotations

from vncgate.model import Account, AccountStatus, Desktop, Readiness, Roster, Secret, State, Traffic, Want

PASSWORD = "k3Vq9xTb"
"""The password of every account here: it must be found in nothing that is rendered or served."""


def account(name="ws01", title="", path=None, port=6000):
    return Account(name, Desktop("node01", 5901), path or name, port, Secret(PASSWORD), display_name=title)


def accounts(count):
    return Roster(tuple(account(f"ws{n:02}", f"Person {n}", port=6000 + n) for n in range(1, count + 1)))


def status(of, readiness=Readiness.READY, *, state=State.RUNNING, want=Want.UP, reason="", connections=0, error=""):
    return AccountStatus(of, want, state, readiness, reason, 0.0, Traffic(connections), 0, error)


class Gate:
    """What the daemon tells the pages; a test changes it as it goes."""

    def __init__(self, roster):
        self.now = roster
        self.states = {name: status(account) for name, account in roster.items()}

    def roster(self):
        return self.now

    def statuses(self):
        return [self.states[name] for name in self.now if name in self.states]

    def set(self, name, readiness=Readiness.READY, **more):
        self.states[name] = status(self.now[name], readiness, **more)
