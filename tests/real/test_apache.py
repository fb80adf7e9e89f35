"""Our example virtual hosts, both forms of the snippet, and the publisher, with a real Apache.

The gate is played by one small server that echoes what it is sent, so that Apache alone is tried here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.real.apache import EXAMPLES, HOST, PATIENCE, Apache, example
from tests.real.conftest import need
from vncgate.errors import PublishError
from vncgate.model import Account, Desktop, Roster, Secret
from vncgate.publish import ApachePublisher
from vncgate.render.apache import render
from vncgate.render.headers import IMMUTABLE, REVALIDATE, STATIC_HEADERS, novnc_policy
from vncgate.settings import Form, Settings
from vncgate.web.export import export

need("apache2")
pytestmark = pytest.mark.real
NOVNC = Path("/usr/share/novnc")
both = pytest.mark.parametrize("name", ["vncgate.conf", "vncgate-rhel.conf"])


class Backend:
    """What stands behind Apache: echoes websockets, tells of requests what came, sends two events on demand."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.requests: list[web.Request] = []

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        app = web.Application()
        app.router.add_get("/api/events", self.events)
        app.router.add_route("*", "/{tail:.*}", self.answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        return self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await self.go_on.wait()
        with contextlib.suppress(ConnectionError):  # a browser went to another page
            await response.write(b"data: two\n\n")
        return response

    async def reached(self, path: str) -> None:
        """Wait until this path was asked for."""
        async with asyncio.timeout(PATIENCE):
            while path not in [request.path for request in self.requests]:
                await asyncio.sleep(0.02)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.json_response(
                {"path": request.path, "headers": [list(item) for item in request.headers.items()]}
            )
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(request.path.encode() + b" " + message.data)
        return socket

    async def __aenter__(self) -> Backend:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.go_on.set()
        await self.stop()


@pytest.fixture
async def backend():
    async with Backend() as backend:
        yield backend


@pytest_asyncio.fixture(loop_scope="module")
async def chromiums_backend():
    """One in the loop that Chromium is driven from."""
    async with Backend() as backend:
        yield backend


class Browser:
    """A client that knows Apache by its certificate."""

    def __init__(self, apache: Apache, session: aiohttp.ClientSession) -> None:
        self.apache = apache
        self.session = session

    async def get(self, path: str, **options) -> aiohttp.ClientResponse:
        options.setdefault("allow_redirects", False)
        response = await self.session.get(self.apache.url(path), **options)
        await response.read()
        return response

    def desktop(self, path: str):
        return self.session.ws_connect(self.apache.url(path), headers={"Origin": f"https://{HOST}"})

    async def echo(self, path: str) -> str:
        async with self.desktop(path) as desktop:
            return await echo(desktop)


async def echo(desktop: aiohttp.ClientWebSocketResponse) -> str:
    """Where a websocket leads: the path that the backend saw."""
    await desktop.send_bytes(b"hello")
    path, _, said = (await desktop.receive_bytes(timeout=PATIENCE)).partition(b" ")
    assert said == b"hello"
    return path.decode()


@contextlib.asynccontextmanager
async def browser(apache: Apache):
    connector = aiohttp.TCPConnector(ssl=apache.client_context())
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Browser(apache, session)


def site(name: str, port: int, **defines: object) -> str:
    return example(name, VNCGATE_WEB=f"127.0.0.1:{port}", **defines)


def account(path: str, port: int | None) -> Account:
    return Account(f"name-{path}", Desktop("node01", 5901), path, port, Secret("secret"))


def snippet(apache: Apache, form: Form, *accounts: Account, **values: object) -> None:
    settings = Settings(**{"apache": {"form": form}} | values)
    apache.snippet.write_text(render(Roster(accounts), settings))


def test_both_examples_are_the_same_but_for_their_heads():
    bodies = {path.name: path.read_text().partition("<VirtualHost")[2] for path in EXAMPLES.glob("*.conf")}
    plain = {name: re.sub(r", in /etc/\S+:", "", body) for name, body in bodies.items()}
    assert len(bodies) == 2
    assert len(set(plain.values())) == 1


@both
async def test_http_leads_to_https(name, backend):
    with Apache(site(name, await backend.start())) as apache:
        async with aiohttp.ClientSession() as session:
            url = apache.url("/desk/ws01?x=1", "http")
            async with session.get(url, allow_redirects=False) as response:
                assert response.status == 301
                assert response.headers["Location"] == f"https://{HOST}/desk/ws01?x=1"
    assert not backend.requests


@both
async def test_pages_are_proxied_and_the_browser_must_keep_to_https(name, backend):
    with Apache(site(name, await backend.start())) as apache:
        async with browser(apache) as client:
            response = await client.get("/desk/ws01")
            assert (await response.json())["path"] == "/desk/ws01"
            assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


@both
async def test_nobody_forges_the_forwarding_headers(name, backend):
    forged = {
        "X-Forwarded-For": "192.0.2.66",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Server": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "Forwarded": "for=192.0.2.66",
        "Host": HOST,
    }
    # Named in Connection, a header is taken for one of this hop and dropped (CVE-2022-31813): not these.
    dropping = {"Host": HOST, "Connection": "close, X-Forwarded-For, X-Forwarded-Host"}
    with Apache(site(name, await backend.start())) as apache:
        async with browser(apache) as client:
            for headers in (forged, dropping):
                seen = (await (await client.get("/", headers=headers)).json())["headers"]
                forwarded = sorted([key.lower(), value] for key, value in seen if "forwarded" in key.lower())
                assert forwarded == [
                    ["x-forwarded-for", "127.0.0.1"],
                    ["x-forwarded-host", HOST],
                    ["x-forwarded-proto", "https"],
                    ["x-forwarded-server", HOST],
                ]
                assert ["Host", HOST] in seen


@both
async def test_events_arrive_one_by_one_even_where_everything_is_compressed(name, backend):
    text = site(name, await backend.start())
    with Apache(text.replace(" DEFLATE ", " DEFLATE text/event-stream application/json ")) as apache:
        async with browser(apache) as client:
            gzip = {"Accept-Encoding": "gzip"}
            async with client.session.get(apache.url("/api/events"), headers=gzip) as response:
                async with asyncio.timeout(PATIENCE):
                    assert await response.content.readuntil(b"\n\n") == b"data: one\n\n"
                assert "Content-Encoding" not in response.headers
                backend.go_on.set()
                assert await response.content.read() == b"data: two\n\n"
            assert (await client.get("/", headers=gzip)).headers["Content-Encoding"] == "gzip"


@both
async def test_health_check_tells_whether_the_gate_lives(name, backend):
    port = await backend.start()
    with Apache(site(name, port)) as apache:
        async with browser(apache) as client:
            assert (await client.get("/healthz")).status == 200
            await backend.stop()
            assert (await client.get("/healthz")).status == 503
            page = await client.get("/")
            assert page.status == 503
            assert "is being restarted" in await page.text()
            assert page.headers["Strict-Transport-Security"]
            await backend.start(port=port)
            assert (await client.get("/healthz")).status == 200
            assert (await client.get("/")).status == 200
        log = (apache.folder / "vncgate-access.log").read_text()
        assert "GET / " in log
        assert "healthz" not in log


@both
def test_only_modern_tls(name):
    with Apache(example(name)) as apache:
        assert tls(apache) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
        modern = "ECDHE-ECDSA-AES128-GCM-SHA256"
        assert tls(apache, modern) == ("TLSv1.2", modern)
        with pytest.raises(ssl.SSLError):
            tls(apache, "ECDHE-ECDSA-AES128-SHA")  # without authenticated encryption


@both
def test_http1_also_where_the_server_has_http2(name):
    http2 = "LoadModule http2_module /usr/lib/apache2/modules/mod_http2.so\nProtocols h2 http/1.1"
    with Apache(example(name), extra=http2) as apache:
        context = apache.client_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", apache.https), timeout=PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as secure,
        ):
            assert secure.selected_alpn_protocol() == "http/1.1"


