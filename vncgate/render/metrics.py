"""What Prometheus reads of the gate: every metric's name, its meaning for an operator, and the fact behind it.

Names follow https://prometheus.io/docs/practices/naming/. No label holds a client's address, a websocketpath or a
secret; the only ones without a bound of ours are accounts' names (setting metrics.accounts) and workers' process ids.
prometheus_client is imported by the first who asks: workers, and gates that nobody watches, do without.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vncgate.model import (
    AccountStatus,
    DesktopState,
    DesktopStatus,
    Outcomes,
    Problem,
    Readiness,
    Severity,
    State,
    WorkerState,
    WorkerStatus,
)
from vncgate.tally import End, Histogram, Refusal, Tally

if TYPE_CHECKING:
    from prometheus_client import Metric

Samples: TypeAlias = Iterable[tuple[dict[str, str], float]]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the gate knows of itself at one moment. Nothing in it changes any more: a thread may render it."""

    version: str
    engine: str
    statuses: Sequence[AccountStatus]
    tally: Tally | None
    """None where the engine keeps no count."""
    restarts: int
    """Of proxies since the gate began, also of accounts that are gone."""
    workers: Sequence[WorkerStatus]
    roster_loaded: float
    """Seconds since the epoch."""
    roster_is_good: bool
    """Whether the last reading of the token file became the roster."""
    problems: Sequence[Problem]
    published: Mapping[str, Outcomes]
    """By what is published; what the settings do not ask for is not in it."""
    per_account: bool
    """Whether accounts have figures of their own."""
    desktops: Sequence[DesktopStatus] = ()
    """Those that the gate starts itself."""
    sign_ins: Mapping[str, int] | None = None
    """People who came to sign in, by what came of it; None where nobody does."""


def exposition(families: Iterable[Metric], accept: str) -> tuple[str, bytes]:
    """The media type and the text, in the format that an Accept header asks for: Prometheus' own, or OpenMetrics."""
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector

    class Collected(Collector):
        def collect(self) -> Iterable[Metric]:
            return families

    encoder, media_type = choose_encoder(accept)
    return media_type, encoder(Collected())


def families(facts: Facts) -> Iterator[Metric]:
    """All metrics but those of processes."""
    yield _family(
        "info",
        "vncgate_build",
        "The version that the gate runs, and its engine.",
        [({"version": facts.version, "engine": facts.engine}, 1)],
    )
    yield from _accounts(facts)
    yield _launched(facts.desktops)
    if facts.tally is not None:
        yield from _counts(facts.tally)
    if facts.sign_ins is not None:
        yield _counter(
            "vncgate_sign_ins",
            "People who came to sign in, by what came of it: let in, or why not.",
            [({"result": result}, count) for result, count in facts.sign_ins.items()],
        )
    yield from _workers(facts)
    yield from _roster(facts)
    yield from _published(facts.published)
    if facts.per_account:
        yield from _each_account(facts.statuses)


def _accounts(facts: Facts) -> Iterator[Metric]:
    statuses = facts.statuses
    states = Counter(status.state for status in statuses)
    found = Counter(status.readiness for status in statuses if status.state is State.RUNNING)
    yield _gauge(
        "vncgate_accounts",
        "Accounts by the state of their proxy; BACKOFF and FATAL are troubles.",
        [({"state": state}, states[state]) for state in State],
    )
    yield _gauge(
        "vncgate_desktops",
        "Desktops of running proxies, by what the last full VNC login found.",
        [({"readiness": readiness}, found[readiness]) for readiness in Readiness],
    )
    yield _gauge(
        "vncgate_accounts_in_use",
        "Accounts that at least one browser is connected to.",
        [({}, sum(status.traffic.connections > 0 for status in statuses))],
    )
    yield _gauge(
        "vncgate_connections",
        "Browsers that are connected to a desktop now.",
        [({}, sum(status.traffic.connections for status in statuses))],
    )
    yield _counter(
        "vncgate_proxy_restarts",
        "Times that a proxy was started again because it had died or failed to start.",
        [({}, facts.restarts)],
    )


def _launched(desktops: Sequence[DesktopStatus]) -> Metric:
    found = Counter((desktop.kind, desktop.state) for desktop in desktops)
    kinds = dict.fromkeys(desktop.kind for desktop in desktops)
    return _gauge(
        "vncgate_launched_desktops",
        "Desktops that the gate starts itself, by kind and state; FAILED ones wait for somebody to start them again.",
        [({"kind": kind, "state": state}, found[kind, state]) for kind in kinds for state in DesktopState],
    )


def _counts(tally: Tally) -> Iterator[Metric]:
    yield _counter("vncgate_connections_opened", "Websockets that were accepted.", [({}, tally.opened)])
    yield _counter(
        "vncgate_connections_ended", "Connections that ended, by who or what ended them.", _by_reason(End, tally.ended)
    )
    yield _counter(
        "vncgate_handshakes_refused",
        "Websocket handshakes that were refused, by reason.",
        _by_reason(Refusal, tally.refused),
    )
    yield _counter(
        "vncgate_payload_bytes",
        "Bytes of VNC passed on: up from browsers, down from desktops.",
        [({"direction": "up"}, tally.bytes_up), ({"direction": "down"}, tally.bytes_down)],
    )
    yield _counter(
        "vncgate_frames",
        "Websocket frames with data: up from browsers, down to them.",
        [({"direction": "up"}, tally.frames_up), ({"direction": "down"}, tally.frames_down)],
    )
    yield _histogram(
        "vncgate_connect_seconds", "Time from a browser's handshake until its desktop was connected.", tally.connect
    )
    yield _histogram(
        "vncgate_relay_latency_seconds",
        "Time that bytes which are ready wait until the relay looks at them, sampled; a busy gate is late.",
        tally.latency,
    )


