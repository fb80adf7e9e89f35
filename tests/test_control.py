"""The operator's socket: who may open it, what is refused, and what is said when nobody is there."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading

import aiohttp
import pytest
from aiohttp import web

from vncgate import control
from vncgate.control import HandedOver
from vncgate.errors import ControlError, TokensError
from vncgate.model import Desktop, DesktopState, DesktopStatus, Want


class FakeDesktops:
    def __init__(self, calls):
        self.calls = calls

    def statuses(self):
        where = Desktop("node03", 5901)
        return [
            DesktopStatus("ws01", "xfce", "small", "hpc", "node03", Want.UP, DesktopState.RUNNING, "", 7.0, where),
            DesktopStatus("ws02", "xfce", "", "hpc", "", Want.UP, DesktopState.PENDING, "Priority", 8.0, starts=9.0),
        ]

    def spares(self):
        return [DesktopStatus("pool:xfce:1", "xfce", "", "hpc", "", Want.UP, DesktopState.PENDING, "Priority", 8.0)]

    async def start_desktops(self, names):
        self.calls.append(("start desktops", names))
        return ["ws01", "ws02"]

    async def stop_desktops(self, names):
        raise ControlError("no such account: ws99")

    async def restart_desktops(self, names):
        self.calls.append(("restart desktops", names))
        return names

    async def logs(self, name, lines):
        return f"{lines} lines of {name}\n"


class Operator:
    def __init__(self):
        self.calls = []
        self.desktops = FakeDesktops(self.calls)

    def status(self):
        return {"accounts": []}

    async def start(self, names):
        self.calls.append(("start", names))
        return names

    async def stop(self, names):
        raise ControlError("no such account: ws99")

    async def restart(self, names):
        self.calls.append(("restart", names))
        return names

    async def reload(self, handed=None, config=None):
        if handed and handed.content == b"bad":
            raise TokensError(f"{handed.name}:1:1: error: what is this?")
        self.calls.append(("reload", handed, config) if config else ("reload", handed))
        return {"changes": "1 unchanged"}

    async def upgrade(self, tokens, config):
        self.calls.append(("upgrade", tokens, config))
        return {"since": 7.0}


async def metrics(request):
    return web.Response(text=f"vncgate_up 1\n# {request.headers['Accept']}\n")


@pytest.fixture
async def served(tmp_path):
    operator = Operator()
    path = tmp_path / "run" / "control"
    async with control.serve(control.bind(path), operator, metrics):
        yield operator, path
    assert not path.exists()


async def ask(*args):
    return await asyncio.to_thread(control.call, *args)


async def test_commands_and_answers(served):
    operator, path = served
    assert await ask(path, "/status") == {"accounts": []}
    assert await ask(path, "/start", {"accounts": ["ws01"]}) == {"accounts": ["ws01"]}
    assert await ask(path, "/restart", {"accounts": ["ws01", "ws02"]}) == {"accounts": ["ws01", "ws02"]}
    assert await ask(path, "/reload", {}) == {"changes": "1 unchanged"}
    handed = [
        HandedOver("/etc/x.tokens", b"\xff a token file"),
        HandedOver("/etc/x.tokens", None, trouble="cannot be read"),
    ]
    for one in handed:
        assert await ask(path, "/reload", {"tokens": one.to_json()}) == {"changes": "1 unchanged"}
    assert await ask(path, "/reload", {"config": handed[0].to_json()}) == {"changes": "1 unchanged"}
    assert await ask(path, "/upgrade", {"tokens": handed[0].to_json()}) == {"since": 7.0}
    assert operator.calls == [
        ("start", ["ws01"]),
        ("restart", ["ws01", "ws02"]),
        ("reload", None),
        *(("reload", one) for one in handed),
        ("reload", None, handed[0]),
        ("upgrade", handed[0], None),
    ]


async def test_desktops_of_the_gates_own(served):
    operator, path = served
    answer = await ask(path, "/desktops")
    first, second = answer["desktops"]
    assert [spare["account"] for spare in answer["spares"]] == ["pool:xfce:1"]
    assert first == {
        "account": "ws01",
        "kind": "xfce",
        "size": "small",
        "place": "hpc",
        "host": "node03",
        "want": "up",
        "state": "RUNNING",
        "reason": "",
        "since": 7.0,
        "desktop": "node03:5901",
        "starts": None,
        "ends": None,
        "idle_end": None,
        "restarts": 0,
    }
    assert (second["desktop"], second["starts"], second["reason"]) == (None, 9.0, "Priority")
    assert await ask(path, "/desktops/start", {"accounts": ["ws0*"]}) == {"accounts": ["ws01", "ws02"]}
    assert await ask(path, "/desktops/restart", {"accounts": ["ws02"]}) == {"accounts": ["ws02"]}
    with pytest.raises(ControlError, match="^no such account: ws99$"):
        await ask(path, "/desktops/stop", {"accounts": ["ws99"]})
    assert await ask(path, "/desktops/logs", {"account": "ws01", "lines": 3}) == {"log": "3 lines of ws01\n"}
    assert operator.calls == [("start desktops", ["ws0*"]), ("restart desktops", ["ws02"])]


async def test_refusals_come_back_in_the_daemons_words(served):
    _, path = served
    with pytest.raises(ControlError, match="^no such account: ws99$"):
        await ask(path, "/stop", {"accounts": ["ws99"]})
    with pytest.raises(ControlError, match="^/etc/x.tokens:1:1: error: what is this"):
        await ask(path, "/reload", {"tokens": HandedOver("/etc/x.tokens", b"bad").to_json()})


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


async def test_the_socket_of_another_daemon_stays(tmp_path):
    path = tmp_path / "control"
    async with control.serve(control.bind(path), Operator(), metrics):
        path.unlink()
        other = control.bind(path)
    async with control.serve(other, Operator(), metrics):
        assert await ask(path, "/status") == {"accounts": []}
    assert not path.exists()


async def test_a_path_that_is_gone_already_is_no_error(tmp_path):
    path = tmp_path / "control"
    async with control.serve(control.bind(path), Operator(), metrics):
        path.unlink()


def test_a_file_in_the_way_is_not_removed(tmp_path):
    path = tmp_path / "control"
    path.write_text("precious")
    with pytest.raises(ControlError, match="is no socket"):
        control.bind(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("route", "body", "words"),
    [
        ("/start", {}, r"cannot be understood \(KeyError: 'accounts'\)"),
        ("/start", [], "cannot be understood"),
        ("/start", {"accounts": "ws01"}, "`accounts` must be a list of names"),
        ("/start", {"accounts": [1]}, "`accounts` must be a list of names"),
        ("/reload", {"tokens": {"name": "x"}}, r"cannot be understood \(KeyError: 'content'\)"),
        (
            "/reload",
            {"tokens": {"name": "x", "content": "no base64!", "mode": 0, "trouble": ""}},
            "cannot be understood",
        ),
        ("/upgrade", {"config": 1}, "cannot be understood"),
        ("/desktops/start", {"accounts": "ws01"}, "`accounts` must be a list of names"),
        ("/desktops/logs", {"account": "ws01"}, r"cannot be understood \(KeyError: 'lines'\)"),
        ("/desktops/logs", {"account": "ws01", "lines": 0}, "write a number from 1 to 10000"),
        ("/desktops/logs", {"account": "ws01", "lines": -3}, "write a number from 1 to 10000"),
        ("/desktops/dance", {}, "404"),
        ("/dance", {}, "404"),
    ],
)
async def test_malformed_commands_are_refused_in_json(served, route, body, words):
    operator, path = served
    with pytest.raises(ControlError, match=words):
        await ask(path, route, body)
    assert operator.calls == []


async def test_what_is_no_json_at_all(served):
    _, path = served
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        for body in (b"", b"{", b"\xff"):
            async with session.post("http://vncgate/start", data=body) as response:
                assert response.status == 400
                assert "cannot be understood" in (await response.json())["error"]


async def test_the_metrics(served):
    _, path = served
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.get("http://vncgate/metrics", headers={"Accept": "text/plain"}) as response,
    ):
        assert await response.text() == "vncgate_up 1\n# text/plain\n"


async def test_a_defect_of_the_daemon_is_called_one(served, caplog):
    operator, path = served
    operator.status = lambda: 1 / 0
    with pytest.raises(ControlError, match="^the daemon failed: status 500; its log says why$"):
        await ask(path, "/status")
    assert "ZeroDivisionError" in caplog.text


def test_a_daemon_that_does_not_answer_in_time(tmp_path):
    with control.bind(tmp_path / "control"), pytest.raises(ControlError, match=r"did not answer within 0\.1 s"):
        control.call(tmp_path / "control", "/status", timeout=0.1)


def test_a_daemon_that_ends_before_it_answers(tmp_path):
    def end_on_command():
        client, _ = sock.accept()
        client.recv(65536)
        client.close()

    with control.bind(tmp_path / "control") as sock:
        daemon = threading.Thread(target=end_on_command)
        daemon.start()
        with pytest.raises(ControlError, match="went away before it answered"):
            control.call(tmp_path / "control", "/status")
        daemon.join()


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
