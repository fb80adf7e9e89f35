"""The run through all checks: their order, what a broken one does, and that nothing of it is a traceback."""

import asyncio
import dataclasses

import pytest

from tests.doctor.cases import results, told
from tests.workshop import Workshop
from vncgate.doctor import examination
from vncgate.doctor.base import Check, Finding, Result, output
from vncgate.doctor.examination import CHECKS, Order, examine

STEPS = [check.step for check in CHECKS]


@pytest.fixture
def order(tmp_path):
    tokens, config = tmp_path / "w.tokens", tmp_path / "c.toml"
    tokens.write_text("ws01 unix:/none path-ws01 - - canary\n")
    tokens.chmod(0o600)
    config.write_text("")
    return Order(tokens, config, tmp_path / "control", {}, "", 3)


async def examined(order):
    said = [each async for each in examine(order, 0)]
    return [each for each in said if isinstance(each, str)], [each for each in said if isinstance(each, Finding)]


async def test_the_steps_are_announced_in_order(order, monkeypatch):
    async def nothing(case):
        return []

    monkeypatch.setattr(examination, "CHECKS", tuple(Check(step, nothing) for step in STEPS))
    steps, findings = await examined(order)
    assert steps == ["settings", "token file", "gate", *STEPS]
    assert results(findings) == ["ok", "ok", "warning"]


async def test_a_check_that_breaks_or_hangs_is_told_and_the_next_one_follows(order, monkeypatch):
    async def broken(case):
        raise ZeroDivisionError("some\nwords")

    async def hung(case):
        await asyncio.Event().wait()

    async def slow(case):
        raise TimeoutError("`httpd` did not end")

    async def fine(case):
        return [Finding("d", Result.OK, "fine")]

    checks = (Check("a", broken), Check("b", hung, 0.01), Check("c", slow), Check("d", fine))
    monkeypatch.setattr(examination, "CHECKS", checks)
    _, findings = await examined(order)
    assert told(findings)[3:] == [
        ("error", "could not be checked: ZeroDivisionError: some words"),
        ("error", "could not be checked: no end after 0.01 s"),
        ("error", "could not be checked: `httpd` did not end"),
        ("ok", "fine"),
    ]


async def test_without_settings_all_the_rest_is_skipped(order):
    order.config.write_text("web = 1")
    _, findings = await examined(order)
    assert results(findings) == ["error"] + ["skipped"] * len(CHECKS)


async def test_without_a_name_the_token_file_is_the_gates(order, tmp_path, free_port):
    unnamed = dataclasses.replace(order, tokens=None)
    _, findings = await examined(unnamed)
    assert told(findings)[1] == ("error", "no gate on this host tells where its token file is: name it")
    assert results(findings)[2:] == ["skipped"] * len(CHECKS)
    workshop = Workshop(tmp_path, free_port)
    workshop.write("ws01 unix:/none path-ws01 - - canary")
    async with workshop.running():
        said = [each async for each in examine(unnamed, 0) if isinstance(each, Finding) and each.step == "token file"]
    assert told(said) == [("ok", f"{workshop.tokens}: 1 account, good")]


async def test_without_a_token_file_the_rest_goes_on(order):
    order.tokens.unlink()
    steps, findings = await examined(order)
    assert steps[3:] == STEPS
    assert ("skipped", "no account of the token file has one") in told(findings)


async def test_programs_that_are_not_there_or_do_not_end():
    assert await output("no-such-program") is None
    assert (await output("sh", "-c", "echo a; echo b >&2; exit 3")).last in ("a", "b")
    with pytest.raises(TimeoutError, match="`sleep 60` did not end within 0.2 s"):
        await output("sleep", "60", timeout=0.2)
