"""Files in and out by HTTP: whose they are, ranges, archives as they are read, links, and uploads by tus."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import pytest_asyncio
import zstandard
from aiohttp import ClientSession, CookieJar
from aiohttp.test_utils import TestServer

from tests.real.gate import ME
from tests.takeaway.asking import contents
from tests.web.organized import House
from vncgate import seat_links
from vncgate.languages import Words
from vncgate.model import Secret
from vncgate.people import Mode
from vncgate.takeaway import agents
from vncgate.takeaway.room import PURPOSE
from vncgate.web import files as module

FILES = "/files/path-ws01"
TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = {**TUS, "Content-Type": "application/offset+octet-stream"}


class Site(House):
    """A house with a folder for each account. `client` is nobody's yet."""

    def __init__(self, folder, **settings):
        root = {"files.root": f"{folder}/files/{{account}}", "files.user": ME}
        super().__init__(folder, **{**root, **settings})
        for name in self.roster:
            (folder / "files" / name).mkdir(parents=True)
        self.files = folder / "files" / "ws01"

    @contextlib.asynccontextmanager
    async def serving(self):
        async with self.open(), TestServer(self.application()) as self.server, self.visitor() as self.client:
            yield self

    @contextlib.asynccontextmanager
    async def visitor(self, account=""):
        """A browser of somebody's, or of nobody's."""
        async with ClientSession(self.server.make_url("/"), cookie_jar=CookieJar(unsafe=True)) as client:
            if account:
                await self.sign_in(client, account)
            yield client

    async def sign_in(self, client, account):
        client.cookie_jar.update_cookies({"vncgate_session": await self.enter(account)}, self.server.make_url("/"))


@pytest_asyncio.fixture
async def site(tmp_path):
    async with Site(tmp_path).serving() as site:
        await site.sign_in(site.client, "ws01")
        yield site


async def text(response, status=200):
    said = await response.text()
    assert response.status == status, said
    return said


async def form(client, page, **fields):
    """The fields of a form of that page."""
    said = await text(await client.get(page))
    return {"form_token": re.search(r'name="form_token" value="([^"]+)"', said)[1], **fields}


# ---- the list ----


async def test_the_way_to_ones_own(site):
    response = await site.client.get("/files")
    assert response.url.path == FILES
    assert "Files of Seat 1" in await text(response)


@pytest.mark.parametrize("path", ["/files", FILES, "/files/path-ws02", "/files/nobody"])
async def test_who_is_not_signed_in_is_led_there_and_then_to_ones_own(site, path):
    async with site.visitor() as nobody:
        answer = await nobody.get(path, allow_redirects=False)
        led = "../" * (path.count("/") - 1) or "./"
        assert (answer.status, answer.headers["Location"]) == (303, f"{led}?next=files")
        assert 'name="next" value="files"' in await text(await nobody.get(path))


async def test_the_list(site):
    (site.files / "a folder").mkdir()
    (site.files / "a folder" / "x").write_bytes(bytes(1500))
    (site.files / "<b>.html").write_bytes(bytes(10))
    said = await text(await site.client.get(FILES))
    assert "a folder/</a>" in said
    assert "1.5 kB" in said
    assert "&lt;b&gt;.html" in said
    assert "<b>.html" not in said
    assert 'data-total="1510"' in said
    below = await text(await site.client.get(f"{FILES}?in=a%2520folder"))
    assert 'value="a%20folder/x"' in below


async def test_folders_that_are_none(site):
    for path in ["..", "%2e%2e", "gone", "../ws02", "a%00"]:
        assert "no such file or folder" in await text(await site.client.get(FILES, params={"in": path}), 404)


async def test_whose_files_they_are(site):
    """Each one's own; and for all others there is no telling whether there are such."""
    (site.folder / "files" / "ws02" / "theirs").write_text("secret")
    ways = [("GET", "", 404), ("GET", "/file?name=theirs", 404), ("POST", "/pack", 404), ("POST", "/uploads", 404)]
    for path in ("path-ws02", "path-gone"):
        said = set()
        for method, way, status in ways:
            response = await site.client.request(method, f"/files/{path}{way}", headers=TUS)
            assert response.status == status, (path, way)
            said.add((way, (await response.text()).replace(path, "PATH")))
        assert "secret" not in str(said)
    async with site.visitor() as nobody:
        for path in ("path-ws01", "path-ws02", "path-gone"):
            for method, way, _ in ways:
                address = f"/files/{path}{way}"
                response = await nobody.request(method, address, headers=TUS, allow_redirects=False)
                assert response.status == (401 if way else 303), (path, way)


