"""GET /metrics on the control socket, an address of its own and the pages' port, through a gate in this process."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading

import aiohttp
import picows
import pytest
from aiohttp.test_utils import make_mocked_request
from prometheus_client import ProcessCollector
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.engines.desktop import Peer, client
from tests.render.test_metrics import OPENMETRICS
from tests.workshop import Workshop
from vncgate import scrape
from vncgate.errors import ListenError


def values(text):
    return {(sample.name, *sample.labels.values()): sample.value for family in parse(text) for sample in family.samples}


async def get(url, connector=None, **headers):
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()}) as response,
    ):
        return response.status, response.content_type, await response.text()


@pytest.fixture
def workshop(tmp_path, free_port):
    return Workshop(tmp_path, free_port)


async def test_the_control_socket_always_has_them(workshop):
    async def look():
        status, content_type, text = await get(
            "http://vncgate/metrics", aiohttp.UnixConnector(str(workshop.control)), Accept="text/plain"
        )
        assert (status, content_type) == (200, "text/plain")
        return values(text)

    async with Peer() as peer:
        lines = [f"ws0{n} 127.0.0.{n} path-{n} - {peer.port} Canary88" for n in (1, 2)]
        workshop.write(*lines)
        flags = {"landing.export": workshop.folder / "pages"}
        async with workshop.running(**flags) as gate, client(workshop.shared, "/ws/path-1") as (_, heard):
            await heard.until(lambda: heard.data)
            await workshop.until(lambda status: status["accounts"][0]["connections"] == 1)
            found = await look()
            assert found["vncgate_connections",] == found["vncgate_account_connections", "ws01"] == 1
            assert found["vncgate_accounts", "RUNNING"] == found["vncgate_roster_accounts",] == 2
            assert found["vncgate_publications_total", "success", "pages"] == 1
            assert found["vncgate_roster_last_reload_successful",] == 1
            assert found["process_open_fds", str(os.getpid()), "master"] > 5
            assert found["process_proportional_memory_bytes", str(os.getpid()), "master"] > 1e6
            loaded = found["vncgate_roster_loaded_timestamp_seconds",]
            workshop.write(*lines, "nonsense")
            await workshop.until(lambda status: status["trouble"])
            found = await look()
            assert found["vncgate_roster_last_reload_successful",] == 0
            assert found["vncgate_roster_problems", "error"] == 1
            assert found["vncgate_roster_loaded_timestamp_seconds",] == loaded
            assert gate.status()["trouble"]
        assert found.keys() >= {
            ("vncgate_handshakes_refused_total", "not found"),
            ("vncgate_payload_bytes_total", "up"),
        }


async def test_what_workers_count_is_told_by_the_master(workshop):
    async with Peer() as peer:
        workshop.write(f"ws01 127.0.0.1 path-1 - {peer.port} Canary88")
        async with workshop.running(workers=1) as gate, client(workshop.shared, "/ws/path-1") as (sender, heard):
            sender.send(picows.WSMsgType.BINARY, b"x" * 1000)
            await heard.until(lambda: len(heard.data) >= 1012)
            await workshop.until(lambda _: gate._engine.tally().bytes_up == 1000)  # with a worker's next heartbeat
            (worker,) = gate.status()["workers"]
            _, _, text = await get("http://vncgate/metrics", aiohttp.UnixConnector(str(workshop.control)))
            found = values(text)
            assert found["vncgate_workers", "serving", worker["version"]] == 1
            assert found["vncgate_worker_connections", str(worker["pid"])] == 1
            assert found["vncgate_payload_bytes_total", "up"] == 1000
            assert found["vncgate_payload_bytes_total", "down"] == 1012
            assert found["vncgate_connect_seconds_count",] == found["vncgate_connections_opened_total",] == 1
            assert found["process_open_fds", str(worker["pid"]), "worker"] > 2


async def test_no_account_is_named_where_that_is_not_wanted(workshop):
    workshop.write("ws01 127.0.0.1 path-1 - 5901 x")
    async with workshop.running(**{"metrics.accounts": False}):
        _, _, text = await get("http://vncgate/metrics", aiohttp.UnixConnector(str(workshop.control)))
        assert "ws01" not in text
        assert values(text)["vncgate_roster_accounts",] == 1


async def test_the_web_port_has_none_unless_asked_for(workshop):
    workshop.write("")
    async with workshop.running():
        assert (await get(f"http://127.0.0.1:{workshop.web}/metrics"))[0] == 404


async def test_an_address_of_their_own(workshop):
    workshop.write("")
    port = workshop.free_port()
    async with workshop.running(**{"metrics.address": f":{port}"}):
        status, content_type, text = await get(f"http://127.0.0.1:{port}/metrics", Accept=OPENMETRICS)
        assert (status, content_type) == (200, "application/openmetrics-text")
        assert text.endswith("# EOF\n")
        assert (await get(f"http://127.0.0.1:{port}/"))[0] == 404
        assert (await get(f"http://127.0.0.1:{workshop.web}/metrics"))[0] == 404
        other = Workshop(workshop.folder, workshop.free_port)
        other.control = workshop.folder / "other"
        with pytest.raises(ListenError, match=rf"the metrics \(setting metrics.address\): port {port} .* is in use"):
            async with other.running(**{"metrics.address": f":{port}"}):
                pass


async def test_on_the_web_port_for_who_asks_the_gate_itself(workshop):
    workshop.write("")
    address = f"127.0.0.1:{workshop.web}"
    async with workshop.running(**{"metrics.address": address}):
        status, _, text = await get(f"http://{address}/metrics")
        assert status == 200
        assert "vncgate_build_info" in text
        for header in ("X_Forwarded_For", "x_forwarded_host", "X_Forwarded_Server", "Forwarded", "Via"):
            assert (await get(f"http://{address}/metrics", **{header: "x"}))[0] == 404
        assert (await get(f"http://{address}/"))[0] == 200


async def test_metrics_beyond_loopback_are_warned_of(workshop, caplog):
    workshop.write("")
    port = workshop.free_port()
    async with workshop.running(**{"metrics.address": f"0.0.0.0:{port}"}):
        assert f"metrics on 0.0.0.0:{port}: other machines can reach them" in caplog.text


async def test_answers_are_written_one_at_a_time_and_not_in_the_loop(monkeypatch):
    asked = []
    go_on = threading.Event()
    monkeypatch.setattr(scrape, "_write", lambda facts, accept: ("text/plain", b"" if go_on.wait(10) else b"in vain"))
    metrics = scrape.handler(lambda: asked.append(1))
    answers = [asyncio.ensure_future(metrics(make_mocked_request("GET", "/metrics"))) for _ in range(3)]
    while not asked:
        await asyncio.sleep(0)
    for _ in range(9):
        await asyncio.sleep(0)
    assert len(asked) == 1
    go_on.set()
    assert [answer.body for answer in await asyncio.gather(*answers)] == [b""] * 3
    assert len(asked) == 3


def test_a_process_that_is_gone_is_left_out():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie: it has a number, and no memory
    labels = [{"role": "worker", "pid": str(child.pid)}, {"role": "master", "pid": str(os.getpid())}]

    def measured():
        return {(s.name, s.labels["role"]) for family in scrape.processes(labels) for s in family.samples}

    assert ("process_cpu_seconds_total", "worker") in measured()
    assert ("process_proportional_memory_bytes", "worker") not in measured()
    child.wait()
    assert {role for _, role in measured()} == {"master"}
    assert ("process_proportional_memory_bytes", "master") in measured()


def test_a_proc_with_processes_only_lacks_start_times_and_nothing_else(tmp_path):
    """As systemd's ProcSubset=pid shows it."""
    own = tmp_path / "7"
    (own / "fd").mkdir(parents=True)
    for name in "012":
        (own / "fd" / name).touch()
    for name in ("stat", "limits", "smaps_rollup"):
        shutil.copyfile(f"/proc/self/{name}", own / name)
    labels = [{"role": "master", "pid": "7"}]

    def measured():
        return {s.name: s.value for family in scrape.processes(labels, tmp_path) for s in family.samples}

    found = measured()
    assert found["process_open_fds"] == 3
    assert min(found.values()) > 0
    (tmp_path / "stat").write_text("cpu  1 2\nbtime 1700000000\n")
    assert measured().keys() - found.keys() == {"process_start_time_seconds"}
    assert measured()["process_start_time_seconds"] > 1700000000


def test_what_is_said_of_a_process_is_what_prometheus_own_client_says():
    def measured(families):
        return {(f.name, f.type, f.documentation, s.name) for f in families for s in f.samples}

    own = measured(scrape.processes([{"role": "master", "pid": "self"}]))
    assert measured(ProcessCollector(registry=None).collect()) == {
        each for each in own if each[0] != "process_proportional_memory_bytes"
    }
