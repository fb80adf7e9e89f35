"""What all else is compared with: the settings, the token file, and what the running gate says of itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vncgate import __version__, catalogues, control
from vncgate import settings as settings_module
from vncgate.checks import check_roster, check_settings, doubts, root_desktops
from vncgate.doctor.base import AS_ROOT, Case, Finding, Result, count, is_root, some
from vncgate.errors import ControlError, SettingsError, TokensError
from vncgate.files import is_there
from vncgate.model import Problem, Severity
from vncgate.roster import read_tokens
from vncgate.settings import EngineName, Settings
from vncgate.tokens import Parsed
from vncgate.web import assets

USUAL_CONFIG = Path("/etc/vncgate/vncgate.toml")
"""Where the units have the settings."""
CREDENTIALS = Path("/run/credentials")
"""Where systemd has copies of files for services (systemd.exec(5), LoadCredential=)."""
GATE_TIMEOUT = 5.0
"""Seconds that the gate may take to say how it is."""
MOST_PROBLEMS = 5
"""Lines of problems of a token file that are shown; `vncgate check` has them all."""


def find_settings(named: Path | None, status: Mapping[str, Any]) -> tuple[Path | None, str]:
    """The file of the settings, and in words whose it is: the one that was `named`, else that of the running gate,
    which said `status`, else where the units have it. None: there is none, and the defaults hold.
    """
    if named is not None:
        return named, ""
    if "config" in status:
        if not status["config"]:
            return None, ", as the running gate has them"
        file = Path(status["config"])
        source = USUAL_CONFIG.parent / file.name
        is_copy = file.is_relative_to(CREDENTIALS) and source.exists()
        return source if is_copy else file, " (of the running gate)"
    if USUAL_CONFIG.exists():
        return USUAL_CONFIG, " (where the units have it)"
    return None, f": no --config was given, no gate tells of its own, and there is no {USUAL_CONFIG}"


def settings(config: Path | None, environ: Mapping[str, str], whose: str = "") -> tuple[Settings | None, list[Finding]]:
    """The settings; None where they cannot be used. `whose` they are is for the message."""
    step = "settings"
    try:
        loaded = settings_module.load(config, environ)
        check_settings(loaded)
        assets.load(loaded.landing, catalogues.load(loaded.languages))
    except SettingsError as error:
        advice = f"mend it{f' in {config}' if config else ''}; docs/settings.md has every setting"
        return None, [Finding(step, Result.ERROR, line, advice) for line in str(error).splitlines()]
    wrong = [*doubts(loaded, is_there, datetime.now(UTC)), *(root_desktops(loaded.desktops) if is_root() else ())]
    advice = f"mend it in {config}, or leave it where it is meant so"
    if wrong:
        return loaded, [Finding(step, Result.WARNING, words, advice) for words in wrong]
    return loaded, [Finding(step, Result.OK, f"{config or 'the defaults'}{whose}{': good' if config else ''}")]


async def tokens(path: Path, settings: Settings) -> tuple[Parsed | None, list[Finding]]:
    """The token file, as `vncgate check` has it; None where it cannot be read."""
    step = "token file"
    try:
        parsed = await read_tokens(path)
    except TokensError as error:
        advice = f"write one: vncgate tokens new --accounts N --hosts LIST -o {path}"
        if "No such file" not in str(error):
            advice = f"see what it is: ls -ld {path}" if is_root() else AS_ROOT
        return None, [Finding(step, Result.ERROR, str(error), advice)]
    problems = sorted((*parsed.problems, *check_roster(parsed.roster, settings)), key=_errors_first)
    findings = [
        Finding(
            step,
            Result.ERROR if problem.severity is Severity.ERROR else Result.WARNING,
            f"{problem.place(path.name)}: {problem.message}",
            f"chmod o-rwx {path}" if problem.message.endswith("chmod o-rwx") else f"mend {path}",
        )
        for problem in problems
    ]
    if left := findings[MOST_PROBLEMS:]:
        more = Finding(
            step, left[0].result, f"and {count(len(left), 'more problem')}", f"vncgate check {path} has them all"
        )
        findings = [*findings[:MOST_PROBLEMS], more]
    return parsed, findings or [Finding(step, Result.OK, f"{path}: {count(len(parsed.roster), 'account')}, good")]


def _errors_first(problem: Problem) -> tuple[bool, Problem]:
    return problem.severity is not Severity.ERROR, problem


async def gate(case: Case) -> tuple[dict[str, Any] | None, list[Finding]]:
    """What the running gate says; None where none answers, which is no error: it may be started later."""
    step = "gate"
    try:
        status = await asyncio.to_thread(control.call, case.control, "/status", timeout=GATE_TIMEOUT)
    except ControlError as error:
        return None, [_unanswered(case.control, str(error))]
    wrong = list(_disagreements(case, status))
    totals = status["totals"]
    words = f"process {status['pid']} serves {count(totals['accounts'], 'account')}, {totals['in_use']} in use"
    return status, wrong or [Finding(step, Result.OK, words)]


def _unanswered(path: Path, why: str) -> Finding:
    try:
        os.stat(path)  # noqa: PTH116  (Path.exists() would hide a folder that we may not enter)
    except FileNotFoundError:
        advice = "systemctl start vncgate; or name the socket of one that runs: --control PATH"
        return Finding("gate", Result.WARNING, f"none runs: there is no control socket {path}", advice)
    except OSError:
        return Finding("gate", Result.SKIPPED, f"{path} is not for you to see", AS_ROOT)
    return Finding("gate", Result.ERROR, why, "systemctl restart vncgate; its log: journalctl -u vncgate -n 50")


def _disagreements(case: Case, status: Mapping[str, Any]) -> Iterator[Finding]:
    """Where the gate is in trouble, or is not what the token file, the settings and the installed version say."""
    step = "gate"
    settings = case.settings
    anew = "systemctl reload vncgate: it starts anew, and no desktop is cut"
    if not status.get("workers") or settings.workers == 0 or settings.engine is not EngineName.RELAY:
        anew = "systemctl restart vncgate (open desktops are cut, and come back by themselves)"
    for trouble in ("trouble", "apache_error", "pages_error"):
        if said := status.get(trouble):
            yield Finding(step, Result.ERROR, " ".join(str(said).split()), "mend it, then: systemctl reload vncgate")
    if status.get("version") != __version__:
        yield Finding(step, Result.WARNING, f"runs version {status.get('version')}, {__version__} is installed", anew)
    wanted = {
        "engine": str(settings.engine),
        "web": str(settings.web) if settings.web else None,
        "shared_port": settings.accounts_port,
    }
    for name, value in wanted.items():
        if status.get(name) != value:
            message = f"it runs with {name} = {status.get(name) or 'off'}, the settings say {value or 'off'}"
            yield Finding(step, Result.WARNING, message, f"give the gate's own settings (--config), or {anew}")
    states = {account["name"]: account["state"] for account in status["accounts"]}
    if case.roster and (differ := sorted(set(states) ^ set(case.roster))):
        message = f"it does not serve what is in the token file; they differ in {some(differ)}"
        yield Finding(step, Result.WARNING, message, "systemctl reload vncgate; or name the file that it serves")
    if down := [name for name, state in states.items() if state in ("FATAL", "STOPPED") and name in case.roster]:
        message = f"{count(len(down), 'account')} not running: {some(down)}"
        yield Finding(
            step,
            Result.WARNING,
            message,
            f"see why: vncgate status{case.at_gate}; then: vncgate start ACCOUNT{case.at_gate}",
        )
