"""`python -m benchmarks`: see the package's docstring."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks import machine, report
from benchmarks.machine import Bench, Skipped
from benchmarks.peers import PEERS
from benchmarks.processes import raise_descriptor_limit
from benchmarks.workloads import WORKLOADS, Workload

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Measure, and write docs/performance.md where all was measured."""
    args = _arguments()
    if args.list:
        for workload in WORKLOADS.values():
            print(f"{workload.name:12}  {workload.about} [{', '.join(workload.peers)}]")
        return 0
    if args.report:
        report.write(json.loads(report.results_file(ROOT).read_text()), ROOT)
        return 0
    raise_descriptor_limit()
    chosen = [WORKLOADS[name] for name in args.only or WORKLOADS]
    results = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "full": args.full,
        "machine": machine.describe(),
        "runs": [],
    }
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vncgate-bench-") as folder:
        # Apache's workers must be able to read their certificate's folder.
        Path(folder).chmod(0o755)
        bench = Bench(Path(folder), args.full, args.show)
        machine.build(bench.folder)
        try:
            for workload in chosen:
                rounds = args.rounds or workload.rounds[args.full]
                results["runs"] += _run(bench, workload, args.peers or workload.peers, rounds)
        except KeyboardInterrupt:
            print("interrupted: what was measured so far is written")
    results["minutes"] = round((time.monotonic() - began) / 60, 1)
    if args.only or args.peers:
        print(report.tables(results))
    else:
        report.write(results, ROOT)
        print(f"written: docs/performance.md ({results['minutes']} minutes)")
    return 1 if any("error" in run for run in results["runs"]) else 0


def _run(bench: Bench, workload: Workload, names: list[str], rounds: int) -> list[dict]:
    """Round by round, every peer in each; in each round another one is first."""
    runs, skipped = [], set()
    peers = [PEERS[name] for name in names if name in workload.peers]
    for number in range(rounds):
        for i in range(len(peers)):
            peer = peers[(i + number) % len(peers)]
            if peer in skipped:
                continue
            run = {"workload": workload.name, "peer": peer.name, "round": number}
            try:
                run["figures"] = {name: _short(value) for name, value in workload.run(bench, peer).items()}
            except Skipped as why:
                run["skipped"] = str(why)
                skipped.add(peer)
            except Exception as error:  # noqa: BLE001  (the other runs go on; the exit code says it)
                traceback.print_exc()
                run["error"] = f"{type(error).__name__}: {error}"
            runs.append(run)
            print(
                f"{workload.name:12} {peer.name:12} {run.get('figures') or run.get('skipped') or run['error']}",
                flush=True,
            )
    return runs


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _arguments() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="vncgate beside other relays.")
    flag = parser.add_argument
    flag("--full", action="store_true", help="longer, and more rounds")
    flag("--only", type=names, metavar="NAMES", help="these workloads, with commas; prints, and writes nothing")
    flag("--peers", type=names, metavar="NAMES", help=f"these peers: {','.join(PEERS)}; prints, and writes nothing")
    flag("--rounds", type=int, metavar="N", help="as many rounds of each workload")
    flag("--show", action="store_true", help="print every command that is started")
    flag("--list", action="store_true", help="the workloads")
    flag("--report", action="store_true", help="write docs/performance.md anew from the figures of the last run")
    args = parser.parse_args()
    for given, known in ((args.only, WORKLOADS), (args.peers, PEERS)):
        if unknown := set(given or ()) - set(known):
            parser.error(f"{', '.join(sorted(unknown))}: not among {', '.join(known)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
