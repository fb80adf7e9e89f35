"""Where the gate listens, what of that others can reach, and that who knocks while it is handed over waits."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from vncgate import control, settings
from vncgate.doors import METRICS, PAGES, SHARED, Doors, addresses, warn_of_exposure
from vncgate.listeners import Listeners


class Operator:
    """Answers nothing but its status."""

    def status(self):
        return {"accounts": []}


async def metrics(request):
    return web.Response(text="figures")


def pages():
    async def landing(request):
        return web.Response(text="pages")

    app = web.Application()
    app.router.add_get("/", landing)
    return app


@pytest.mark.parametrize(
    ("flags", "owners"),
    [
        ({}, {8081: SHARED, 8080: PAGES}),
        ({"web": "off", "engine": "websockify"}, {}),
        ({"metrics.address": ":9480"}, {8081: SHARED, 8080: PAGES, 9480: METRICS}),
        ({"metrics.address": "127.0.0.1:8080"}, {8081: SHARED, 8080: PAGES}),
    ],
)
def test_addresses(flags, owners):
    assert {address.port: owner for address, owner in addresses(settings.load(flags=flags))} == owners


def test_what_others_can_reach_is_told(caplog):
    warn_of_exposure(settings.load(flags={"metrics.address": "127.0.0.1:9480"}))
    assert not caplog.records
    warn_of_exposure(settings.load(flags={"listen": "0.0.0.0", "web": "[::]:8080", "metrics.address": "10.0.0.5:1"}))
    assert "websocket ports on 0.0.0.0, pages on [::]:8080, metrics on 10.0.0.5:1: other machines" in caplog.text


async def test_whoever_knocks_while_it_is_handed_over_waits(tmp_path, free_port):
    port, other = free_port.many(2)
    chosen = settings.load(flags={"web": f"127.0.0.1:{port}", "metrics.address": f"127.0.0.1:{other}"})
    listeners, path = Listeners(chosen.listen), tmp_path / "control"
    doors = Doors(chosen, listeners, Operator(), metrics, pages)
    assert not doors.are_open

    async def said():
        async with aiohttp.ClientSession() as session:
            texts = []
            for url in (f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{other}/metrics"):
                async with session.get(url) as response:
                    texts.append(await response.text())
            return texts

    await doors.open(control.bind(path))
    await doors.show()
    assert await said() == ["pages", "figures"]
    kept = await doors.hand_over()
    assert path.exists()
    knocking = asyncio.ensure_future(said())
    asked = asyncio.ensure_future(asyncio.to_thread(control.call, path, "/status"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not knocking.done()
    await doors.open(kept)
    async with asyncio.timeout(10):
        assert await asked == {"accounts": []}
        assert not knocking.done(), "its account is not known yet"
        await doors.show()
        assert await knocking == ["pages", "figures"]
    await doors.aclose()
    listeners.close_all()
    assert not path.exists()
