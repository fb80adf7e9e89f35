import asyncio
import contextlib
import socket
import ssl
import time

import pytest
from aiohttp import WSCloseCode, web

from tests.doctor.cases import account, case, results, told
from tests.test_rfb import server, text, u32
from vncgate.doctor import public
from vncgate.doctor.public import Page

NOW = 1_800_000_000.0
LANDING = '<div id="accounts"><li data-path="path-ws01"></li></div>'


def certificate(days):
    return {"notAfter": time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(NOW + 86400 * days))}


def distrust(code, words):
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, words
    return error


@pytest.mark.parametrize(
    ("found", "result", "words"),
    [
        (certificate(60), "ok", "60 days left"),
        (certificate(7), "warning", "ends in 7 days"),
        (distrust(10, "certificate has expired"), "error", "has expired"),
        (distrust(18, "self-signed certificate"), "error", "browsers do not trust the certificate: self-signed"),
        (distrust(62, "Hostname mismatch, certificate is not valid for 'h'."), "error", "is not for h"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x"), "error", "no TLS"),
        (ConnectionRefusedError(), "error", "h refuses the connection"),
        (socket.gaierror(-2, "x"), "error", "h is not known: no such host"),
        (TimeoutError(), "error", "h did not answer within"),
    ],
)
def test_certificates(found, result, words):
    finding = public.judge_certificate(found, NOW, "h")
    assert results([finding]) == [result]
    assert words in finding.message


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        (Page(200, LANDING, "u", 0.0), [("ok", "the landing page is there, with 1 account")]),
        (Page(200, LANDING.replace("ws01", "ws09"), "u", None), [("error", "the landing page does not have ws01")]),
        (Page(200, "It works!", "u", 4.0), [("error", "u is another page than vncgate's")]),
        (Page(503, "", "u", 0.0), [("error", "the landing page answers 503")]),
        (
            Page(200, LANDING, "u", -9.6),
            [
                ("ok", "the landing page is there, with 1 account"),
                ("warning", "the web server's clock is 10 s behind ours"),
            ],
        ),
    ],
)
def test_pages(page, wanted):
    assert told(public.judge_page(page, [account("ws01")])) == wanted


@pytest.mark.parametrize(
    ("number", "names"),
    [(1, [0]), (3, [0, 20, 40]), (60, [*range(60)]), (99, [*range(60)]), (None, [*range(60)])],
)
def test_a_sample_is_spread(number, names):
    assert public.spread(range(60), number) == names


class Site:
    """A web server that answers as a test wants."""

    def __init__(self, answer):
        self.answer = answer
        self.origins = []

    async def landing(self, request):
        return web.Response(text=LANDING, content_type="text/html")

    async def desktop(self, request):
        self.origins.append(request.headers.get("Origin"))
        if isinstance(self.answer, int):
            return web.Response(status=self.answer)
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        if isinstance(self.answer, str):
            await websocket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=self.answer.encode())
            return websocket
        await websocket.send_bytes(self.answer)
        with contextlib.suppress(asyncio.CancelledError):
            async for _ in websocket:
                pass
        return websocket

    @contextlib.asynccontextmanager
    async def serving(self):
        app = web.Application()
        app.router.add_get("/", self.landing)
        app.router.add_get("/ws/path-ws01", self.desktop)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def seen_through(answer):
    site = Site(answer)
    async with site.serving() as url:
        each = case("ws01", url=url)
        each.usable = list(each.roster.accounts)
        found = told(await public.check(each))
    assert found[:2] == [
        ("warning", "without TLS all can be read on the way"),
        ("ok", "the landing page is there, with 1 account"),
    ]
    assert site.origins == [url]
    return found[2:]


@pytest.mark.parametrize(
    ("answer", "result", "words"),
    [
        (server(8, 2), "ok", "1 desktop reached all the way: ws01"),
        (server(8, 2, u32(1), text(b"no")), "error", "the desktop of ws01: the desktop refused the password"),
        (b"nonsense", "error", "the desktop does not speak VNC"),
        ("desktop node01:5901 refused the connection", "error", "refused the connection"),
        (404, "error", "the desktop of ws01: the websocket is refused with HTTP 404"),
        (403, "error", "HTTP 403"),
        (200, "error", "HTTP 200"),
    ],
)
async def test_a_desktop_all_the_way(answer, result, words):
    ((found, message),) = await seen_through(answer)
    assert found == result
    assert words in message


async def test_no_desktop_is_tried_that_did_not_let_us_in():
    async with Site(404).serving() as url:
        assert results(await public.check(case("ws01", url=url))) == ["warning", "ok", "skipped"]


async def test_a_desktop_that_says_nothing(monkeypatch):
    monkeypatch.setattr(public, "PATIENCE", 0.2)
    ((result, message),) = await seen_through(b"RFB ")
    assert (result, message) == ("error", "the desktop of ws01: the desktop did not finish the login within 0.2 s")


async def test_nobody_is_there(free_port):
    for scheme in ("http", "https"):
        each = case("ws01", url=f"{scheme}://127.0.0.1:{free_port()}/")
        assert results(await public.check(each))[-1] == "error"


async def test_no_address():
    assert results(await public.check(case("ws01"))) == ["skipped"]
