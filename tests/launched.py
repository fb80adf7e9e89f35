"""A launcher for the tests of what stands on it: desktops that do as they are told, a step at each look."""

from __future__ import annotations

import fnmatch
from dataclasses import replace

from vncgate.errors import ControlError, LaunchError
from vncgate.model import Desktop, DesktopState, DesktopStatus, Want

STOPPED, REQUESTED, PENDING, STARTING, RUNNING, STOPPING, FAILED = DesktopState


def desktop(
    account, state=STOPPED, *, kind="xfce", size="", place="hpc", host="", want=Want.UP, reason="", since=100.0
):
    where = Desktop(host, 5901) if state is RUNNING else None
    return DesktopStatus(account, kind, size, place, host, want, state, reason, since, where)


class Launcher:
    """`ways` has what becomes of an account's desktop after a command: states, each with its reason, a look each;
    an empty step changes nothing. `pool` has the names of those that nobody has yet."""

    def __init__(self, *statuses):
        self.all = {status.account: status for status in statuses}
        self.pool = set()
        self.ways = {}
        self.calls = []
        self.looks = 0
        self._clock = 1000.0
        self._left = {}

    def statuses(self):
        self.looks += 1
        for name, left in self._left.items():
            if left:
                self._step(name, left.pop(0))
        return [status for name, status in self.all.items() if name not in self.pool]

    def spares(self):
        return [status for name, status in self.all.items() if name in self.pool]

    def status(self, name):
        return self.all.get(name)

    def _step(self, name, step):
        if step and name in self.all:
            self.set(name, *step)

    def set(self, name, state, reason="", host="node01", want=None):
        self._clock += 1
        old = self.all[name]
        where = Desktop(host, 5901) if state is RUNNING else None
        self.all[name] = replace(
            old,
            state=state,
            reason=reason,
            host=host if where else "",
            since=self._clock,
            want=want or old.want,
            desktop=where,
        )

    async def start_desktops(self, names):
        return self._do("start", names, [(REQUESTED,), (PENDING, "Priority"), (STARTING,), (RUNNING,)], Want.UP)

    async def start_as(self, name, kind, size):
        if self.all[name].state is RUNNING and (self.all[name].kind, self.all[name].size) != (kind, size):
            raise ControlError(f"{name} has {self.all[name].kind} already")
        self.calls.append(("start as", name, kind, size))
        self.all[name] = replace(self.all[name], kind=kind, size=size, want=Want.UP)

    async def stop_desktops(self, names):
        return self._do("stop", names, [(STOPPING,), (STOPPED,)], Want.DOWN)

    async def restart_desktops(self, names):
        return self._do("restart", names, [(STOPPING,), (REQUESTED,), (STARTING,), (RUNNING,)], Want.UP)

    def _do(self, word, patterns, way, want):
        named = {pattern: fnmatch.filter(self.all, pattern) for pattern in patterns}
        if unknown := [pattern for pattern, names in named.items() if not names]:
            raise ControlError(f"no such account: {', '.join(unknown)}")
        names = [name for found in named.values() for name in found]
        self.calls.append((word, names))
        for name in names:
            self.all[name] = replace(self.all[name], want=want)
            if word != "start" or self.all[name].state is not RUNNING:
                first, *self._left[name] = self.ways.get(name, way)
                self._step(name, first)
        return names

    def visit(self, name):
        self.calls.append(("visit", name))

    def retry(self, name):
        self.calls.append(("retry", name))

    def stay(self, name):
        self.calls.append(("stay", name))

    async def logs(self, name, lines=200):
        if name not in self.all:
            raise ControlError(f"no such account: {name}")
        if self.all[name].state is FAILED:
            raise LaunchError("node01 does not answer")
        return "".join(f"{name} line {number}\n" for number in range(1, 6)[-lines:])