def tls(apache: Apache, ciphers: str = "") -> tuple[str, str]:
    """Version and cipher agreed on; with `ciphers`, of TLS 1.2 alone."""
    context = apache.client_context()
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
    with (
        socket.create_connection(("127.0.0.1", apache.https), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as secure,
    ):
        return secure.version(), secure.cipher()[0]


@both
@pytest.mark.parametrize("listen", ["127.0.0.1", "::1"])
async def test_guide_form_reaches_each_account(name, listen, backend):
    port = await backend.start(listen)
    with Apache(site(name, port)) as apache:
        accounts = (account("ws01", port), account("ws.02_x-y", None))
        snippet(apache, Form.GUIDE, *accounts, listen=listen, shared_port=port)
        apache.reload()
        async with browser(apache) as client:
            assert await client.echo("/ws01") == "/websockify"
            assert await client.echo("/ws.02_x-y") == "/ws/ws.02_x-y"


@both
async def test_single_form_reaches_every_account_and_nothing_else(name, backend):
    port = await backend.start()
    pages = Backend()
    with Apache(site(name, await pages.start())) as apache:
        snippet(apache, Form.SINGLE, shared_port=port)
        apache.reload()
        async with browser(apache) as client:
            assert await client.echo("/ws/ws01") == "/ws/ws01"
            assert await client.echo("/ws/ws.02_x-y") == "/ws/ws.02_x-y"
            assert backend.requests[0].headers["X-Forwarded-For"] == "127.0.0.1"
            assert backend.requests[0].headers["Origin"] == f"https://{HOST}"
            before = len(backend.requests)
            for path in (
                "/ws/",
                "/ws/a/b",
                "/ws/.hidden",
                "/ws/a%2fb",
                "/ws/a%0d%0ab",
                "/ws/a%20b",
                "/ws/a%3fb",
                "/ws/$1",
            ):
                await client.get(path)
            assert len(backend.requests) == before
    await pages.stop()


async def test_single_form_is_there_again_as_soon_as_the_gate_is(backend):
    port = await backend.start()
    await backend.stop()
    with Apache(site("vncgate.conf", port)) as apache:
        snippet(apache, Form.SINGLE, shared_port=port)
        apache.reload()
        async with browser(apache) as client:
            with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
                await client.echo("/ws/ws01")
            await backend.start(port=port)
            assert await client.echo("/ws/ws01") == "/ws/ws01"


@pytest.mark.parametrize("form", Form)
async def test_a_silent_websocket_outlives_apaches_own_time_outs(form, backend):
    port = await backend.start()
    impatient = "Timeout 1\nRequestReadTimeout header=1,minrate=500 body=1,minrate=500"
    with Apache(site("vncgate.conf", port), extra=impatient) as apache:
        snippet(apache, form, account("ws01", port), shared_port=port)
        apache.reload()
        async with browser(apache) as client, client.desktop("/ws01" if form is Form.GUIDE else "/ws/ws01") as desktop:
            await asyncio.sleep(2.5)  # Apache's clock, not ours
            assert await echo(desktop)


@both
async def test_static_export_is_served_as_the_gate_would(name, backend):
    port = await backend.start()
    with Apache(site(name, port, VNCGATE_EXPORT="${TEST_FOLDER}/pages")) as apache:
        export(apache.folder / "pages", Settings(), Roster((account("ws01", port), account("ws02", None))))
        async with browser(apache) as client:
            page = await client.get("/")
            assert page.status == 200
            assert page.content_type == "text/html"
            assert page.charset == "utf-8"
            assert {key: page.headers.getall(key) for key in STATIC_HEADERS} == {
                key: [value] for key, value in STATIC_HEADERS.items()
            }
            assert page.headers.getall("Cache-Control") == [REVALIDATE]
            assert page.headers["Strict-Transport-Security"]
            again = await client.get("/", headers={"If-None-Match": page.headers["ETag"]})
            assert again.status == 304
            script = re.search(r'src="\./(static/[0-9a-f]{16}/landing\.js)"', await page.text()).group(1)
            file = await client.get("/" + script)
            assert file.status == 200
            assert file.content_type == "text/javascript"
            assert file.headers.getall("Cache-Control") == [IMMUTABLE]
            again = await client.get("/" + script, headers={"If-None-Match": file.headers["ETag"]})
            assert again.status == 304
            missing = await client.get("/" + script.replace("landing", "nothing"))
            assert missing.status == 404
            assert missing.headers.get("Cache-Control") is None
            desk = await client.get("/desk/ws01", allow_redirects=True)
            assert desk.status == 200
            assert desk.url.path == "/desk/ws01/"
            assert (await client.get("/desk/")).status == 403
            assert (await client.get("/.vncgate-export.json")).status == 403
            assert (await client.get("/desk/ws03")).status == 404
            assert not backend.requests
            assert (await (await client.get("/api/accounts")).json())["path"] == "/api/accounts"
            assert (await client.get("/healthz")).status == 200


@both
async def test_pages_styles_and_scripts_are_compressed_and_kept(name):
    with Apache(site(name, 1, VNCGATE_EXPORT="${TEST_FOLDER}/pages")) as apache:
        export(apache.folder / "pages", Settings(), Roster((account("ws01", None),)))
        async with browser(apache) as client:
            text = await (await client.get("/", headers={"Accept-Encoding": "identity"})).text()
            files = re.findall(r'="\./(static/[0-9a-f]{16}/[\w-]+\.(?:js|css))"', text)
            assert len(files) >= 2
            for path in ("/", *(f"/{file}" for file in files)):
                plain = await client.get(path, headers={"Accept-Encoding": "identity"})
                assert "Content-Encoding" not in plain.headers
                packed = await client.get(path, headers={"Accept-Encoding": "gzip"})
                assert packed.headers.getall("Content-Encoding") == ["gzip"]
                assert "Accept-Encoding" in packed.headers["Vary"]
                assert await packed.read() == await plain.read()
                known = {"Accept-Encoding": "gzip", "If-None-Match": packed.headers["ETag"]}
                assert (await client.get(path, headers=known)).status == 304


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("name", "form", "opened", "reached"),
    [
        ("vncgate.conf", Form.SINGLE, "/ws/ws01", "/ws/ws01"),
        ("vncgate-rhel.conf", Form.GUIDE, "/ws01", "/websockify"),
    ],
)
async def test_debians_novnc_from_the_static_page(name, form, opened, reached, browse, chromiums_backend):
    if not (NOVNC / "vnc.html").is_file():
        pytest.skip(f"missing: {NOVNC}/vnc.html (Debian package novnc)")
    port = await chromiums_backend.start()
    defines = {"VNCGATE_EXPORT": "${TEST_FOLDER}/pages", "VNCGATE_NOVNC": NOVNC}
    settings = Settings(apache={"form": form}, landing={"novnc_dir": NOVNC}, shared_port=port)
    with Apache(site(name, port, **defines)) as apache:
        export(apache.folder / "pages", settings, Roster((account("ws01", port),)))
        apache.snippet.write_text(render(Roster((account("ws01", port),)), settings))
        apache.reload()
        async with browser(apache) as client:
            page = await client.get("/novnc/vnc.html")
            headers = STATIC_HEADERS | {"Content-Security-Policy": novnc_policy(), "Cache-Control": REVALIDATE}
            assert {key: page.headers.getall(key) for key in headers} == {key: [headers[key]] for key in headers}
            assert (await client.get("/novnc/app/ui.js")).content_type == "text/javascript"
            assert (await client.get("/novnc/app/")).status == 403
        page = await browse(apache.url())
        async with page.expect_event("websocket") as websocket:
            await page.get_by_role("link", name="name-ws01").click()
        assert (await websocket.value).url == apache.url(opened, "wss")
        await chromiums_backend.reached(reached)
        assert [text for text in page.complaints if "Security Policy" in text] == []


