"""What is special to the engine websockify; what every engine must do is in test_contract.py."""

import asyncio
import logging
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.engines.desktop import BANNER, Peer, client, limits
from vncgate.engines import websockify
from vncgate.engines.base import SERVICE_RESTART
from vncgate.engines.websockify import Translator, Websockify
from vncgate.errors import ProxyError
from vncgate.listeners import bind
from vncgate.model import Desktop, Route, Traffic

PATIENCE = 10.0
DESKTOP = Desktop("node01", 5901)


@pytest.fixture
def listener():
    with bind("127.0.0.1", 0, "test") as sock:
        yield sock


@pytest.fixture
async def peer():
    async with Peer() as peer:
        yield peer


@pytest.fixture
async def opened():
    """Open an account's proxy, and close it afterwards."""
    proxies = []

    async def start(listener, desktop, held_to=None, suspect=lambda reason: None):
        route = Route("ws01", desktop, "websocketpath01", 6000)
        proxies.append(await Websockify(held_to or limits()).open(route, listener, suspect))
        return proxies[-1]

    yield start
    for proxy in proxies:
        await proxy.close(SERVICE_RESTART, "test")


def port_of(listener):
    return listener.getsockname()[1]


def children(pid):
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def test_killed_process_is_reported_and_its_successor_serves_who_waits(listener, peer, opened):
    desktop = Desktop("127.0.0.1", peer.port)
    proxy = await opened(listener, desktop)
    pid = proxy._process.pid
    async with client(port_of(listener)) as (_, heard):
        await heard.until(lambda: heard.data)
        handlers = children(pid)
        assert proxy.traffic() == Traffic(1, None, None)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.shield(proxy.died) == "websockify was killed by SIGKILL"
            await heard.gone.wait()
        assert len(handlers) == 1
        await until(lambda: not os.path.exists(f"/proc/{handlers[0]}"))  # noqa: PTH110
    assert proxy.traffic() == Traffic(0, None, None)

    waiting = socket.create_connection(listener.getsockname())  # accepted by the kernel, into the backlog
    with waiting:
        waiting.sendall(UPGRADE)
        successor = await opened(listener, desktop)
        waiting.setblocking(False)
        async with asyncio.timeout(PATIENCE):
            answer = await asyncio.get_running_loop().sock_recv(waiting, 1000)
        assert answer.startswith(b"HTTP/1.1 101 ")
    assert not successor.died.done()