async def test_visitors_have_none(site):
    seating = site.participants.seating
    for mode in (Mode.VIEW, Mode.CONTROL):
        address = (await seating.share("ws01", mode, datetime.now(UTC) + timedelta(hours=1))).reveal()
        entry = await seating.enter_by_share(Secret(address.partition("#")[2]), "")
        async with site.visitor() as guest:
            guest.cookie_jar.update_cookies({"vncgate_session": entry.cookie.reveal()}, site.server.make_url("/"))
            assert (await guest.get(FILES)).status == 403


async def test_after_a_swap_both_folders(site):
    await site.participants.ledger.change_seat("ws04", spare=True)
    await site.participants.seating.look_again("ws04")
    await site.participants.seating.swap("ws01", "test", "ws04")
    assert 'href="../files/path-ws04"' in await text(await site.client.get(FILES))
    assert 'href="../files/path-ws01"' in await text(await site.client.get("/files/path-ws04"))
    assert (await site.client.get("/files/path-ws02")).status == 404


async def test_a_folder_that_is_not_there_is_said(site):
    site.files.rmdir()
    assert "no such file or folder" in await text(await site.client.get(FILES), 404)


def made_before(site):
    """A link of a time before `files_until` was set to what it is now."""
    whose = site.participants.takeaway._whose("ws01")
    return seat_links.sign(site.participants.key, PURPOSE, f"ws01/ws01.9999999999.{whose}")


async def test_in_the_workshops_life(site):
    """Files are there as long as its life has them."""
    for has_files, status in ((True, 200), (False, 403)):
        site.participants.life = SimpleNamespace(has_files=has_files)
        assert (await site.client.get(FILES)).status == status
        headers = {"Authorization": f"Bearer {made_before(site)}"}
        async with site.client.get("/take/all.zip", headers=headers) as answer:
            await answer.read()
            assert answer.status == status
    site.participants.life = None


async def test_when_it_is_over(tmp_path):
    until = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    async with Site(tmp_path, **{"workshop.files_until": datetime.fromisoformat(until)}).serving() as site:
        await site.sign_in(site.client, "ws01")
        assert "is over" in await text(await site.client.get(FILES), 403)
        token, _ = site.participants.takeaway.link("ws01")
        for link in (token.reveal(), made_before(site)):
            said = await site.client.get("/take/all.zip", headers={"Authorization": f"Bearer {link}"})
            assert said.status in (401, 403)


# ---- one file ----


async def test_a_file_is_never_shown_in_the_sites_name(site):
    (site.files / 'a"b\n<x>.html').write_text("<script>alert(1)</script>")
    response = await site.client.get(f"{FILES}/file", params={"name": "a%22b%0A%3Cx%3E.html"})
    assert await text(response) == "<script>alert(1)</script>"
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    said = response.headers["Content-Disposition"]
    assert said == "attachment; filename=\"a_b__x_.html\"; filename*=UTF-8''a%22b%EF%BF%BD%3Cx%3E.html"
    assert response.headers["Cache-Control"] == "no-store"


RANGES = [
    ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
    ("bytes=7-", 206, b"789", "bytes 7-9/10"),
    ("bytes=-3", 206, b"789", "bytes 7-9/10"),
    ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
    ("bytes=5-100", 206, b"56789", "bytes 5-9/10"),
    ("bytes=10-", 416, None, "bytes */10"),
    ("lines=1-2", 200, b"0123456789", None),
    ("bytes=1-2,4-5", 200, b"0123456789", None),
]


async def test_ranges(site):
    (site.files / "f").write_bytes(b"0123456789")
    for wanted, status, got, said in RANGES:
        response = await site.client.get(f"{FILES}/file?name=f", headers={"Range": wanted})
        body = await response.read()
        assert (response.status, response.headers.get("Content-Range")) == (status, said), wanted
        if got is not None:
            assert body == got
            assert response.headers["Content-Length"] == str(len(got))


