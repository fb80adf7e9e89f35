"""One desktop: turns the actions of `desktop_life` into deeds at its place, and what happens there into events.

It owns at most one task that starts or ends the desktop, one that logs in to it, and one timer. Its yard looks at it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vncgate import tasks
from vncgate.desktop_choice import Choice, choose
from vncgate.desktop_life import Action, Event, Life, death, step
from vncgate.desktop_words import last_words, ordinal, span
from vncgate.errors import DesktopError, LaunchError
from vncgate.kinds import DesktopsSettings, Kind, Policy
from vncgate.launch import Launch
from vncgate.launchers.base import Handle, Seen, Sighting
from vncgate.model import Account, Desktop, DesktopState, DesktopStatus, Readiness, Secret, Want
from vncgate.store import Entry, Store
from vncgate.yard import Yard

log = logging.getLogger(__name__)

LOOK_STARTING = 0.5
"""Seconds between two looks at a desktop that starts."""
LOOK = 3.0
"""Seconds between two looks at any other."""
CANCEL_RETRY = 2.0
"""Seconds until a desktop that could not be ended is ended again; doubles up to the longest."""
LONGEST_CANCEL_RETRY = 60.0
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
        self._launch: Launch | None = None
        self._is_adopted = False
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
        return self._launch.handle if self._launch else None

    @property
    def desktop(self) -> Desktop | None:
        """Where it is, while it runs."""
        return self._desktop if self.state is DesktopState.RUNNING else None

    @property
    def password(self) -> Secret:
        """What its VNC server asks for: the account's password, or one of ours where the account has none."""
        return self.account.password or (self._launch and self._launch.secret) or Secret("")

    def kind(self) -> Kind | None:
        """What runs or, where nothing does, is to run; None where the settings do not have it."""
        settings, launch = self._all.settings, self._launch
        return settings.kinds.get(launch.entry.kind if launch else self.account.kind or settings.default_kind)

    def status(self) -> DesktopStatus:
        """How it is now."""
        settings, state, kind = self._all.settings, self.state, self.kind()
        entry = self._launch.entry if self._launch else None
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
        yard = self._all.yards.get(entry.handle.place)
        self._launch = Launch(entry, yard, self._all.store, is_kept=True)
        self._life = replace(self._life, restarts=entry.restarts)
        if not entry.asked:
            self._handle(Event.START)
        elif yard is None:
            self._doubt = f"its place {entry.handle.place} is not in the settings"
            self._log.warning("%s: the desktop is left alone", self._doubt)
            self._handle(Event.ADOPTED)
        else:
            self._is_adopted = True
            yard.arrive(self)
            self._handle(Event.ADOPTED)
        if entry.want is Want.DOWN:
            self.stop("it was being ended")

    def give(self, account: Account) -> None:
        """From now on this running desktop of a pool is that account's; it runs again when its password is the
        account's.
        """
        assert self._launch is not None  # noqa: S101
        self.account, self.in_pool = account, False
        self._log = logging.LoggerAdapter(log, {"account": account.name})
        entry = self._launch.entry = replace(self._launch.entry, account=account.name)
        self._log.info("takes desktop %s out of the pool", entry.handle.nonce)
        self._handle(Event.MOVED)
        self._tend(asyncio.get_running_loop().time(), self._desktop)

    def update(self, account: Account) -> None:
        """Take over what changed in its line: a password at once, the rest with its next start."""
        self.account = account
        if self._launch and self._launch.yard:
            self._launch.yard.look_soon(self)
        self._tell()

    def used(self, at: float) -> None:
        """Somebody used it at `at`, on the loop's clock."""
        self._used = max(self._used, at)
        self._tell()

    async def logs(self, lines: int) -> str:
        """The end of its session's log, or of that of the last one. Raises LaunchError."""
        if self.handle is None or self._launch is None:
            return "\n".join(self._last_log.splitlines()[-lines:])
        return await self._launch.logs(lines)

    async def aclose(self) -> None:
        """End what is under way here; the desktop stays as it is."""
        self._cancel_timer()
        await tasks.end(*self._tasks)

    # What its yard tells it

    def turn(self) -> None:
        """See yard.Guest."""
        self._handle(Event.TURN)

    def line_moved(self) -> None:
        """See yard.Guest. Who waits is to be remembered by the daemon after this one."""
        self._keep_wish()
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
            self._doubt = sighting.reason or f"{self._yard().name} does not say how it is"
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
        limit = self._yard().queue_timeout
        if limit and now - self._life.since - self._patience > limit:
            why = f": {self._sighting.reason}" if self._sighting.reason else ""
            self._fail(Event.BROKE, f"still in the queue of {self._yard().name} after {span(limit)}{why}")

    def _tend(self, now: float, desktop: Desktop | None) -> None:
        """Bring a desktop whose process is there to where it can be used, and keep it there."""
        if self.state is DesktopState.RUNNING and desktop is not None and desktop != self._desktop:
            self._handle(Event.MOVED)
        if self.state is DesktopState.STARTING:
            limit = self._yard().settings.start_timeout
            if now - self._life.since - self._patience > limit:
                why = f" ({self._trouble})" if self._trouble else ""
                self._fail(Event.START_FAILED, f"no VNC login within {span(limit)}{why}", log_tells=True)
            elif desktop is not None:
                self._do_aside(functools.partial(self._log_in, desktop), "log in to")
        elif not self._is_settled():
            self._do_aside(self._settle_in, "settle in")

    def _gone(self, sighting: Sighting) -> None:
        status = sighting.exit_status
        words = sighting.reason or "the session ended" + (f" with exit status {status}" if status else "")
        if self.state is DesktopState.RUNNING or (self._is_adopted and self.state is DesktopState.REQUESTED):
            kind, job = self.kind(), self.handle and self.handle.job
            policy = Policy.EAGER if self.in_pool else kind.policy if kind else Policy.MANUAL
            event = death(policy, status, was_asked_for=bool(job))
        else:
            event = Event.START_FAILED
        is_told = sighting.reason or (status == 0 and event is not Event.START_FAILED)
        self._fail(event, words, log_tells=not is_told)

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
            self._log.debug("%s -> %s", before.state, state)
            self._came_into(state, loop.time())
        if event is Event.START_FAILED and self._launch and self._launch.yard:
            self._launch.yard.blame(self._launch.entry.handle.host)
        match action:
            case Action.LINE_UP:
                self._cancel_timer()
                if yard := self._wish():
                    yard.line_up(self)
            case Action.SUBMIT:
                self._do(self._submit, Event.START_FAILED, "start")
            case Action.WATCH:
                self._watch()
            case Action.END:
                self._leave_off()
                self._do(functools.partial(self._end, self._deed), None, "end")
            case Action.WAIT:
                self._log.warning("%s; trying again in %.0f s", self._reason, self._life.delay)
                self._timer = loop.call_later(self._life.delay, self._handle, Event.DELAY_OVER)
                if self._wish():
                    self._keep_wish()
            case Action.GIVE_UP:
                self._log.error("%s; given up: `vncgate desktop start %s` tries again", self._reason, self.name)
        self._tell()

    def _came_into(self, state: DesktopState, now: float) -> None:
        self._since, self._patience, self._looked = self._all.wall_clock(), 0.0, now
        if state is DesktopState.RUNNING:
            self._used, self._is_adopted = now, False
            self._log.info("desktop %s runs", self._desktop)
        if state not in _STARTING and self._launch and self._launch.yard:
            self._launch.yard.settle(self)

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

    def _do_aside(self, deed: Callable[[], Coroutine[Any, Any, None]], word: str) -> None:
        """Run `deed` beside, unless something runs there already."""
        if self._aside is None or self._aside.done():
            self._aside = self._spawn(deed(), f"{word} desktop {self.name}")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = tasks.spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _wish(self) -> Yard | None:
        """Have its launch be what its account's line now asks for; None: it cannot be, and has FAILED."""
        try:
            choice = self._choice = choose(self._all.settings, self.account)
            if (yard := self._all.yards.get(choice.kind.place)) is None:
                raise LaunchError(f"kind {choice.name}: its place {choice.kind.place} is not there")
        except LaunchError as error:
            self._fail(Event.BROKE, str(error))
            return None
        before, shared = self._launch, self._all
        entry = Entry(
            handle=Handle(yard.name, self.name, before.entry.handle.nonce if before else shared.nonce()),
            account="" if self.in_pool else self.name,
            kind=choice.name,
            size=choice.size,
            want=Want.UP,
            requested=before.entry.requested if before else shared.wall_clock(),
            restarts=self._life.restarts,
            asked=False,
        )
        if before:
            before.entry, before.yard = entry, yard
        else:
            self._launch = Launch(entry, yard, shared.store, is_kept=False)
        return yard

    def _keep_wish(self) -> None:
        """Have the daemon after this one know of the wish, unless a policy has it wish the same."""
        kind, launch = self.kind(), self._launch
        if launch and kind and kind.policy is not Policy.EAGER and not self.in_pool and not launch.is_settled:
            self._do_aside(launch.keep, "remember")

    async def _submit(self) -> Event:
        launch, choice = self._launch, self._choice
        assert launch is not None and choice is not None  # noqa: PT018, S101
        yard, nonce = self._yard().name, launch.entry.handle.nonce
        self._log.info("asking %s for a desktop (%s, %s)", yard, choice, nonce)
        try:
            await launch.submit(self.name, choice.kind, self.account.password or self._all.password())
        except LaunchError as error:
            self._reason, self._log_tells = str(error), False
            return Event.START_FAILED
        return Event.SUBMITTED

    async def _end(self, before: asyncio.Task[None] | None) -> Event | None:
        """End all of it; None: nobody can."""
        if self._aside is not None:
            await tasks.end(self._aside)
        if before is not None:
            await asyncio.wait([before])  # what was asked of a place half-way might come to life later
        if (launch := self._launch) is not None:
            if launch.yard is None:
                return None
            if self.want is Want.DOWN:
                await launch.unwanted()
            if launch.handle:
                self._last_log = await launch.last_log()
            if self._log_tells and (words := last_words(self._last_log)):
                self._reason = f"{self._reason}: {words}"
            await self._cancel(launch)
            await launch.forget()
            launch.yard.leave(self)
        self._launch = self._desktop = None
        self._sighting, self._doubt, self._trouble = Sighting(Seen.GONE), "", ""
        self._is_adopted = False
        return Event.ENDED

    async def _cancel(self, launch: Launch) -> None:
        """End it at its place, however often that must be tried."""
        wait, reason = CANCEL_RETRY, self._reason
        while words := await launch.cancel():
            self._reason = f"{reason}; it cannot be ended yet: {words}"
            self._log.warning("the desktop cannot be ended: %s; trying again in %.0f s", words, wait)
            self._tell()
            await asyncio.sleep(wait)
            wait = min(LONGEST_CANCEL_RETRY, 2 * wait)
        self._reason = reason

    async def _log_in(self, desktop: Desktop) -> None:
        launch = self._launch
        assert launch is not None and launch.yard is not None  # noqa: PT018, S101
        try:
            async with launch.yard.logins:
                await self._settle_in()
                if launch.secret is None:
                    return
                await self._all.login(replace(self.account, desktop=desktop, password=launch.secret))
        except DesktopError as error:
            self._trouble = str(error)
            if error.readiness is Readiness.WRONG_PASSWORD:
                launch.secret = None  # it is given anew
            return
        if self.state is DesktopState.STARTING and self._launch is launch and self._is_settled():
            self._desktop = desktop
            self._handle(Event.READY)

    async def _settle_in(self) -> None:
        """Have it known as its account's, on disk and to its VNC server; what fails is tried with the next look."""
        launch = self._launch
        assert launch is not None  # noqa: S101
        await launch.keep()
        try:
            await launch.rekey(self.account.password or launch.secret or self._all.password())
        except LaunchError as error:
            self._trouble = f"its password could not be set: {error}"
            self._log.warning("%s", self._trouble)

    def _is_settled(self) -> bool:
        """Whether disk and VNC server know it as its account's."""
        launch = self._launch
        if launch is None or launch.secret is None:
            return False
        return launch.is_settled and launch.secret == (self.account.password or launch.secret)

    def _watch(self) -> None:
        if self._launch and self._launch.yard:
            self._launch.yard.watch(self)

    def _leave_off(self) -> None:
        """Wait for nothing any more."""
        self._cancel_timer()
        if self._launch and self._launch.yard:
            self._launch.yard.withdraw(self)

    def _yard(self) -> Yard:
        """Where it is, while it is there."""
        assert self._launch is not None and self._launch.yard is not None  # noqa: PT018, S101
        return self._launch.yard

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
        yard = self._launch.yard if self._launch else None
        if yard is None or not (position := yard.position(self)):
            return ""
        words = f"{ordinal(position)} in line"
        if yard.is_full():
            return f"{words}: {yard.settings.most} desktops are there, and no more may be"
        return words

    def _words_of_change(self) -> str:
        """What is other in the token file than what runs."""
        launch, account = self._launch, self.account
        if launch is None or self.in_pool:
            return ""
        try:
            choice = choose(self._all.settings, account)
        except LaunchError as error:
            return f"from its next start on: {error}"
        if (choice.name, choice.size) == (launch.entry.kind, launch.entry.size):
            return ""
        return f"{choice} from its next start on"

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
