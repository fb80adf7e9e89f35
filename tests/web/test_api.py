"""The REST API against its own description, and what it must not tell, do or log."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import threading
import time
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import openapi_spec_validator
import pytest
from aiohttp.test_utils import TestClient, TestServer
from jsonschema import Draft202012Validator

from tests.launched import FAILED, RUNNING, STOPPED, Launcher, desktop
from tests.web.values import PASSWORD, accounts, status
from vncgate import grants
from vncgate.errors import ControlError, LaunchError
from vncgate.grants import Grant, Scope
from vncgate.kinds import DesktopsSettings
from vncgate.model import Readiness, Roster, Secret
from vncgate.settings import load
from vncgate.web import api
from vncgate.web.app import build
from vncgate.web.bearer import Bearers

TOKENS = {name: Secret(f"canary-{name}-0123456789") for name in ("portal", "reader", "writer", "team", "revoked")}
WHEN = "2026-11-21T09:00:00Z"
DOCUMENT = json.loads((Path(api.__file__).parent / "openapi.json").read_text())


SESSIONS = {path: ways for path, ways in DOCUMENT["paths"].items() if not re.match("/(seats|people|audit)", path)}


def grant(name, *scopes, accounts=("*",)):
    sha256 = grants.digest(TOKENS[name])
    return Grant(name=name, sha256=sha256, scopes=scopes, accounts=accounts, created=WHEN)


ALL = (
    grant("portal", Scope.READ, Scope.WRITE),
    grant("reader", Scope.READ),
    grant("writer", Scope.WRITE),
    grant("team", Scope.READ, Scope.WRITE, accounts=("ws02", "ws1*")),
)


SIZES = {"small": {"cores": 1}, "large": {"cores": 8}}
KINDS = {
    "xfce": {"command": "startxfce4"},
    "gedit": {"command": "gedit"},
    "matlab": {"command": "matlab", "title": "MATLAB", "sizes": SIZES, "size": "small"},
}


class Portal:
    """The API, and a client that holds each answer against the description."""

    def __init__(self, file):
        self.file = file
        self.launcher = Launcher(desktop("ws01", size="small"), desktop("ws02", RUNNING, host="node02"))
        self.launcher.all["ws03"] = desktop("ws03", FAILED, reason="image missing")
        self.roster = accounts(4)
        self.answered = set()
        self.client = None

    def application(self):
        settings = load(flags={"api.tokens": self.file, "api.kinds": "matlab,gedit"})
        desktops = DesktopsSettings.model_validate({"kinds": KINDS, "kind": "xfce"})
        settings = settings.model_copy(update={"desktops": desktops})
        return build(settings=settings, roster=lambda: self.roster, statuses=self.statuses, desktops=self.launcher)

    def statuses(self):
        return [status(account, Readiness.READY, connections=2) for account in self.roster.values()]

    async def ask(self, method, path, token="portal", **more):
        headers = more.pop("headers", {})
        if token:
            headers = {"Authorization": f"Bearer {TOKENS[token].reveal()}"} | headers
        response = await self.client.request(method, f"/api/v1{path}", headers=headers, **more)
        if response.content_type != "text/event-stream":
            assert PASSWORD not in await response.text()
            self.check(method, path, response, await response.json(content_type=None))
        return response

    def check(self, method, path, response, body):
        patterns = {template: re.sub(r"\{\w+\}", "[^/]+", template) for template in DOCUMENT["paths"]}
        path = path.partition("?")[0]
        (template,) = [template for template, pattern in patterns.items() if re.fullmatch(pattern, path)]
        said = DOCUMENT["paths"][template][method.lower()]["responses"][str(response.status)]
        if "$ref" in said:
            said = DOCUMENT["components"]["responses"][said["$ref"].rpartition("/")[2]]
        check(said["content"][response.content_type]["schema"], body)
        assert said.get("headers", {}).keys() <= response.headers.keys()
        self.answered.add((method, template, response.status))


def check(schema, body):
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(body)


@pytest.fixture
async def portal(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "vncgate")
    portal = Portal(tmp_path / "api.tokens")
    portal.file.write_bytes(grants.render(ALL))
    portal.client = TestClient(TestServer(portal.application()))
    await portal.client.start_server()
    yield portal
    await portal.client.close()
    assert "canary" not in caplog.text
    assert PASSWORD not in caplog.text


# ---- the description


def test_the_description_is_openapi():
    openapi_spec_validator.validate(DOCUMENT)


def test_the_description_has_every_route_and_no_other(portal):
    described = {  # of seats and people test_seats_api.py tells
        (method, path) for path, ways in SESSIONS.items() for method in ("get", "post", "delete") & ways.keys()
    }
    (sub,) = portal.application()._subapps
    routes = {
        (route.method.lower(), route.resource.canonical.removeprefix("/api/v1"))
        for route in sub.router.routes()
        if route.method != "HEAD"
    }
    assert routes == described


def test_the_manual_has_every_call():
    manual = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    told = re.findall(r"^\| `([A-Z]+) /api/v1(\S+)` \| (\w+) \|", manual, re.MULTILINE)
    assert sorted(told) == sorted(
        (method.upper(), path, "none" if way.get("security") == [] else way["summary"].rpartition("Scope: ")[2][:-1])
        for path, ways in DOCUMENT["paths"].items()
        for method, way in ways.items()
        if method != "parameters"
    )


async def test_every_answer_that_is_described_is_given(portal):
    ask, start = portal.ask, {"account": "ws01"}
    await ask("GET", "/openapi.json", None)
    for method, path, right, wrong in (
        ("GET", "/kinds", "reader", "writer"),
        ("GET", "/sessions", "reader", "writer"),
        ("POST", "/sessions", "writer", "reader"),
        ("GET", "/sessions/ws01", "reader", "writer"),
        ("DELETE", "/sessions/ws01", "writer", "reader"),
        ("POST", "/sessions/ws01/restart", "writer", "reader"),
        ("GET", "/sessions/ws01/logs", "reader", "writer"),
        ("GET", "/events", None, "writer"),
    ):
        content = {"json": start} if path == "/sessions" and method == "POST" else {}
        if right:
            assert (await ask(method, path, right, **content)).status in (200, 202)
        assert (await ask(method, path, wrong, **content)).status == 403
        assert (await ask(method, path, None, **content)).status == 401
        if "ws01" in path:
            assert (await ask(method, path.replace("ws01", "ws99"))).status == 404
    assert (await ask("POST", "/sessions", json={"account": "ws99"})).status == 404
    assert (await ask("POST", "/sessions", json={})).status == 400
    assert (await ask("POST", "/sessions", json=start | {"kind": "none"})).status == 422
    assert (await ask("POST", "/sessions", json={"account": "x" * 20000})).status == 413
    assert (await ask("POST", "/sessions", data=b"account=ws01")).status == 415
    assert (await ask("GET", "/sessions/ws01/logs?lines=0")).status == 400

    async def refuse(names):
        raise ControlError("the workshop is over")

    portal.launcher.start_desktops = portal.launcher.stop_desktops = portal.launcher.restart_desktops = refuse
    assert (await ask("POST", "/sessions", json=start)).status == 409
    assert (await ask("DELETE", "/sessions/ws01")).status == 409
    assert (await (await ask("POST", "/sessions/ws01/restart")).json())["detail"] == "the workshop is over"

    portal.file.write_bytes(b"{")
    for path, ways in SESSIONS.items():
        for method in ("get", "post", "delete") & ways.keys() if path != "/openapi.json" else ():
            assert (await ask(method.upper(), path.replace("{account}", "ws01"))).status == 503
    described = {
        (method.upper(), path, int(code))
        for path, ways in SESSIONS.items()
        for method in ("get", "post", "delete") & ways.keys()
        for code in ways[method]["responses"]
    }
    assert described - portal.answered == {("GET", "/events", 200)}


# ---- sessions


async def test_what_a_session_tells(portal):
    answer = await (await portal.ask("GET", "/sessions/ws02", "reader")).json()
    assert answer == {
        "account": "ws02",
        "title": "Person 2",
        "kind": "xfce",
        "size": "",
        "place": "hpc",
        "host": "node02",
        "want": "up",
        "state": "RUNNING",
        "reason": "",
        "since": 100.0,
        "starts": None,
        "ends": None,
        "idle_end": None,
        "restarts": 0,
        "connections": 2,
        "viewer": "desk/ws02",
    }


async def test_a_session_is_started_stopped_and_started_anew(portal):
    response = await portal.ask("POST", "/sessions", "writer", json={"account": "ws01"})
    assert response.status == 202
    assert response.headers["Location"] == "/api/v1/sessions/ws01"
    assert (await response.json())["want"] == "up"
    assert (await (await portal.ask("DELETE", "/sessions/ws02", "writer")).json())["want"] == "down"
    assert (await (await portal.ask("POST", "/sessions/ws02/restart", "writer")).json())["want"] == "up"
    assert portal.launcher.calls == [("start", ["ws01"]), ("stop", ["ws02"]), ("restart", ["ws02"])]


async def test_what_can_be_chosen(portal):
    assert (await (await portal.ask("GET", "/kinds", "reader")).json())["kinds"] == [
        {"name": "matlab", "title": "MATLAB", "sizes": ["small", "large"], "size": "small"},
        {"name": "gedit", "title": "gedit", "sizes": [], "size": ""},
    ]


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"kind": "matlab", "size": "large"}, 202, ("matlab", "large")),
        ({"kind": "matlab"}, 202, ("matlab", "small")),
        ({"kind": "xfce"}, 202, ("xfce", "")),  # what its line says need not be on offer
        ({"kind": "matlab", "size": "huge"}, 422, "kind matlab has no size 'huge' (its sizes: small, large)"),
        ({"kind": "kde"}, 422, "kind kde may not be chosen; on offer (setting api.kinds): matlab, gedit"),
        ({"size": "large"}, 422,
         "size large of kind xfce may not be chosen; on offer (setting api.kinds): matlab, gedit"),
    ],
)  # fmt: skip
async def test_a_session_of_a_kind_and_size(portal, asked, status, said):
    response = await portal.ask("POST", "/sessions", "writer", json={"account": "ws01"} | asked)
    body = await response.json()
    assert response.status == status
    if status == 202:
        assert (body["kind"], body["size"]) == said
        assert portal.launcher.calls == [("start as", "ws01", *said)]
    else:
        assert body["detail"] == said
        assert portal.launcher.calls == []


async def test_a_session_of_another_kind_stays(portal):
    response = await portal.ask("POST", "/sessions", json={"account": "ws02", "kind": "gedit"})
    assert (response.status, (await response.json())["detail"]) == (409, "ws02 has xfce already")


async def test_kinds_tell_nothing_of_accounts_that_the_token_is_not_good_for(portal):
    for name in ("ws01", "ws99"):
        response = await portal.ask("POST", "/sessions", "team", json={"account": name, "kind": "kde"})
        assert response.status == 404


async def test_accounts_whose_desktop_is_not_ours_are_no_sessions(portal):
    assert "ws04" in portal.roster
    everything = await (await portal.ask("GET", "/sessions")).json()
    assert [session["account"] for session in everything["sessions"]] == ["ws01", "ws02", "ws03"]
    assert (await portal.ask("GET", "/sessions/ws04")).status == 404


async def test_an_account_that_has_just_gone_is_no_session(portal):
    portal.roster = Roster(accounts(4).accounts[1:])
    assert (await portal.ask("GET", "/sessions/ws01")).status == 404


async def test_names_are_no_patterns(portal):
    for method, path, content in (
        ("POST", "/sessions", {"json": {"account": "*"}}),
        ("DELETE", "/sessions/*", {}),
        ("POST", "/sessions/ws0%3F/restart", {}),
    ):
        assert (await portal.ask(method, path, **content)).status == 404
    assert portal.launcher.calls == []


@pytest.mark.parametrize("name", ["account", "kind", "size"])
async def test_half_a_character_is_no_name(portal, name):
    content = {"account": "ws01", name: "\ud800"}
    answer = await portal.ask("POST", "/sessions", json=content)
    assert (answer.status, answer.content_type) == (422, "application/problem+json")
    assert "half a character" in (await answer.json())["detail"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b'"ws01"',
        b'{"account": 1}',
        b'{"account": "ws01", "colour": "x"}',
        b'{"account": "ws01", "kind": 1}',
        b'{"account": "ws01", "size": ""}',
        b'{"kind": "xfce"}',
        b"[" * 9999,
    ],
)
async def test_content_that_is_none(portal, content):
    headers = {"Content-Type": "application/json"}
    response = await portal.ask("POST", "/sessions", data=content, headers=headers)
    assert response.status == 400
    assert portal.launcher.calls == []


@pytest.mark.parametrize("lines", ["0", "-1", "10001", "x", "1.5", "\u0663", "", "9" * 5000])
async def test_numbers_of_lines_that_are_none(portal, lines):
    response = await portal.ask("GET", f"/sessions/ws01/logs?lines={lines}")
    assert (response.status, (await response.json())["detail"]) == (400, "lines: write a number from 1 to 10000")


async def test_logs(portal):
    answer = await (await portal.ask("GET", "/sessions/ws02/logs?lines=2", "reader")).json()
    assert answer == {"account": "ws02", "log": "ws02 line 4\nws02 line 5\n"}
    response = await portal.ask("GET", "/sessions/ws03/logs")
    assert (response.status, (await response.json())["detail"]) == (503, "node01 does not answer")


# ---- tokens


async def test_who_is_refused_and_how(portal, caplog, monkeypatch):
    monkeypatch.setattr("vncgate.web.bearer.COMPLAINT_INTERVAL", 0)
    for headers, challenge in (
        ({}, 'Bearer realm="vncgate"'),
        ({"Authorization": "Bearer"}, 'Bearer realm="vncgate"'),
        ({"Authorization": "Basic Y2FuYXJ5OmNhbmFyeQ=="}, 'Bearer realm="vncgate"'),
        ({"Authorization": "Bearer canary"}, 'Bearer realm="vncgate", error="invalid_token"'),
        ({"Authorization": "Bearer \xff"}, 'Bearer realm="vncgate", error="invalid_token"'),
        (
            {"Authorization": f"Bearer {grants.digest(TOKENS['portal'])}"},
            'Bearer realm="vncgate", error="invalid_token"',
        ),
    ):
        response = await portal.ask("GET", "/sessions", None, headers=headers)
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, challenge)
        assert response.content_type == "application/problem+json"
    refused = await portal.ask("DELETE", "/sessions/ws01", "reader")
    challenge = 'Bearer realm="vncgate", error="insufficient_scope", scope="write"'
    assert (refused.status, refused.headers["WWW-Authenticate"]) == (403, challenge)
    assert portal.launcher.calls == []
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        *["API: refused GET /api/v1/sessions: no valid token"] * 6,
        "API: refused DELETE /api/v1/sessions/ws01: token reader has no scope write",
    ]


async def test_strangers_do_not_fill_the_log(portal, caplog, monkeypatch):
    monkeypatch.setattr("vncgate.web.bearer.COMPLAINT_INTERVAL", 3600)
    for _ in range(5):
        await portal.ask("GET", "/sessions", None)
    assert caplog.text.count("no valid token") == 1


async def test_a_token_in_the_address_is_none(portal):
    token = TOKENS["portal"].reveal()
    response = await portal.client.get(f"/api/v1/sessions?access_token={token}")
    assert response.status == 401


async def test_the_scheme_is_not_case_sensitive(portal):
    headers = {"Authorization": f"bearer  {TOKENS['portal'].reveal()}"}
    assert (await portal.ask("GET", "/sessions", None, headers=headers)).status == 200


async def test_a_token_for_some_accounts_hears_nothing_of_the_others(portal):
    everything = await (await portal.ask("GET", "/sessions", "team")).json()
    assert [session["account"] for session in everything["sessions"]] == ["ws02"]
    assert (await portal.ask("DELETE", "/sessions/ws02", "team")).status == 202
    for method, path, content in (
        ("GET", "/sessions/{}", {}),
        ("DELETE", "/sessions/{}", {}),
        ("POST", "/sessions/{}/restart", {}),
        ("GET", "/sessions/{}/logs?lines=x", {}),
        ("POST", "/sessions", {"json": {"account": "{}"}}),
    ):
        said = []
        for name in ("ws01", "ws99"):
            body = {"json": {"account": name}} if content else {}
            response = await portal.ask(method, path.format(name), "team", **body)
            said.append((response.status, await response.text(), response.headers["Content-Type"]))
        assert said[0] == said[1]
        assert said[0][0] == 404
    assert portal.launcher.calls == [("stop", ["ws02"])]


async def test_changes_of_the_file_count_from_the_next_request_on(portal, caplog):
    new = portal.file.with_name("new")

    async def asked_with(content):
        new.write_bytes(content)
        new.replace(portal.file)
        return (await portal.ask("GET", "/sessions")).status

    assert await asked_with(grants.render(ALL[1:])) == 401
    assert await asked_with(grants.render(ALL)) == 200
    assert await asked_with(b"") == 401
    assert await asked_with(b"[{}]") == 503
    assert "0.name: Field required; the API answers nobody" in caplog.text
    assert await asked_with(grants.render([*ALL, ALL[0]])) == 503
    assert await asked_with(b"[" + b" " * 2_000_000 + b"]") == 503
    assert await asked_with(grants.render(ALL)) == 200
    portal.file.unlink()
    assert (await portal.ask("GET", "/sessions")).status == 401
    portal.file.mkdir()
    assert (await portal.ask("GET", "/sessions")).status == 503
    assert "Is a directory" in caplog.text


async def test_a_file_that_hangs_lets_nobody_in_and_holds_one_thread(portal, monkeypatch, caplog):
    pipe = portal.file.with_name("pipe")
    os.mkfifo(pipe)  # nobody writes to it yet, so who opens it hangs
    pipe.replace(portal.file)
    monkeypatch.setattr("vncgate.web.bearer.READ_TIMEOUT", 0.05)
    answers = await asyncio.gather(*(portal.ask("GET", "/sessions") for _ in range(20)))
    assert {answer.status for answer in answers} == {503}
    assert (await portal.ask("GET", "/sessions")).status == 503
    readers = [thread for thread in threading.enumerate() if thread.name == f"read {portal.file}"]
    assert len(readers) == 1
    assert caplog.text.count("does its share hang?") == 1
    portal.file.rename(pipe)
    portal.file.write_bytes(grants.render(ALL))
    pipe.open("wb").close()  # it hangs no more
    await asyncio.to_thread(readers[0].join, 10)
    async with asyncio.timeout(10):
        while (await portal.ask("GET", "/sessions")).status == 503:
            await asyncio.sleep(0)


async def test_without_a_thread_to_read_the_file_nobody_is_let_in(portal, monkeypatch, caplog):
    def none(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        assert (await portal.ask("GET", "/sessions")).status == 503
    assert "cannot be read: no thread can be started" in caplog.text
    assert (await portal.ask("GET", "/sessions")).status == 200


async def test_the_log_says_who_did_what_to_whom(portal, caplog):
    await portal.ask("POST", "/sessions", json={"account": "ws01"}, headers={"X-Forwarded-For": "203.0.113.9"})
    await portal.ask("GET", "/sessions/ws02/logs", "reader")
    await portal.ask("GET", "/sessions/ws02", "reader")
    await portal.ask("DELETE", "/sessions/ws99%0Aforged", "team")
    said = [(r.levelname, r.account, r.client, r.message) for r in caplog.records if "API" in r.message]
    assert said == [
        ("INFO", "ws01", "203.0.113.9", "API: token portal: POST /api/v1/sessions: 202"),
        ("INFO", "ws02", "127.0.0.1", "API: token reader: GET /api/v1/sessions/ws02/logs: 200"),
        ("DEBUG", "ws02", "127.0.0.1", "API: token reader: GET /api/v1/sessions/ws02: 200"),
        ("INFO", "ws99\nforged", "127.0.0.1", r"API: token team: DELETE /api/v1/sessions/ws99\nforged: 404"),
    ]


async def test_what_is_not_there_and_what_is_not_done(portal):
    response = await portal.client.get("/api/v1/nothing")
    assert (response.status, response.content_type) == (404, "application/problem+json")
    response = await portal.client.put("/api/v1/sessions")
    assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD,POST")
    assert (await response.json()) == {"type": "about:blank", "title": "Method Not Allowed", "status": 405}
    preflight = await portal.client.options("/api/v1/sessions", headers={"Origin": "https://evil.example"})
    assert preflight.status == 405
    assert not [name for name in preflight.headers if name.startswith("Access-Control")]


async def test_without_the_setting_there_is_no_api(portal):
    async with TestClient(TestServer(Portal(None).application())) as client:
        for path in ("openapi.json", "sessions", "events"):
            assert (await client.get(f"/api/v1/{path}")).status == 404


# ---- events


async def next_event(stream):
    lines = (await asyncio.wait_for(stream.content.readuntil(b"\n\n"), 10)).decode().split("\n")
    if lines[0].startswith(":"):
        return lines[0], None
    event, value = lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))
    for schema in (
        ({"type": "array", "items": {"$ref": "#/components/schemas/Session"}},) if event == "sessions" else ()
    ):
        check(schema, value)
    if event == "change":
        check({"$ref": "#/components/schemas/Change"}, value)
    return event, value


async def test_events(portal, monkeypatch):
    monkeypatch.setattr(api, "INTERVAL", 0.01)
    async with await portal.ask("GET", "/events", "reader") as stream:
        assert stream.content_type == "text/event-stream"
        event, value = await next_event(stream)
        assert (event, [session["state"] for session in value]) == ("sessions", ["STOPPED", "RUNNING", "FAILED"])
        portal.launcher.set("ws03", RUNNING)
        event, value = await next_event(stream)
        assert event == "change"
        assert [(session["account"], session["state"]) for session in value["changed"]] == [("ws03", "RUNNING")]
        del portal.launcher.all["ws01"]
        assert await next_event(stream) == ("change", {"changed": [], "removed": ["ws01"]})
        monkeypatch.setattr(api, "HEARTBEAT", 0.02)
        assert (await next_event(stream))[0] == ": still here"


async def test_a_token_for_some_accounts_hears_only_of_those(portal, monkeypatch):
    monkeypatch.setattr(api, "INTERVAL", 0.01)
    async with await portal.ask("GET", "/events", "team") as stream:
        _, value = await next_event(stream)
        assert [session["account"] for session in value] == ["ws02"]
        portal.launcher.set("ws03", RUNNING)
        portal.launcher.set("ws02", FAILED, "killed")
        _, value = await next_event(stream)
        assert [session["account"] for session in value["changed"]] == ["ws02"]


async def test_a_revoked_token_hears_nothing_more(portal, monkeypatch):
    monkeypatch.setattr(api, "INTERVAL", 0.01)
    async with await portal.ask("GET", "/events", "reader") as stream:
        await next_event(stream)
        portal.file.write_bytes(grants.render([ALL[0]]))
        assert await asyncio.wait_for(stream.content.read(), 10) == b""


async def test_all_listeners_share_one_look(portal, monkeypatch):
    looks, reads = count(), count()
    monkeypatch.setattr(api, "INTERVAL", 0.05)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await portal.ask("GET", "/events")) for _ in range(20)]
        for stream in streams:
            await next_event(stream)
        seen, read = portal.launcher.statuses, Bearers._look
        monkeypatch.setattr(portal.launcher, "statuses", lambda: next(looks) < 0 or seen())
        monkeypatch.setattr(Bearers, "_look", lambda *args: next(reads) < 0 or read(*args))
        for number in range(5):
            portal.launcher.set("ws01", STOPPED, f"word {number}")
            for stream in streams:
                event, value = await next_event(stream)
                assert (event, value["changed"][0]["reason"]) == ("change", f"word {number}")
        assert 5 <= next(looks) < 100  # each for itself, 20 streams look 100 times at least
        assert 5 <= next(reads) < 100


async def test_listeners_are_bounded(portal, monkeypatch):
    monkeypatch.setattr(api, "MOST_STREAMS", 1)
    async with await portal.ask("GET", "/events") as stream:
        await next_event(stream)
        refused = await portal.ask("GET", "/events")
        assert (refused.status, (await refused.json())["detail"]) == (503, "1 streams are open, and no more may be")
        portal.file.write_bytes(grants.render([ALL[1]]))  # and who goes makes room
        await stream.content.read()
    async with await portal.ask("GET", "/events", "reader") as stream:
        assert (await next_event(stream))[0] == "sessions"


async def test_a_shutdown_waits_for_no_listener(portal):
    async with await portal.ask("GET", "/events") as stream:
        await next_event(stream)
        started = time.monotonic()
        await portal.client.server.close()
        assert time.monotonic() - started < 3
        assert await stream.content.read() == b""


async def test_a_place_that_fails_while_starting_is_no_fault_of_the_request(portal):
    async def fail(names):
        raise LaunchError("no such partition: viz")

    portal.launcher.start_desktops = fail
    response = await portal.ask("POST", "/sessions", json={"account": "ws01"})
    assert (response.status, (await response.json())["detail"]) == (503, "no such partition: viz")
