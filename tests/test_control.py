"""The operator's socket: who may open it, what is refused, and what is said when nobody is there."""

from __future__ import annotations

import asyncio
import os
import socket
import stat

import pytest

from vncgate import control
from vncgate.control import HandedOver
from vncgate.errors import ControlError, TokensError


class Operator:
    def __init__(self):
        self.calls = []

    def status(self):
        return {"accounts": []}

    async def start(self, names):
        self.calls.append(("start", names))

    async def stop(self, names):
        raise ControlError("no such account: ws99")

    async def restart(self, names):
        self.calls.append(("restart", names))

    async def reload(self, handed=None):
        if handed and handed.content == b"bad":
            raise TokensError(f"{handed.name}:1:1: error: what is this?")
        self.calls.append(("reload", handed))
        return {"changes": "1 unchanged"}


@pytest.fixture
async def served(tmp_path):
    operator = Operator()
    path = tmp_path / "run" / "control"
    async with control.serve(control.bind(path), operator):
        yield operator, path
    assert not path.exists()


async def ask(*args):
    return await asyncio.to_thread(control.call, *args)


async def test_commands_and_answers(served):
    operator, path = served
    assert await ask(path, "/status") == {"accounts": []}
    assert await ask(path, "/start", {"accounts": ["ws01"]}) == {}
    assert await ask(path, "/restart", {"accounts": ["ws01", "ws02"]}) == {}
    assert await ask(path, "/reload", {}) == {"changes": "1 unchanged"}
    handed = [
        HandedOver("/etc/x.tokens", b"\xff a token file"),
        HandedOver("/etc/x.tokens", None, trouble="cannot be read"),
    ]
    for one in handed:
        assert await ask(path, "/reload", one.to_json()) == {"changes": "1 unchanged"}
    assert operator.calls == [
        ("start", ["ws01"]),
        ("restart", ["ws01", "ws02"]),
        ("reload", None),
        *(("reload", one) for one in handed),
    ]


async def test_refusals_come_back_in_the_daemons_words(served):
    _, path = served
    with pytest.raises(ControlError, match="^no such account: ws99$"):
        await ask(path, "/stop", {"accounts": ["ws99"]})
    with pytest.raises(ControlError, match="^/etc/x.tokens:1:1: error: what is this"):
        await ask(path, "/reload", HandedOver("/etc/x.tokens", b"bad").to_json())


async def test_only_its_owner_can_open_it(served):
    _, path = served
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_second_daemon_is_refused(served):
    _, path = served
    with pytest.raises(ControlError, match="another vncgate runs already"):
        control.bind(path)


def test_what_a_killed_daemon_left_is_taken_over(tmp_path):
    path = tmp_path / "control"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    sock = control.bind(path)
    sock.close()


def test_a_file_in_the_way_is_not_removed(tmp_path):
    path = tmp_path / "control"
    path.write_text("precious")
    with pytest.raises(ControlError, match="is no socket"):
        control.bind(path)
    assert path.read_text() == "precious"


def test_nobody_there(tmp_path):
    with pytest.raises(ControlError, match=r"no vncgate answers at .*control \(there is no such socket\)"):
        control.call(tmp_path / "control", "/status")
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "stale"))
    left.close()
    with pytest.raises(ControlError, match="nobody listens"):
        control.call(tmp_path / "stale", "/status")


@pytest.mark.parametrize(
    ("environ", "uid", "path"),
    [
        ({}, 0, "/run/vncgate/control"),
        ({"RUNTIME_DIRECTORY": "/run/vncgate-monday:/run/other"}, 61234, "/run/vncgate-monday/control"),
        ({"XDG_RUNTIME_DIR": "/run/user/1000"}, 1000, "/run/user/1000/vncgate/control"),
        ({}, 1000, "/tmp/vncgate-1000/control"),
    ],
)
def test_where_it_is(environ, uid, path):
    assert str(control.default_path(environ, uid)) == path


def test_the_current_user_can_always_have_one(tmp_path):
    path = control.default_path({"XDG_RUNTIME_DIR": str(tmp_path)}, os.getuid() or 1000)
    control.bind(path).close()
