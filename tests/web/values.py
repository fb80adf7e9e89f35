"""Accounts and their states, as the tests of the pages need them."""

from __future__ import annotations

from vncgate.desktop_words import plain, plain_in_queue
from vncgate.kinds import DesktopsSettings
from vncgate.model import (
    Account,
    AccountStatus,
    Desktop,
    DesktopState,
    DesktopStatus,
    Readiness,
    Roster,
    Secret,
    State,
    Traffic,
    Want,
)

PASSWORD = "k3Vq9xTb"
"""The password of every account here: it must be found in nothing that is rendered or served."""

DESKTOPS = DesktopsSettings(
    kinds={
        **{policy: {"command": "xterm", "policy": policy} for policy in ("manual", "eager", "on_demand")},
        "pool": {"command": "xterm", "policy": "pool", "pool": 1},
    }
)
"""Settings with a kind for each policy, and of its name."""


def account(name="ws01", title="", path=None, port=6000):
    return Account(name, Desktop("node01", 5901), path or name, port, Secret(PASSWORD), display_name=title)


def launched_account(name="ws01", title="", path=None):
    """One whose desktop the gate starts itself."""
    return Account(name, None, path or name, None, Secret(PASSWORD), display_name=title)


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


class Started:
    """What a launcher tells the pages, and what they ask of it; a test changes it as it goes."""

    def __init__(self, *names):
        self.asked = []
        self.answer = lambda deed, name: None
        self.states = {}
        for name in names:
            self.set(name)

    def set(self, name, state=DesktopState.STOPPED, *, kind="on_demand", reason="", **times):
        want = Want.DOWN if state is DesktopState.STOPPED else Want.UP
        told = plain_in_queue(reason) if state is DesktopState.PENDING else plain(reason)
        status = DesktopStatus(name, kind, "", "local", "node01", want, state, reason, 0.0, told=told, **times)
        self.states[name] = status

    def statuses(self):
        return list(self.states.values())

    def status(self, name):
        return self.states.get(name)

    def visit(self, name):
        self._do("visit", name)

    def retry(self, name):
        self._do("retry", name)

    def stay(self, name):
        self._do("stay", name)

    def _do(self, deed, name):
        self.asked.append((deed, name))
        self.answer(deed, name)