async def test_ranges_of_the_same_edition_alone(site):
    (site.files / "f").write_bytes(b"0123456789")
    address = f"{FILES}/file?name=f"
    tag = (await site.client.get(address)).headers["ETag"]
    answer = await site.client.get(address, headers={"Range": "bytes=2-4", "If-Range": tag})
    assert await answer.read() == b"234"
    (site.files / "f").write_bytes(b"abcdefghij")
    for edition in (tag, "Sat, 21 Nov 2026 09:00:00 GMT"):
        answer = await site.client.get(address, headers={"Range": "bytes=2-4", "If-Range": edition})
        assert (answer.status, await answer.read()) == (200, b"abcdefghij")


async def test_head(site):
    (site.files / "f").write_bytes(b"0123456789")
    answer = await site.client.head(f"{FILES}/file?name=f")
    assert (answer.status, answer.headers["Content-Length"]) == (200, "10")


# ---- archives as they are read ----


@pytest.mark.parametrize("kind", ["zip", "tar.zst"])
async def test_what_was_chosen(site, kind):
    for name in ("a", "b ü", "c"):
        (site.files / name).write_text(name)
    fields = await form(site.client, FILES, item="a", format=kind)
    async with site.client.post(f"{FILES}/pack", data=[*fields.items(), ("item", "b%20%C3%BC")]) as answer:
        data = await answer.read()
        assert (
            answer.headers["Content-Disposition"]
            == f"attachment; filename=\"ws01.{kind}\"; filename*=UTF-8''ws01.{kind}"
        )
    if kind == "tar.zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    found, missing = contents(data, "tar" if kind == "tar.zst" else kind)
    assert found == {"a": b"a", "b ü": "b ü".encode()}
    assert missing == ""


async def test_how_far_it_is(site):
    (site.files / "a").write_bytes(bytes(100_000))
    ticket = "0" * 32
    fields = await form(site.client, FILES, format="zip", ticket=ticket)
    data = await (await site.client.post(f"{FILES}/pack", data=fields)).read()
    told = await (await site.client.get(f"{FILES}/progress", params={"ticket": ticket})).json()
    assert told == {"sent": len(data), "ended": True, "done": True}
    async with site.visitor("ws02") as other:
        assert await (await other.get("/files/path-ws02/progress", params={"ticket": ticket})).json() == {}


async def test_a_form_of_another_site_has_nothing(site):
    fields = await form(site.client, FILES, format="zip")
    for headers, data in (
        ({"Sec-Fetch-Site": "cross-site"}, fields),
        ({"Origin": "https://evil.example"}, fields),
        ({}, {**fields, "form_token": "x"}),
        ({}, {"format": "zip"}),
    ):
        assert (await site.client.post(f"{FILES}/pack", data=data, headers=headers)).status == 403
        assert (await site.client.post(f"{FILES}/link", data=data, headers=headers)).status == 403


async def test_a_format_that_is_none(site):
    fields = await form(site.client, FILES, format="rar")
    assert (await site.client.post(f"{FILES}/pack", data=fields)).status == 400


async def test_an_agent_that_fails_cuts_the_download(site, monkeypatch):
    """Nobody takes half an archive for the whole."""
    (site.files / "a").write_bytes(bytes(1000))
    fields = await form(site.client, FILES, format="zip", ticket="1" * 32)
    program = (
        "import sys; sys.stdin.buffer.read(); print('vncgate agent'); print('{}'); print('x'); raise SystemExit(3)"
    )
    monkeypatch.setattr(agents, "LOADER", program)
    with pytest.raises(Exception, match="closed|payload|disconnected|Cannot|Not enough") as caught:
        await (await site.client.post(f"{FILES}/pack", data=fields)).read()
    assert caught.type.__module__.startswith("aiohttp")
    told = await (await site.client.get(f"{FILES}/progress", params={"ticket": "1" * 32})).json()
    assert (told["ended"], told["done"]) == (True, False)


async def test_a_browser_that_goes_leaves_no_agent(site):
    (site.files / "a").write_bytes(bytes(50_000_000))
    fields = await form(site.client, FILES, format="zip", ticket="2" * 32)
    answer = await site.client.post(f"{FILES}/pack", data=fields)
    await answer.content.readany()
    answer.close()
    while not (await (await site.client.get(f"{FILES}/progress", params={"ticket": "2" * 32})).json())["ended"]:
        await asyncio.sleep(0.02)


# ---- archives that were built beforehand ----


