"""What is known of one desktop, and what of it people are shown. It does nothing; clocks are passed in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from vncgate.desktop_choice import choose, mark
from vncgate.desktop_life import Life
from vncgate.desktop_words import ordinal, plain, plain_in_queue, span
from vncgate.errors import LaunchError
from vncgate.kinds import DesktopsSettings, Kind, Policy
from vncgate.launch import Launch
from vncgate.launchers.base import Handle, Seen, Sighting
from vncgate.model import Account, Desktop, DesktopState, DesktopStatus, Secret, Want
from vncgate.store import Ending

FORESEEABLE = 7 * 86400.0
"""Seconds beyond which a queue's estimate tells nothing: to Slurm a job without a time limit is one of a year."""

NOT_SEEN = Sighting(Seen.UNKNOWN)
ON_ITS_WAY = (DesktopState.REQUESTED, DesktopState.STARTING)


@dataclass
class View:
    """What a runner knows. `since` is seconds since the epoch, `used` seconds on the loop's clock.

    `reason` is why it ended or was not started, and `tail` the end of its log where that says more, `hindrance` why it
    cannot be ended; `notice` is what is to become of it; `doubt` is why nobody knows how it is now, `sighting` how it
    was when somebody last knew. `desktop` is where the last login succeeded. With `is_unseen` somebody may use it whom
    this gate does not see. `chosen` is the kind and size that somebody asked for, in the place of what its account's
    line says, until it ends. One that `is_adopted` was started by a daemon before this one, and has not run here yet.
    `patience` is seconds for which nobody knew how it was, of those since it is what it is.
    """

    settings: DesktopsSettings
    account: Account
    in_pool: bool
    since: float
    life: Life = field(default_factory=Life)
    launch: Launch | None = None
    desktop: Desktop | None = None
    sighting: Sighting = NOT_SEEN
    doubt: str = ""
    reason: str = ""
    tail: str = ""
    hindrance: str = ""
    notice: str = ""
    used: float = 0.0
    is_unseen: bool = False
    is_adopted: bool = False
    patience: float = 0.0
    chosen: tuple[str, str] | None = None

    def waited(self, now: float) -> float:
        """Seconds for which it has been what it is, without those in which nobody knew how it was."""
        return now - self.life.since - self.patience

    @property
    def handle(self) -> Handle | None:
        """By what its place finds it; None while its place has nothing of it."""
        return self.launch.handle if self.launch else None

    @property
    def has_nothing(self) -> bool:
        """Whether neither its place has anything of it nor it is FAILED: it is stopped, or waits for its turn."""
        return self.handle is None and self.life.state in (DesktopState.STOPPED, DesktopState.REQUESTED)

    @property
    def usable(self) -> Desktop | None:
        """Where it is, while it runs."""
        return self.desktop if self.life.state is DesktopState.RUNNING else None

    @property
    def led_to(self) -> Desktop | None:
        """Where browsers are led: one that is taken up stays where it was until its place says otherwise, and so do
        those who are connected.
        """
        if self.is_adopted and self.launch and self.life.state in ON_ITS_WAY:
            return self.launch.entry.desktop
        return self.usable

    @property
    def password(self) -> Secret:
        """What its VNC server asks for: the account's password, or one of ours where the account has none."""
        return self.account.password or (self.launch and self.launch.secret) or Secret("")

    @property
    def wanted(self) -> Account:
        """Its account, with the kind and size that are to run."""
        return self.account if self.chosen is None else replace(self.account, kind=self.chosen[0], size=self.chosen[1])

    @property
    def kind(self) -> Kind | None:
        """What runs or, where nothing does, is to run; None where the settings do not have it."""
        name = self.launch.entry.kind if self.launch else self.wanted.kind or self.settings.default_kind
        return self.settings.kinds.get(name)

    @property
    def policy(self) -> Policy | None:
        """When it starts without an operator's word; None where the settings do not have its kind."""
        return self.kind.policy_for(self.account) if self.kind else None

    @property
    def place(self) -> str:
        """The name of its place; empty where nobody knows."""
        if self.launch:
            return self.launch.entry.handle.place
        return self.kind.place if self.kind else ""

    @property
    def idle_timeout(self) -> float:
        """Seconds after which it is ended when nobody uses it; 0: never."""
        kind = self.kind
        if kind is None or self.in_pool or self.is_unseen or self.life.state is not DesktopState.RUNNING:
            return 0.0
        return kind.idle_timeout

    @property
    def idle_end(self) -> float:
        """When it has not been used for its `idle_timeout`, on the loop's clock."""
        return self.used + self.idle_timeout

    @property
    def idle_warning(self) -> float:
        """When its participant is to be told of that; of a short time half is left for it."""
        return self.idle_end - min(self.settings.warn, self.idle_timeout / 2)

    @property
    def explained(self) -> str:
        """Why it ended or was not started, as operators read it."""
        return (f"{self.reason}: {self.tail}" if self.tail else self.reason).removesuffix(".")

    def ending(self, wall: float) -> Ending | None:
        """What the daemon after this one is to know of its end, at `wall` by the wall's clock; None: nothing, as where
        it is started again, which has its own word on disk.
        """
        is_over = self.life.want is Want.DOWN or self.life.hopeless
        if self.in_pool or not is_over or not (what := mark(self.settings, self.wanted)):
            return None
        state, chosen = (DesktopState.FAILED, self.chosen) if self.life.hopeless else (DesktopState.STOPPED, None)
        return Ending(self.account.name, state, self.reason, wall, what, self.tail, chosen)

    def recall(self, ending: Ending) -> None:
        """Know how the account's last desktop ended under a daemon before this one. That it cannot be started is true
        of what is still the same, and of nothing else.
        """
        if ending.state is DesktopState.FAILED:
            self.chosen = ending.chosen
            if ending.what != mark(self.settings, self.wanted):
                self.chosen = None
                return
            self.life = replace(self.life, state=DesktopState.FAILED, want=Want.UP, hopeless=True)
        self.reason, self.tail, self.since = ending.reason, ending.tail, ending.since

    def status(self, wall: float, now: float) -> DesktopStatus:
        """How it is, at `wall` by the wall's clock and `now` by the loop's."""
        state, kind, seen = self.life.state, self.kind, self.sighting
        entry = self.launch.entry if self.launch else None
        return DesktopStatus(
            account=self.account.name,
            kind=entry.kind if entry else self.wanted.kind or self.settings.default_kind,
            size=(entry.size if entry else self.wanted.size) or (kind.size if kind else ""),
            place=self.place,
            host=seen.host or (entry.handle.host if entry else ""),
            want=self.life.want,
            state=state,
            reason=self._words(),
            since=self.since,
            desktop=self.usable,
            starts=self._foreseen_start(wall),
            ends=(ends := self._end()),
            is_ending=ends is not None and ends - wall <= self.settings.warn,
            idle_end=self._shown_idle_end(wall, now),
            restarts=self.life.restarts,
            is_again=self._is_again(),
            told=self._told(),
        )

    def _is_again(self) -> bool:
        life = self.life
        is_between = life.state is DesktopState.STOPPING or (life.state is DesktopState.REQUESTED and life.delay > 0)
        return is_between and life.want is Want.UP and not life.hopeless

    def _words(self) -> str:
        match self.life.state:
            case DesktopState.PENDING | DesktopState.STARTING | DesktopState.RUNNING if self.notice:
                return self.notice
            case DesktopState.REQUESTED if self.life.delay:
                return f"{self.explained}; trying again in {span(self.life.delay)}"
            case DesktopState.REQUESTED:
                return self.doubt or self._words_in_line()
            case DesktopState.PENDING | DesktopState.STARTING:
                return self.doubt or self.sighting.reason
            case DesktopState.RUNNING:
                return self.doubt or self._words_of_change()
            case DesktopState.STOPPING if self.hindrance:
                return f"{self.explained}; it cannot be ended yet: {self.hindrance}"
            case _:
                return self.explained

    def _told(self) -> str:
        match self.life.state:
            case DesktopState.PENDING:
                return plain_in_queue(self._words())
            case DesktopState.STARTING | DesktopState.RUNNING:
                return plain(self._words())
            case DesktopState.REQUESTED if not self.life.delay:
                return plain(self._words())
            case _:
                return plain(self.reason, self.tail)

    def _words_in_line(self) -> str:
        yard = self.launch.yard if self.launch else None
        if yard is None or not (position := yard.position_of(self.account.name)):
            return ""
        if silence := yard.silence(self.account.name):
            return f"the place {yard.name} does not answer: {silence}; it is tried again"
        words = f"{ordinal(position)} in line"
        return f"{words}: {yard.settings.most} desktops are there, and no more may be" if yard.is_full() else words

    def _words_of_change(self) -> str:
        """What is other in the token file than what runs."""
        if self.launch is None or self.in_pool:
            return ""
        try:
            choice = choose(self.settings, self.wanted)
        except LaunchError as error:
            return f"from its next start on: {error}"
        entry = self.launch.entry
        return "" if (choice.name, choice.size) == (entry.kind, entry.size) else f"{choice} from its next start on"

    def _foreseen_start(self, wall: float) -> float | None:
        """When its queue expects it to start."""
        starts = self.sighting.starts if self.life.state is DesktopState.PENDING else None
        return starts if starts is not None and starts - wall <= FORESEEABLE else None

    def _end(self) -> float | None:
        """When it ends for want of time."""
        if self.life.state not in (DesktopState.RUNNING, DesktopState.STARTING):
            return None
        over = self.settings.end.timestamp() if self.settings.end else None
        return min((end for end in (self.sighting.ends, over) if end is not None), default=None)

    def _shown_idle_end(self, wall: float, now: float) -> float | None:
        """When it ends because nobody uses it, where that is soon: to the second, which no clock's drift changes."""
        is_soon = self.idle_timeout and now >= self.idle_warning
        return float(round(wall + self.idle_end - now)) if is_soon else None