@both
def test_the_sizes_that_the_comment_advises_are_taken_without_a_warning(name):
    lines = re.findall(r"^#     (\w+ +\d+)$", (EXAMPLES / name).read_text(), re.MULTILINE)
    assert len(lines) == 3
    with Apache(example(name), extra="\n".join(lines)) as apache:
        assert not [line for line in apache.log.splitlines() if "mpm_event:warn" in line or "WARNING" in line]


async def test_what_apache_refuses_is_taken_back_and_apache_goes_on(backend):
    port = await backend.start()
    with Apache(site("vncgate.conf", port)) as apache:
        publisher = ApachePublisher(Settings(apache=apache.settings(form="guide"), shared_port=port))
        before = apache.moment()
        await publisher.publish(Roster((account("ws01", port),)))
        await asyncio.to_thread(apache.wait_for_reload, before)
        good = apache.snippet.read_bytes()
        # Our lines are always right, so something else is broken: to Apache it is all one configuration.
        (apache.folder / "site.conf").write_text(apache.site + "\nNoSuchDirective on\n")
        with pytest.raises(PublishError, match="NoSuchDirective") as refused:
            await publisher.publish(Roster((account("ws01", port), account("ws02", port))))
        assert "Syntax error on line" in str(refused.value)
        assert publisher.last_error == str(refused.value)
        assert apache.snippet.read_bytes() == good
        async with browser(apache) as client:
            assert await client.echo("/ws01") == "/websockify"
        assert apache.generations == 2
        await publisher.aclose()


