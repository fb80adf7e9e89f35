"""The launched half of a gate: where it keeps things, whom it finds, and that two gates do not share it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.workshop import Workshop
from vncgate import desktops
from vncgate.desktops import LaunchedDesktops, folder
from vncgate.errors import SettingsError
from vncgate.kinds import DesktopsSettings
from vncgate.model import Account, AccountStatus, Desktop, Readiness, Roster, Secret, State, Traffic, Want

KINDS = {"term": {"command": "sleep 1000", "idle_timeout": 60.0}, "plain": {"command": "sleep 1000"}}


@pytest.mark.parametrize(
    ("settings", "environ", "uid", "expected"),
    [
        ({"folder": "/srv/x"}, {"STATE_DIRECTORY": "/var/lib/a"}, 0, "/srv/x"),
        ({}, {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, 0, "/var/lib/a/desktops"),
        ({}, {}, 0, "/var/lib/vncgate/desktops"),
        ({}, {"XDG_STATE_HOME": "/s", "HOME": "/home/x"}, 1000, "/s/vncgate/desktops"),
        ({}, {"HOME": "/home/x"}, 1000, "/home/x/.local/state/vncgate/desktops"),
    ],
)
def test_where_it_is_kept(settings, environ, uid, expected):
    assert folder(DesktopsSettings(**settings), environ, uid) == Path(expected)


@pytest.fixture
def make(tmp_path):
    async def login(account):
        raise AssertionError

    def make(kinds=KINDS, places=None):
        settings = DesktopsSettings(kinds=kinds, places=places or {"local": {"type": "local", "user": "nobody"}})
        return LaunchedDesktops(settings, tmp_path / "state", login, lambda names: None)

    return make


async def test_two_gates_do_not_share_a_folder(make):
    first, second = make(), make()
    await first.start()
    with pytest.raises(SettingsError, match=r"desktops\.folder: .*state is that of another gate, which runs"):
        await second.start()
    await second.aclose()
    await first.aclose()
    third = make()
    await third.start()
    await third.aclose()


async def test_the_folder_lets_users_through_to_their_own_whatever_the_umask(make, tmp_path):
    old = os.umask(0o077)
    try:
        desktops = make()
        await desktops.start()
        await desktops.aclose()
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state", tmp_path / "state" / "handles")}
    assert modes == {"state": 0o711, "handles": 0o700}


HPC = {"type": "slurm", "folder": "/s"}


@pytest.mark.parametrize("user", ["{account}", "root"])
async def test_a_gate_that_is_root_starts_desktops_as_whom_it_is_told(make, monkeypatch, user):
    monkeypatch.setattr(desktops.os, "geteuid", lambda: 0)
    await make(places={"local": {"type": "local", "user": user}, "hpc": HPC}).aclose()


async def test_a_gate_that_is_root_starts_none_as_root_by_itself(make, monkeypatch):
    kinds = {**KINDS, "more": {"command": "true", "place": "hpc"}}
    monkeypatch.setattr(desktops.os, "geteuid", lambda: 0)
    with pytest.raises(SettingsError) as caught:
        make(kinds, {"local": {"type": "local"}, "hpc": HPC, "unused": HPC})
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["desktops.places.local.user", "desktops.places.hpc.user"]
    assert 'write user = "{account}"' in lines[0]
    monkeypatch.setattr(desktops.os, "geteuid", lambda: 1000)
    await make(kinds, {"local": {"type": "local"}, "hpc": HPC}).aclose()


async def test_without_kinds_nothing_is_touched(make, tmp_path):
    gate = make(kinds={})
    await gate.start()
    await gate.aclose()
    assert not (tmp_path / "state").exists()


async def test_a_folder_that_cannot_be_used(make, tmp_path):
    (tmp_path / "state").write_text("a file")
    gate = make()
    with pytest.raises(SettingsError, match="cannot be used: "):
        await gate.start()
    await gate.aclose()


async def test_what_was_found_takes_the_place_of_the_dash(make, monkeypatch):
    gate = make()
    there = Desktop(unix="/x/vnc.sock")
    monkeypatch.setattr(gate.launcher, "located", lambda: {"ws01": there, "ws02": there, "ws04": there})
    own = Desktop("node01", 5901)
    accounts = [account("ws01", None, "term"), account("ws02", None, "plain"), account("ws03", None, "term")]
    roster = Roster((*accounts, account("ws04", own, "term")))
    found = gate.found(roster)
    assert [each.desktop for each in found.values()] == [there, there, None, own]
    assert [each.watch_input for each in found.values()] == [True, False, False, False]


async def test_who_uses_their_desktop_is_told(make, monkeypatch):
    gate = make()
    told = []
    monkeypatch.setattr(gate.launcher, "used", lambda name, at: told.append((name, at)))
    monkeypatch.setattr(desktops, "USE_INTERVAL", 0.001)
    watched = account("ws01", Desktop("node01", 5901), "term", watch_input=True)
    statuses = [status(watched, 12.5), status(account("ws02", None, "term"), 3.0)]

    def once():
        yield from statuses
        raise EOFError  # out of the endless loop

    with pytest.raises(EOFError):
        await gate.keep_using(once)
    assert told == [("ws01", 12.5)]


def account(name, desktop, kind, **more):
    return Account(name, desktop, name, None, Secret("k3Vq9xTb"), kind=kind, **more)


def status(account, used):
    traffic = Traffic(used=used)
    return AccountStatus(account, Want.UP, State.RUNNING, Readiness.READY, "", 0.0, traffic, 0, "")


async def test_an_account_without_a_kind_says_so(tmp_path, free_port):
    """A gate without kinds of desktops: the account stays offline, in words, and nobody is harmed."""
    workshop = Workshop(tmp_path, free_port)
    workshop.write("ws01 - path01 - - k3Vq9xTb")
    async with workshop.running() as gate:
        (half,) = gate.desktops.statuses()
        assert half.state == "FAILED"
        assert "kind" in half.reason