def _workers(facts: Facts) -> Iterator[Metric]:
    kinds = Counter({(state, facts.version): 0 for state in WorkerState})
    kinds.update((worker.state, worker.version or facts.version) for worker in facts.workers)
    yield _gauge(
        "vncgate_workers",
        "Worker processes by state and version; draining ones end with their last desktop.",
        [({"state": state, "version": version}, count) for (state, version), count in kinds.items()],
    )
    yield _gauge(
        "vncgate_worker_connections",
        "Browsers that a worker serves now.",
        [({"pid": str(worker.pid)}, worker.connections) for worker in facts.workers if worker.pid],
    )
    yield _counter(
        "vncgate_worker_restarts",
        "Workers that were replaced because they had died or hung.",
        [({}, sum(worker.restarts for worker in facts.workers))],
    )


def _roster(facts: Facts) -> Iterator[Metric]:
    problems = Counter(problem.severity for problem in facts.problems)
    yield _gauge("vncgate_roster_accounts", "Accounts of the roster that is served.", [({}, len(facts.statuses))])
    yield _gauge(
        "vncgate_roster_loaded_timestamp_seconds",
        "When the roster that is served was read, in seconds since the epoch.",
        [({}, facts.roster_loaded)],
    )
    yield _gauge(
        "vncgate_roster_last_reload_successful",
        "1 when the last reading of the token file became the roster, 0 when it has errors and the one before stays.",
        [({}, facts.roster_is_good)],
    )
    yield _gauge(
        "vncgate_roster_problems",
        "Problems that the last reading of the token file found.",
        [({"severity": severity}, problems[severity]) for severity in Severity],
    )


def _published(published: Mapping[str, Outcomes]) -> Iterator[Metric]:
    yield _counter(
        "vncgate_publications",
        "Times that Apache's snippet or the static pages were brought up to date, or Apache reloaded, by result.",
        itertools.chain.from_iterable(
            (
                ({"target": target, "result": "success"}, outcomes.successes),
                ({"target": target, "result": "failure"}, outcomes.failures),
            )
            for target, outcomes in published.items()
        ),
    )
    yield _gauge(
        "vncgate_publication_last_successful",
        "1 when the last of these went well (or none was needed yet), 0 when it failed and the old stays.",
        [({"target": target}, outcomes.is_good) for target, outcomes in published.items()],
    )


def _each_account(statuses: Sequence[AccountStatus]) -> Iterator[Metric]:
    labels = [{"account": status.name} for status in statuses]
    pairs = list(zip(labels, statuses, strict=True))
    up, down = ([{**label, "direction": way} for label in labels] for way in ("up", "down"))
    yield _gauge(
        "vncgate_account_running",
        "1 when the account's proxy runs.",
        [(label, status.state is State.RUNNING) for label, status in pairs],
    )
    yield _gauge(
        "vncgate_account_ready",
        "1 when the last VNC login to the account's desktop succeeded, 0 when it failed; absent while unknown.",
        [
            (label, status.readiness is Readiness.READY)
            for label, status in pairs
            if status.readiness is not Readiness.UNKNOWN
        ],
    )
    yield _gauge(
        "vncgate_account_connections",
        "Browsers that are connected to the account's desktop now.",
        [(label, status.traffic.connections) for label, status in pairs],
    )
    yield _counter(
        "vncgate_account_payload_bytes",
        "Bytes of VNC passed on for the account: up from browsers, down from its desktop.",
        [
            (label, count)
            for up_label, down_label, status in zip(up, down, statuses, strict=True)
            for label, count in ((up_label, status.traffic.bytes_up), (down_label, status.traffic.bytes_down))
            if count is not None
        ],
    )
    yield _counter(
        "vncgate_account_restarts",
        "Times that the account's proxy was started again because it had died or failed to start.",
        [(label, status.restarts) for label, status in pairs],
    )


def _by_reason(known: Iterable[str], counts: Mapping[str, int]) -> Samples:
    """A sample for each reason, those included that did not come up yet: a rate needs a zero to begin from."""
    return [({"reason": str(reason)}, counts.get(reason, 0)) for reason in dict.fromkeys([*known, *counts])]


def _gauge(name: str, documentation: str, samples: Samples) -> Metric:
    return _family("gauge", name, documentation, samples)


def _counter(name: str, documentation: str, samples: Samples) -> Metric:
    return _family("counter", name, documentation, samples)


def _histogram(name: str, documentation: str, histogram: Histogram) -> Metric:
    family = _family("histogram", name, documentation, ())
    below = list(itertools.accumulate(histogram.counts))
    for bound, count in zip((*histogram.bounds, "+Inf"), below, strict=True):
        family.add_sample(f"{name}_bucket", {"le": str(bound)}, count)
    family.add_sample(f"{name}_sum", {}, histogram.sum)
    family.add_sample(f"{name}_count", {}, below[-1])
    return family


_SUFFIXES = {"counter": "_total", "info": "_info"}


def _family(kind: str, name: str, documentation: str, samples: Samples) -> Metric:
    from prometheus_client import Metric

    family = Metric(name, documentation, kind)
    for labels, value in samples:
        family.add_sample(name + _SUFFIXES.get(kind, ""), labels, value)
    return family
