"""The systemd unit: there, enabled, active, of this token file, and with limits that fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vncgate.doctor.base import Case, Finding, Result, count, output
from vncgate.doctor.limits import descriptors

STEP = "systemd"
BOOTED = Path("/run/systemd/system")
"""Is there where systemd runs the machine (sd_booted(3))."""
PROPERTIES = (
    "Id",
    "LoadState",
    "UnitFileState",
    "ActiveState",
    "MainPID",
    "NeedDaemonReload",
    "ExecStart",
    "ExecReload",
    "LimitNOFILE",
    "FileDescriptorStoreMax",
    "WatchdogUSec",
    "Wants",
)

Unit = Mapping[str, str]
"""A unit's properties, as systemctl(1) shows them."""


async def check(case: Case) -> list[Finding]:
    """Looks at the unit that serves this token file, if systemd runs this machine."""
    if not BOOTED.is_dir():  # noqa: ASYNC240  (in memory)
        return [Finding(STEP, Result.SKIPPED, "it does not run this machine", "have something start the gate at boot")]
    # A pattern finds only what is loaded, the plain name also what is not there at all.
    names = ["vncgate.service", "vncgate@*.service"]
    said = await output("systemctl", "show", "--no-pager", *names, "-p", ",".join(PROPERTIES))
    if said is None or said.status != 0:
        why = said.last if said else "there is no systemctl"
        return [Finding(STEP, Result.SKIPPED, f"cannot be asked: {why}", "run this as root on the gate's machine")]
    unit = choose(read_units(said.lines), case)
    path = re.search(r"vncgate-tokens\S*\.path", unit.get("Wants", ""))
    watcher = ""
    if path and (asked := await output("systemctl", "is-active", path[0])) and asked.status != 0:
        watcher = path[0]
    return list(judge(unit, case, watcher))


def read_units(lines: Sequence[str]) -> list[Unit]:
    """`systemctl show` separates units by an empty line."""
    blocks = "\n".join(lines).strip().split("\n\n")
    return [dict(line.partition("=")[::2] for line in block.splitlines()) for block in blocks if block]


def choose(units: Sequence[Unit], case: Case) -> Unit:
    """The one that runs the gate that answered; else that of this token file; else the first."""
    pid = str(case.status["pid"]) if case.status else ""
    for unit in units:
        if pid and unit.get("MainPID") == pid:
            return unit
    return next((unit for unit in units if _serves(unit, case.tokens)), units[0] if units else {})


def judge(unit: Unit, case: Case, silent_watcher: str = "") -> Iterator[Finding]:
    """What follows; `silent_watcher` is the path unit of the token file, where that is not active."""
    name = unit.get("Id", "vncgate.service").removesuffix(".service")
    if unit.get("LoadState", "not-found") != "loaded":
        message = f"no unit {name} ({unit.get('LoadState', 'not-found')}): nothing starts the gate at boot"
        yield Finding(STEP, Result.WARNING, message, "cp systemd/vncgate* /etc/systemd/system/; see the README, step 3")
        return
    problems = list(_problems(unit, name, case))
    if silent_watcher:
        message = f"{silent_watcher} is not active: changes of the token file are not seen"
        problems.append(Finding(STEP, Result.WARNING, message, f"systemctl start {silent_watcher}"))
    yield from problems or [Finding(STEP, Result.OK, f"{name} is enabled and active, its limits fit")]


def _problems(unit: Unit, name: str, case: Case) -> Iterator[Finding]:
    def finding(result: Result, message: str, advice: str) -> Finding:
        return Finding(STEP, result, f"{name} {message}", advice)

    active = unit.get("ActiveState", "")
    if active == "failed":
        yield finding(
            Result.ERROR, "has failed", f"journalctl -u {name} -n 50 says why; then: systemctl restart {name}"
        )
    elif active not in ("active", "reloading"):
        yield finding(Result.WARNING, f"is {active}", f"systemctl start {name}")
    if unit.get("UnitFileState") not in ("enabled", "enabled-runtime", "static", "generated"):
        yield finding(Result.WARNING, "is not started at boot", f"systemctl enable {name}")
    if unit.get("NeedDaemonReload") == "yes":
        yield finding(Result.WARNING, "was changed on disk and not loaded", "systemctl daemon-reload")
    if not _serves(unit, case.tokens):
        advice = f"name the unit's file here, or {case.tokens} in the unit: systemctl edit --full {name}"
        yield finding(Result.WARNING, f"serves another token file than {case.tokens}", advice)
    edit = f"systemctl edit {name}: [Service] "
    wanted = descriptors(case)
    limit = _number(unit.get("LimitNOFILE", ""))
    if limit is not None and limit < wanted:
        message = f"may open {limit} files, {count(len(case.roster), 'account')} need {wanted}"
        yield finding(Result.ERROR, message, f"{edit}LimitNOFILE={max(65536, 2 * wanted)}")
    stored = _number(unit.get("FileDescriptorStoreMax", ""))
    sockets = case.own_ports + 3 + 2 * case.workers  # shared, web and metrics; workers twice, while old ones drain
    if stored is not None and stored < sockets:
        message = f"keeps {stored} sockets over a restart, there are up to {sockets}: browsers are refused meanwhile"
        yield finding(Result.WARNING, message, f"{edit}FileDescriptorStoreMax={max(512, 2 * sockets)}")
    if active == "active" and unit.get("WatchdogUSec", "0") in ("0", "infinity"):  # known only while it runs
        yield finding(Result.WARNING, "has no watchdog: a gate that hangs stays", f"{edit}WatchdogSec=30")


def _serves(unit: Unit, tokens: Path) -> bool:
    """Whether the unit names the token file, or cannot be made to tell (it has no command)."""
    # The daemon is given a credential, whose source systemctl does not print (252); the reload names the file itself.
    told = f"{unit.get('ExecStart', '')} {unit.get('ExecReload', '')}"
    return not told.strip() or str(tokens.absolute()) in re.split(r"[\s:;=]+", told)


def _number(text: str) -> int | None:
    """None: no limit, or none that is told."""
    return int(text) if text.isdecimal() else None
