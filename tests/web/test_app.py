from __future__ import annotations

import asyncio
import json
import re
import time

import pytest
from aiohttp import ClientConnectionResetError, ServerDisconnectedError, web
from aiohttp.test_utils import TestClient, TestServer

from tests.web.values import PASSWORD, Gate, account, accounts
from vncgate.errors import SettingsError
from vncgate.model import Readiness, Roster
from vncgate.render.headers import STATIC_HEADERS
from vncgate.settings import load
from vncgate.web import app as web_app
from vncgate.web import events
from vncgate.web.app import build

APACHE = {"X-Forwarded-Host": "class.example", "X-Forwarded-For": "203.0.113.9"}


@pytest.fixture
def gate():
    return Gate(accounts(3))


@pytest.fixture
async def browse(gate):
    """Serve the pages with the settings given, and give a client."""
    clients = []

    async def start(**flags):
        settings = load(flags={name.replace("__", "."): value for name, value in flags.items()})
        server = TestServer(build(settings=settings, roster=gate.roster, statuses=gate.statuses))
        clients.append(TestClient(server))
        await clients[-1].start_server()
        return clients[-1]

    yield start
    for client in clients:
        await client.close()


def test_there_are_no_open_pages_where_people_are_to_sign_in(gate):
    settings = load(flags={"access": "seat", "public_url": "https://workshop.example.org/"})
    with pytest.raises(ValueError, match='access = "seat"'):
        build(settings=settings, roster=gate.roster, statuses=gate.statuses)


async def test_the_landing_page_shows_names_and_states(browse, gate):
    gate.set("ws02", Readiness.OFFLINE, reason="desktop node01:5901 refused the connection")
    client = await browse(landing__title="CFD")
    answer = await client.get("/")
    html = await answer.text()
    assert answer.status == 200
    assert answer.content_type == "text/html"
    assert "<h1>CFD</h1>" in html
    assert 'data-path="ws02" data-state="offline"' in html
    assert "the desktop refused the connection" in html
    assert "node01" not in html
    assert (await client.head("/")).status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/desk/ws01", 200),
        ("/desk/ws09", 404),
        ("/nothing/at/all", 404),
        ("/api/accounts", 200),
        ("/api/accounts/ws09", 404),
        ("/static/0123456789abcdef/landing.js", 200),
        ("/static/0123456789abcdef/nothing.js", 404),
        ("/static/0123456789abcdef/../../app.py", 404),
        ("/static/0123456789abcdef/%2e%2e/%2e%2e/app.py", 404),
        ("/static/landing.js", 404),
        ("/healthz", 200),
    ],
)
async def test_every_answer_has_the_headers_and_no_secret(browse, path, status):
    client = await browse()
    answer = await client.get(path)
    assert answer.status == status
    for name in STATIC_HEADERS:
        assert answer.headers[name]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == ("no-store" if path.startswith("/api/") else "no-cache")
    assert PASSWORD.encode() not in await answer.read()
    assert "Set-Cookie" not in answer.headers


async def test_what_is_not_there_is_said_in_plain_words(browse):
    client = await browse()
    html = await (await client.get("/desk/ws09")).text()
    assert "There is no desktop of this name" in html
    assert 'href="../"' in html
    assert "There is no such page." in await (await client.get("/a/b/c")).text()
    refused = await client.post("/")
    assert refused.status == 405
    assert refused.headers["Allow"] == "GET,HEAD"
    answer = await client.get("/api/accounts/ws09")
    assert await answer.json() == {"error": "there is no such account"}


@pytest.mark.parametrize(
    ("path", "headers", "websocket", "connect"),
    [
        ("/desk/ws01", {}, ":8081/ws/ws01", " ws://127.0.0.1:8081 wss://127.0.0.1:8081;"),
        ("/desk/ws01/", APACHE, "../../ws/ws01", " ws://class.example wss://class.example;"),
        ("/desk/ws01", APACHE | {"X-Forwarded-Host": "evil; script-src *"}, "../ws/ws01", ";"),
        (
            "/desk/ws01",
            APACHE | {"X-Forwarded-Host": "lie.example, class.example"},
            "../ws/ws01",
            " ws://class.example ",
        ),
        ("/desk/ws01", {"Host": "h;x"}, ":8081/ws/ws01", ";"),
    ],
)
async def test_the_viewer_page_may_open_its_own_websocket_alone(browse, path, headers, websocket, connect):
    client = await browse()
    answer = await client.get(path, headers=headers)
    assert f'data-websocket="{websocket}"' in await answer.text()
    assert f"connect-src 'self'{connect}" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].count("script-src") == 1


async def test_only_a_trusted_proxy_is_believed(browse):
    client = await browse(trusted_proxies="10.0.0.0/8")
    assert 'data-websocket=":8081/ws/ws01"' in await (await client.get("/desk/ws01", headers=APACHE)).text()


async def test_the_api(browse, gate):
    gate.set("ws03", Readiness.READY, connections=1)
    client = await browse()
    entries = await (await client.get("/api/accounts")).json()
    assert [(entry["path"], entry["state"]) for entry in entries] == [
        ("ws01", "ready"),
        ("ws02", "ready"),
        ("ws03", "in use"),
    ]
    assert await (await client.get("/api/accounts/ws03")).json() == entries[2]


