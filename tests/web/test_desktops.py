from __future__ import annotations

import asyncio

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.web.values import DESKTOPS, Gate, Started, launched_account
from vncgate.model import DesktopState, Roster
from vncgate.settings import load
from vncgate.web.app import build

SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def desktops():
    return Started("ws01")


@pytest.fixture
def gate():
    return Gate(Roster((launched_account("ws01", path="one"), launched_account("ws02", path="two"))))


@pytest.fixture
async def client(gate, desktops):
    settings = load(flags={"origins": "https://school.example"}).model_copy(update={"desktops": DESKTOPS})
    server = TestServer(build(settings=settings, roster=gate.roster, statuses=gate.statuses, desktops=desktops))
    async with TestClient(server) as made:
        yield made


@pytest.mark.parametrize(("deed", "asked"), [("visit", "visit"), ("start", "retry"), ("stay", "stay")])
async def test_what_a_participant_may_have_done(client, desktops, deed, asked):
    for _ in range(2):  # as often as one likes
        answer = await client.post(f"/api/desktops/one/{deed}", headers=SAME)
        assert answer.status == 200
        assert (await answer.json())["state"] == "stopped"
        assert answer.headers["Cache-Control"] == "no-store"
    assert desktops.asked == [(asked, "ws01")] * 2


async def test_the_answer_tells_what_came_of_it(client, desktops):
    desktops.answer = lambda _, name: desktops.set(name, DesktopState.REQUESTED, reason="2nd in line")
    answer = await (await client.post("/api/desktops/one/visit", headers=SAME)).json()
    assert (answer["state"], answer["reason"], answer["desktop"]["state"]) == ("waiting", "2nd in line", "REQUESTED")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "nobody/visit", 404),
        ("POST", "two/visit", 404),  # no launcher has heard of it yet
        ("POST", "one/cancel", 404),
        ("POST", "one", 404),
        ("GET", "one/visit", 405),
        ("HEAD", "one/start", 405),
        ("PUT", "one/stay", 405),
    ],
)
async def test_what_is_not_there_and_what_is_not_done(client, desktops, method, path, status):
    answer = await client.request(method, f"/api/desktops/{path}", headers=SAME)
    assert answer.status == status
    if status == 405:
        assert answer.headers["Allow"] == "POST"
    assert desktops.asked == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser
        ({"Origin": "http://gate.example:8080"}, 200),
        ({"Origin": "http://gate.example"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://school.example"}, 200),  # the setting `origins`
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://class.example", "X-Forwarded-Host": "class.example"}, 200),
        ({"Origin": "https://class.example"}, 403),
    ],
)
async def test_only_our_own_pages_may_do_it(client, desktops, headers, status):
    answer = await client.post("/api/desktops/one/visit", headers={"Host": "gate.example:8080"} | headers)
    assert answer.status == status
    assert len(desktops.asked) == (status == 200)


@pytest.mark.parametrize("headers", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
async def test_content_is_refused_before_it_comes(client, desktops, headers):
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(f"POST /api/desktops/one/visit HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
    assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == b"413"
    writer.close()
    assert desktops.asked == []


async def test_the_page_of_a_desktop_that_the_gate_starts(client, desktops):
    html = await (await client.get("/desk/one/")).text()
    assert 'data-desktop="../../api/desktops/one/" data-events="../../api/events?path=one"' in html
    assert desktops.asked == []  # a page that was only fetched asks for nothing
    html = await (await client.get("/desk/two")).text()
    assert 'data-desktop="../api/desktops/two/"' in html


async def test_without_a_launcher_there_is_nothing_to_ask_for(gate):
    async with TestClient(
        TestServer(build(settings=load(flags={}), roster=gate.roster, statuses=gate.statuses))
    ) as client:
        assert (await client.post("/api/desktops/one/visit", headers=SAME)).status == 404
