"""`vncgate rehearse` through Apache with TLS and a real gate to real VNC servers; and when one of them hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.ports import free_ports
from tests.real.apache import Apache, example
from tests.real.conftest import need
from tests.real.gate import RunningGate
from tests.real.xvnc import Xvnc

need("Xvnc", "openbox", "xterm", "apache2")
pytestmark = pytest.mark.real

PATIENCE = 40


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Two desktops, one with a window manager and an xterm; their blacklists are on."""
    with (
        Xvnc(tmp_path_factory.mktemp("one"), session=True, password="Canary01", blacklist=True) as one,
        Xvnc(tmp_path_factory.mktemp("two"), password="Canary02", blacklist=True) as two,
    ):
        yield one, two


@pytest.fixture(scope="module")
def site(servers, tmp_path_factory):
    """Apache with our example vhost, and the gate behind it."""
    web = free_ports(1)[0]
    apache = Apache(example("vncgate.conf", VNCGATE_WEB=f"127.0.0.1:{web}"))
    gate = RunningGate(tmp_path_factory.mktemp("gate"), f'[apache]\nsnippet = "{apache.snippet}"\n')
    gate.web = web
    gate.write(*(gate.line(f"ws0{number}", server) for number, server in enumerate(servers, start=1)))
    with gate, apache:
        yield apache, gate


def rehearsing(site, *args):
    apache, gate = site
    argv = [sys.executable, "-m", "vncgate", "rehearse", apache.url(), "--control", str(gate.control), *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env={"PATH": os.environ["PATH"]})


def received(gate):
    return [account["bytes_down"] for account in gate.status()["accounts"]]


def all_play(gate, before):
    """Every desktop has sent more than a login by now: something of its screen."""
    return all(now > then + 500 for now, then in zip(received(gate), before, strict=True))


def found(path):
    return json.loads(path.read_text())


def test_a_class_of_four_through_apache_and_tls(site, tmp_path):
    apache, _ = site
    certificate = apache.folder / "certificate.pem"
    flags = ("--participants", 4, "--minutes", 0.05, "--ramp", 0.2, "--ca", certificate, "--json", tmp_path / "json")
    with rehearsing(site, *flags) as process:
        out, err = process.communicate(timeout=PATIENCE)
    seen = found(tmp_path / "json")
    assert (seen["connected"], seen["failed"], seen["drops"], seen["silent"], err) == (4, [], [], [], ""), out
    assert process.returncode == (0 if seen["verdict"]["grade"] == "good" else 1), out
    # Every answer of TigerVNC's was followed to its end: had one byte been miscounted, the next would be no RFB.
    assert seen["updates"] >= seen["latency"]["count"] > 50
    assert seen["picture"]["count"] == 4
    assert seen["load"]["gate"] is not None
    assert seen["load"]["apache"] is not None
    assert "Canary" not in out + (tmp_path / "json").read_text()


def test_a_certificate_that_nobody_vouches_for_is_told_and_can_be_accepted(site):
    with rehearsing(site, "--minutes", 0.02, "--ramp", 0) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (1, "")
    assert "2 of 2 did not get in (ws01, ws02): the site's certificate is not trusted (" in out
    assert "give --ca FILE, or --insecure" in out
    with rehearsing(site, "--minutes", 0.02, "--ramp", 0, "--insecure") as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert "connected       2 of 2" in out
    assert err == ""


def test_a_desktop_that_hangs_is_named(site, servers, tmp_path):
    _, gate = site
    before = received(gate)
    with rehearsing(site, "--minutes", 10, "--ramp", 0, "--insecure", "--json", tmp_path / "json") as process:
        gate.until(lambda: all_play(gate, before))
        with servers[1].frozen():
            time.sleep(2.5)  # longer than the silence that a participant minds (report.SILENCE)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (1, "")
    assert "1 of 2 got no answer any more (ws02)" in out
    assert found(tmp_path / "json")["silent"] == ["ws02"]


def test_workers_that_are_killed_and_a_gate_that_is_not_there_are_told(site):
    """The last test: the gate is gone after it."""
    _, gate = site
    before = received(gate)
    with rehearsing(site, "--minutes", 10, "--ramp", 0, "--insecure") as process:
        gate.until(lambda: all_play(gate, before))
        for worker in gate.status()["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (1, "")
    assert "2 of 2 lost the desktop (ws01, ws02): the connection was cut without a word" in out
    gate.stop()
    with rehearsing(site, "--tokens", gate.tokens, "--insecure", "--ramp", 0) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (1, "")
    assert "the websocket is refused with HTTP 503 (Apache does not reach the gate" in out