async def test_built_beforehand(site):
    (site.files / "a").write_bytes(bytes(100_000))
    assert (await site.client.get(f"{FILES}/archive")).status == 404
    assert (await site.client.get(f"{FILES}/archive.sha256")).status == 404
    archives = site.participants.takeaway.archives
    await archives.build(["ws01"])
    await archives.wait()
    assert "All your work in one file" in await text(await site.client.get(FILES))
    whole = await site.client.get(f"{FILES}/archive")
    data = await whole.read()
    assert contents(data, "zip")[0] == {"": None, "a": bytes(100_000)}
    assert whole.headers["Content-Disposition"].startswith('attachment; filename="ws01.zip"')
    rest = {"Range": "bytes=1000-", "If-Range": whole.headers["ETag"]}
    part = await site.client.get(f"{FILES}/archive", headers=rest)
    assert (part.status, await part.read()) == (206, data[1000:])
    (site.files / "a").write_bytes(bytes(50_000))
    await archives.build(["ws01"])
    await archives.wait()
    anew = await site.client.get(f"{FILES}/archive", headers=rest)
    assert (anew.status, contents(await anew.read(), "zip")[0]) == (200, {"": None, "a": bytes(50_000)})
    said = await text(await site.client.get(f"{FILES}/archive.sha256"))
    assert said == f"{archives.status('ws01').sha256}  ws01.zip\n"


# ---- links ----


async def test_a_link(site):
    (site.files / "a").write_text("a")
    said = await text(await site.client.post(f"{FILES}/link", data=await form(site.client, FILES)))
    token = re.search(r'href="http://127\.0\.0\.1/take#([^"]+)"', said)[1]
    async with site.visitor() as nobody:
        answer = await nobody.get("/take/all.zip", headers={"Authorization": f"Bearer {token}"})
        assert contents(await answer.read(), "zip")[0] == {"": None, "a": b"a"}
        fields = await form(nobody, "/take", token=token, format="zip")
        answer = await nobody.post("/take", data=fields)
        assert contents(await answer.read(), "zip")[0] == {"": None, "a": b"a"}
        assert (await nobody.get(FILES, allow_redirects=False)).status == 303


async def test_links_that_open_nothing(site):
    token = site.participants.takeaway.link("ws01")[0].reveal()
    seat = site.participants.seating.link("ws01").reveal().partition("#")[2]
    other = token.replace("ws01", "ws02")
    async with site.visitor() as nobody:
        for wrong in ("", "x", token[:-1], token + "x", other, seat, token.replace("v1", "v2"), "v1.ws01.9999999999.."):
            answer = await nobody.get("/take/all.zip", headers={"Authorization": f"Bearer {wrong}"})
            assert answer.status == 401, wrong
            fields = await form(nobody, "/take", token=wrong, format="zip")
            assert (await nobody.post("/take", data=fields)).status == 403, wrong
        assert (await nobody.get("/take/all.zip")).status == 401
        assert (await nobody.get("/take/all.zip", headers={"Authorization": f"Basic {token}"})).status == 401
        assert (await nobody.get("/take/x", headers={"Authorization": f"Bearer {token}"})).status == 404


async def test_a_link_ends_when_somebody_else_sits_there(site):
    ada = await site.person("Ada", "ws02")
    takeaway = site.participants.takeaway
    token, _ = takeaway.link("ws02")
    assert takeaway.account(token).name == "ws02"
    await site.participants.seating.release("ws02", "test")
    assert takeaway.account(token) is None
    await site.person("Bo", "ws02")
    assert takeaway.account(token) is None
    assert ada


async def test_a_link_ends_when_the_seat_is_revoked_and_not_with_its_sessions(site):
    seating, takeaway = site.participants.seating, site.participants.takeaway
    await site.person("Ada", "ws02")
    token, _ = takeaway.link("ws02")
    await seating.renew("ws02", "test")  # as at the workshop's end
    assert takeaway.account(token).name == "ws02"
    assert seating.seat("ws02").pin_hash not in token.reveal() or not seating.seat("ws02").pin_hash
    await seating.revoke("ws02", "test")
    assert takeaway.account(token) is None
    await seating.new_pin("ws02", "test")
    assert takeaway.account(token) is None
    again, _ = takeaway.link("ws02")
    assert takeaway.account(again).name == "ws02"


