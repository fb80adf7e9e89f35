"""People at the pages of a gate with seats, as their browsers talk to it through Apache with TLS.

async with open_house(tmp_path) as house:
    ada = house.visitor()
    await ada.sign_in("ws01")
    await ada.get("/")
"""

from __future__ import annotations

import contextlib
import re
from datetime import timedelta

from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from tests.seats import BEGIN, CHEAP, PIN, with_pins
from tests.web.values import Gate, Started, accounts
from vncgate import pins
from vncgate.participants import Participants
from vncgate.settings import load
from vncgate.web.app import build

HOST = "workshop.example.org"
SESSION, FORM = "__Host-vncgate_session", "__Host-vncgate_form"
TOKEN = re.compile(r'(?:name="form_token" value|data-token)="([^"]+)"')


class OpenHouse:
    """The pages, and what is behind them; its clock stands still until it is told otherwise."""

    def __init__(self, client, participants, gate, admitted):
        self.client, self.participants, self.gate, self.admitted = client, participants, gate, admitted
        self.seating = participants.seating
        self.moment = BEGIN
        self.seating._now = lambda: self.moment
        self.seating._clock = self._clock

    def _clock(self):
        return (self.moment - BEGIN).total_seconds()

    def later(self, **span):
        self.moment += timedelta(**span)

    def visitor(self, client="198.51.100.7", **headers):
        return Visitor(self.client, {"X-Forwarded-For": client} | headers)


class Visitor:
    """A browser: keeps cookies as they are set, and says where it comes from."""

    def __init__(self, client, headers):
        self._client = client
        self.headers = {
            "X-Forwarded-Host": HOST,
            "X-Forwarded-Proto": "https",
            "Host": HOST,
            "Sec-Fetch-Site": "same-origin",
        } | headers
        self.cookies = {}

    async def request(self, method, path, headers=(), **options):
        sent = self.headers | dict(headers)
        sent = {name: value for name, value in sent.items() if value is not None}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        url = URL(str(self._client.make_url("/")).rstrip("/") + path, encoded=True)
        answer = await self._client.session.request(method, url, headers=sent, allow_redirects=False, **options)
        await answer.read()
        for name, cookie in answer.cookies.items():
            if cookie["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = cookie.value
        return answer

    async def get(self, path, **options):
        return await self.request("GET", path, **options)

    async def text(self, path, **options):
        return await (await self.get(path, **options)).text()

    async def token(self, path="/"):
        """What a form of this page carries."""
        return TOKEN.search(await self.text(path))[1]

    async def post(self, path, page="/", **fields):
        """Send a form as the page has it."""
        return await self.request("POST", path, data={"form_token": await self.token(page), **fields})

    async def sign_in(self, account, pin=PIN, **fields):
        return await self.post("/sign-in", account=account, pin=pin.reveal(), **fields)

    async def follow(self, link, name="seat"):
        """Open a link as its page's script does."""
        return await self.post(f"/{name}", f"/{name}", token=link.reveal().partition("#")[2])


@contextlib.asynccontextmanager
async def open_house(folder, monkeypatch, *, launched=(), **flags):
    """The pages of five accounts with their PINs, all ready; more settings by name."""
    monkeypatch.setattr(pins, "HASHER", CHEAP)
    settings = load(
        flags={"public_url": f"https://{HOST}/", "access": "seat"}
        | {name.replace("__", "."): value for name, value in flags.items()}
    )
    gate = Gate(with_pins(accounts(5)))
    admitted = {}
    desktops = Started(*launched)

    async def admit(admissions):
        admitted.update(admissions)

    participants = await Participants.open(
        settings, {"STATE_DIRECTORY": str(folder)}, gate.roster, admit, gate.statuses, desktops
    )
    try:
        app = build(
            settings=settings,
            roster=gate.roster,
            statuses=gate.statuses,
            desktops=desktops if launched else None,
            participants=participants,
        )
        async with TestClient(TestServer(app)) as client:
            yield OpenHouse(client, participants, gate, admitted)
    finally:
        await participants.aclose()
