import asyncio
import re
from pathlib import Path

import pytest

from tests.doctor.cases import account, case, results, told
from vncgate import probe
from vncgate.doctor import desktops
from vncgate.doctor.desktops import Failure
from vncgate.errors import DesktopError
from vncgate.model import Account, Desktop, Readiness, Secret

SOURCES = "".join((Path(probe.__file__).parent / name).read_text() for name in ("probe.py", "dial.py", "rfb.py"))


def failure(name, reason, host="node01", unix=""):
    return Failure(name, Desktop(unix=unix) if unix else Desktop(host, 5901), reason)


def test_all_is_well():
    assert told(desktops.judge(60, [], "w")) == [("ok", "all 60 let us in")]
    assert told(desktops.judge(1, [], "w")) == [("ok", "it lets us in")]


def test_those_of_one_host_with_one_reason_are_one_line():
    failures = [failure(f"ws{n:02}", "did not answer within 5 s", "node03") for n in range(10)]
    failures += [failure("ws60", "refused the password"), failure("ws61", "is not there: no such socket", unix="/s")]
    assert told(desktops.judge(60, failures, "w")) == [
        ("error", "10 on node03: each did not answer within 5 s: ws00, ws01, ws02, ws03, ws04, ws05 and 4 more"),
        ("error", "ws60: node01:5901 refused the password"),
        ("error", "ws61: unix:/s is not there: no such socket"),
        ("ok", "the other 48 of 60 let us in"),
    ]
    assert "ping node03" in desktops.judge(60, failures, "w")[0].advice


@pytest.mark.parametrize("words", [words for words, _ in desktops.ADVICE])
def test_the_advice_is_for_words_that_are_said(words):
    assert re.search(words, re.sub(r"\{[^}]*\}", "", SOURCES))


@pytest.fixture
def logins(monkeypatch):
    """Counts logins; who `fails` is refused."""
    seen = []

    async def login(desktop, password, **timeouts):
        seen.append(str(desktop))
        login.running += 1
        login.most = max(login.most, login.running)
        await asyncio.sleep(0)
        login.running -= 1
        if desktop.host == "bad":
            raise DesktopError(f"desktop {desktop} refused the password", Readiness.WRONG_PASSWORD)
        if desktop.host == "defect":
            raise ZeroDivisionError("x")

    login.running = login.most = 0
    login.seen = seen
    monkeypatch.setattr(desktops.probe, "login", login)
    return login


async def test_one_login_each_and_not_too_many_at_once(logins):
    each = case(*(account(f"ws{n:02}", number=5900 + n) for n in range(60)), account("twin", number=5901))
    assert told(await desktops.check(each)) == [("ok", "all 61 let us in")]
    assert len(logins.seen) == len(set(logins.seen)) == 60
    assert logins.most == desktops.AT_ONCE
    assert len(each.usable) == 61


async def test_who_failed_is_not_usable_and_a_defect_is_told(logins):
    each = case(account("a"), account("b", host="bad"), account("c", host="defect"))
    assert told(await desktops.check(each)) == [
        ("error", "b: bad:5901 refused the password"),
        ("error", "c: defect:5901 could not be tried: ZeroDivisionError: x"),
        ("ok", "the other 1 of 3 let us in"),
    ]
    assert [account.name for account in each.usable] == ["a"]


async def test_nothing_to_log_in_to(logins):
    assert results(await desktops.check(case())) == ["skipped"]


def status_of(**states):
    """What a gate says that starts these desktops: state and address of each."""
    halves = {name: {"state": state, "desktop": at, "reason": "home full"} for name, (state, at) in states.items()}
    return {"accounts": [{"name": name, "launched": half} for name, half in halves.items()]}


async def test_desktops_that_the_gate_starts_are_logged_in_to_where_it_says(logins):
    status = status_of(
        a=("RUNNING", "node07:5903"),
        b=("RUNNING", "unix:/run/b/vnc.sock"),
        c=("FAILED", None),
        d=("FAILED", None),
        e=("STOPPED", None),
        f=("RUNNING", "[::1]:5901"),
    )
    each = case(*(Account(name, None, name, None, Secret("canary"), line=1) for name in "abcdefg"), status=status)
    findings = await desktops.check(each)
    assert findings[1].advice == (
        "vncgate desktop logs c --control /none/control; "
        "once it is mended: vncgate desktop start c --control /none/control"
    )
    assert told(findings) == [
        ("ok", "all 3 let us in"),
        ("error", "c, d: cannot be started: home full"),
        ("skipped", "2 desktops that the gate starts not running now: e, g"),
    ]
    assert logins.seen == ["node07:5903", "unix:/run/b/vnc.sock", "[::1]:5901"]
    assert [account.name for account in each.usable] == ["a", "b", "f"]


async def test_what_was_told_with_the_places_is_not_told_again(logins, monkeypatch):
    monkeypatch.setenv("VNCGATE_CONTROL", "/none/control")
    each = case(Account("a", None, "a", None, Secret("canary")), status=status_of(a=("FAILED", None)))
    each.told.append("home full")
    (finding,) = await desktops.check(each)
    assert told([finding]) == [("skipped", "a: cannot be started, for a reason told with the places")]
    assert finding.advice == "once it is mended: vncgate desktop start a"


async def test_a_desktop_whose_password_the_gate_alone_knows_is_not_tried(logins):
    each = case(Account("a", None, "a", None, Secret("")), status=status_of(a=("RUNNING", "node07:5903")))
    assert results(await desktops.check(each)) == ["skipped"]
    assert not logins.seen
