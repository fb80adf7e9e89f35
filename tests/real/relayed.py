"""Pages and relay in the test's own loop, for some real VNC servers, as the daemon would put them together."""

from __future__ import annotations

import socket
from dataclasses import replace

from aiohttp import web

from tests.real.xvnc import Xvnc
from tests.web.values import DESKTOPS, Started
from vncgate.engines.base import POLICY, Limits
from vncgate.engines.relay import Relay
from vncgate.model import Account, AccountStatus, Readiness, Roster, State, Traffic, Want
from vncgate.settings import load
from vncgate.web.app import build


class Gate:
    """An account for each Xvnc. Where `desktops` are given, the gate starts them, as far as anybody can tell."""

    def __init__(self, desktops: Started | None = None, **servers: Xvnc) -> None:
        self.desktops = desktops
        self.accounts = {
            name: Account(name, server.desktop, name, None, server.password, name.upper(), watch_input=True)
            for name, server in servers.items()
        }
        self.readiness = dict.fromkeys(servers, (Readiness.READY, ""))
        self.proxies = {}
        self.suspected: list[str] = []
        self.served: list[str] = []

    async def __aenter__(self):
        self._shared, pages = _listener(), _listener()
        self.port = pages.getsockname()[1]
        settings = load(flags={"web": f"127.0.0.1:{self.port}", "shared_port": self._shared.getsockname()[1]})
        self._relay = Relay(Limits.of(settings))
        await self.serve()
        for name in self.accounts:
            await self.open(name)
        self.settings = settings.model_copy(update={"desktops": DESKTOPS})
        app = build(settings=self.settings, roster=self.roster, statuses=self._statuses, desktops=self.desktops)
        app.on_response_prepare.append(self._note)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, pages).start()
        return self

    async def __aexit__(self, *_):
        for name in list(self.proxies):
            await self.close(name, POLICY, "the test is over")
        await self.hide()
        self._shared.close()
        await self._runner.cleanup()

    async def serve(self):
        """Let the shared port answer."""
        await self._relay.start(self._shared)
        await self._relay.rest(on=False)

    async def hide(self):
        """Let nothing answer behind the shared port."""
        await self._relay.aclose()

    async def open(self, name):
        self.proxies[name] = await self._relay.open(self.accounts[name].route, None, self.suspected.append)

    async def close(self, name, code, reason):
        await self.proxies.pop(name).close(code, reason)

    def url(self, name):
        return f"http://127.0.0.1:{self.port}/desk/{name}"

    async def _note(self, request, response):
        self.served.append(f"{response.status} {request.path}")

    def roster(self):
        accounts = self.accounts.values()
        return Roster(tuple(replace(each, desktop=None) if self.desktops else each for each in accounts))

    def _statuses(self):
        return [self._status(name, self.proxies.get(name)) for name in self.accounts]

    def _status(self, name, proxy):
        want, state = (Want.UP, State.RUNNING) if proxy else (Want.DOWN, State.STOPPED)
        traffic = proxy.traffic() if proxy else Traffic()
        return AccountStatus(self.accounts[name], want, state, *self.readiness[name], 0.0, traffic, 0, "")


def _listener():
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock
