"""A place whose desktops are no more than entries of a dictionary, and a launcher that works with it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter

from vncgate.errors import DesktopError, LaunchError, SilentError
from vncgate.kinds import DesktopsSettings
from vncgate.launcher import Launcher
from vncgate.launchers.base import Handle, Seen, Sighting
from vncgate.model import Account, Desktop, DesktopState, Readiness, Roster, Secret
from vncgate.store import Ending, Entry


@dataclasses.dataclass
class FakeDesktop:
    """One that was started; it is up `boot` seconds after it began."""

    handle: Handle
    spec: object
    password: str
    began: float
    sighting: Sighting | None = None


class FakePlace:
    """`running` has what runs, by nonce; `calls` counts calls.

    `hold` has desktops wait in a queue, `refuse` is what `submit()` raises, `silent` has every question unanswered.
    `deaf` are the hosts that do not answer `submit()`, after `patience` seconds, `dead` the accounts whom none answers.
    With `lag`, what was asked of it comes to life so many seconds later, even when nobody waits for it any more.
    """

    def __init__(self, hosts=(), boot=1.0, answer=0.01):
        self.hosts = hosts
        self.boot, self.answer = boot, answer
        self.running: dict[str, FakeDesktop] = {}
        self.started, self.calls = [], Counter()
        self.peak = 0
        self.hold, self.silent, self.refuse = False, False, None
        self.refuses_logins = False
        self.deaf, self.dead, self.patience = set(), set(), 3.0
        self.lag = 0.0
        self.log_text = ""

    def now(self):
        return asyncio.get_running_loop().time()

    async def submit(self, spec):
        self.calls["submit"] += 1
        if spec.host in self.deaf or spec.account in self.dead:
            await asyncio.sleep(self.patience)
            raise SilentError(f"no ssh connection to {spec.host or 'it'}")
        handle = Handle("local", spec.account, spec.nonce, spec.host, spec.user, f"job{self.calls['submit']}")
        if self.lag:
            asyncio.get_running_loop().call_later(self.lag, self.begin, handle, spec)
        await asyncio.sleep(self.lag or self.answer)
        if self.refuse:
            raise LaunchError(self.refuse)
        if not self.lag:
            self.begin(handle, spec)
        await asyncio.sleep(self.answer)
        return handle

    def begin(self, handle, spec):
        self.running[spec.nonce] = FakeDesktop(handle, spec, spec.password.reveal(), self.now())
        self.started.append(spec.account)
        self.peak = max(self.peak, sum(not self.is_up(each) for each in self.running.values()))

    def is_up(self, desktop):
        return self.now() >= desktop.began + self.boot

    async def query(self, handle):
        self.calls["query"] += 1
        await asyncio.sleep(self.answer)
        desktop = self.running.get(handle.nonce)
        if self.silent:
            return Sighting(Seen.UNKNOWN, reason="no answer")
        if desktop is None:
            return Sighting(Seen.GONE)
        if desktop.sighting:
            return desktop.sighting
        if self.hold:
            desktop.began = self.now()
            return Sighting(Seen.PENDING, reason="Resources")
        where = Desktop(unix=f"/{handle.nonce}") if self.is_up(desktop) else None
        return Sighting(Seen.RUNNING, where, handle.host)

    async def cancel(self, handle):
        self.calls["cancel"] += 1
        await asyncio.sleep(self.answer)
        if self.silent:
            raise LaunchError("no answer")
        self.running.pop(handle.nonce, None)

    async def logs(self, handle, lines=200):
        self.calls["logs"] += 1
        return self.log_text

    async def rekey(self, handle, password):
        self.calls["rekey"] += 1
        await asyncio.sleep(self.answer)
        if self.silent:
            raise LaunchError("no answer")
        self.running[handle.nonce].password = password.reveal()

    async def aclose(self):
        self.calls["aclose"] += 1

    async def login(self, account):
        """As the gate's full VNC login."""
        self.calls["login"] += 1
        await asyncio.sleep(self.answer)
        desktop = self.running.get(account.desktop.unix.removeprefix("/"))
        if desktop is None or not self.is_up(desktop) or self.refuses_logins:
            raise DesktopError(f"desktop {account.desktop} refused the connection", Readiness.OFFLINE)
        if desktop.password != account.password.reveal():
            raise DesktopError(f"desktop {account.desktop} refused the password", Readiness.WRONG_PASSWORD)

    def of(self, name):
        """The one desktop of an account."""
        found = [each for each in self.running.values() if each.spec.account == name]
        assert len(found) == 1, f"{len(found)} desktops of {name}"
        return found[0]

    def die(self, name, **how):
        """Its process ends; whoever asks hears `how`."""
        del self.running[self.of(name).handle.nonce]


