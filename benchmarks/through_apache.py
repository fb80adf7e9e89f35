"""The whole way: vncgate's rehearsal -> TLS -> Apache -> gate -> desktop, CPU of Apache and of the gate apart.

Apache runs in a folder of its own with a certificate signed by itself; the system's is not touched. The viewers are
those of `vncgate rehearse`, which speak TLS; they run in a process of their own: `python -m benchmarks.through_apache`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.load import desktops
from benchmarks.machine import Bench, Skipped, apache, free_range, python
from benchmarks.peers import Peer, Site
from benchmarks.processes import Tree, raise_descriptor_limit, running

COUNT, RATE = 60, 20
MODULES = "mpm_event authn_core authz_core reqtimeout socache_shmcb ssl proxy proxy_http"
CONFIG = """\
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
ServerName localhost
{modules}
{user}
Listen 127.0.0.1:{port} https
MaxRequestWorkers 400
SSLEngine on
SSLCertificateFile {folder}/certificate.pem
SSLCertificateKeyFile {folder}/key.pem
ProxyPassMatch "^/ws/([A-Za-z0-9_][A-Za-z0-9._-]*)$" "ws://127.0.0.1:{gate}/ws/$1" retry=0 timeout=90
"""


def a_class(bench: Bench, peer: Peer) -> dict[str, float]:
    """60 desktops, each asked 20 times a second for 8 KiB, through Apache with TLS; nothing is pinned."""
    seconds = bench.seconds(5, 20)
    with (
        desktops(bench, COUNT, pinned=False) as (_, port),
        peer.serve(bench, Site(COUNT, port, pinned=False)) as gate,
        _apache(bench, gate.port) as (front, https, certificate),
    ):
        command = python("-m", "benchmarks.through_apache", f"wss://127.0.0.1:{https}/ws/path%d", certificate, seconds)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with running(command, log=gate.folder / "rehearsal.log", show=bench.show, **pipes) as players:
            if players.stdout.readline() != b"arrived\n":
                raise Skipped(f"the rehearsal failed: {(gate.folder / 'rehearsal.log').read_text()[-300:]}")
            before = gate.tree.used(), front.used()
            report = json.loads(players.stdout.readline())
            after = gate.tree.used(), front.used()
    if report["playing"] != COUNT:
        raise Skipped(f"only {report['playing']} of {COUNT} played: {report['failed']} {report['drops']}")
    return {
        "gate_cpu_us": (after[0].cpu - before[0].cpu) / report["answers"] * 1e6,
        "apache_cpu_us": (after[1].cpu - before[1].cpu) / report["answers"] * 1e6,
        "p50_ms": report["p50_ms"],
        "p99_ms": report["p99_ms"],
        "late_share": report["late_share"],
        "load": report["cpu_share"],
    }


@contextlib.contextmanager
def _apache(bench: Bench, gate: int) -> Iterator[tuple[Tree, int, Path]]:
    program = apache()
    if program is None:
        raise Skipped("apache2 is not installed")
    folder = bench.new_folder()
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "certificate.pem"]
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        *files,
        *subject,
    ]
    subprocess.run(made, check=True, capture_output=True)
    port, modules = free_range(1), Path("/usr/lib/apache2/modules")
    (folder / "httpd.conf").write_text(
        CONFIG.format(
            folder=folder,
            port=port,
            gate=gate,
            modules="\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in MODULES.split()),
            user="User www-data\nGroup www-data" if os.getuid() == 0 else "",
        )
    )
    command = [program, "-d", folder, "-f", folder / "httpd.conf", "-DFOREGROUND"]
    with running(command, log=folder / "log", show=bench.show) as process:
        deadline = time.monotonic() + 20
        while not _has(folder / "error.log", "resuming normal operations"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Skipped(f"Apache did not start: {(folder / 'log').read_text()[-300:]}")
            time.sleep(0.05)
        yield Tree(process), port, folder / "certificate.pem"


def _has(file: Path, text: str) -> bool:
    return file.exists() and text in file.read_text(errors="replace")


async def _play(url: str, certificate: Path, seconds: float) -> None:
    from vncgate import rehearsal

    targets = [rehearsal.Target(f"viewer {i}", url % i) for i in range(COUNT)]
    plan = rehearsal.Plan(rehearsal.Play.FIXED, rate=RATE, seconds=seconds, ramp=2)
    async with rehearsal.Rehearsal(targets, plan, ssl.create_default_context(cafile=certificate)) as played:
        await played.arrive()
        await played.go_on(1)
        played.reset()
        print("arrived", flush=True)
        await played.go_on(seconds)
        report = played.report()
        told = {
            "playing": report.playing,
            "failed": {reason: len(names) for reason, names in report.failed.items()},
            "drops": {reason: len(names) for reason, names in report.drops.items()},
            "answers": max(1, report.latency.count),
            "p50_ms": report.latency.quantile(0.5) * 1e3,
            "p99_ms": report.latency.quantile(0.99) * 1e3,
            "late_share": report.late / max(1, report.asked + report.late),
            "cpu_share": report.cpu_share,
        }
        print(json.dumps(told), flush=True)


def main() -> None:
    """The viewers' process: URL, certificate, seconds."""
    import uvloop

    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_play(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    main()
