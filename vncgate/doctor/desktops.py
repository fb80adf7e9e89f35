"""Every desktop lets us in with its password, by one full login each: anything less, or more, locks a class out."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vncgate import probe, tasks
from vncgate.doctor.base import Case, Finding, Result, count, some
from vncgate.errors import DesktopError
from vncgate.model import Account, Desktop

STEP = "desktops"
AT_ONCE = 16
"""Logins at the same time."""

ADVICE = (
    ("refused the password", "make {tokens} and the VNC server agree; no more tries until then (its blacklist counts)"),
    ("too many failures", "wait a minute, or restart that VNC server, with -UseBlacklist=0; is the password right?"),
    ("did not answer within", "is {host} up (ping {host})? is a firewall between? is the port right?"),
    ("did not finish the login", "the VNC server hangs, or {host} is overloaded: restart the server"),
    ("refused the connection", "start the VNC server on {host}, or mend host and port in {tokens}"),
    ("no such host", "mend the name in {tokens}, or make it known: getent hosts {host}"),
    ("is no host name", "mend the name in {tokens}"),
    ("cannot be looked up now", "the name service does not answer: getent hosts {host}; see /etc/resolv.conf"),
    ("no such socket", "start the VNC server that makes this socket, or mend its path in {tokens}"),
    ("does not speak VNC", "another program listens there: mend the port in {tokens}, or move that program"),
    ("offers no VNC password login", "start the server with -SecurityTypes VncAuth"),
    ("refused the login", "the VNC server says why; its log says more"),
    ("closed the connection", "its log says why; does it take connections from this machine?"),
    ("cannot be reached", "is there a way to {host} from this machine (ip route get, ping)?"),
)
"""What to do, by what the words of a DesktopError have in them (dial.connect, probe.login)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An account whose desktop did not let us in; `reason` is without the desktop's name."""

    account: str
    desktop: Desktop
    reason: str


async def check(case: Case) -> list[Finding]:
    """Logs in; the accounts that got in are `case.usable` then. Where those are that the gate starts, it tells."""
    launched = {each["name"]: each["launched"] for each in (case.status or {}).get("accounts", ()) if each["launched"]}
    accounts = [
        each if each.desktop else replace(each, desktop=_address(launched[each.name]["desktop"]))
        for each in case.roster.accounts
        if each.desktop or (_runs(launched.get(each.name)) and each.password)
    ]
    findings = judge_launched([each.name for each in case.roster.accounts if each.desktop is None], launched, case)
    if not accounts:
        return findings or [Finding(STEP, Result.SKIPPED, "no account of the token file has one")]
    # Accounts of one desktop and one password are the same login.
    logins: dict[object, list[Account]] = defaultdict(list)
    for account in accounts:
        logins[str(account.desktop).lower(), account.password].append(account)
    room = asyncio.Semaphore(AT_ONCE)

    async def log_in(account: Account) -> str:
        async with room:
            return await _reason(account, case)

    running = [tasks.spawn(log_in(each[0]), f"log in as {each[0].name}") for each in logins.values()]
    try:
        reasons = await asyncio.gather(*running)
    finally:
        await tasks.end(*running)
    failures: list[Failure] = []
    for same, reason in zip(logins.values(), reasons, strict=True):
        for account in same:
            if not reason:
                case.usable.append(account)
            elif account.desktop:
                failures.append(Failure(account.name, account.desktop, reason))
    return [*judge(len(accounts), failures, str(case.tokens)), *findings]


def judge(number: int, failures: Sequence[Failure], tokens: str) -> list[Finding]:
    """What follows, for `number` accounts with desktops. Those of one host with one reason are one finding."""
    if not failures:
        return [Finding(STEP, Result.OK, f"all {number} let us in" if number > 1 else "it lets us in")]
    groups: dict[tuple[str, str], list[Failure]] = defaultdict(list)
    for failure in failures:
        groups[failure.desktop.host, failure.reason].append(failure)
    findings = [
        Finding(STEP, Result.ERROR, _words(group), _advice(group[0].reason, host, tokens))
        for (host, _), group in groups.items()
    ]
    if good := number - len(failures):
        findings.append(Finding(STEP, Result.OK, f"the other {good} of {number} let us in"))
    return findings


def judge_launched(names: Sequence[str], launched: Mapping[str, Mapping[str, Any]], case: Case) -> list[Finding]:
    """What there is to say, beside logins, of accounts whose desktops the gate starts; `launched` is what it says."""
    start, logs = (f"vncgate desktop {action} {{}}{case.at_gate}" for action in ("start", "logs"))
    findings: list[Finding] = []
    failed: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if name in launched and launched[name]["state"] == "FAILED":
            failed[launched[name]["reason"]].append(name)
    for reason, group in failed.items():
        again = f"once it is mended: {start.format(group[0])}"
        if any(words and words in reason for words in case.told):
            message = f"{some(group)}: cannot be started, for a reason told with the places"
            findings.append(Finding(STEP, Result.SKIPPED, message, again))
        else:
            message = f"{some(group)}: cannot be started: {reason}"
            findings.append(Finding(STEP, Result.ERROR, message, f"{logs.format(group[0])}; {again}"))
    given_up = {name for group in failed.values() for name in group}
    if waiting := [name for name in names if name not in given_up and not _runs(launched.get(name))]:
        message = f"{count(len(waiting), 'desktop')} that the gate starts not running now: {some(waiting)}"
        findings.append(Finding(STEP, Result.SKIPPED, message, f"to try one: {start.format(waiting[0])}"))
    return findings


def _runs(launched: Mapping[str, Any] | None) -> bool:
    return bool(launched and launched["state"] == "RUNNING" and launched["desktop"])


def _address(text: str) -> Desktop:
    """The reverse of str(Desktop)."""
    if text.startswith("unix:"):
        return Desktop(unix=text.removeprefix("unix:"))
    host, _, port = text.rpartition(":")
    return Desktop(host.strip("[]"), int(port))


def _words(group: Sequence[Failure]) -> str:
    first = group[0]
    if len(group) == 1:
        return f"{first.account}: {first.desktop} {first.reason}"
    where = f"on {first.desktop.host}" if first.desktop.host else "on unix sockets"
    return f"{len(group)} {where}: each {first.reason}: {some([failure.account for failure in group])}"


def _advice(reason: str, host: str, tokens: str) -> str:
    text = next((advice for words, advice in ADVICE if words in reason), "see the VNC server's log")
    return text.format(host=host or "this machine", tokens=tokens)


async def _reason(account: Account, case: Case) -> str:
    """Why the login failed, without the desktop's name; empty when it did not."""
    settings = case.settings
    try:
        await probe.login(
            account.desktop,
            account.password,
            connect_timeout=settings.connect_timeout,
            timeout=settings.handshake_timeout,
        )
    except DesktopError as error:
        return str(error).removeprefix(f"desktop {account.desktop} ")
    except Exception as error:  # noqa: BLE001  (one login that breaks must not end the others)
        return f"could not be tried: {type(error).__name__}: {error}"
    return ""
