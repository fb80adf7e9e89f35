"""What the machine allows: open files, waiting connections, ports; and its clock."""

from __future__ import annotations

import contextlib
import re
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vncgate.doctor.base import AS_ROOT, Case, Finding, Result, count, output, some
from vncgate.listeners import BACKLOG

STEP = "limits"
RESERVE = 200
"""Open files beside those of desktops and ports: logs, pages, libraries, probes."""
SYSTEM_FILE = "/etc/sysctl.d/60-vncgate.conf"


@dataclass(frozen=True, slots=True)
class Allowed:
    """`files` is the most that the gate can have open (`whose` says of whom that was read), `waiting` what
    net.core.somaxconn is, `outgoing` the first and last port of outgoing connections. None: cannot be seen.
    """

    files: int | None
    whose: str
    waiting: int | None
    outgoing: tuple[int, int] | None


def descriptors(case: Case) -> int:
    """Open files that the gate needs: two for each desktop in use, one for each port of an account's own."""
    return 2 * len(case.roster) + case.own_ports + RESERVE


async def check(case: Case) -> list[Finding]:
    """Reads the limits of the running gate, else our own."""
    return list(judge(_read(case), case))


def judge(allowed: Allowed, case: Case) -> Iterator[Finding]:
    """What follows."""
    accounts = len(case.roster)
    wanted = descriptors(case)
    found: list[Finding] = []
    if allowed.files is not None and allowed.files < wanted:
        message = f"{allowed.whose} may open {allowed.files} files, {count(accounts, 'account')} need {wanted}"
        advice = f"in its unit LimitNOFILE={max(65536, 2 * wanted)}; in a shell: ulimit -Hn"
        found.append(Finding(STEP, Result.ERROR, message, advice))
    waiting = min(accounts, BACKLOG)
    if allowed.waiting is not None and allowed.waiting < waiting:
        message = f"only {allowed.waiting} connections may wait when the whole class comes at once (somaxconn)"
        found.append(Finding(STEP, Result.WARNING, message, _sysctl("net.core.somaxconn", str(2 * BACKLOG))))
    if allowed.outgoing is not None:
        first, last = allowed.outgoing
        if last - first < 2 * accounts:
            message = (
                f"{last - first + 1} ports for outgoing connections, {count(accounts, 'desktop')} need {2 * accounts}"
            )
            found.append(Finding(STEP, Result.WARNING, message, _sysctl("net.ipv4.ip_local_port_range", "32768 60999")))
        if inside := [a.name for a in case.roster.accounts if a.port is not None and first <= a.port <= last]:
            message = f"websocketports among those of outgoing connections, which may take them: {some(inside)}"
            advice = f"take ports below {first}, or - for none (all are on the shared port)"
            found.append(Finding(STEP, Result.WARNING, message, advice))
    yield from found
    if not found and allowed.files is not None:
        yield Finding(STEP, Result.OK, f"{allowed.whose} may open {allowed.files} files, needs {wanted}")
    elif not found:
        yield Finding(STEP, Result.SKIPPED, "those of the gate cannot be seen", AS_ROOT)


async def check_clock(case: Case) -> list[Finding]:  # noqa: ARG001  (as every check)
    """Whether something keeps this machine's clock right (timedatectl(1))."""
    said = await output("timedatectl", "show", "-p", "NTPSynchronized", "--value")
    step = "clock"
    if said is None or said.status != 0:
        why = said.last if said else "there is no timedatectl"
        return [
            Finding(
                step, Result.SKIPPED, f"cannot tell whether it is kept right: {why}", "compare it yourself: date -u"
            )
        ]
    if said.last == "yes":
        return [Finding(step, Result.OK, "synchronised")]
    return [Finding(step, Result.WARNING, "nothing keeps it right", "timedatectl set-ntp true")]


def _read(case: Case) -> Allowed:
    whose, files = "a gate started here", resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if case.status is not None:
        whose = "the gate"
        text = _text(f"/proc/{case.status['pid']}/limits")
        match = re.search(r"^Max open files\s+(\w+)\s+(\w+)", text, re.MULTILINE)
        files = int(match[1]) if match and match[1].isdecimal() else -1
    somaxconn = _text("/proc/sys/net/core/somaxconn").strip()
    ends = _text("/proc/sys/net/ipv4/ip_local_port_range").split()
    return Allowed(
        None if files == -1 else files,  # -1 is RLIM_INFINITY too
        whose,
        int(somaxconn) if somaxconn.isdecimal() else None,
        (int(ends[0]), int(ends[1])) if len(ends) == 2 else None,
    )


def _sysctl(name: str, value: str) -> str:
    return f"echo '{name} = {value}' > {SYSTEM_FILE} && sysctl --system"


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text()
    return ""
