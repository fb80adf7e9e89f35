import os
import socket
from pathlib import Path

import pytest

from tests.doctor.cases import case, results, told
from tests.workshop import Workshop
from vncgate import __version__
from vncgate.doctor import start


def test_settings_that_are_good(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text("shared_port = 9000\n")
    settings, findings = start.settings(file, {})
    assert settings.shared_port == 9000
    assert told(findings) == [("ok", f"{file}: good")]


@pytest.mark.parametrize(
    "text",
    ["shared_prt = 1", "web = ", "shared_port = 8080", '[landing]\nlogo = "/none.svg"', '[languages]\ndefault = "fr"'],
)
def test_settings_that_are_not(tmp_path, text):
    file = tmp_path / "x.toml"
    file.write_text(text)
    settings, findings = start.settings(file, {})
    assert settings is None
    assert set(results(findings)) == {"error"}


def test_the_settings_are_looked_for_where_the_gate_has_them(tmp_path, monkeypatch):
    usual = tmp_path / "vncgate.toml"
    monkeypatch.setattr(start, "USUAL_CONFIG", usual)
    monkeypatch.setattr(start, "CREDENTIALS", tmp_path / "credentials")
    copy = str(tmp_path / "credentials" / "vncgate.service" / "vncgate.toml")
    assert start.find_settings(None, {})[0] is None
    assert start.find_settings(None, {"config": copy}) == (Path(copy), " (of the running gate)")
    usual.write_text("")
    assert start.find_settings(None, {}) == (usual, " (where the units have it)")
    assert start.find_settings(None, {"config": copy})[0] == usual
    assert start.find_settings(None, {"config": "/a.toml"})[0] == Path("/a.toml")
    assert start.find_settings(None, {"config": None}) == (None, ", as the running gate has them")
    assert start.find_settings(Path("/b.toml"), {"config": "/a.toml"}) == (Path("/b.toml"), "")


def test_without_settings_it_says_where_it_looked(monkeypatch):
    monkeypatch.setattr(start, "USUAL_CONFIG", Path("/none/vncgate.toml"))
    (finding,) = start.settings(None, {}, start.find_settings(None, {})[1])[1]
    assert finding.message == (
        "the defaults: no --config was given, no gate tells of its own, and there is no /none/vncgate.toml"
    )


def test_settings_that_are_hardly_meant(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text('[desktops]\nkinds.x = {command = "a", cores = 1}\nplaces.local = {type = "local", user = "u"}\n')
    settings, findings = start.settings(file, {})
    assert settings is not None
    assert results(findings) == ["warning"]


async def tokens(path, text=None, mode=0o600):
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    return await start.tokens(path, case().settings)


async def test_a_token_file(tmp_path):
    file = tmp_path / "w.tokens"
    parsed, findings = await tokens(file, "a n p 7000 5901 canary\n")
    assert list(parsed.roster) == ["a"]
    assert told(findings) == [("ok", f"{file}: 1 account, good")]


async def test_a_token_file_with_everything_wrong(tmp_path):
    file = tmp_path / "w.tokens"
    _, findings = await tokens(file, "a n p 8081 5901 canary\nb n q\n", 0o644)
    assert [finding.advice for finding in findings] == [f"mend {file}", f"mend {file}", f"chmod o-rwx {file}"]
    assert results(findings) == ["error", "error", "warning"]
    _, findings = await tokens(file, "x\n" * 30)
    assert told(findings)[-1] == ("error", "and 25 more problems")


async def test_a_token_file_that_cannot_be_read(tmp_path):
    parsed, findings = await tokens(tmp_path / "none")
    assert parsed is None
    assert findings[0].advice.startswith("write one: vncgate tokens new")
    _, findings = await tokens(tmp_path)
    assert "Is a directory" in findings[0].message
    assert "write one" not in findings[0].advice


def status(**changes):
    accounts = [{"name": "ws01", "state": "RUNNING", "port": None}]
    said = {"pid": 7, "version": __version__, "engine": "relay", "web": "127.0.0.1:8080", "shared_port": 8081}
    return said | {"accounts": accounts, "totals": {"accounts": 1, "in_use": 0}} | changes


async def gate(monkeypatch, said, *accounts):
    monkeypatch.setattr(start.control, "call", lambda *args, **kwargs: said)
    return told((await start.gate(case(*accounts)))[1])


async def test_a_gate_that_is_as_it_should_be(monkeypatch):
    assert await gate(monkeypatch, status(), "ws01") == [("ok", "process 7 serves 1 account, 0 in use")]


@pytest.mark.parametrize(
    ("changes", "accounts", "finding"),
    [
        ({"version": "0"}, ["ws01"], ("warning", f"runs version 0, {__version__} is installed")),
        ({"web": None}, ["ws01"], ("warning", "it runs with web = off, the settings say 127.0.0.1:8080")),
        ({"shared_port": 9}, ["ws01"], ("warning", "it runs with shared_port = 9, the settings say 8081")),
        ({}, ["ws01", "ws02"], ("warning", "it does not serve what is in the token file; they differ in ws02")),
        ({"apache_error": "config\n  test"}, ["ws01"], ("error", "config test")),
        (
            {"accounts": [{"name": "ws01", "state": "FATAL", "port": None}]},
            ["ws01"],
            ("warning", "1 account not running: ws01"),
        ),
    ],
)
async def test_a_gate_that_is_not(monkeypatch, changes, accounts, finding):
    assert await gate(monkeypatch, status(**changes), *accounts) == [finding]


@pytest.mark.parametrize(
    ("workers", "flags", "advice"),
    [
        ([{"pid": 8}], {}, "systemctl reload vncgate"),
        ([], {}, "systemctl restart vncgate"),
        ([{"pid": 8}], {"workers": 0}, "systemctl restart vncgate"),
        ([{"pid": 8}], {"engine": "websockify"}, "systemctl restart vncgate"),
    ],
)
async def test_only_with_workers_a_new_version_costs_no_desktop(monkeypatch, workers, flags, advice):
    monkeypatch.setattr(start.control, "call", lambda *_, **__: status(version="0.0.1", workers=workers))
    _, findings = await start.gate(case("ws01", flags=flags))
    assert advice in findings[0].advice


async def test_no_gate(tmp_path, free_port):
    path = tmp_path / "control"
    _, findings = await start.gate(case(control=path))
    assert told(findings) == [("warning", f"none runs: there is no control socket {path}")]
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    _, findings = await start.gate(case(control=path))
    assert results(findings) == ["error"]


async def test_a_gate_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "GATE_TIMEOUT", 0.05)
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen()
        _, findings = await start.gate(case(control=path))
    assert told(findings) == [("error", f"vncgate at {path} did not answer within 0.05 s; its log may say why")]


async def test_a_real_gate(tmp_path, free_port):
    workshop = Workshop(tmp_path, free_port)
    workshop.write("ws01 127.0.0.1 path-ws01 - 5901 canary")
    async with workshop.running():
        flags = {"web": f"127.0.0.1:{workshop.web}", "shared_port": workshop.shared}
        status, findings = await start.gate(case("ws01", control=workshop.control, flags=flags))
    assert status["pid"] == os.getpid()
    assert results(findings) == ["ok"]
