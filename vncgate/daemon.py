"""The gate: the only place where all is put together.

    token file -> roster -> supervisor -> engine (proxies on the sockets that the daemon owns)
                     |          |
                     |          +-> statuses -> pages, control socket, STATUS=
                     +-> desktops (launched where the roster says `-`) -> the roster with their places in it
                     +-> publishers: Apache's snippet, the static copy of the pages

The last good roster stays: a token file with errors changes nothing but what is said about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import threading
import time
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vncgate import __version__, control, handover, listeners, probe, scrape, tasks, upgrade
from vncgate.checks import check_settings, doubts
from vncgate.desktops import LaunchedDesktops, folder
from vncgate.doors import SHARED, Doors, addresses, warn_of_exposure
from vncgate.engines import ENGINES
from vncgate.engines.base import GOING_AWAY, Engine, Limits
from vncgate.engines.pool import Pool
from vncgate.errors import ControlError, SettingsError, TokensError
from vncgate.files import is_there
from vncgate.handover import Inheritance, State
from vncgate.launcher import Launcher
from vncgate.model import Account, Roster, Want, WorkerStatus
from vncgate.nursery import Nursery
from vncgate.people import Mode
from vncgate.prober import Probing
from vncgate.publications import Publications
from vncgate.render import report, status
from vncgate.render.metrics import Facts
from vncgate.settings import Access, EngineName, Settings
from vncgate.supervisor import Supervisor
from vncgate.systemd import Notifier
from vncgate.tally import Tally
from vncgate.token_file import TokenFile
from vncgate.tokens import render
from vncgate.watch import Watcher
from vncgate.web import app

if TYPE_CHECKING:
    from vncgate.organizing import Organizing
    from vncgate.participants import Participants
    from vncgate.takeaway.archives import Archives
    from vncgate.workshop_life import Life

log = logging.getLogger(__name__)

STOP_TIMEOUT = 4.5
"""Seconds after SIGTERM in which everything has ended; what has not is cut."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What an operator, a terminal or systemd may send."""
SIGNAL_GRACE = 0.01
"""Seconds in which a signal that has come reaches the loop."""
ONLY_WORKERS = "only workers outlive an upgrade (engine relay, setting workers); restart this gate instead"
STATUS_INTERVAL = 5.0
"""Seconds between two looks at whether systemd's STATUS= is still true."""