async def test_a_link_to_a_spares_folder_ends_when_its_seat_shows_that_no_more(site):
    """The spare goes to others then, and who had it before does not read what they leave there."""
    seating, takeaway = site.participants.seating, site.participants.takeaway
    await seating.set_spare("ws04", "test", on=True)
    await seating.swap("ws01", "test", "ws04")
    said = await text(await site.client.post("/files/path-ws04/link", data=await form(site.client, FILES)))
    token = Secret(re.search(r'take#([^"]+)"', said)[1])
    own, _ = takeaway.link("ws01")
    assert takeaway.account(token).name == "ws04"
    await seating.swap_back("ws01", "test")
    assert takeaway.account(token) is None
    await seating.swap("ws02", "test", "ws04")
    assert takeaway.account(token) is None
    assert takeaway.account(own).name == "ws01"


async def test_a_link_expires(site, monkeypatch):
    takeaway = site.participants.takeaway
    token, until = takeaway.link("ws01")
    for span, holds in ((-1, True), (0, False), (1, False)):
        monkeypatch.setattr(takeaway, "_now", lambda span=span: until.replace(microsecond=0) + timedelta(seconds=span))
        assert (takeaway.account(token) is not None) == holds


# ---- uploads ----


def told(**metadata):
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in metadata.items())


async def begin(client, size, base=FILES, **metadata):
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": told(**{"filename": "new ü.txt", **metadata})}
    return await client.post(f"{base}/uploads", headers=headers)


async def more(client, address, offset, data):
    return await client.patch(
        address,
        headers={**CHUNK, "Upload-Offset": str(offset)},
        data=io.BytesIO(data) if isinstance(data, bytes) else data,
    )


async def test_an_upload(site):
    begun = await begin(site.client, 10)
    assert begun.status == 201
    address = f"{FILES}/{begun.headers['Location']}"
    first = await more(site.client, address, 0, b"01234")
    assert (first.status, first.headers["Upload-Offset"]) == (204, "5")
    asked = await site.client.head(address, headers=TUS)
    assert (asked.headers["Upload-Offset"], asked.headers["Upload-Length"]) == ("5", "10")
    assert asked.headers["Cache-Control"] == "no-store"
    assert (await more(site.client, address, 3, b"x")).status == 409
    last = await more(site.client, address, 5, b"56789")
    assert (last.status, last.headers["Upload-Offset"], last.headers["Upload-Name"]) == (204, "10", "new%20%C3%BC.txt")
    assert last.headers["Tus-Resumable"] == "1.0.0"
    assert (site.files / "new ü.txt").read_bytes() == b"0123456789"
    asked = await site.client.head(address, headers=TUS)
    assert asked.headers["Upload-Offset"] == "10"


async def test_an_upload_goes_on_after_a_lost_connection(site):
    begun = await begin(site.client, 3_000_000)
    address = f"{FILES}/{begun.headers['Location']}"
    came = asyncio.Event()

    async def half():
        yield bytes(1_000_000)
        came.set()
        await asyncio.Event().wait()

    lost = asyncio.ensure_future(more(site.client, address, 0, half()))
    await came.wait()
    lost.cancel()
    await asyncio.wait([lost])
    asked = await site.client.head(address, headers=TUS)
    offset = int(asked.headers["Upload-Offset"])
    assert 0 <= offset <= 1_000_000
    last = await more(site.client, address, offset, bytes(3_000_000 - offset))
    assert (last.status, last.headers["Upload-Name"]) == (204, "new%20%C3%BC.txt")
    assert (site.files / "new ü.txt").stat().st_size == 3_000_000


async def test_an_upload_is_taken_over_from_a_connection_that_is_dead(site):
    begun = await begin(site.client, 10)
    address = f"{FILES}/{begun.headers['Location']}"
    came = asyncio.Event()

    async def half():
        yield b"01234"
        came.set()
        await asyncio.Event().wait()

    dead = asyncio.ensure_future(more(site.client, address, 0, half()))
    await came.wait()
    uploads = site.files / ".vncgate-uploads"
    while not any(path.stat().st_size == 5 for path in uploads.iterdir() if not path.suffix):
        await asyncio.sleep(0.01)
    assert (await site.client.head(address, headers=TUS)).headers["Upload-Offset"] == "5"
    assert (await more(site.client, address, 5, b"56789")).status == 204
    assert (site.files / "new ü.txt").read_bytes() == b"0123456789"
    dead.cancel()
    await asyncio.wait([dead])


