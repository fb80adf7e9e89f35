"""One desktop: turns the actions of `desktop_life` into deeds at its place, and what happens there into events.

It owns at most one task that starts or ends the desktop, one that logs in to it, and one timer. Its yard looks at it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vncgate import tasks
from vncgate.desktop_life import Action, Event, Life, step
from vncgate.errors import DesktopError, LaunchError
from vncgate.kinds import DesktopsSettings, Kind, Policy
from vncgate.launchers.base import Handle, Seen, Sighting, Spec, expand
from vncgate.model import Account, Desktop, DesktopState, DesktopStatus, Readiness, Secret, Want
from vncgate.store import Entry, Store
from vncgate.text import printable
from vncgate.yard import Yard

log = logging.getLogger(__name__)

LOGINS_AT_ONCE = 16
"""Desktops that are logged in to at the same time."""
ENDS_AT_ONCE = 16
"""Desktops that are ended at the same time."""
LOOK_STARTING = 0.5
"""Seconds between two looks at a desktop that starts."""
LOOK = 3.0
"""Seconds between two looks at any other."""
CANCEL_RETRY = 2.0
"""Seconds until a desktop that could not be ended is ended again; doubles up to the longest."""
LONGEST_CANCEL_RETRY = 60.0
LOG_LINES = 200
LONGEST_LOG = 65536
"""Characters kept of the log of a desktop that is gone."""
LONGEST_TAIL = 200
"""Characters of a log that stand in a reason."""

_STARTING = (DesktopState.REQUESTED, DesktopState.STARTING)


@dataclass(frozen=True)
class Shared:
    """What all desktops of a gate share. See `launcher.Launcher` for the functions."""

    settings: DesktopsSettings
    yards: Mapping[str, Yard]
    store: Store
    login: Callable[[Account], Awaitable[object]]
    changed: Callable[[str], None]
    chance: Callable[[], float]
    wall_clock: Callable[[], float]
    nonce: Callable[[], str]
    password: Callable[[], Secret]
    logins: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LOGINS_AT_ONCE))
    ends: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ENDS_AT_ONCE))


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be started: the kind's name, its size, the kind in that size, and where."""

    name: str
    size: str
    kind: Kind
    yard: Yard


