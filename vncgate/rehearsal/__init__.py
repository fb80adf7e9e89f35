"""Rehearsals: a class of viewers that log in, ask for updates, and measure how long the answers take.

`vncgate rehearse` plays a workshop through its public URL; benchmarks/through_apache.py plays it with TLS. The other
workloads use benchmarks/player.c, because a player in Python saturates its core before the relay does.
Import this package where it is used, not at the head of a command's module: it brings picows with it.

    from vncgate import rehearsal
    from vncgate.rehearsal import Plan, Play, Target

    targets = [Target("ws01", "ws://127.0.0.1:8081/ws/ws01", Secret("k3Vq9xTb"))] * 200   # a participant each
    report = await rehearsal.play(targets, Plan(Play.FIXED, rate=20, seconds=30, corner=(64, 32)))
    json.dump(report.to_json(), file)

- `Target.url`: `ws://`, `wss://` (give `play` an `ssl.SSLContext`), or `tcp://host:port` for RFB without websockets, as
  plain TCP proxies carry it. An empty password means security None.
- `Play.FIXED`: N requests a second each, every one a FramebufferUpdateRequest (not incremental) of `corner`, whose
  answer must have a rectangle there (rate 0: logged in, and idle); `Play.LIVELY`: like a person with noVNC.
- A participant has one request outstanding, as a viewer has. One that is due meanwhile is `late`, and counted into
  the latencies as what it would have waited, so that a stall is not one observation among thousands.
- To measure others while the class plays (their CPU, say), use `Rehearsal`: `arrive()`, `reset()`, `go_on(seconds)`,
  `report()`.
- `report.cpu_share` and `report.lag` tell how busy the generator itself was: beyond 0.8 of a core the figures are its
  own.
"""

from __future__ import annotations

from vncgate.rehearsal.plan import Plan, Play, Target
from vncgate.rehearsal.report import Report
from vncgate.rehearsal.stage import Rehearsal, play

__all__ = ["Plan", "Play", "Rehearsal", "Report", "Target", "play"]
