"""Seats and people in the REST API, held against its description: who may ask, what is told, what is done."""

from __future__ import annotations

import csv
import io
import logging
import re

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.web.organized import TOKENS, House, grant
from tests.web.test_api import DOCUMENT, check
from tests.web.values import PASSWORD
from vncgate.grants import Scope
from vncgate.organizing import Organizing

OURS = {path: ways for path, ways in DOCUMENT["paths"].items() if re.match("/(seats|people|audit)", path)}
METHODS = {"get", "post", "put"}


class Api:
    def __init__(self, house, client):
        self.house = house
        self.client = client
        self.answered = set()

    async def ask(self, method, path, token="ada", **more):
        headers = {"Authorization": f"Bearer {TOKENS[token].reveal()}"} if token else {}
        response = await self.client.request(
            method, f"/api/v1{path}", headers=headers | more.pop("headers", {}), **more
        )
        patterns = {template: re.sub(r"\{\w+\}", "[^/]+", template) for template in OURS}
        (template,) = [template for template in OURS if re.fullmatch(patterns[template], path.partition("?")[0])]
        said = OURS[template][method.lower()]["responses"][str(response.status)]
        if "$ref" in said:
            said = DOCUMENT["components"]["responses"][said["$ref"].rpartition("/")[2]]
        is_text = response.content_type == "text/csv"
        body = await response.text() if is_text else await response.json(content_type=None)
        check(said["content"][response.content_type]["schema"], body)
        assert PASSWORD not in str(body)
        self.answered.add((method, template, response.status))
        response.told = body
        return response


@pytest.fixture
async def api(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "vncgate")
    async with House(tmp_path).open() as house, TestClient(TestServer(house.application())) as client:
        yield Api(house, client)
    for secret in ("canary", PASSWORD, "Lovelace", "example.org"):
        assert secret not in caplog.text


def test_the_description_has_every_route_and_no_other(api):
    (sub,) = api.client.app._subapps
    routes = {
        (route.method.lower(), route.resource.canonical.removeprefix("/api/v1"))
        for route in sub.router.routes()
        if route.method != "HEAD"
    }
    described = {(method, path) for path, ways in DOCUMENT["paths"].items() for method in ways.keys() - {"parameters"}}
    assert routes == described


def test_the_description_names_every_deed():
    named = {name: DOCUMENT["components"]["parameters"][name]["schema"]["enum"] for name in ("deed", "personDeed")}
    assert set(named["deed"]) == set(Organizing.SEAT_DEEDS)
    assert set(named["personDeed"]) == set(Organizing.PERSON_DEEDS)


