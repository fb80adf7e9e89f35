import os

import pytest

from tests.doctor.cases import account, case, results, told
from vncgate.doctor import limits
from vncgate.doctor.limits import Allowed

ROOMY = {"files": 65536, "whose": "the gate", "waiting": 4096, "outgoing": (32768, 60999)}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, ["ok"]),
        ({"files": 321}, ["error"]),
        ({"files": 322}, ["ok"]),
        ({"waiting": 59}, ["warning"]),
        ({"outgoing": (40000, 40100)}, ["warning"]),
        ({"outgoing": (7000, 60999)}, ["warning"]),
        ({"files": None}, ["skipped"]),
        ({"files": None, "waiting": None, "outgoing": None}, ["skipped"]),
        ({"files": 1, "waiting": 1, "outgoing": (7000, 7001)}, ["error", "warning", "warning", "warning"]),
    ],
)
def test_limits(changes, wanted):
    each = case(*(f"ws{n:02}" for n in range(58)), account("a", 7000), account("b", 7001))
    assert results(limits.judge(Allowed(**ROOMY | changes), each)) == wanted


async def test_the_limits_of_this_process_and_of_a_gate():
    ((result, message),) = told(await limits.check(case("ws01")))
    assert message.startswith("a gate started here may open") or result == "skipped"
    ((result, message),) = told(await limits.check(case("ws01", status={"pid": os.getpid()})))
    assert message.startswith("the gate may open") or result == "skipped"
    assert results(await limits.check(case("ws01", status={"pid": 0}))) == ["skipped"]


@pytest.mark.parametrize(
    ("script", "result"), [("echo yes", "ok"), ("echo no", "warning"), ("echo 'no bus'; exit 1", "skipped")]
)
async def test_the_clock(tmp_path, monkeypatch, script, result):
    (tmp_path / "timedatectl").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "timedatectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert results(await limits.check_clock(case())) == [result]