class Gate:
    """The daemon. `run()` serves until `shut_down()` is called, SIGTERM or SIGINT comes, or it is cancelled."""

    def __init__(
        self,
        tokens: Path,
        settings: Settings,
        environ: Mapping[str, str] = os.environ,
        *,
        config: bytes = b"",
        config_name: str = "",
        nursery: Nursery | None = None,
        inherited: Inheritance | None = None,
    ) -> None:
        """`config` is the content of the settings' file, to know a changed one by, and `config_name` its path.

        `nursery` starts the workers (None: one is started), `inherited` is what the gate before this one left.
        """
        check_settings(settings)
        self.started = asyncio.Event()
        """Set when everything serves, and every proxy runs or has failed once."""
        self.control_path = settings.control or control.default_path(environ, os.getuid())
        self._tokens = tokens
        self._settings = settings
        self._environ = environ
        self._news = upgrade.News(config)
        self._config_name = config_name
        self._upgrading = False
        self._inherited = inherited or Inheritance()
        self._file = TokenFile(tokens, settings, environ, self._inherited.state)
        self._notifier = Notifier(environ)
        self._stopping = asyncio.Event()
        self._starting: asyncio.Task[Any] | None = None
        self._began = time.time()
        self._roster_loaded = 0.0
        self._metrics = scrape.handler(self.facts)
        self._reloading = asyncio.Lock()
        self._listeners = listeners.Listeners(settings.listen, self._notifier, self._inherited.listening)
        self._engine = self._make_engine(nursery)
        self._probing = Probing(self._probe, settings.probe_interval)
        self._roster = Roster()
        self._found = asyncio.Event()
        root = folder(settings.desktops, environ, os.getuid())
        blind = not self._inherited.workers
        self._desktops = LaunchedDesktops(
            settings.desktops, root, self._probe, lambda _: self._found.set(), is_blind=blind
        )
        look = self._desktops.launcher.look
        probing = self._probing if settings.probe else None
        self._supervisor = Supervisor(self._engine, self._listeners, probing, suspected=look)
        self._participants: Participants | None = None
        self._published = Publications(settings)
        self._doors = Doors(settings, self._listeners, self, self._metrics, self._pages)
        self._tasks: set[asyncio.Task[None]] = set()

    def shut_down(self) -> None:
        """End `run()` in good order, also while it is still starting."""
        self._stopping.set()
        if self._starting is not None:
            self._starting.cancel()

    async def run(self) -> None:
        """Serve. Raises a VncgateError when it cannot even begin (token file, ports, control socket)."""
        stack = contextlib.AsyncExitStack()
        try:
            await self._start(stack)
            await self._stopping.wait()
            log.info("stopping")
            self._notifier.stopping()
        finally:
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await stack.aclose()
            except TimeoutError:
                log.error("not everything ended within %g s; the rest is cut", STOP_TIMEOUT)

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        """Start everything, unless `shut_down()` comes first; `stack` ends what was started, the proxies first."""
        stack.enter_context(self._signals())
        stack.push_async_callback(self._cancel_tasks)
        # Watching begins before the first reading, so that no change falls in between.
        watcher = Watcher(self._tokens, self._on_change, self._settings.watch, self._settings.poll_interval)
        await watcher.start()
        stack.push_async_callback(watcher.stop)
        self._starting = asyncio.current_task()
        try:
            async with self._reloading:
                await self._begin(stack)
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
            await self._engine.aclose()  # workers of the gate before this one, too
            if not self._doors.are_open and (door := self._inherited.control):
                control.remove(door)  # what serves it would have done so
        finally:
            self._starting = None

    async def trial(self) -> None:
        """Do all of a start that can be done beside a gate that runs; raises what the start would raise."""
        if not isinstance(self._engine, Pool):
            raise ControlError(ONLY_WORKERS)
        if (path := self._inherited.state.control) and path != str(self.control_path):
            raise SettingsError(f"control: {self.control_path} is taken up by a restart only; it is {path} now")
        await self._file.load()
        for address, owner in addresses(self._settings):
            if listeners.name_of(address.host, address.port) not in self._inherited.state.listening:
                listeners.bind(address.host, address.port, owner).close()
        if self._settings.access is Access.SEAT:
            from vncgate import participants

            await participants.try_out(self._settings, self._environ)
        # Seats' pages stand on the ledger, which is not tried: opening it would make it that of the code on disk.
        pages = self._settings.model_copy(update={"access": Access.VNC})
        app.build(settings=pages, roster=Roster, statuses=list)
        try:
            await self._engine.start(None)
        finally:
            await self._engine.aclose()

    async def _begin(self, stack: contextlib.AsyncExitStack) -> None:
        self._spawn(self._notifier.watchdog(), "systemd watchdog")  # first: after an upgrade systemd counts already
        roster = await self._file.first()
        listeners.raise_descriptor_limit()
        warn_of_exposure(self._settings)
        for words in await asyncio.to_thread(list, doubts(self._settings, is_there, datetime.now(UTC))):
            log.warning("%s", words)
        stack.callback(self._listeners.close_all)
        stack.push_async_callback(self._doors.aclose)
        await self._doors.open(self._inherited.control or control.bind(self.control_path))
        stack.push_async_callback(self._close)
        port = self._settings.accounts_port
        await self._engine.start(self._listeners.open(port, SHARED) if port else None)
        stack.push_async_callback(self._desktops.aclose)
        await self._desktops.start()
        self._spawn(self._desktops.keep_using(self._supervisor.statuses), "see who uses desktops")
        if self._settings.access is Access.SEAT:
            # Before any account is opened: who is signed in would be refused at its own port, else.
            self._roster = roster
            self._participants = await self._open_participants()
            stack.push_async_callback(self._participants.aclose)
            await self._participants.begin_life(
                self._settings, self._desktops.launcher, self._file.rekey, self._figures
            )
        await self._take(roster, self._inherited.state.stopped)
        self._spawn(self._keep_finding(), "find desktops")
        if self._participants:
            self._participants.go_on()
        await self._doors.show()
        await self._engine.rest(on=False)
        self._probing.begin()
        self._listeners.settled()
        if isinstance(self._engine, Pool):
            await self._engine.settled(roster)
        self._spawn(self._keep_status(), "systemd status")
        self._spawn(self._published.keep_trying(self._reloading), "publish again")
        self._notifier.ready(self._summary())
        log.info("serving %s; %s", self._summary(), self._places())
        self.started.set()

    def status(self) -> dict[str, Any]:
        """See control.Operator."""
        settings = self._settings
        return {
            "version": __version__,
            "pid": os.getpid(),
            "since": self._began,
            "started": self.started.is_set(),
            "workers": [dataclasses.asdict(worker) for worker in self._workers()],
            "tokens": self._file.source,
            "config": self._config_name or None,
            "engine": settings.engine,
            "web": str(settings.web) if settings.web else None,
            "shared_port": settings.accounts_port,
            "problems": [problem.render(self._file.source) for problem in self._file.problems],
            "trouble": self._file.trouble,
            "apache_error": self._published.apache_error,
            "pages_error": self._published.pages_error,
            "upgrade_error": self._news.error,
            **status.report(self._supervisor.statuses(), self.desktops.statuses()),
        }

    @property
    def desktops(self) -> Launcher:
        """See control.Operator."""
        return self._desktops.launcher

    @property
    def organizing(self) -> Organizing:
        """See control.Operator."""
        if self._participants is None:
            raise ControlError('nobody has a seat here: it takes the setting access = "seat"')
        return self._participants.organizing

    @property
    def archives(self) -> Archives:
        """See control.Operator."""
        if self._participants is None or self._participants.takeaway is None:
            raise ControlError('no files are taken home here: it takes the settings access = "seat" and files.root')
        return self._participants.takeaway.archives

    @property
    def workshop(self) -> Life:
        """See control.Operator."""
        if self._participants is None or self._participants.life is None:
            raise ControlError('the workshop has no life of its own here: it takes the setting access = "seat"')
        return self._participants.life

    def facts(self) -> Facts:
        """What the metrics are made of."""
        settings = self._settings
        return Facts(
            version=__version__,
            engine=settings.engine,
            statuses=self._supervisor.statuses(),
            tally=self._engine.tally() if settings.engine is EngineName.RELAY else None,
            restarts=self._supervisor.restarts,
            workers=self._workers(),
            roster_loaded=self._roster_loaded,
            roster_is_good=not self._file.trouble,
            problems=self._file.problems,
            published=self._published.outcomes(),
            per_account=settings.metrics.accounts,
            desktops=self.desktops.statuses(),
            sign_ins=self._participants.seating.sign_ins if self._participants else None,
        )

    async def start(self, names: Sequence[str]) -> list[str]:
        """See control.Operator."""
        await self.started.wait()
        return await self._supervisor.start(names)

    async def stop(self, names: Sequence[str]) -> list[str]:
        """See control.Operator."""
        await self.started.wait()
        return await self._supervisor.stop(names)

    async def restart(self, names: Sequence[str]) -> list[str]:
        """See control.Operator."""
        await self.started.wait()
        return await self._supervisor.restart(names)

    async def reload(
        self, handed: control.HandedOver | None = None, config: control.HandedOver | None = None
    ) -> dict[str, Any]:
        """See control.Operator. Raises TokensError with all problems when the new roster is not taken."""
        trouble = ""
        if config:
            start = self.upgrade if isinstance(self._engine, Pool) else None
            if answer := await self._news.take_up(handed, config, start):
                return answer
            trouble = self._news.error
        if handed is None and self._file.is_credential:
            raise ControlError(
                "the token file is a credential of systemd's, a copy that does not follow the file: "
                "`systemctl reload` this service, or `vncgate reload --tokens FILE`"
            )
        async with self._reloading:
            self._notifier.reloading()
            try:
                roster = await self._file.reload(handed, lacks_settings=bool(trouble))
                changes = await self._take(roster)
            except TokensError as error:
                if trouble:  # and the file may well be good with the settings that were not taken
                    raise TokensError(f"{trouble}\nNor does the token file go with what runs now:\n{error}") from None
                raise
            finally:
                if not self._stopping.is_set():
                    self._notifier.ready(self._summary())
        if trouble:
            raise ControlError(f"{trouble}\nThe token file was taken: {changes}")
        return {"changes": changes}

    async def upgrade(self, tokens: control.HandedOver | None, config: control.HandedOver | None) -> dict[str, Any]:
        """See control.Operator."""
        if not isinstance(self._engine, Pool):
            raise ControlError(ONLY_WORKERS)
        async with self._reloading:
            if self._upgrading:
                raise ControlError("an upgrade is under way; try again when it is done")
            # With the settings of now a token file cannot be judged that is for those to come: the trial does it.
            await upgrade.try_out(self._state(self._engine, tokens, config), self._environ)
            self._upgrading = True
            self._spawn(self._start_anew(tokens, config), "start anew")
        return {"since": self._began}

    def _state(self, engine: Pool, tokens: control.HandedOver | None, config: control.HandedOver | None) -> State:
        handed = self._file.which(tokens)
        return State(
            tokens=handed.to_json() if handed else None,
            roster=render(self._roster.values()),
            config=config.to_json() if config else self._inherited.state.config,
            stopped=[each.name for each in self._supervisor.statuses() if each.want is Want.DOWN],
            tally=engine.lost.to_json(),
            passed=engine.passed(),
            listening=list(self._listeners.all()),
            control=str(self.control_path),
        )

    async def _start_anew(self, tokens: control.HandedOver | None, config: control.HandedOver | None) -> None:
        """Become the code on disk. Everything that listens or is connected is handed over, and waits meanwhile.

        A signal that comes now is for the code that runs next, unless this one is being stopped already.
        """
        assert isinstance(self._engine, Pool)  # noqa: S101
        async with self._reloading:
            log.info("starting anew from the code on disk")
            self._notifier.reloading()
            door = await self._doors.hand_over()
            await self._published.aclose()
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the new code listens to them (`_signals()`)
            listened = {number: signal.signal(number, _keep) for number in SIGNALS}
            await asyncio.sleep(SIGNAL_GRACE)
            if self._stopping.is_set():
                control.remove(door)
                return
            state = self._state(self._engine, tokens, config)
            sockets = {**self._listeners.all(), **self._engine.channels(), "control": door}
            for handler in logging.getLogger().handlers:
                handler.flush()
            try:
                handover.start_anew(upgrade.command(), self._environ, state, sockets)
            except OSError as error:
                log.error("the code on disk cannot be started: %s; this one goes on", error.strerror)
                self._upgrading = False
                for number, deed in listened.items():
                    signal.signal(number, deed)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
                await self._doors.open(door)
                await self._doors.show()
                self._notifier.ready(self._summary())

    def _pages(self) -> web.Application:
        settings = self._settings
        return app.build(
            settings=settings,
            roster=lambda: self._supervisor.roster,
            statuses=self._supervisor.statuses,
            metrics=self._metrics if settings.web == settings.metrics.address else None,
            desktops=self.desktops,
            participants=self._participants,
        )

    async def _open_participants(self) -> Participants:
        """It is imported here: a gate to which nobody signs in needs neither a database nor argon2."""
        from vncgate.participants import Participants

        return await Participants.open(
            self._settings,
            self._environ,
            lambda: self._roster,
            self._admit,
            self._supervisor.statuses,
            self.desktops,
        )

    async def _admit(self, admissions: Mapping[str, Mapping[str, Mode]]) -> None:
        """Tell the engine who is let in; nobody is where the workshop is not open.

        Nothing is told before it is known whether it is: workers of the gate before this one let in as they did.
        """
        if self._participants and (life := self._participants.life):
            await self._engine.admit({name: who if life.opens(name) else {} for name, who in admissions.items()})

    def _figures(self) -> tuple[Mapping[str, float], frozenset[str]]:
        """What the workshop's report is made of, and the accounts whose desktops are in use."""
        facts = self.facts()
        used = frozenset(each.name for each in facts.statuses if each.traffic.connections)
        return report.figures(facts), used

    def _served(self, roster: Roster) -> Roster:
        """The roster with the desktops that were found, and guarded where people sign in; there organizers see who uses
        theirs, too.
        """
        found = self._desktops.found(roster)
        if self._settings.access is not Access.SEAT:
            return found
        kept = (dataclasses.replace(account, guarded=True, watch_input=True) for account in found.accounts)
        return Roster(tuple(kept))

    async def _probe(self, account: Account) -> None:
        settings = self._settings
        await probe.login(
            account.desktop,
            account.password,
            connect_timeout=settings.connect_timeout,
            timeout=settings.handshake_timeout,
        )

    async def _take(self, roster: Roster, stopped: Collection[str] = ()) -> str:
        """Make a roster true and publish it; returns what changed, in words."""
        self._roster = roster
        self._file.serves(roster)
        self._desktops.launcher.apply(roster)
        done = await self._supervisor.apply(self._served(roster), stopped)
        if self._participants:
            await self._participants.roster_changed()
        self._roster_loaded = time.time()
        if done.is_empty:
            self._supervisor.probe_again()
        else:
            log.info("roster: %s", done)
        await self._published.publish(roster)
        return str(done)

    async def _keep_finding(self) -> None:
        """Lead browsers to desktops that were found, and away from those that are gone."""
        while True:
            await self._found.wait()
            self._found.clear()
            if (roster := self._served(self._roster)) != self._supervisor.roster:
                with contextlib.suppress(ControlError):  # all is being stopped
                    await self._supervisor.apply(roster)

    def _on_change(self) -> None:
        if not self._stopping.is_set():
            self._spawn(self._reload_quietly(), "reload")

    async def _reload_quietly(self) -> None:
        with contextlib.suppress(TokensError, ControlError):  # it is in the log, or there is nothing to reload any more
            await self.reload()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        deeds = {signal.SIGTERM: self.shut_down, signal.SIGINT: self.shut_down, signal.SIGHUP: self._on_change}
        for number, deed in deeds.items():
            loop.add_signal_handler(number, deed)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            yield
        finally:
            for number in deeds:
                loop.remove_signal_handler(number)

    def _make_engine(self, nursery: Nursery | None) -> Engine:
        settings, limits = self._settings, Limits.of(self._settings)
        workers = len(os.sched_getaffinity(0)) if settings.workers is None else settings.workers
        if settings.engine is not EngineName.RELAY or not workers:
            for pid, sock in self._inherited.workers.items():  # nobody adopts them: they end with their last desktops
                self._notifier.forget(f"worker-{pid}")
                sock.close()
            return ENGINES[settings.engine](limits)
        return Pool(
            limits,
            workers,
            keeper=self._notifier,
            nursery=nursery,
            adopted=self._inherited.workers,
            counted=Tally.from_json(self._inherited.state.tally),
            passed=self._inherited.state.passed,
            drain_timeout=settings.drain_timeout,
            log_level=settings.log_level,
        )

    def _workers(self) -> list[WorkerStatus]:
        return self._engine.workers() if isinstance(self._engine, Pool) else []

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = tasks.spawn(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cancel_tasks(self) -> None:
        await tasks.end(*self._tasks)

    async def _close(self) -> None:
        # From here on browsers wait in the backlogs: systemd may hand these to the gate after this one.
        self._listeners.leave()
        await self._engine.rest(on=True)
        try:
            await self._supervisor.aclose(GOING_AWAY, "the gate is being stopped")
        finally:
            await self._engine.aclose()
        await self._published.aclose()

    async def _keep_status(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(STATUS_INTERVAL)
            if (summary := self._summary()) != said:
                said = summary
                self._notifier.status(summary)

    def _summary(self) -> str:
        return status.summary(self._supervisor.statuses(), self._file.trouble)

    def _places(self) -> str:
        settings = self._settings
        places = [f"pages http://{settings.web}/"] if settings.web else []
        if settings.accounts_port:
            places.append(f"shared port {settings.accounts_port}")
        return ", ".join([*places, f"engine {settings.engine}", f"control socket {self.control_path}"])


def _keep(number: int, _: object) -> None:
    """Give a signal that another thread has taken to the main one, where it is blocked: so it outlives execve(2)."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)