class MemoryStore:
    """A store without a disk, for loops whose clock jumps. `broken` is what writing raises, `stuck` removing."""

    folder = "/memory"

    def __init__(self):
        self.files: dict[str, str] = {}
        self.ended: dict[str, Ending] = {}
        self.writes = 0
        self.broken = self.stuck = None

    async def load(self):
        entries = [Entry.from_json(json.loads(text)) for text in self.files.values()]
        return sorted(entries, key=lambda entry: entry.requested)

    async def put(self, entry):
        await asyncio.sleep(0.001)
        if self.broken:
            raise self.broken
        self.writes += 1
        self.ended.pop(entry.account, None)
        self.files[entry.handle.nonce] = json.dumps(entry.to_json())

    async def conclude(self, ending):
        await asyncio.sleep(0.001)
        if self.broken:
            raise self.broken
        self.ended[ending.account] = ending

    async def endings(self):
        return list(self.ended.values())

    async def forget(self, accounts):
        for account in accounts:
            self.ended.pop(account, None)

    async def remove(self, handle):
        await asyncio.sleep(0.001)
        if self.stuck:
            raise self.stuck
        self.files.pop(handle.nonce, None)


EPOCH = 1_800_000_000.0
"""What the wall clock shows when the loop's shows 0."""


LOCAL = {"type": "local"}


def account(name, password="secret", **more):
    return Account(name, None, f"path-{name}", None, Secret(password), **more)


def roster(*names, **more):
    return Roster(tuple(account(name, **more) for name in names))


def settings(places=None, *, kinds=None, general=None, **kind):
    """Starts follow each other at once, unless `places` say otherwise."""
    places = {
        name: {"starts_per_second": 1000.0, **place} for name, place in {"local": LOCAL, **(places or {})}.items()
    }
    kinds = kinds or {"xfce": {"command": "startxfce4", **kind}}
    return DesktopsSettings.model_validate({"kinds": kinds, "places": places, **(general or {})})


class World:
    """A launcher, what it works with, and what it told. `restart()` is a daemon that is killed and started again."""

    def __init__(self):
        self.place, self.store = FakePlace(), MemoryStore()
        self.places = {"local": self.place}
        self.launcher, self.told = None, []
        self.numbers = iter(range(1_000_000))
        self.is_blind = False

    async def start(self, configured=None, accounts=None):
        if configured is not None:
            self.configured = configured
        if accounts is not None:
            self.roster = accounts
        loop = asyncio.get_running_loop()
        self.launcher = Launcher(
            self.configured,
            self.places,
            store=self.store,
            login=self.place.login,
            changed=self.told.append,
            chance=lambda: 0.0,
            wall_clock=lambda: EPOCH + loop.time(),
            nonce=lambda: f"{next(self.numbers):016}",
            password=lambda: Secret(f"random{next(self.numbers)}"),
            is_blind=self.is_blind,
        )
        await self.launcher.start()
        self.launcher.apply(self.roster)

    async def restart(self):
        await self.launcher.aclose()
        await self.start()

    def status(self, name="ws01"):
        return self.launcher.status(name)

    def state(self, name="ws01"):
        return self.status(name).state

    def states(self):
        return {status.state for status in self.launcher.statuses()}

    async def until(self, condition, limit=60.0, step=0.01):
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        while not condition():
            assert loop.time() < end, self.launcher.statuses()
            await asyncio.sleep(step)

    async def running(self, *names, limit=60.0):
        await self.until(lambda: all(self.state(name) is DesktopState.RUNNING for name in names or ("ws01",)), limit)


POOL = {"policy": "pool", "pool": 3}


async def ready_in_pool(world, count=3):
    """Until so many desktops are there, which the launcher knows of."""
    await world.until(
        lambda: len(world.place.running) == count and all(map(world.place.is_up, world.place.running.values()))
    )
    await asyncio.sleep(1)