async def test_clashes_are_asked_about(site):
    (site.files / "new ü.txt").write_text("old")
    answer = await begin(site.client, 0)
    assert answer.status == 409
    assert (await answer.json())["error"] == "There is something of this name already."
    assert (await begin(site.client, 0, clash="keep")).headers["Upload-Name"] == "new%20%C3%BC%20%282%29.txt"
    assert (await begin(site.client, 0, clash="replace")).status == 201
    assert (site.files / "new ü.txt").read_text() == ""
    assert (await begin(site.client, 0, clash="erase")).status == 400


async def test_into_a_folder(site):
    (site.files / "ü").mkdir()
    assert (await begin(site.client, 0, folder="%C3%BC")).status == 201
    assert (site.files / "ü" / "new ü.txt").exists()
    for folder in ("..", "gone", "%2e%2e"):
        assert (await begin(site.client, 0, folder=folder)).status == 404


async def test_names_that_no_file_should_have(site):
    for name in ("", "..", "a/b", "../x", "a\0b", "a\nb", "x" * 300):
        answer = await begin(site.client, 1, filename=name)
        assert (answer.status, (await answer.json())["error"]) == (400, "A file cannot have this name.")


async def test_no_more_than_the_quota(tmp_path):
    async with Site(tmp_path, **{"files.quota": 100}).serving() as site:
        await site.sign_in(site.client, "ws01")
        assert (await begin(site.client, 100)).status == 201
        answer = await begin(site.client, 1, filename="b")
        assert answer.status == 507
        assert "There is not enough room" in (await answer.json())["error"]


async def test_an_upload_is_given_up(site):
    address = f"{FILES}/{(await begin(site.client, 10)).headers['Location']}"
    assert (await site.client.delete(address, headers=TUS)).status == 204
    assert (await site.client.head(address, headers=TUS)).status == 404
    assert list((site.files / ".vncgate-uploads").iterdir()) == []


async def test_uploads_that_are_refused(site):
    begun = await begin(site.client, 10)
    address = f"{FILES}/{begun.headers['Location']}"
    assert (await site.client.post(f"{FILES}/uploads", headers={"Upload-Length": "1"})).status == 412
    for length in ("", "-1", "x", "1" * 17, str(1 << 51)):
        assert (await begin(site.client, length)).status == 400
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        assert (
            await site.client.post(f"{FILES}/uploads", headers={**TUS, **headers, "Upload-Length": "1"})
        ).status == 403
        assert (await site.client.patch(address, headers={**CHUNK, **headers, "Upload-Offset": "0"})).status == 403
        assert (await site.client.delete(address, headers={**TUS, **headers})).status == 403
    assert (await site.client.patch(address, headers={**TUS, "Upload-Offset": "0"}, data=b"x")).status == 415
    bad = {**TUS, "Upload-Length": "1", "Upload-Metadata": "filename ?"}
    assert (await site.client.post(f"{FILES}/uploads", headers=bad)).status == 400
    async with site.visitor("ws02") as other:
        assert (await other.head(address, headers=TUS)).status == 404
        own = address.replace("ws01", "ws02")
        assert (await other.head(own, headers=TUS)).status == 404


async def test_what_it_can(site):
    answer = await site.client.options(f"{FILES}/uploads")
    assert (answer.status, answer.headers["Tus-Version"]) == (204, "1.0.0")
    assert answer.headers["Tus-Extension"] == "creation,termination"


async def test_a_large_form_of_choices(site):
    """As many as a page lists: what is beyond a form's limit is told of."""
    fields = await form(site.client, FILES, format="zip")
    items = [("item", f"{'x' * 100}{number}") for number in range(1000)]
    assert (await site.client.post(f"{FILES}/pack", data=[*fields.items(), *items])).status == 413


def test_sizes_as_people_read_them():
    sizes = [0, 999, 1000, 1540, 99_499, 999_500, 20 << 30]
    assert [module.size_text(Words(), size) for size in sizes] == [
        "0 B", "999 B", "1 kB", "1.5 kB", "99.5 kB", "1 MB", "21.5 GB",
    ]  # fmt: skip
    assert module.size_text(Words("de"), 1540) == "1,5 kB"
    assert module.size_text(Words(), None) == ""