class Runner:
    """The desktop of an account, or one that waits in a pool until `give()`: that one's account has the name of no
    account.
    """

    def __init__(self, shared: Shared, account: Account, *, in_pool: bool = False) -> None:
        self.account = account
        self.in_pool = in_pool
        self._all = shared
        self._life = Life()
        self._since = shared.wall_clock()
        self._choice: Choice | None = None
        self._yard: Yard | None = None
        self._entry: Entry | None = None
        self._kept: Entry | None = None
        self._writing = asyncio.Lock()
        self._is_adopted = False
        self._secret: Secret | None = None
        self._desktop: Desktop | None = None
        self._sighting = Sighting(Seen.UNKNOWN)
        self._doubt = ""
        self._looked = 0.0
        self._patience = 0.0
        self._used = 0.0
        self._reason = ""
        self._log_tells = False
        self._trouble = ""
        self._last_log = ""
        self._shown: DesktopStatus | None = None
        self._deed: asyncio.Task[None] | None = None
        self._aside: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._log = logging.LoggerAdapter(log, {"account": account.name})

    @property
    def name(self) -> str:
        """Its account's name."""
        return self.account.name

    @property
    def state(self) -> DesktopState:
        """What it is."""
        return self._life.state

    @property
    def want(self) -> Want:
        """What was asked for."""
        return self._life.want

    @property
    def handle(self) -> Handle | None:
        """By what its place finds it; None while its place was not asked for it."""
        return self._entry.handle if self._entry else None

    @property
    def desktop(self) -> Desktop | None:
        """Where it is, while it runs."""
        return self._desktop if self.state is DesktopState.RUNNING else None

    @property
    def password(self) -> Secret:
        """What its VNC server asks for: the account's password, or one of ours where the account has none."""
        return self.account.password or self._secret or Secret("")

    def kind(self) -> Kind | None:
        """What runs or, where nothing does, is to run; None where the settings do not have it."""
        settings = self._all.settings
        return settings.kinds.get(self._entry.kind if self._entry else self.account.kind or settings.default_kind)

    def status(self) -> DesktopStatus:
        """How it is now."""
        settings, entry, state = self._all.settings, self._entry, self.state
        kind = self.kind()
        seen = self._sighting
        return DesktopStatus(
            account=self.name,
            kind=entry.kind if entry else self.account.kind or settings.default_kind,
            size=(entry.size if entry else self.account.size) or (kind.size if kind else ""),
            place=entry.handle.place if entry else kind.place if kind else "",
            host=seen.host or (entry.handle.host if entry else ""),
            want=self.want,
            state=state,
            reason=self._words(),
            since=self._since,
            desktop=self.desktop,
            starts=seen.starts if state is DesktopState.PENDING else None,
            ends=self._shown_end(),
            idle_end=self._shown_idle_end(),
            restarts=self._life.restarts,
        )

    def start(self) -> None:
        """Want it."""
        self._handle(Event.START)

    def stop(self, reason: str) -> None:
        """Want it gone; `reason` is what people are told."""
        if self.state is not DesktopState.STOPPED:
            self._reason, self._log_tells = reason, False
        self._handle(Event.STOP)

    def adopt(self, entry: Entry) -> None:
        """Take up what a daemon before this one had started, or was about to start or end."""
        self._entry = self._kept = entry
        self._life = replace(self._life, restarts=entry.restarts)
        self._is_adopted = True
        self._yard = self._all.yards.get(entry.handle.place)
        if self._yard is None:
            self._doubt = f"its place {entry.handle.place} is not in the settings"
            self._log.warning("%s: the desktop is left alone", self._doubt)
        else:
            self._yard.arrive(self)
        self._handle(Event.ADOPTED)
        if entry.want is Want.DOWN:
            self.stop("it was being ended")

    def give(self, account: Account) -> None:
        """From now on this running desktop of a pool is that account's; it runs again when its password is the
        account's.
        """
        assert self._entry is not None  # noqa: S101
        self.account, self.in_pool = account, False
        self._log = logging.LoggerAdapter(log, {"account": account.name})
        self._entry = replace(self._entry, account=account.name)
        self._log.info("takes desktop %s out of the pool", self._entry.handle.nonce)
        self._handle(Event.MOVED)
        self._tend(asyncio.get_running_loop().time(), self._desktop)

    def update(self, account: Account) -> None:
        """Take over what changed in its line: a password at once, the rest with its next start."""
        self.account = account
        self._look_soon()
        self._tell()

    def used(self, at: float) -> None:
        """Somebody used it at `at`, on the loop's clock."""
        self._used = max(self._used, at)
        self._tell()

    async def logs(self, lines: int) -> str:
        """The end of its session's log, or of that of the last one. Raises LaunchError."""
        if self._entry is None or self._yard is None:
            return "\n".join(self._last_log.splitlines()[-lines:])
        return await self._yard.place.logs(self._entry.handle, lines)

    async def aclose(self) -> None:
        """End what is under way here; the desktop stays as it is."""
        self._cancel_timer()
        await tasks.end(*self._tasks)

    # What its yard tells it

    def turn(self) -> None:
        """See yard.Guest."""
        self._handle(Event.TURN)

    def line_moved(self) -> None:
        """See yard.Guest."""
        self._tell()

    def next_look(self) -> float:
        """See yard.Guest."""
        return LOOK_STARTING if self.state in _STARTING else LOOK

    def seen(self, sighting: Sighting) -> None:
        """See yard.Guest."""
        now = asyncio.get_running_loop().time()
        since_last, self._looked = now - self._looked, now
        if sighting.seen is Seen.UNKNOWN:
            # Nobody knows how far it came meanwhile.
            self._patience += since_last
            self._doubt = sighting.reason or f"{self._place()} does not say how it is"
        else:
            self._sighting, self._doubt = sighting, ""
        match sighting.seen:
            case Seen.PENDING:
                self._handle(Event.QUEUED)
                self._wait_in_queue(now)
            case Seen.RUNNING:
                self._handle(Event.UP)
                self._tend(now, sighting.desktop)
            case Seen.GONE:
                self._gone(sighting)
        self._end_idle(now)
        self._tell()

    def _wait_in_queue(self, now: float) -> None:
        limit = self._yard.queue_timeout if self._yard else 0.0
        if limit and now - self._life.since - self._patience > limit:
            why = f": {self._sighting.reason}" if self._sighting.reason else ""
            self._fail(Event.BROKE, f"still in the queue of {self._place()} after {span(limit)}{why}")

    def _tend(self, now: float, desktop: Desktop | None) -> None:
        """Bring a desktop whose process is there to where it can be used, and keep it there."""
        if self.state is DesktopState.RUNNING and desktop is not None and desktop != self._desktop:
            self._handle(Event.MOVED)
        if self.state is DesktopState.STARTING:
            limit = self._yard.settings.start_timeout if self._yard else 0.0
            if now - self._life.since - self._patience > limit:
                why = f" ({self._trouble})" if self._trouble else ""
                self._fail(Event.START_FAILED, f"no VNC login within {span(limit)}{why}", log_tells=True)
            elif desktop is not None:
                self._do_aside(functools.partial(self._log_in, desktop))
        elif not self._is_keyed() or self._entry != self._kept:
            self._do_aside(self._settle_in)

    def _gone(self, sighting: Sighting) -> None:
        status = sighting.exit_status
        words = sighting.reason or "the session ended" + (f" with exit status {status}" if status else "")
        entry, kind = self._entry, self.kind()
        policy = kind.policy if kind else Policy.MANUAL
        if self.state is not DesktopState.RUNNING and not (self._is_adopted and self.state is DesktopState.REQUESTED):
            self._fail(Event.START_FAILED, words, log_tells=not sighting.reason)
        elif status == 0 and policy is not Policy.EAGER and not self.in_pool:
            self._fail(Event.FINISHED, words)
        elif policy is Policy.MANUAL and entry and entry.handle.job:  # without a job it may never have been started
            self._fail(Event.BROKE, words, log_tells=not sighting.reason)
        else:
            self._fail(Event.DIED, words, log_tells=status != 0 and not sighting.reason)

    def _end_idle(self, now: float) -> None:
        end = self._idle_end()
        if end is not None and now >= end:
            kind = self.kind()
            self.stop(f"nobody used it for {span(kind.idle_timeout if kind else 0.0)}")

    # From events to deeds

    def _fail(self, event: Event, reason: str, *, log_tells: bool = False) -> None:
        self._reason, self._log_tells = reason, log_tells
        self._handle(event)

    def _handle(self, event: Event) -> None:
        before = self._life
        loop = asyncio.get_running_loop()
        self._life, action = step(before, event, loop.time(), self._all.chance())
        state = self._life.state
        if state is not before.state:
            self._since, self._patience, self._looked = self._all.wall_clock(), 0.0, loop.time()
            self._log.debug("%s -> %s", before.state, state)
            if state is DesktopState.RUNNING:
                self._used, self._is_adopted = loop.time(), False
                self._log.info("desktop %s runs", self._desktop)
            if state not in _STARTING and self._yard is not None:
                self._yard.settle(self)
        match action:
            case Action.LINE_UP:
                self._cancel_timer()
                self._line_up()
            case Action.SUBMIT:
                self._do(self._submit, Event.START_FAILED, "start")
            case Action.WATCH:
                self._watch()
            case Action.END:
                if self._yard is not None:
                    self._yard.unwatch(self)
                self._do(functools.partial(self._end, self._deed), None, "end")
            case Action.WAIT:
                self._log.warning("%s; trying again in %.0f s", self._reason, self._life.delay)
                self._timer = loop.call_later(self._life.delay, self._handle, Event.DELAY_OVER)
            case Action.GIVE_UP:
                self._log.error("%s; given up: `vncgate desktop start %s` tries again", self._reason, self.name)
        self._tell()

    def _do(self, deed: Callable[[], Coroutine[Any, Any, Event | None]], otherwise: Event | None, word: str) -> None:
        """Run `deed` as this desktop's one deed; its outcome is the next event, `otherwise` if it breaks.

        Where another deed takes its place, nobody is interested in the outcome any more.
        """

        async def run() -> None:
            event = otherwise
            try:
                event = await deed()
            except Exception as error:  # noqa: BLE001  (a defect of ours must not leave the desktop in between)
                self._reason = f"the desktop could not {word}; the gate's log says why"
                self._log.error("a defect: the desktop could not %s", word, exc_info=error)
            if self._deed is asyncio.current_task():
                self._deed = None
                if event is not None:
                    self._handle(event)

        self._deed = self._spawn(run(), f"{word} desktop {self.name}")

    def _do_aside(self, deed: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `deed` beside, unless something runs there already."""
        if self._aside is None or self._aside.done():
            self._aside = self._spawn(deed(), f"log in to desktop {self.name}")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = tasks.spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _line_up(self) -> None:
        try:
            self._choice = self._choose()
        except LaunchError as error:
            self._fail(Event.BROKE, str(error))
        else:
            self._yard = self._choice.yard
            self._yard.line_up(self)

    def _choose(self) -> Choice:
        """What its account's line asks for. Raises LaunchError."""
        settings, account = self._all.settings, self.account
        name = account.kind or settings.default_kind
        known = ", ".join(settings.kinds)
        if not known:
            raise LaunchError("the settings have no kind of desktop: a section [desktops.kinds.NAME] is missing")
        if not name:
            raise LaunchError(f"no kind of desktop is chosen: write desktop=KIND in the account's line ({known})")
        if name not in settings.kinds:
            raise LaunchError(f"the settings have no kind of desktop {name!r}, only {known}")
        try:
            kind = settings.kinds[name].sized(account.size)
        except KeyError:
            sizes = ", ".join(settings.kinds[name].sizes) or "none"
            raise LaunchError(f"kind {name} has no size {account.size!r} (its sizes: {sizes})") from None
        if kind.place not in self._all.yards:
            raise LaunchError(f"kind {name}: its place {kind.place} is not there")
        return Choice(name, account.size or kind.size, kind, self._all.yards[kind.place])

    async def _submit(self) -> Event:
        choice = self._choice
        assert choice is not None  # noqa: S101
        kind, yard = choice.kind, choice.yard
        user, home = (expand(pattern, self.name) for pattern in (yard.settings.user, kind.home))
        handle = Handle(yard.name, self.name, self._all.nonce(), yard.choose_host(), user)
        self._secret = self.account.password or self._all.password()
        spec = Spec(self.name, handle.nonce, handle.host, kind, self._secret, user, home)
        account = "" if self.in_pool else self.name
        now = self._all.wall_clock()
        self._entry = Entry(handle, account, choice.name, choice.size, Want.UP, now, self._life.restarts)
        try:
            await self._keep()
        except OSError as error:
            self._entry = None
            self._reason, self._log_tells = f"the gate cannot write {self._all.store.folder}: {error.strerror}", False
            return Event.START_FAILED
        self._log.info("asking %s for a desktop (%s, %s)", yard.name, choice.name, handle.nonce)
        try:
            handle = await yard.place.submit(spec)
        except LaunchError as error:
            await self._forget()
            self._reason, self._log_tells = str(error), False
            return Event.START_FAILED
        self._entry = replace(self._entry, handle=handle)
        await self._keep_if_possible()
        return Event.SUBMITTED

    async def _end(self, before: asyncio.Task[None] | None) -> Event | None:
        """End all of it; None: nobody can."""
        self._cancel_timer()
        if self._aside is not None:
            await tasks.end(self._aside)
        if before is not None:
            await asyncio.wait([before])  # what was asked of a place half-way might come to life later
        yard, entry = self._yard, self._entry
        if entry is not None:
            if yard is None:
                return None
            if self.want is Want.DOWN:
                self._entry = replace(entry, want=Want.DOWN)
                await self._keep_if_possible()
            await self._ask_log(yard, entry.handle)
            await self._cancel(yard, entry.handle)
            await self._forget()
        if yard is not None:
            yard.leave(self)
        self._sighting, self._doubt, self._trouble = Sighting(Seen.GONE), "", ""
        self._secret = self._desktop = None
        self._is_adopted = False
        return Event.ENDED

    async def _ask_log(self, yard: Yard, handle: Handle) -> None:
        try:
            self._last_log = (await yard.place.logs(handle, LOG_LINES))[-LONGEST_LOG:]
        except LaunchError as error:
            self._log.debug("its log cannot be read: %s", error)
            return
        if self._log_tells and (words := last_words(self._last_log)):
            self._reason = f"{self._reason}: {words}"

    async def _cancel(self, yard: Yard, handle: Handle) -> None:
        """End it at its place, however often that must be tried."""
        wait, reason = CANCEL_RETRY, self._reason
        while True:
            try:
                async with self._all.ends:
                    await yard.place.cancel(handle)
            except LaunchError as error:
                words = str(error)
            except Exception as error:  # noqa: BLE001  (a defect: but while it may run, nothing else may be started)
                words = "the gate's log says why"
                self._log.error("a defect: the desktop could not be ended", exc_info=error)
            else:
                self._reason = reason
                return
            self._reason = f"{reason}; it cannot be ended yet: {words}"
            self._log.warning("the desktop cannot be ended: %s; trying again in %.0f s", words, wait)
            self._tell()
            await asyncio.sleep(wait)
            wait = min(LONGEST_CANCEL_RETRY, 2 * wait)

    async def _log_in(self, desktop: Desktop) -> None:
        handle = self.handle
        try:
            async with self._all.logins:
                await self._settle_in()
                if not self._is_keyed():
                    return
                await self._all.login(replace(self.account, desktop=desktop, password=self.password))
        except DesktopError as error:
            self._trouble = str(error)
            if error.readiness is Readiness.WRONG_PASSWORD:
                self._secret = None  # it is given anew
            return
        if self.state is DesktopState.STARTING and self.handle is handle and self._is_keyed():
            self._desktop = desktop
            self._handle(Event.READY)

    async def _settle_in(self) -> None:
        """Have it known as its account's, on disk and to its VNC server; what fails is tried again with the next
        look.
        """
        await self._keep_if_possible()
        if self._yard is None or self._entry is None or self._is_keyed():
            return
        secret = self.account.password or self._all.password()
        try:
            await self._yard.place.rekey(self._entry.handle, secret)
        except LaunchError as error:
            self._trouble = f"its password could not be set: {error}"
            self._log.warning("%s", self._trouble)
        else:
            self._secret = secret

    def _is_keyed(self) -> bool:
        """Whether its VNC server asks for the password that it should."""
        return self._secret is not None and self._secret == (self.account.password or self._secret)

    async def _keep(self) -> None:
        """Keep on disk what it is. Raises OSError."""
        async with self._writing:
            entry = self._entry
            if entry is not None and entry != self._kept:
                await self._all.store.put(entry)
                self._kept = entry

    async def _keep_if_possible(self) -> None:
        try:
            await self._keep()
        except OSError as error:
            self._log.error("%s cannot be written: %s", self._all.store.folder, error.strerror)

    async def _forget(self) -> None:
        async with self._writing:
            entry, self._entry, self._kept = self._entry, None, None
            if entry is None:
                return
            try:
                await self._all.store.remove(entry.handle)
            except OSError as error:
                self._log.error("%s: a file cannot be removed: %s", self._all.store.folder, error.strerror)

    def _watch(self) -> None:
        if self._yard is not None:
            self._yard.watch(self)

    def _look_soon(self) -> None:
        if self._yard is not None:
            self._yard.look_soon(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What people are shown

    def _tell(self) -> None:
        status = self.status()
        if status != self._shown:
            self._shown = status
            self._all.changed(self.name)

    def _place(self) -> str:
        return self._yard.name if self._yard else "its place"

    def _words(self) -> str:
        match self.state:
            case DesktopState.REQUESTED:
                if self._doubt:
                    return self._doubt
                if self._life.delay:
                    return f"{self._reason}; trying again in {span(self._life.delay)}"
                return self._words_in_line()
            case DesktopState.PENDING | DesktopState.STARTING:
                return self._doubt or self._sighting.reason
            case DesktopState.RUNNING:
                return self._doubt or self._words_of_change()
            case _:
                return self._reason

    def _words_in_line(self) -> str:
        yard = self._yard
        if yard is None or not (position := yard.position(self)):
            return ""
        words = f"{ordinal(position)} in line"
        if yard.is_full():
            return f"{words}: {yard.settings.most} desktops are there, and no more may be"
        return words

    def _words_of_change(self) -> str:
        """What is other in the token file than what runs."""
        entry, account = self._entry, self.account
        if entry is None or self.in_pool:
            return ""
        kind = account.kind or self._all.settings.default_kind
        known = self._all.settings.kinds.get(kind)
        size = account.size or (known.size if known else "")
        if (kind, size) == (entry.kind, entry.size):
            return ""
        return f"{kind}{size and f' ({size})'} from its next start on"

    def _shown_end(self) -> float | None:
        """When it ends for want of time, where that is soon."""
        settings = self._all.settings
        if self.state not in (DesktopState.RUNNING, DesktopState.STARTING):
            return None
        over = settings.end.timestamp() if settings.end else None
        end = min((end for end in (self._sighting.ends, over) if end is not None), default=None)
        return end if end is not None and end - self._all.wall_clock() <= settings.warn else None

    def _idle_end(self) -> float | None:
        """When it ends because nobody uses it, on the loop's clock."""
        kind = self.kind()
        if self.state is not DesktopState.RUNNING or self.in_pool or kind is None or not kind.idle_timeout:
            return None
        return self._used + kind.idle_timeout

    def _shown_idle_end(self) -> float | None:
        end, kind = self._idle_end(), self.kind()
        if end is None or kind is None:
            return None
        left = end - asyncio.get_running_loop().time()
        if left > min(self._all.settings.warn, kind.idle_timeout / 2):
            return None
        return float(round(self._all.wall_clock() + left))


def span(seconds: float) -> str:
    """A time in words: `90 s`, `5 min`, `2 h`."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1g} s"


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `3rd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def last_words(text: str) -> str:
    """The last two lines of a log, fit to be shown; empty where it has none."""
    lines = [printable(line.strip()) for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-2:])[-LONGEST_TAIL:]
