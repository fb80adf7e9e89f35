from pathlib import Path

import pytest

from tests.doctor.cases import account, case, results, told
from vncgate.doctor import unit

GOOD = {
    "Id": "vncgate.service",
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "MainPID": "7",
    "NeedDaemonReload": "no",
    "ExecStart": "{ path=/opt/vncgate/bin/vncgate ; argv[]=/opt/vncgate/bin/vncgate run "
    "/run/credentials/vncgate.service/workshop.tokens ; ignore_errors=no ; pid=7 ; code=(null) ; status=0/0 }",
    "ExecReload": "{ path=/opt/vncgate/bin/vncgate ; argv[]=/opt/vncgate/bin/vncgate reload --tokens "
    "/etc/vncgate/w.tokens --config /etc/vncgate/vncgate.toml ; ignore_errors=no ; pid=0 ; status=0/0 }",
    "LimitNOFILE": "65536",
    "FileDescriptorStoreMax": "512",
    "WatchdogUSec": "30s",
    "Wants": "vncgate-tokens.path network-online.target",
}


def test_a_good_unit():
    assert told(unit.judge(GOOD, case("ws01"))) == [("ok", "vncgate is enabled and active, its limits fit")]


@pytest.mark.parametrize(
    ("changes", "result", "words", "advice"),
    [
        ({"ActiveState": "failed"}, "error", "has failed", "journalctl -u vncgate"),
        ({"ActiveState": "inactive"}, "warning", "is inactive", "systemctl start vncgate"),
        ({"UnitFileState": "disabled"}, "warning", "is not started at boot", "systemctl enable vncgate"),
        ({"NeedDaemonReload": "yes"}, "warning", "was changed on disk", "systemctl daemon-reload"),
        (
            {"ExecReload": "vncgate reload --tokens /etc/other.tokens"},
            "warning",
            "serves another token file",
            "systemctl edit --full",
        ),
        ({"LimitNOFILE": "204"}, "error", "may open 204 files, 2 accounts need 205", "LimitNOFILE=65536"),
        ({"LimitNOFILE": "infinity"}, "ok", "", ""),
        (
            {"FileDescriptorStoreMax": "2"},
            "warning",
            "keeps 2 sockets over a restart, there are up to 8",
            "FileDescriptorStoreMax=512",
        ),
        ({"FileDescriptorStoreMax": ""}, "ok", "", ""),
        ({"WatchdogUSec": "0"}, "warning", "has no watchdog", "WatchdogSec=30"),
        ({"WatchdogUSec": "infinity", "ActiveState": "inactive"}, "warning", "is inactive", "systemctl start"),
        ({"LoadState": "not-found"}, "warning", "no unit vncgate", "cp systemd/vncgate*"),
    ],
)
def test_what_can_be_wrong_with_it(changes, result, words, advice):
    (finding,) = unit.judge(GOOD | changes, case(account("ws01", 7001), "ws02", flags={"workers": 2}))
    assert finding.result == result
    assert words in finding.message
    assert advice in finding.advice


def test_the_sockets_that_are_stored_are_those_of_ports_and_workers():
    old, new = {"state": "draining"}, {"state": "serving"}
    for wanted, each in [
        (3 + 2 * 4, case("ws01", flags={"workers": 4})),
        (1 + 3, case(account("ws01", 7001), flags={"workers": 4, "engine": "websockify"})),
        (3 + 2 * 2, case("ws01", flags={"workers": 4}, status={"pid": 7, "workers": [new, new, old]})),
        (3, case("ws01", status={"pid": 7})),  # a gate from before there were workers
    ]:
        assert results(unit.judge(GOOD | {"FileDescriptorStoreMax": str(wanted)}, each)) == ["ok"]
        assert results(unit.judge(GOOD | {"FileDescriptorStoreMax": str(wanted - 1)}, each)) == ["warning"]


def test_the_watcher_of_the_token_file():
    (finding,) = unit.judge(GOOD, case("ws01"), "vncgate-tokens.path")
    assert (finding.result, finding.advice) == ("warning", "systemctl start vncgate-tokens.path")


def test_which_unit_is_meant():
    other = GOOD | {
        "Id": "vncgate@b.service",
        "MainPID": "8",
        "ExecReload": "vncgate reload --tokens /etc/vncgate/b.tokens",
    }
    units = unit.read_units([*(f"{k}={v}" for k, v in other.items()), "", *(f"{k}={v}" for k, v in GOOD.items())])
    assert units == [other, GOOD]
    assert unit.choose(units, case("ws01")) == GOOD
    assert unit.choose(units, case("ws01", status={"pid": 8})) == other
    assert unit.choose(units, case("ws01", tokens=Path("/no.tokens"))) == other
    assert results(unit.judge(unit.choose([], case()), case())) == ["warning"]


SYSTEMCTL = """#!/bin/sh
if [ "$1" = show ]; then cat "$(dirname "$0")/units"; else exit 3; fi
"""


async def test_asking_systemctl(tmp_path, monkeypatch):
    (tmp_path / "units").write_text("".join(f"{key}={value}\n" for key, value in GOOD.items()))
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(unit, "BOOTED", tmp_path / "none")
    assert results(await unit.check(case("ws01"))) == ["skipped"]
    monkeypatch.setattr(unit, "BOOTED", tmp_path)
    message = "vncgate-tokens.path is not active: changes of the token file are not seen"
    assert told(await unit.check(case("ws01"))) == [("warning", message)]