async def test_guide_form_reloads_and_open_desktops_stay(backend):
    port = await backend.start()
    with Apache(site("vncgate.conf", port)) as apache:
        settings = Settings(apache=apache.settings(form="guide"), shared_port=port)
        publisher = ApachePublisher(settings, sleep=lambda _: asyncio.sleep(0))
        before = apache.moment()
        await publisher.publish(Roster((account("ws01", port),)))
        await asyncio.to_thread(apache.wait_for_reload, before)
        async with browser(apache) as client, client.desktop("/ws01") as desktop:
            assert await echo(desktop) == "/websockify"
            before = apache.moment()
            await publisher.publish(Roster((account("ws02", None),)))
            await asyncio.to_thread(apache.wait_for_reload, before)
            assert await client.echo("/ws02") == "/ws/ws02"
            assert (await (await client.get("/ws01")).json())["path"] == "/ws01"  # a page now, no desktop
            assert await echo(desktop) == "/websockify"
        assert publisher.last_error == ""
        await publisher.aclose()


async def test_single_form_needs_no_reload_for_a_new_account(backend):
    port = await backend.start()
    with Apache(site("vncgate.conf", port)) as apache:
        publisher = ApachePublisher(Settings(apache=apache.settings(form="single"), shared_port=port))
        await publisher.publish(Roster())
        apache.reload()
        async with browser(apache) as client:
            await publisher.publish(Roster((account("ws01", None),)))
            assert await client.echo("/ws/ws01") == "/ws/ws01"
        assert apache.generations == 2
        await publisher.aclose()
