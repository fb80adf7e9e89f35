"""How busy processes are, from a /proc of our own."""

from __future__ import annotations

import os

import pytest

from vncgate.rehearsal import load
from vncgate.rehearsal.load import Load, Observer

TICK = os.sysconf("SC_CLK_TCK")


class Proc:
    """A folder that looks like /proc, and a clock."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.now = 0.0
        monkeypatch.setattr(load.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(load.os, "cpu_count", lambda: 4)
        self.host(0)

    def host(self, busy):
        idle = 1000
        (self.folder / "stat").write_text(f"cpu  {busy * TICK} 0 0 {idle} 7 0 0 0 0 0\ncpu0 1\n")

    def process(self, pid, parent, name, seconds):
        folder = self.folder / str(pid)
        folder.mkdir(exist_ok=True)
        fields = ["S", parent, *[0] * 9, seconds * TICK, 0, *[0] * 30]
        (folder / "stat").write_text(f"{pid} ({name}) {' '.join(map(str, fields))}\n")


@pytest.fixture
def proc(tmp_path, monkeypatch):
    return Proc(tmp_path, monkeypatch)


def test_the_gates_whole_tree_apache_and_the_host(proc):
    for pid, parent, name in ((10, 1, "vncgate"), (11, 10, "python (x) y"), (12, 11, "deep"), (20, 1, "apache2")):
        proc.process(pid, parent, name, 100)
    proc.process(13, 1, "adopted", 100)
    proc.process(30, 1, "other", 0)
    observer = Observer([10, 13], proc.folder)
    proc.now = 10.0
    for pid, parent, name, seconds in (
        (10, 1, "vncgate", 101),
        (11, 10, "python (x) y", 108),
        (12, 11, "deep", 101),
        (13, 1, "adopted", 102),
        (20, 1, "apache2", 105),
        (21, 20, "apache2", 3),  # it came since: what it used before we saw it is not known
        (30, 1, "other", 9),
    ):
        proc.process(pid, parent, name, seconds)
    proc.host(20)
    seen = observer.look()
    assert seen == Load(gate=pytest.approx(1.2), busiest=pytest.approx(0.8), apache=pytest.approx(0.5), host=0.5)
    proc.now = 20.0
    assert observer.look() == seen  # the most of all looks


def test_a_gate_that_ended_is_not_seen_and_another_hosts_apache_neither(proc):
    observer = Observer([10, 13], proc.folder)
    proc.now = 1.0
    (proc.folder / "77").mkdir()  # a process that has just ended: its folder has no stat any more
    assert observer.look() == Load(host=0)


def test_the_real_proc_is_read():
    observer = Observer([os.getpid()])
    observer._before = (observer._before[0] - 1, *observer._before[1:])
    seen = observer.look()
    assert seen.gate is not None
    assert seen.busiest <= seen.gate
