"""The checks in their order, and the run through them.

A check is an async function from a Case to its findings. One that itself fails is an error that says so, and the next
one follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vncgate import control
from vncgate.doctor import apache, desktops, files, limits, places, ports, public, start, unit
from vncgate.doctor.base import Case, Check, Finding, Result
from vncgate.errors import TokensError
from vncgate.model import Roster

CHECKS = (
    Check("files", files.check),
    Check("ports", ports.check),
    Check("places", places.check, 120.0),
    Check("desktops", desktops.check, None),
    Check("Apache", apache.check, 120.0),
    Check("public URL", public.check, 120.0),
    Check("systemd", unit.check),
    Check("limits", limits.check),
    Check("clock", limits.check_clock),
)


@dataclass(frozen=True, slots=True)
class Order:
    """What the operator asked for; see Case for the meaning of the last two. `tokens` None: what the gate serves."""

    tokens: Path | None
    config: Path | None
    control: Path | None
    environ: Mapping[str, str]
    url: str
    sample: int | None


async def examine(order: Order, uid: int) -> AsyncGenerator[Finding | str, None]:
    """Every finding as it is made; a bare text is the name of the step that begins now.

    With settings that cannot be used, or no token file, there is nothing to compare with, so the checks are skipped.
    """
    yield "settings"
    door = order.control or control.default_path(order.environ, uid)
    status = await asyncio.to_thread(control.served, door)
    config, whose = start.find_settings(order.config, status)
    settings, findings = start.settings(config, order.environ, whose)
    for finding in findings:
        yield finding
    if settings is None:
        for skipped in _skipped("the settings must be right first"):
            yield skipped
        return
    yield "token file"
    path = order.control or settings.control or door
    try:
        tokens = order.tokens or control.token_file(status or await asyncio.to_thread(control.served, path))
    except TokensError as error:
        yield Finding(
            "token file", Result.ERROR, str(error), "vncgate doctor TOKENS; where the gate runs: sudo vncgate doctor"
        )
        for skipped in _skipped("the token file must be known first"):
            yield skipped
        return
    parsed, findings = await start.tokens(tokens, settings)
    for finding in findings:
        yield finding
    yield "gate"
    roster = parsed.roster if parsed else Roster()
    case = Case(tokens, config, settings, roster, path, url=order.url, sample=order.sample)
    case.status, findings = await start.gate(case)
    for finding in findings:
        yield finding
    for check in CHECKS:
        yield check.step
        for finding in await _guarded(check, case):
            yield finding


def _skipped(why: str) -> list[Finding]:
    return [Finding(check.step, Result.SKIPPED, why) for check in CHECKS]


async def _guarded(check: Check, case: Case) -> list[Finding]:
    """The findings of one check, whatever becomes of it."""
    try:
        async with asyncio.timeout(check.seconds):
            return list(await check.run(case))
    except TimeoutError as error:
        why = str(error) or f"no end after {check.seconds:g} s"
    except Exception as error:  # noqa: BLE001  (a broken machine must not end the examination, whatever breaks)
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
    advice = "have a look at it yourself; the lines below are not affected"
    return [Finding(check.step, Result.ERROR, f"could not be checked: {why}", advice)]
