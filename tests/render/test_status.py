"""The operator's report and the one line for systemd."""

from __future__ import annotations

import json

from vncgate.model import Account, AccountStatus, Desktop, Readiness, Secret, State, Traffic, Want
from vncgate.render.status import report, summary


def status(name, state=State.RUNNING, readiness=Readiness.READY, traffic=None, want=Want.UP):
    account = Account(name, Desktop("node01", 5901), f"path-{name}", None, Secret("swordfish"), "Ada")
    return AccountStatus(account, want, state, readiness, "", 100.0, traffic or Traffic(), 2, "killed by SIGKILL")


ALL = [
    status("ws01", traffic=Traffic(2, 10, 1000)),
    status("ws02", readiness=Readiness.OFFLINE),
    status("ws03", readiness=Readiness.WRONG_PASSWORD, traffic=Traffic(0, None, None)),
    status("ws04", state=State.FATAL, readiness=Readiness.UNKNOWN),
    status("ws05", state=State.STOPPED, readiness=Readiness.UNKNOWN, want=Want.DOWN),
]


def test_want_state_and_ready_are_apart():
    accounts = json.loads(json.dumps(report(ALL)))["accounts"]
    assert [(a["want"], a["state"], a["ready"]) for a in accounts] == [
        ("up", "RUNNING", "ready"),
        ("up", "RUNNING", "offline"),
        ("up", "RUNNING", "wrong password"),
        ("up", "FATAL", "unknown"),
        ("down", "STOPPED", "unknown"),
    ]
    assert accounts[0] | {"connections": 2, "desktop": "node01:5901", "restarts": 2} == accounts[0]
    assert "swordfish" not in str(accounts)


def test_totals():
    assert report(ALL)["totals"] == {
        "accounts": 5,
        "in_use": 1,
        "ready": 1,
        "offline": 1,
        "wrong_password": 1,
        "not_running": 2,
        "connections": 2,
        "bytes_up": 10,
        "bytes_down": 1000,
    }


def test_one_line():
    assert summary(ALL, "") == "5 accounts, 1 in use, 1 offline, 1 wrong password, 2 not running"
    assert summary(ALL[:1], "x has 1 error") == "1 account, 1 in use; x has 1 error"
    assert summary([], "") == "0 accounts, 0 in use"
