"""A site with seats and organizers, for the tests of their pages, API and commands: all but engine and desktops."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace
from datetime import UTC, datetime

from tests.launched import RUNNING, Launcher, desktop
from tests.web.values import account, launched_account, status
from vncgate import grants
from vncgate.grants import Grant, Scope
from vncgate.kinds import DesktopsSettings
from vncgate.model import Readiness, Roster, Secret, Traffic
from vncgate.participants import Participants
from vncgate.people import Person
from vncgate.settings import load
from vncgate.web.app import build

TOKENS = {name: Secret(f"canary-{name}-0123456789") for name in ("ada", "portal", "bo")}
MADE = datetime(2026, 11, 21, 9, tzinfo=UTC)
KINDS = {"xfce": {"command": "startxfce4", "title": "Xfce"}}


def grant(name, *scopes):
    return Grant(name=name, sha256=grants.digest(TOKENS[name]), scopes=scopes, created=MADE)


class House:
    """`traffic` and `readiness` are by account; a test changes them, and the tokens' file."""

    def __init__(self, folder, count=4, launched=(), **settings):
        self.folder = folder
        self.tokens = folder / "api.tokens"
        self.allow(grant("ada", Scope.ORGANIZE), grant("portal", Scope.READ, Scope.WRITE))
        self.roster = Roster(tuple(
            (launched_account if f"ws{n:02}" in launched else account)(f"ws{n:02}", f"Seat {n}", f"path-ws{n:02}")
            for n in range(1, count + 1)
        ))  # fmt: skip
        self.traffic = {}
        self.readiness = {}
        self.launcher = Launcher(*(desktop(name, RUNNING, host="node02") for name in launched))
        self.admitted = {}
        self.settings = load(flags={
            "access": "seat", "public_url": "http://127.0.0.1/", "api.tokens": self.tokens, **settings,
        })  # fmt: skip
        desktops = DesktopsSettings.model_validate({"kinds": KINDS, "kind": "xfce"})
        self.settings = self.settings.model_copy(update={"desktops": desktops})
        self.participants = None

    def allow(self, *kept):
        self.tokens.write_bytes(grants.render(kept))

    def statuses(self):
        return [
            replace(
                status(each, self.readiness.get(each.name, Readiness.READY)),
                traffic=self.traffic.get(each.name, Traffic()),
            )
            for each in self.roster.values()
        ]

    async def admit(self, admissions):
        self.admitted |= admissions

    @contextlib.asynccontextmanager
    async def open(self):
        environ = {"XDG_STATE_HOME": str(self.folder), "STATE_DIRECTORY": str(self.folder), "HOME": str(self.folder)}
        self.participants = await Participants.open(
            self.settings, environ, lambda: self.roster, self.admit, self.statuses, self.launcher
        )
        try:
            yield self
        finally:
            await self.participants.aclose()

    @property
    def ledger(self):
        return self.participants.ledger

    def application(self):
        return build(
            settings=self.settings,
            roster=lambda: self.roster,
            statuses=self.statuses,
            desktops=self.launcher,
            participants=self.participants,
        )

    async def person(self, name, account="", **more):
        """Somebody, on the waiting list or on a seat."""
        new = Person(secrets.token_hex(4), name, more.pop("email", ""), MADE, **more)
        made = await self.ledger.sign_up(new, (), capacity=None, waiting=True)
        return await self.participants.seating.assign(made.id, account, "test") if account else made

    async def enter(self, account):
        """The value of the cookie of a browser that is signed in at a seat."""
        seating = self.participants.seating
        return (await seating.begin(account, seating.seat(account).person)).cookie.reveal()

    async def audit(self):
        return [(entry.who, entry.what, entry.about) for entry in await self.ledger.audit()]
