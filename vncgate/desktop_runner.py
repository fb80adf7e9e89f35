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

from vncgate import desktop_ends
from vncgate.deeds import Deeds
from vncgate.desktop_choice import Choice, choose
from vncgate.desktop_ends import End
from vncgate.desktop_life import Action, Event, step
from vncgate.desktop_view import NOT_SEEN, ON_ITS_WAY, View
from vncgate.desktop_words import last_words
from vncgate.errors import DesktopError, LaunchError, SilentError
from vncgate.kinds import DesktopsSettings, Policy
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
EARLY = 0.01
"""Seconds by which a timer may come before its time, at most."""
CANCEL_RETRY = 2.0
"""Seconds until a desktop that could not be ended is ended again; doubles up to the longest."""
LONGEST_CANCEL_RETRY = 60.0


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
    is_blind: bool


class Runner:
    """The desktop of an account, or one that waits in a pool until `give()`: that one's account has the name of no
    account. Of one that `is_leaving` nothing is remembered.
    """

    def __init__(self, shared: Shared, account: Account, *, in_pool: bool = False) -> None:
        self._all = shared
        self.is_leaving = False
        self._is_closed = False
        self.view = View(shared.settings, account, in_pool, shared.wall_clock())
        self._choice: Choice | None = None
        self._looked = 0.0
        self._trouble = ""
        self._log_tells = False
        self._last_log = ""
        self._shown: DesktopStatus | None = None
        self._deeds: Deeds[Event | None] = Deeds()
        self._timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._log = logging.LoggerAdapter(log, {"account": account.name})

    @property
    def name(self) -> str:
        """Its account's name."""
        return self.view.account.name

    @property
    def in_pool(self) -> bool:
        """See yard.Guest."""
        return self.view.in_pool

    @property
    def handle(self) -> Handle | None:
        """See yard.Guest."""
        return self.view.handle

    @property
    def state(self) -> DesktopState:
        """What it is."""
        return self.view.life.state

    @property
    def want(self) -> Want:
        """What was asked for."""
        return self.view.life.want

    def status(self) -> DesktopStatus:
        """How it is now."""
        return self.view.status(self._all.wall_clock(), asyncio.get_running_loop().time())

    def start(self) -> None:
        """Want it."""
        self._handle(Event.START)

    def stop(self, reason: str) -> None:
        """Want it gone; `reason` is what people are told."""
        if self.state is not DesktopState.STOPPED:
            self._because(reason)
        self._handle(Event.STOP)

    def adopt(self, entry: Entry) -> None:
        """Take up what a daemon before this one had started, or was about to start or end."""
        view, place = self.view, entry.handle.place
        yard = self._all.yards.get(place)
        view.launch = Launch(entry, yard, self._all.store, is_kept=True)
        view.life = replace(view.life, restarts=entry.restarts)
        view.is_unseen = self._all.is_blind
        view.chosen = (entry.kind, entry.size) if entry.chosen else None
        if yard is None:
            view.doubt = f"its place {place} is not in the settings"
            self._log.warning("%s: the desktop is left alone", view.doubt)
        elif entry.asked:
            view.is_adopted = True
            yard.arrive(self)
        self._handle(Event.ADOPTED if entry.asked else Event.START)
        if entry.want is Want.DOWN:
            self.stop(entry.reason or "it was being ended")

    def give(self, account: Account, chosen: tuple[str, str] | None = None) -> None:
        """From now on this running desktop of a pool is that account's, for which it may have been `chosen`; it runs
        again when its password is the account's.
        """
        view = self.view
        assert view.launch is not None  # noqa: S101
        view.account, view.in_pool, view.chosen = account, False, chosen
        self._log = logging.LoggerAdapter(log, {"account": account.name})
        now = self._all.wall_clock()
        # Nobody's work is in it: when nobody can log in to it now, it is to be another.
        view.launch.entry = replace(
            view.launch.entry, account=account.name, requested=now, desktop=None, chosen=chosen is not None
        )
        self._log.info("takes desktop %s out of the pool", view.launch.entry.handle.nonce)
        self._handle(Event.MOVED)
        self._tend(asyncio.get_running_loop().time(), view.desktop)

    def update(self, account: Account) -> None:
        """Take over what changed in its line: a password at once, the rest with its next start, for which it may be
        waiting in line now.
        """
        self.view.account = account
        self.look()
        if (yard := self._yard) and yard.position_of(self.name):
            self._line_up()
        self._tell()

    def look(self) -> None:
        """See at once how it is, where it is anywhere."""
        if yard := self._yard:
            yard.look_soon(self)

    def used(self, at: float) -> None:
        """Somebody used it at `at`, on the loop's clock."""
        self.view.used, self.view.is_unseen = max(self.view.used, at), False
        self._tell()

    async def logs(self, lines: int) -> str:
        """The end of its session's log, or of that of the last one. Raises LaunchError."""
        if (launch := self.view.launch) is None or launch.handle is None:
            return "\n".join(self._last_log.splitlines()[-lines:])
        return await launch.logs(lines)

    async def aclose(self) -> None:
        """End what is under way here; the desktop stays as it is."""
        self._is_closed = True
        self._cancel_timer()
        self._cancel_idle_timer()
        await self._deeds.aclose()

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
        return LOOK_STARTING if self.state in ON_ITS_WAY else LOOK

    def seen(self, sighting: Sighting) -> None:
        """See yard.Guest."""
        view, now = self.view, asyncio.get_running_loop().time()
        since_last, self._looked = now - self._looked, now
        if sighting.seen is Seen.UNKNOWN:
            # Nobody knows how far it came meanwhile.
            view.patience += since_last
            view.doubt = sighting.reason or "its place does not say how it is"
        else:
            view.sighting, view.doubt = sighting, ""
        match sighting.seen:
            case Seen.PENDING:
                if view.desktop or (view.launch and view.launch.entry.desktop):
                    self._forget_where()
                self._handle(Event.QUEUED)
                self._end_for(desktop_ends.queued_too_long(view, now))
            case Seen.RUNNING:
                self._handle(Event.UP)
                self._tend(now, sighting.desktop)
            case Seen.GONE:
                if end := desktop_ends.gone(view, sighting, now):
                    self._end_for(end)
                else:
                    view.doubt = f"the gate was started anew while it was asking {view.place} for it"
        self._tell()

    def _forget_where(self) -> None:
        """Its place put it back in its queue: what comes is not what was there, and nobody's work is in it."""
        self.view.desktop = None
        if launch := self.view.launch:
            launch.entry = replace(launch.entry, desktop=None)
            self._do_aside(launch.keep, "remember")

    def _tend(self, now: float, desktop: Desktop | None) -> None:
        """Bring a desktop whose process is there to where it can be used, and keep it there."""
        view, yard = self.view, self._yard
        launch = view.launch
        if launch is None or yard is None:
            return
        if self.state is DesktopState.RUNNING and desktop is not None and desktop != view.desktop:
            self._handle(Event.MOVED)
        if self.state is DesktopState.STARTING:
            end = desktop_ends.starts_too_long(view, now, self._trouble)
            if end and launch.entry.desktop is None:
                self._end_for(end)
                return
            if end:  # but it ran once: somebody's work may be in it
                why = f" ({self._trouble})" if self._trouble else ""
                view.doubt = f"it is there, but lets nobody in{why}"
            if desktop is not None:
                self._do_aside(lambda: self._log_in(launch, yard, desktop), "log in to")
        elif not (launch.is_kept and launch.has(view.account.password)):
            self._do_aside(lambda: self._settle_in(launch), "settle in")

    # From events to deeds

    def _because(self, reason: str, *, log_tells: bool = False) -> None:
        """It ends, or was not started, for this reason; where `log_tells`, the end of its log says more."""
        self.view.reason, self.view.tail, self._log_tells = reason, "", log_tells

    def _end_for(self, end: End | None) -> None:
        if end:
            self._because(end.reason, log_tells=end.log_tells)
            self._handle(end.event)

    def _handle(self, event: Event) -> None:
        view, loop = self.view, asyncio.get_running_loop()
        before = view.life
        view.life, action = step(before, event, loop.time(), self._all.chance())
        if self.state is not before.state:
            self._log.debug("%s -> %s", before.state, self.state)
            if self.state is DesktopState.STOPPED and view.reason:
                self._log.info("the desktop has ended: %s", view.explained)
            self._came_into(before.state, self.state, loop.time())
        if event is Event.START_FAILED and (yard := self._yard) and view.launch:
            yard.blame(view.launch.entry.handle.host)
        match action:
            case Action.LINE_UP:
                self._cancel_timer()
                self._line_up()
            case Action.SUBMIT:
                self._do(self._submit, Event.START_FAILED, "start")
            case Action.WATCH:
                self._watch()
            case Action.END:
                self._leave_off()
                self._do(functools.partial(self._end, self._deeds.under_way), None, "end")
            case Action.WAIT:
                self._log.warning("%s; trying again in %.0f s", view.explained, view.life.delay)
                self._timer = loop.call_later(view.life.delay, self._handle, Event.DELAY_OVER)
                if self._wish():
                    self._keep_wish()
            case Action.GIVE_UP:
                again = "" if view.in_pool else f": `vncgate desktop start {self.name}` tries again"
                self._log.error("%s; given up%s", view.explained, again)
        self._tell()
        if self.state not in ON_ITS_WAY and (yard := self._yard):
            yard.settle(self)  # after all were told: who waits may take this one instead of starting one

    def _came_into(self, before: DesktopState, state: DesktopState, now: float) -> None:
        self.view.since, self.view.patience, self._looked = self._all.wall_clock(), 0.0, now
        if state is DesktopState.STOPPED:
            self.view.chosen = None
        if before is DesktopState.FAILED and state is DesktopState.STOPPED:
            self._do_aside(self._conclude, "remember")
        if state is DesktopState.RUNNING:
            self.view.used, self.view.is_adopted = now, False
            self._log.info("desktop %s runs", self.view.desktop)

    def _do(self, deed: Callable[[], Coroutine[Any, Any, Event | None]], otherwise: Event | None, word: str) -> None:
        """Have `deed` done; its outcome is the next event, `otherwise` if it breaks."""

        def then(outcome: Event | Exception | None) -> None:
            if isinstance(outcome, Exception):  # a defect of ours must not leave the desktop in between
                self._because(f"the desktop could not {word}; the gate's log says why")
                self._log.error("a defect: the desktop could not %s", word, exc_info=outcome)
                outcome = otherwise
            if outcome is not None:
                self._handle(outcome)

        self._deeds.do(deed, f"{word} desktop {self.name}", then)

    def _do_aside(self, deed: Callable[[], Coroutine[Any, Any, None]], word: str) -> None:
        self._deeds.do_aside(deed, f"{word} desktop {self.name}")

    def _wish(self) -> Yard | None:
        """Have its launch be what its account's line now asks for; None: it cannot be, and has FAILED."""
        try:
            choice = self._choice = choose(self._all.settings, self.view.wanted)
            if (yard := self._all.yards.get(choice.kind.place)) is None:
                raise LaunchError(f"kind {choice.name}: its place {choice.kind.place} is not there")
        except LaunchError as error:
            self._end_for(End(Event.BROKE, str(error)))
            return None
        before, shared = self.view.launch, self._all
        nonce = before.entry.handle.nonce if before and not before.is_over else shared.nonce()
        entry = Entry(
            handle=Handle(yard.name, self.name, nonce),
            account="" if self.in_pool else self.name,
            kind=choice.name,
            size=choice.size,
            want=Want.UP,
            requested=before.entry.requested if before else shared.wall_clock(),
            restarts=self.view.life.restarts,
            asked=False,
            chosen=self.view.chosen is not None,
        )
        if before and not before.is_over:
            before.entry, before.yard = entry, yard
        else:
            self.view.launch = Launch(entry, yard, shared.store, is_kept=False)
        return yard

    def _keep_wish(self) -> None:
        """Have the daemon after this one know of the wish, unless a policy has it wish the same."""
        launch, policy = self.view.launch, self.view.policy
        is_policys = policy is None or (policy is Policy.EAGER and self.view.chosen is None)
        if launch and not is_policys and not self.in_pool and not launch.is_kept:
            self._do_aside(launch.keep, "remember")

    def _line_up(self) -> None:
        """Have it wait for its turn where it is to be; what it waits for elsewhere, it does not any more."""
        before, yard = self._yard, self._wish()
        if yard is None:
            return
        if before is not None and before is not yard:
            before.withdraw(self)
        yard.line_up(self)

    async def _submit(self) -> Event:
        launch, choice, yard = self.view.launch, self._choice, self._yard
        assert launch is not None and choice is not None and yard is not None  # noqa: PT018, S101
        self._log.info("asking %s for a desktop (%s, %s)", yard.name, choice, launch.entry.handle.nonce)
        try:
            await launch.submit(self.name, choice.kind, self.view.account.password or self._all.password())
        except SilentError as error:
            yard.missed(self, launch.entry.handle.host, str(error))
            return Event.SILENT
        except LaunchError as error:
            yard.heard(self)
            self._because(str(error))
            return Event.START_FAILED
        yard.heard(self)
        return Event.SUBMITTED

    async def _end(self, before: asyncio.Task[None] | None) -> Event | None:
        """End all of it; None: nobody can."""
        view = self.view
        await self._deeds.end_aside()
        if before is not None:
            await asyncio.wait([before])  # what was asked of a place half-way might come to life later
        if (launch := view.launch) is not None:
            if launch.yard is None:
                return None
            if self.want is Want.DOWN:
                await launch.unwanted(view.reason)
            if launch.handle:
                self._last_log = await launch.last_log()
            if self._log_tells:
                view.tail = last_words(self._last_log)
            await self._cancel(launch)
            await self._conclude()
            if (trouble := await launch.forget()) and self.want is Want.DOWN and not launch.is_kept:
                words = "the gate starts it again when it is itself started anew"
                view.reason = f"{view.reason}; but {words}, for it cannot forget it: {trouble}"
                self._log.warning("the desktop has ended, but %s", words)
            launch.yard.leave(self)
        view.launch = view.desktop = None
        view.sighting, view.doubt, self._trouble = NOT_SEEN, "", ""
        view.is_adopted = False
        return Event.ENDED

    async def _conclude(self) -> None:
        """Have the daemon after this one know why there is none any more."""
        if self.is_leaving or (ending := self.view.ending(self._all.wall_clock())) is None:
            return
        try:
            await self._all.store.conclude(ending)
        except OSError as error:
            self._log.error("%s cannot be written: %s", self._all.store.folder, error.strerror)

    async def _cancel(self, launch: Launch) -> None:
        """End it at its place, however often that must be tried."""
        wait = CANCEL_RETRY
        while words := await launch.cancel():
            self.view.hindrance = words
            self._log.warning("the desktop cannot be ended: %s; trying again in %.0f s", words, wait)
            self._tell()
            await asyncio.sleep(wait)
            wait = min(LONGEST_CANCEL_RETRY, 2 * wait)
        self.view.hindrance = ""

    async def _log_in(self, launch: Launch, yard: Yard, desktop: Desktop) -> None:
        try:
            async with yard.logins:
                await self._settle_in(launch)
                if not launch.has(self.view.account.password):
                    return
                await self._all.login(replace(self.view.account, desktop=desktop, password=self.view.password))
        except DesktopError as error:
            self._trouble = str(error)
            if error.readiness is Readiness.WRONG_PASSWORD:
                launch.secret = None  # it is given anew
            return
        if self.view.sighting.desktop != desktop:
            return  # it was there, and is not any more
        launch.entry = replace(launch.entry, desktop=desktop)
        await launch.keep()
        if (
            self.state is DesktopState.STARTING
            and launch.is_known_as_its_accounts
            and launch.has(self.view.account.password)
        ):
            self.view.desktop = desktop
            self._handle(Event.READY)

    async def _settle_in(self, launch: Launch) -> None:
        """What fails is tried again with the next look."""
        trouble = await launch.settle(self.view.account.password or launch.secret or self._all.password())
        if trouble and trouble != self._trouble:
            self._log.warning("%s", trouble)
        self._trouble = trouble or self._trouble

    @property
    def _yard(self) -> Yard | None:
        return self.view.launch.yard if self.view.launch else None

    def _watch(self) -> None:
        if yard := self._yard:
            yard.watch(self)

    def _leave_off(self) -> None:
        """Wait for nothing any more."""
        self._cancel_timer()
        if yard := self._yard:
            yard.withdraw(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _await_idle(self) -> None:
        """Have the next moment come that matters where nobody uses it. One that somebody put off comes in vain."""
        loop = asyncio.get_running_loop()
        when = desktop_ends.next_idle_moment(self.view, loop.time())
        if when is None or self._is_closed:
            self._cancel_idle_timer()
        elif self._idle_timer is None:
            self._idle_timer = loop.call_at(when + EARLY, self._idle_moment)

    def _cancel_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _idle_moment(self) -> None:
        self._idle_timer = None
        self._end_for(desktop_ends.idle(self.view, asyncio.get_running_loop().time()))
        self._tell()

    def _tell(self) -> None:
        self._await_idle()
        status = self.status()
        if status != self._shown:
            self._shown = status
            self._all.changed(self.name)
