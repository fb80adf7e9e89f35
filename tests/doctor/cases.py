"""What checks are given in tests."""

from pathlib import Path

from vncgate.doctor.base import Case
from vncgate.model import Account, Desktop, Roster, Secret
from vncgate.settings import load


def account(name, port=None, host="node01", number=5901):
    return Account(name, Desktop(host, number), f"path-{name}", port, Secret("canary"))


def case(*accounts, flags=None, **values):
    """A case with accounts (names, or accounts) and settings by flags."""
    roster = Roster(tuple(each if isinstance(each, Account) else account(each) for each in accounts))
    given = {"tokens": Path("/etc/vncgate/w.tokens"), "config": None, "control": Path("/none/control")}
    return Case(**given | {"settings": load(flags=flags or {}), "roster": roster} | values)


def told(findings):
    """Findings as (result, message); those that need somebody must say what to do."""
    found = list(findings)
    for finding in found:
        assert finding.step
        assert finding.advice or finding.result in ("ok", "skipped"), finding
        assert "canary" not in f"{finding}"
    return [(str(finding.result), finding.message) for finding in found]


def results(findings):
    return [result for result, _ in told(findings)]
