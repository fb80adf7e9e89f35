"""The daemon as a whole, in this process: a token file that changes, an operator, and a good end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import picows
import pytest

from tests.engines.desktop import Peer, client
from tests.workshop import Workshop
from vncgate import roster, settings
from vncgate.daemon import Gate
from vncgate.engines.relay import Relay
from vncgate.errors import ControlError, ListenError, TokensError
from vncgate.handover import Inheritance, State
from vncgate.ledger import Ledger
from vncgate.people import Session
from vncgate.workshop import Phase, Record

SECRET = "Canary88"


@pytest.fixture
def workshop(tmp_path, free_port):
    return Workshop(tmp_path, free_port)


def names(status):
    return [account["name"] for account in status["accounts"]]


@pytest.mark.parametrize("recorded", [None, Phase.SIGN_UP, Phase.OPEN])
async def test_from_the_first_word_on_the_engine_lets_in_as_the_workshop_was_left(workshop, monkeypatch, recorded):
    """Nobody who has a session comes in early, and nobody is sent away where organizers opened the doors."""
    state, opens, now = workshop.folder / "state", datetime(2999, 1, 1, tzinfo=UTC), datetime.now(UTC)
    state.mkdir()
    ledger = await Ledger.open(f"sqlite:///{state}/ledger.sqlite")
    await ledger.add_session(Session("0" * 64, now, now + timedelta(days=1), "ws01"))
    if recorded:
        await ledger.set_note("workshop", Record(recorded, now).to_json())
    await ledger.aclose()
    pushed, admit = [], Relay.admit

    async def seen(engine, admissions):
        pushed.append(set(admissions["ws01"]))
        await admit(engine, admissions)

    monkeypatch.setattr(Relay, "admit", seen)
    workshop.write(f"ws01 127.0.0.1 path-ws01 - 5901 {SECRET}")
    flags = {"access": "seat", "public_url": "http://workshop.example/", "workshop.doors_open": opens}
    async with workshop.running({"STATE_DIRECTORY": str(state)}, **flags):
        assert pushed
        assert all(who == ({"0" * 64} if recorded is Phase.OPEN else set()) for who in pushed)


async def test_accounts_come_change_and_go_while_another_stays_connected(workshop):
    ports = workshop.free_port.many(3)
    async with Peer() as one, Peer() as two:

        def line(name, peer, port):
            return f"{name} 127.0.0.1 path-{name} {port} {peer.port} {SECRET}"

        workshop.write(line("ws01", one, ports[0]), line("ws02", two, ports[1]))
        async with workshop.running(), client(ports[0]) as (stays, heard), client(ports[1]) as (_, moved):
            await heard.until(lambda: heard.data)
            await moved.until(lambda: moved.data)
            workshop.write(line("ws01", one, ports[0]), line("ws02", one, ports[1]), line("ws03", two, "-"))
            await moved.until(lambda: moved.closed)
            assert moved.closed == (1012, "the desktop moved")
            await workshop.until(lambda status: names(status) == ["ws01", "ws02", "ws03"])
            async with client(workshop.shared, "/ws/path-ws03") as (_, added):
                await added.until(lambda: added.data)
                workshop.write(line("ws01", one, ports[0]))
                await added.until(lambda: added.closed)
                assert added.closed == (1008, "the account was removed")
            await workshop.until(lambda status: names(status) == ["ws01"])
            assert heard.closed is None
            stays.send(picows.WSMsgType.BINARY, b"still here")
            await heard.until(lambda: heard.data.endswith(b"still here"))


def child_for(peer):
    """The process of ours that was started for this desktop."""
    pids = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split()
    target = f"127.0.0.1:{peer.port}".encode()
    (pid,) = [int(pid) for pid in pids if target in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
    return pid


async def test_an_account_whose_process_is_killed_comes_back_and_touches_no_other(workshop):
    ports = workshop.free_port.many(2)
    async with Peer() as one, Peer() as two:
        workshop.write(
            *(f"ws0{n} 127.0.0.1 ws0{n} {ports[n]} {peer.port} {SECRET}{n}" for n, peer in ((0, one), (1, two)))
        )
        async with (
            workshop.running(engine="websockify") as gate,
            client(ports[0]) as (_, dies),
            client(ports[1]) as (stays, heard),
        ):
            await dies.until(lambda: dies.data)
            await heard.until(lambda: heard.data)
            killed, other = child_for(one), child_for(two)
            os.kill(killed, signal.SIGKILL)
            began = time.monotonic()
            await workshop.until(lambda status: status["accounts"][0]["state"] == "BACKOFF")
            hurt, well = gate.status()["accounts"]
            assert hurt["last_error"] == "websockify was killed by SIGKILL"
            assert (well["state"], well["last_error"], well["connections"]) == ("RUNNING", "", 1)
            await dies.until(dies.gone.is_set)
            await workshop.until(lambda status: status["accounts"][0]["state"] == "RUNNING")
            assert 1.0 <= time.monotonic() - began < 5
            assert [account["restarts"] for account in gate.status()["accounts"]] == [1, 0]
            assert child_for(one) != killed
            assert child_for(two) == other
            async with client(ports[0]) as (_, again):
                await again.until(lambda: again.data)
            assert heard.closed is None
            stays.send(picows.WSMsgType.BINARY, b"still here")
            await heard.until(lambda: heard.data.endswith(b"still here"))


async def test_a_bad_file_changes_nothing_and_is_named_until_it_is_mended(workshop, caplog):
    caplog.set_level(logging.INFO)
    async with Peer() as peer:
        good = f"ws01 127.0.0.1 path-ws01 - {peer.port} {SECRET}"
        workshop.write(good)
        async with workshop.running(), client(workshop.shared, "/ws/path-ws01") as (_, heard):
            await heard.until(lambda: heard.data)
            workshop.write(good, "ws02 127.0.0.1")
            await workshop.until(lambda status: status["trouble"])
            status = workshop.gate.status()
            assert names(status) == ["ws01"]
            assert status["trouble"] == f"{workshop.tokens} has 1 error; the last good roster stays"
            assert status["problems"][0].startswith(f"{workshop.tokens}:2:")
            assert "workshop.tokens:2:" in caplog.text
            workshop.tokens.unlink()
            await workshop.until(lambda status: "cannot be read" in status["trouble"])
            assert names(workshop.gate.status()) == ["ws01"]
            workshop.write("# nobody")
            await workshop.until(lambda status: "has no accounts" in status["trouble"])
            assert names(workshop.gate.status()) == ["ws01"]
            workshop.write(good)
            await workshop.until(lambda status: not status["trouble"])
            assert "workshop.tokens is good again" in caplog.text
            assert heard.closed is None


async def test_a_file_that_broke_while_it_started_anew_is_no_reason_to_end(workshop, caplog):
    async with Peer() as peer:
        good = f"ws01 127.0.0.1 path-ws01 - {peer.port} {SECRET}"
        left = Inheritance(State(roster=f"{good}\n"))
        workshop.write(good, "ws02 127.0.0.1")
        async with workshop.running(inherited=left) as gate, client(workshop.shared, "/ws/path-ws01") as (_, heard):
            await heard.until(lambda: heard.data)
            status = gate.status()
            assert names(status) == ["ws01"]
            assert status["trouble"] == f"{workshop.tokens} has 1 error; the last good roster stays"
            assert "workshop.tokens:2:" in caplog.text
            workshop.write(good, good.replace("ws01", "ws02"))
            await workshop.until(lambda status: names(status) == ["ws01", "ws02"])
            assert not gate.status()["trouble"]
            assert heard.closed is None


async def test_a_bad_file_at_the_start_is_refused_with_all_its_problems(workshop):
    workshop.write("ws01", "ws02 h p x 1 2 3")
    with pytest.raises(TokensError) as caught:
        async with workshop.running():
            pass
    assert str(caught.value).count(f"{workshop.tokens}:") >= 2
    workshop.tokens.unlink()
    with pytest.raises(TokensError, match="cannot be read: No such file"):
        async with workshop.running():
            pass


async def test_the_operators_commands_and_signals(workshop):
    async with Peer() as peer:
        workshop.write(f"ws01 127.0.0.1 path-ws01 - {peer.port} {SECRET}")
        async with workshop.running(watch="poll", poll_interval=3600.0):
            await workshop.ask("/stop", {"accounts": ["ws01"]})
            status = await workshop.ask("/status")
            assert [(a["want"], a["state"]) for a in status["accounts"]] == [("down", "STOPPED")]
            await workshop.ask("/start", {"accounts": ["ws01"]})
            async with client(workshop.shared, "/ws/path-ws01") as (_, heard):
                await heard.until(lambda: heard.data)
                await workshop.ask("/restart", {"accounts": ["ws01"]})
                assert heard.closed == (1012, "restarted by the organizers")
            with pytest.raises(ControlError, match="no such account: ws99"):
                await workshop.ask("/start", {"accounts": ["ws99"]})

            two = f"ws01 127.0.0.1 path-ws01 - {peer.port} {SECRET}\nws02 127.0.0.1 path-ws02 - {peer.port} x\n"
            answer = await workshop.hand_over(two.encode())
            assert answer == {"changes": "1 added (ws02), 1 unchanged"}
            with pytest.raises(ControlError, match=r"/etc/handed.tokens:1:\d+: error: "):
                await workshop.hand_over(b"nonsense\n")
            with pytest.raises(ControlError, match="is not there"):
                await workshop.hand_over(None, "/etc/handed.tokens is not there")
            assert (await workshop.ask("/status"))["trouble"].startswith("/etc/handed.tokens is not there")
            assert names(await workshop.ask("/status")) == ["ws01", "ws02"]
            os.kill(os.getpid(), signal.SIGHUP)  # the file still has one account
            await workshop.until(lambda status: names(status) == ["ws01"])
            assert (await workshop.ask("/reload", {})) == {"changes": "1 unchanged"}


async def test_sigterm_tells_every_browser_and_is_quick(workshop):
    async with Peer() as peer:
        workshop.write(f"ws01 127.0.0.1 path-ws01 - {peer.port} {SECRET}")
        async with workshop.running() as gate:
            async with (
                client(workshop.shared, "/ws/path-ws01") as (_, heard),
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{workshop.web}/api/events"),  # a listener must not hold it up
            ):
                await heard.until(lambda: heard.data)
                began = time.monotonic()
                os.kill(os.getpid(), signal.SIGTERM)
                await heard.until(lambda: heard.closed)
                assert heard.closed == (1001, "the gate is being stopped")
                while workshop.control.exists():
                    await asyncio.sleep(0.02)
                assert time.monotonic() - began < 5
            assert gate.status()["accounts"] == []


async def test_sigterm_while_it_starts(workshop, monkeypatch):
    workshop.write(f"ws01 127.0.0.1 path-ws01 - 5901 {SECRET}")
    opening = asyncio.Event()

    async def hang(*args):
        opening.set()
        await asyncio.sleep(1000)

    monkeypatch.setattr(Relay, "open", hang)
    gate = Gate(workshop.tokens, settings.load(flags={"web": "off", "shared_port": workshop.shared, "workers": 0}), {})
    gate.control_path = workshop.control
    task = asyncio.ensure_future(gate.run())
    async with asyncio.timeout(5):
        await opening.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await task
    assert not workshop.control.exists()


async def test_a_change_while_it_starts_is_not_missed(workshop, monkeypatch):
    workshop.write(f"ws01 127.0.0.1 path-ws01 - 5901 {SECRET}")
    load = roster.load_tokens

    def load_and_change(path):
        monkeypatch.setattr(roster, "load_tokens", load)
        parsed = load(path)
        workshop.write(f"ws02 127.0.0.1 path-ws02 - 5902 {SECRET}")
        return parsed

    monkeypatch.setattr(roster, "load_tokens", load_and_change)
    async with workshop.running():
        await workshop.until(lambda status: names(status) == ["ws02"])


async def test_a_credential_is_not_read_again_but_handed_over(workshop):
    """The copy that LoadCredential= makes does not follow the file: taking it again would undo what was handed over."""
    async with Peer() as peer:
        good = f"ws01 127.0.0.1 path-ws01 - {peer.port} {SECRET}\n"
        workshop.write(good)
        async with workshop.running(environ={"CREDENTIALS_DIRECTORY": str(workshop.folder)}):
            await workshop.hand_over((good + good.replace("ws01", "ws02")).encode())
            with pytest.raises(ControlError, match="systemctl reload"):
                await workshop.ask("/reload", {})
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.1)
            assert names(await workshop.ask("/status")) == ["ws01", "ws02"]


async def test_pages_that_cannot_be_written_are_named_in_the_status(workshop, caplog):
    style = workshop.folder / "style.css"
    style.write_text("")
    workshop.write("ws01 127.0.0.1 path-ws01 - 5901 x")
    flags = {"landing.export": workshop.folder / "pages", "landing.stylesheet": style}
    async with workshop.running(**flags):
        style.unlink()
        workshop.write("ws02 127.0.0.1 path-ws02 - 5901 x")
        await workshop.until(lambda status: "style.css cannot be read" in status["pages_error"])
        await workshop.until(lambda status: names(status) == ["ws02"])
        style.write_text("")
        workshop.write("ws03 127.0.0.1 path-ws03 - 5901 x")
        await workshop.until(lambda status: not status["pages_error"] and names(status) == ["ws03"])


async def test_what_it_cannot_begin_without(workshop):
    workshop.write("")
    async with workshop.running():
        other = Workshop(workshop.folder, workshop.free_port)
        with pytest.raises(ControlError, match="another vncgate runs already"):
            async with other.running():
                pass
        other.control = workshop.folder / "other"
        with pytest.raises(ListenError, match=r"the pages \(setting web\): port \d+ .* is in use"):
            async with other.running(web=f"127.0.0.1:{workshop.web}"):
                pass
        with pytest.raises(ListenError, match=r"the shared port: port \d+ .* is in use"):
            async with other.running(shared_port=workshop.shared):
                pass


async def test_a_bind_beyond_loopback_is_warned_of(workshop, caplog):
    workshop.write("")
    async with workshop.running(listen="0.0.0.0", web=f"0.0.0.0:{workshop.web}"):
        pass
    assert f"websocket ports on 0.0.0.0, pages on 0.0.0.0:{workshop.web}: other machines can reach them" in caplog.text


async def test_what_the_settings_hardly_mean_is_warned_of(workshop, caplog):
    workshop.write()
    async with workshop.running(desktops={"places": {"lost": {"type": "ssh", "hosts": "a", "key": "/nokey"}}}):
        pass
    assert "desktops.places.lost.key: there is no key file /nokey" in caplog.text


async def test_no_output_has_a_password_in_it(workshop, caplog):
    """The canary: log, status, pages, API, metrics, snippet and static copy, in good and in bad times."""
    caplog.set_level(logging.DEBUG)
    snippet, copy = workshop.folder / "snippet.conf", workshop.folder / "copy"
    said = []
    async with Peer() as peer:
        line = f'ws01 127.0.0.1 path-ws01 {workshop.free_port()} {peer.port} {SECRET} name="Ada"'
        workshop.write(line)
        config = {"apache.snippet": snippet, "apache.configtest": "true", "landing.export": copy}
        config |= {"metrics.address": f"127.0.0.1:{(metrics := workshop.free_port())}"}
        async with workshop.running(probe=True, handshake_timeout=0.5, **config) as gate:
            async with aiohttp.ClientSession() as session:
                for page in ("", "desk/path-ws01", "api/accounts", "api/accounts/path-ws01", "healthz"):
                    async with session.get(f"http://127.0.0.1:{workshop.web}/{page}") as response:
                        assert response.status == 200
                        said.append(f"{response.headers} {await response.text()}")
                for accept in ("text/plain", "application/openmetrics-text"):
                    async with session.get(f"http://127.0.0.1:{metrics}/metrics", headers={"Accept": accept}) as answer:
                        said.append(f"{answer.headers} {await answer.text()}")
                        assert 'account="ws01"' in said[-1]
            async with client(workshop.shared, "/ws/path-ws01") as (_, heard):
                await heard.until(lambda: heard.data)
            await workshop.until(lambda status: status["accounts"][0]["ready"] != "unknown")
            workshop.write(line, line, line.replace(" 127", " 127 127"))
            await workshop.until(lambda status: status["trouble"])
            said += [json.dumps(gate.status()), repr(gate._supervisor.roster), str(gate._file.problems)]
    assert peer.port
    said += [caplog.text, snippet.read_text(), *(f.read_text("utf-8", "replace") for f in copy.rglob("*.html"))]
    assert len(said) > 10
    assert not [text for text in said if SECRET in text]
