"""Every port that the gate wants is free, or the gate's own already."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vncgate import listeners
from vncgate.doctor.base import Case, Finding, Result, count
from vncgate.errors import ListenError

STEP = "ports"
LISTENING = "0A"  # proc(5), /proc/net/tcp: the state


@dataclass(frozen=True, slots=True)
class Port:
    """A port that is wanted: `trouble` is why it cannot be bound now, `holders` are its processes that can be seen."""

    number: int
    owner: str
    trouble: str = ""
    holders: Mapping[int, str] | None = None


async def check(case: Case) -> list[Finding]:
    """Binds each for a moment, unless somebody has it."""
    wanted = [_look(*each) for each in _wanted(case)]
    if taken := {port.number for port in wanted if port.trouble}:
        held = _holders(taken)
        wanted = [Port(p.number, p.owner, p.trouble, held.get(p.number)) for p in wanted]
    return judge(wanted, *_ours(case))


def judge(wanted: list[Port], pid: int, served: frozenset[int]) -> list[Finding]:
    """What follows, where the gate is process `pid` (0: it does not run) and says that it serves the ports `served`."""
    strangers: list[Finding] = []
    ours = 0
    for port in wanted:
        if not port.trouble:
            continue
        if pid in port.holders if port.holders else port.number in served:
            ours += 1
            continue
        who = ", ".join(f"{name} (process {number})" for number, name in sorted((port.holders or {}).items()))
        message = f"{port.trouble.partition(' (ss ')[0]}" + (f": {who}" if who else "")
        if "vncgate" in who:
            advice = "a gate that does not answer us: name its control socket (--control), or stop it"
        elif "in use" in port.trouble:
            advice = f"end that program (sudo ss -ltnp 'sport = :{port.number}' shows it), or choose another port"
        else:
            advice = "choose another port or address in the settings or the token file"
        strangers.append(Finding(STEP, Result.ERROR, message, advice))
    free = sum(not port.trouble for port in wanted)
    if strangers or not wanted:
        return strangers
    held = [f"{ours} held by our gate"] if ours else []
    return [Finding(STEP, Result.OK, f"{count(len(wanted), 'port')}: {', '.join([*held, f'{free} free'])}")]


def _wanted(case: Case) -> Iterator[tuple[str, int, str]]:
    settings = case.settings
    if settings.web:
        yield settings.web.host, settings.web.port, "pages (setting web)"
    if settings.metrics.address and settings.metrics.address != settings.web:
        yield settings.metrics.address.host, settings.metrics.address.port, "metrics (setting metrics.address)"
    if settings.accounts_port:
        yield settings.listen, settings.accounts_port, "shared port (setting shared_port)"
    for account in case.roster.accounts:
        if account.port is not None:
            yield settings.listen, account.port, f"account {account.name}"


def _ours(case: Case) -> tuple[int, frozenset[int]]:
    """The gate's process, and the ports that it serves as far as it says so; of its metrics it says nothing."""
    if case.status is None:
        return 0, frozenset()
    pages = str(case.status["web"]).rpartition(":")[2]
    served = {account["port"] for account in case.status["accounts"] if account["state"] != "FATAL"}
    served |= {case.status["shared_port"], int(pages) if pages.isdecimal() else 0}
    if metrics := case.settings.metrics.address:
        served.add(metrics.port)
    return int(case.status["pid"]), frozenset(served - {None})


def _look(address: str, number: int, owner: str) -> Port:
    try:
        listeners.bind(address, number, owner).close()
    except ListenError as error:
        return Port(number, owner, str(error))
    return Port(number, owner)


def _holders(numbers: set[int]) -> dict[int, dict[int, str]]:
    """The processes that listen on these ports, by port: pid and name, as far as we may see them."""
    inodes = dict(_listening(numbers))
    found: dict[int, dict[int, str]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or it is not for us to see
            for inode in inodes.keys() & set(_links(process)):
                words = (process / "cmdline").read_bytes().split(b"\0")
                name = (process / "comm").read_text().strip()
                is_ours = any(word.endswith(b"vncgate") for word in words[:4])
                found.setdefault(inodes[inode], {})[int(process.name)] = "vncgate" if is_ours else name
    return found


def _links(process: Path) -> Iterator[str]:
    for entry in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            yield str(entry.readlink())


def _listening(numbers: set[int]) -> Iterator[tuple[str, int]]:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for row in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = row.split()
                port = int(fields[1].rpartition(":")[2], 16)
                if fields[3] == LISTENING and port in numbers:
                    yield f"socket:[{fields[9]}]", port