UPGRADE = (
    b"GET /websockify HTTP/1.1\r\nHost: gate\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def test_close_is_no_death(listener, peer, opened):
    proxy = await opened(listener, Desktop("127.0.0.1", peer.port))
    async with client(port_of(listener)) as (_, heard):
        await heard.until(lambda: heard.data)
        await proxy.close(SERVICE_RESTART, "the organizers restarted it")
        await heard.until(heard.gone.is_set)
    assert heard.closed is None
    assert not proxy.died.done()
    await proxy.close(SERVICE_RESTART, "twice")


@pytest.mark.parametrize(
    ("has_listener", "desktop", "message"),
    [
        (
            False,
            DESKTOP,
            (
                "account ws01: engine websockify needs a websocketport of its own; "
                "give one in the token file, or use engine relay"
            ),
        ),
        (True, None, "account ws01: no desktop: the token file leaves it to a launcher ('-')"),
    ],
)
async def test_what_it_cannot_serve(listener, opened, has_listener, desktop, message):
    with pytest.raises(ProxyError) as caught:
        await opened(listener if has_listener else None, desktop)
    assert str(caught.value) == message


async def test_process_that_ends_at_once(listener, opened, monkeypatch):
    monkeypatch.setattr(websockify, "_PROGRAM", "import sys; sys.exit('No module named websockify')")
    with pytest.raises(ProxyError) as caught:
        await opened(listener, DESKTOP)
    assert str(caught.value) == "account ws01: websockify ended with exit status 1: No module named websockify"


async def test_process_that_never_serves_is_ended(listener, opened, monkeypatch):
    monkeypatch.setattr(websockify, "_PROGRAM", "import time; time.sleep(100)")
    monkeypatch.setattr(websockify, "START_TIMEOUT", 0.2)
    with pytest.raises(ProxyError, match=r"did not serve within 0\.2 s"):
        await opened(listener, DESKTOP)


async def test_cancelled_start_leaves_no_process(listener, opened, monkeypatch):
    monkeypatch.setattr(websockify, "_PROGRAM", "import time; print('on', flush=True); time.sleep(100)")
    before = children(os.getpid())  # a server that a session's tests share is one
    opening = asyncio.create_task(opened(listener, DESKTOP), name="open")
    await until(lambda: children(os.getpid()) != before)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert children(os.getpid()) == before


async def test_no_interpreter(listener, opened, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(ProxyError, match="websockify cannot be started"):
        await opened(listener, DESKTOP)


async def test_idle_browser_is_pinged(listener, peer, opened):
    await opened(listener, Desktop("127.0.0.1", peer.port), limits(ping_interval=1.0))
    async with client(port_of(listener)) as (_, heard):
        await heard.until(lambda: heard.pings)


@pytest.mark.parametrize("said", [b"GET /websockify HTTP/1.1\r\nHost: gate\r\n", b"G"])
async def test_handshake_that_never_ends_is_ended(listener, peer, opened, said):
    """And the connection of who was quick goes on."""
    proxy = await opened(listener, Desktop("127.0.0.1", peer.port), limits(handshake_timeout=0.5))
    async with client(port_of(listener)) as (_, heard):
        await heard.until(lambda: heard.data)
        with socket.create_connection(listener.getsockname()) as half:
            half.sendall(said)
            await until(lambda: proxy.traffic().connections == 2)
            await until(lambda: proxy.traffic().connections == 1)
            half.settimeout(PATIENCE)
            while half.recv(1000):
                pass
        assert not heard.gone.is_set()
    assert not proxy.died.done()


async def test_unix_desktop(listener, opened, tmp_path, caplog):
    suspected = []
    path = tmp_path / "-desktop"
    await opened(listener, Desktop(unix=str(path)), suspect=suspected.append)
    async with client(port_of(listener)) as (_, heard):
        await heard.until(lambda: heard.closed)
    assert heard.closed[0] == 1011
    assert suspected == [f"desktop unix:{path} cannot be reached: no such file or directory"]

    async def greet(reader, writer):
        writer.write(BANNER)
        writer.close()

    server = await asyncio.start_unix_server(greet, path)
    async with client(port_of(listener)) as (_, heard):
        await heard.until(lambda: heard.closed)
    assert bytes(heard.data) == BANNER
    server.close()


async def test_log_tells_the_events_and_no_secret(listener, peer, opened, caplog, free_port):
    caplog.set_level(logging.DEBUG, "vncgate.engines.websockify")
    proxy = await opened(listener, Desktop("127.0.0.1", peer.port))
    assert b"hunter2" not in Path(f"/proc/{proxy._process.pid}/cmdline").read_bytes()
    async with client(port_of(listener), path="/websockify?token=hunter2") as (transport, heard):
        await heard.until(lambda: heard.data)
        transport.send_close(1000)
        await until(lambda: "the browser closed" in caplog.text)
    async with client(port_of(listener)) as (_, heard):
        await heard.until(lambda: heard.data)
        peer.writer.close()
        await heard.until(lambda: heard.closed)
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(listener))
    writer.write(b"GET /hunter2?password=hunter2 HTTP/1.1 hunter2\r\n\r\nGET /hunter2 HTTP/1.1\r\n\r\n")
    await reader.read()
    writer.close()
    await until(lambda: "refused a request" in caplog.text)
    said = [(record.levelname, record.getMessage()) for record in caplog.records if record.levelno > logging.DEBUG]
    desktop = f"desktop 127.0.0.1:{peer.port}"
    assert said == [
        ("INFO", f"connection to 127.0.0.1:{peer.port}"),
        ("INFO", "the browser closed the connection"),
        ("INFO", f"connection to 127.0.0.1:{peer.port}"),
        ("INFO", f"{desktop} closed the connection"),
        ("INFO", "refused a request that is no websocket (400)"),
    ]
    assert {record.account for record in caplog.records} == {"ws01"}
    assert {record.client for record in caplog.records if record.levelno > logging.DEBUG} == {"127.0.0.1"}
    assert "hunter2" not in caplog.text


async def test_ipv6_listener(peer, opened, caplog):
    caplog.set_level(logging.INFO, "vncgate.engines.websockify")
    with bind("::1", 0, "test") as listener:
        await opened(listener, Desktop("127.0.0.1", peer.port))
        reader, writer = await asyncio.open_connection("::1", port_of(listener))
        writer.write(UPGRADE)
        assert BANNER in await reader.readuntil(BANNER)
        writer.close()
        assert {record.client for record in caplog.records} == {"::1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plain non-SSL (ws://) WebSocket connection", ("INFO", "connection to node01:5901", None)),
        (
            "Failed to connect to node01:5901: [Errno 111] Connection refused",
            ("WARNING", "desktop node01:5901 refused the connection", "desktop node01:5901 refused the connection"),
        ),
        (
            "Failed to connect to [::1]:5901: [Errno -2] Name or service not known",
            (
                "WARNING",
                "desktop node01:5901 cannot be reached: name or service not known",
                "desktop node01:5901 cannot be reached: name or service not known",
            ),
        ),
        ("node01:5901: Client closed connection", ("INFO", "the browser closed the connection", None)),
        ("node01:5901: Target closed connection", ("INFO", "desktop node01:5901 closed the connection", None)),
        ("code 405, message Not (/hunter2)", ("INFO", "refused a request that is no websocket (405)", None)),
        ("192.0.2.7: Path: '/hunter2'", ("DEBUG", "websockify: 192.0.2.7: Path: …", None)),
        ('"GET /hunter2" 400 -', ("DEBUG", "websockify: …", None)),
        ("connecting to: node01:5901", ("DEBUG", "websockify: connecting to: node01:5901", None)),
    ],
)
async def test_translation(caplog, text, expected):
    caplog.set_level(logging.DEBUG, "vncgate.engines.websockify")
    suspected = []
    translator = Translator("ws01", DESKTOP, suspected.append)
    translator(f"192.0.2.7 - - [21/Nov/2026 01:43:03] {text}")
    (record,) = caplog.records
    level, message, suspicion = expected
    assert (record.levelname, record.getMessage()) == (level, message)
    assert (record.account, record.client) == ("ws01", "192.0.2.7")
    assert suspected == ([suspicion] if suspicion else [])
    assert not translator.serves.done()