async def test_every_answer_that_is_described_is_given(api):
    ada = (await api.ask("POST", "/people", json={"name": "Ada Lovelace", "email": "ada@example.org"})).told["person"]
    calls = {
        ("GET", "/seats"): {}, ("POST", "/seats/ws01/extend"): {"json": {"minutes": "5"}}, ("GET", "/people"): {},
        ("POST", "/people"): {"json": {"name": "Bo"}}, ("POST", f"/people/{ada}/move-up"): {},
        ("GET", "/people.csv"): {},
        ("PUT", "/people.csv"): {"data": b"name\nCy\n", "headers": {"Content-Type": "text/csv"}},
        ("GET", "/audit"): {}, ("GET", "/audit.csv"): {},
    }  # fmt: skip
    for (method, path), more in calls.items():
        assert (await api.ask(method, path, None, **more)).status == 401
        assert (await api.ask(method, path, "portal", **more)).status == 403
        assert (await api.ask(method, path, **more)).status in (200, 201)
    for method, path in calls:
        if method == "GET":
            continue
        is_table = path.endswith(".csv")
        wrong = {"data": b"x", "headers": {"Content-Type": "text/plain"}}
        assert (await api.ask(method, path, **wrong)).status == 415
        large = {"data": io.BytesIO(b"x" * (5_000_000 if is_table else 20_000))}
        large["headers"] = {"Content-Type": "text/csv" if is_table else "application/json"}
        assert (await api.ask(method, path, **large)).status in (413, 422)
        if not is_table:
            assert (await api.ask(method, path, json=["no"])).status == 400
            assert (await api.ask(method, path, json={"unknown": "x"} if path != "/people" else {})).status == 422
    assert (await api.ask("PUT", "/people.csv", data=b"", headers={"Content-Type": "text/csv"})).status == 422
    assert (await api.ask("POST", "/seats/ws99/pin")).status == 404
    assert (await api.ask("POST", "/seats/ws01/fly")).status == 404
    assert (await api.ask("POST", "/people/nobody/remove")).status == 404
    assert (await api.ask("POST", "/people", json={"name": "Di", "account": "ws99"})).status == 404
    assert (await api.ask("POST", "/people", json={"name": "Di", "account": "ws01"})).status == 409
    assert (await api.ask("POST", "/seats/ws02/swap")).status == 409
    assert (await api.ask("POST", f"/people/{ada}/move-up")).status == 409
    api.house.tokens.write_bytes(b"{")
    for (method, path), more in calls.items():
        assert (await api.ask(method, path, **more)).status == 503
    described = {
        (method.upper(), path, int(code))
        for path, ways in OURS.items()
        for method in METHODS & ways.keys()
        for code in ways[method]["responses"]
    }
    # A table is told to be too large before it is read, as not usable; two organizers in the same moment: 409.
    assert described - api.answered <= {("PUT", "/people.csv", 409)}


async def test_a_seats_way_from_a_name_to_a_link(api):
    done = await api.ask("POST", "/seats/ws01/assign", json={"name": "Ada Lovelace"})
    assert done.told["account"] == "ws01"
    (row,) = [seat for seat in (await api.ask("GET", "/seats?names=1")).told["seats"] if seat["account"] == "ws01"]
    assert (row["name"], row["person"]) == ("Ada Lovelace", done.told["person"])
    assert "Ada" not in str((await api.ask("GET", "/seats")).told)
    assert "Ada" not in str((await api.ask("GET", "/people")).told)
    pin = (await api.ask("POST", "/seats/ws01/pin")).told["pin"]
    assert re.fullmatch(r"\d{6,}", pin)
    link = (await api.ask("POST", "/seats/ws01/link")).told["link"]
    assert re.fullmatch(r"http://127\.0\.0\.1/seat#\S+", link)
    assert (await api.ask("POST", "/seats/*/message", json={"text": "Lunch"})).status == 200
    whole = (await api.ask("GET", "/audit")).told["audit"]
    assert {entry["who"] for entry in whole} == {"ada"}
    assert pin not in str(whole)


async def test_a_table_goes_out_and_in(api):
    await api.ask("POST", "/people", json={"name": "=cmd()", "email": "ada@example.org"})
    text = (await api.ask("GET", "/people.csv")).told
    assert next(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))["name"] == "'=cmd()"
    done = await api.ask("PUT", "/people.csv", data=text.encode(), headers={"Content-Type": "text/csv"})
    assert done.told["said"] == "1 lines were taken in."
    wrong = await api.ask("PUT", "/people.csv", data=b"name,account\nBo,ws09\n", headers={"Content-Type": "text/csv"})
    assert wrong.told["detail"].splitlines()[1:] == ["line 2, cell 2: there is no account ws09"]
    assert len((await api.ask("GET", "/people")).told["people"]) == 1


async def test_the_log_tells_what_was_refused(api, caplog):
    await api.ask("POST", "/seats/ws02/swap")
    assert caplog.messages[-1] == "API: token ada: POST /api/v1/seats/ws02/swap: refused"


async def test_a_revoked_token_ends_at_once(api):
    assert (await api.ask("GET", "/seats")).status == 200
    api.house.allow(grant("portal", Scope.READ))
    assert (await api.ask("GET", "/seats")).status == 401