async def test_static_files_are_kept_by_browsers_and_never_stale(browse):
    client = await browse()
    address = re.search(r'src="\./(static/[0-9a-f]{16}/landing\.js)"', await (await client.get("/")).text())[1]
    current = await client.get(f"/{address}")
    assert current.content_type == "text/javascript"
    assert current.charset == "utf-8"
    assert current.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    again = await client.get(f"/{address}", headers={"If-None-Match": current.headers["ETag"]})
    assert again.status == 304
    assert await again.read() == b""
    assert again.headers["ETag"] == current.headers["ETag"]
    other = await client.get(f"/{address}", headers={"If-None-Match": '"other"'})
    assert other.status == 200
    outdated = await client.get("/static/0123456789abcdef/landing.js")  # a page from before an upgrade
    assert outdated.headers["Cache-Control"] == "no-cache"
    assert await outdated.read() == await current.read()


async def test_all_files_that_a_page_names_are_there(browse, tmp_path):
    (tmp_path / "x.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "x.css").write_text("h1 {}")
    client = await browse(landing__logo=tmp_path / "x.svg", landing__stylesheet=tmp_path / "x.css")
    for page in ("/", "/desk/ws01", "/nothing"):
        answer = await client.get(page)
        names = [part.split('"')[0] for part in (await answer.text()).split("static/")[1:]]
        assert {"site/logo.svg", "site/style.css"} <= {name.partition("/")[2] for name in names} or page == "/desk/ws01"
        for name in names:
            found = await client.get(f"/static/{name}")
            assert found.status == 200
            assert "immutable" in found.headers["Cache-Control"]


async def test_a_sites_own_novnc(browse, tmp_path):
    (tmp_path / "vnc.html").write_text("<title>noVNC</title>")
    client = await browse(landing__novnc_dir=tmp_path)
    html = await (await client.get("/")).text()
    where = "host=127.0.0.1&amp;port=8081&amp;path=ws/ws01&amp;autoconnect=true"
    assert f'href="./novnc/vnc.html#{where}' in html
    answer = await client.get("/novnc/vnc.html")
    assert await answer.text() == "<title>noVNC</title>"
    assert "connect-src 'self' ws://127.0.0.1:* wss://127.0.0.1:*;" in answer.headers["Content-Security-Policy"]
    assert (await client.get("/novnc/../../etc/passwd")).status == 404


async def test_a_novnc_folder_without_its_page_is_an_error(browse, tmp_path):
    with pytest.raises(SettingsError, match=r"landing.novnc_dir: there is no vnc.html in"):
        await browse(landing__novnc_dir=tmp_path)


@pytest.mark.parametrize("name", ["landing.html", "base.html"])
async def test_a_broken_template_of_the_sites_is_told_in_the_log_and_not_to_participants(
    browse, tmp_path, caplog, name
):
    (tmp_path / name).write_text("{{ nonsense }}")
    client = await browse(landing__templates=tmp_path)
    answer = await client.get("/")
    assert answer.status == 500
    assert "Please tell the organizers" in await answer.text()
    assert "template landing.html: 'nonsense' is undefined" in caplog.text


async def next_event(stream):
    lines = (await asyncio.wait_for(stream.content.readuntil(b"\n\n"), 10)).decode().split("\n")
    return lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))


async def test_a_listener_hears_of_changes_alone(browse, gate, monkeypatch):
    monkeypatch.setattr(events, "INTERVAL", 0.01)
    client = await browse()
    async with client.get("/api/events") as stream:
        assert stream.content_type == "text/event-stream"
        assert stream.headers["Cache-Control"] == "no-store"
        event, entries = await next_event(stream)
        assert (event, len(entries)) == ("accounts", 3)
        gate.set("ws02", Readiness.WRONG_PASSWORD, reason="secret details")
        event, value = await next_event(stream)
        assert event == "change"
        assert [entry["path"] for entry in value["changed"]] == ["ws02"]
        assert value["changed"][0]["state"] == "needs attention"
        gate.now = Roster((account("new"),))
        _, value = await next_event(stream)
        assert value["removed"] == ["ws01", "ws02", "ws03"]
        assert value["changed"][0] == {"path": "new", "name": "new", "title": "new", "state": "checking",
                                       "label": "checking", "reason": ""}  # fmt: skip


async def test_a_shutdown_waits_for_no_listener(browse):
    client = await browse()
    async with client.get("/api/events") as stream:
        await next_event(stream)
        started = time.monotonic()
        await client.server.close()
        assert time.monotonic() - started < 3
        assert await stream.content.read() == b""


async def test_a_listener_that_goes_at_once_is_no_error(browse, monkeypatch, caplog):
    async def gone(self, request):
        raise ClientConnectionResetError("Cannot write to closing transport")

    client = await browse()
    monkeypatch.setattr(web.StreamResponse, "prepare", gone)
    with pytest.raises(ServerDisconnectedError):
        await client.get("/api/events")
    assert not caplog.records


async def test_a_listener_that_takes_nothing_is_let_go(browse, gate, monkeypatch):
    monkeypatch.setattr(events, "INTERVAL", 0.001)
    monkeypatch.setattr(web_app, "WRITE_TIMEOUT", 0.2)
    gate.now = accounts(50)
    client = await browse()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port, limit=1024)
    writer.write(b"GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    assert client.server.handler.connections
    deadline = time.monotonic() + 30
    number = 0
    while client.server.handler.connections and time.monotonic() < deadline:  # nobody reads meanwhile
        number += 1
        for name in gate.now:
            gate.set(name, Readiness.OFFLINE, reason=f"{number} {'x' * 4000}")
        await asyncio.sleep(0.005)
    assert not client.server.handler.connections
    writer.close()
