"""How often somebody may be wrong about a PIN. Pure: the clock is passed in.

Three counts, and each try is counted as a wrong one until it is known to be right, so that a thousand at once are a
thousand:

- by account and client together: the first are free, then each wrong one doubles the wait. A neighbour behind the same
  address guesses at no one, and so waits for nobody; nor does the owner elsewhere.
- by account, whoever asks: many addresses that guess at one account get a few tries an hour between them. From where
  the account was opened before, this does not count: there only the first one does.
- in all: past it, each account has only the first few tries left. So it never stops anybody at whose account nobody
  guesses.

All names are treated alike, whether there is such an account or not; but names that are no account's are remembered
apart, so that however many of them somebody makes up, nothing is forgotten of an account. What is counted is forgotten
as it drains away, and the longest unused first where there is too much of it: memory is bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TypeVar

from vncgate.tokens import LONGEST_NAME

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

FREE = 3
"""Wrong tries of one client at one account that cost no wait."""
LONGEST_WAIT = 300.0
"""Seconds that a client waits at most between two tries at one account."""
FORGIVEN = 3600.0
"""Seconds without a try after which a client is as new."""
OF_ACCOUNT = 30
"""Wrong tries at one account that all clients together have at once."""
ACCOUNT_DRAIN = 3600.0
"""Seconds in which they get one more: 24 a day, of a million PINs of six digits."""
IN_ALL = 1000
"""Wrong tries at all accounts, past which there is an attack under way."""
ALL_DRAIN = 10.0
"""Seconds in which one of them is forgotten."""
OF_ACCOUNT_THEN = 5
"""Wrong tries at one account that there are then."""
REMEMBERED = 50_000
"""Clients at accounts, accounts, and places that are remembered of each at most; and of names that are no account's."""


@dataclass(slots=True)
class _Pair:
    tries: int = 0
    last: float = 0.0


@dataclass(slots=True)
class Bucket:
    """Tries that drain away, one in `drain` seconds."""

    drain: float
    level: float = 0.0
    at: float = 0.0

    def now(self, now: float) -> float:
        """The tries that are left in it."""
        self.level = max(0.0, self.level - (now - self.at) / self.drain)
        self.at = now
        return self.level


@dataclass(slots=True)
class _Tries:
    pairs: OrderedDict[tuple[str, str], _Pair] = field(default_factory=OrderedDict)
    accounts: OrderedDict[str, Bucket] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self.pairs) + len(self.accounts)


@dataclass(slots=True)
class Guessing:
    """What is remembered of tries. `client` is a neighbourhood: an IPv4 address or an IPv6 /64; `now` is in seconds and
    never goes back.
    """

    _ours: _Tries = field(default_factory=_Tries)
    _made_up: _Tries = field(default_factory=_Tries)
    _known: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)
    _all: Bucket = field(default_factory=lambda: Bucket(ALL_DRAIN))

    def __len__(self) -> int:
        """How many things are remembered."""
        return len(self._ours) + len(self._made_up) + len(self._known)

    def attempt(self, account: str, client: str, now: float, *, is_ours: bool = True) -> float:
        """Let somebody try (0.0), or tell in how many seconds they may; who has to wait costs nobody anything.

        The try counts as a wrong one until `succeeded()`. `is_ours` says whether there is such an account.
        """
        tries = self._ours if is_ours else self._made_up
        key = (account[: LONGEST_NAME + 1], client)
        pair = tries.pairs.get(key)
        if pair is None or now - pair.last > FORGIVEN:
            pair = _Pair()
        bucket = tries.accounts.get(key[0]) or Bucket(ACCOUNT_DRAIN, at=now)
        cap = OF_ACCOUNT_THEN if self._all.now(now) >= IN_ALL else OF_ACCOUNT
        wait = pair.last + _delay(pair.tries) - now if pair.tries else 0.0
        if key not in self._known:
            wait = max(wait, (bucket.now(now) + 1 - cap) * ACCOUNT_DRAIN)
        if wait > 1e-6:  # what adding up fractions costs in precision is no reason to wait
            return wait
        pair.tries, pair.last = pair.tries + 1, now
        _keep(tries.pairs, key, pair)
        bucket.level = bucket.now(now) + 1
        _keep(tries.accounts, key[0], bucket)
        self._all.level += 1
        return 0.0

    def succeeded(self, account: str, client: str) -> None:
        """The last try of this client was right."""
        key = (account, client)
        if self._ours.pairs.pop(key, None):
            self._all.level = max(0.0, self._all.level - 1)
            if bucket := self._ours.accounts.get(account):
                bucket.level = max(0.0, bucket.level - 1)
        _keep(self._known, key, None)

    def forget(self, account: str) -> None:
        """The account has a new PIN: what was guessed of the old one is worthless, and so are places known by it."""
        self._ours.accounts.pop(account, None)
        for memory in (self._ours.pairs, self._known):
            for key in [key for key in memory if key[0] == account]:
                del memory[key]


def _delay(tries: int) -> float:
    """Seconds to wait after so many wrong tries in a row."""
    return 0.0 if tries < FREE else min(LONGEST_WAIT, 2.0 ** (tries - FREE + 1))


def _keep(memory: OrderedDict[Key, Value], key: Key, value: Value) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
