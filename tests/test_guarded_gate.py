"""Guarded accounts of a gate that runs as processes of its own: nobody who is signed in is refused while it is renewed,
and whoever is signed out is sent away, wherever they are.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

from tests.engines.raw import request
from tests.engines.vnc import INIT, Vnc, browser, enter, say
from tests.live import PASSWORD, LiveGate, is_alive
from vncgate import cookies
from vncgate.ledger import Ledger
from vncgate.people import Session

COOKIES = {f"ws{number:02}": f"{number:043}" for number in range(4)}
STRANGER = "S" * 43


class Guarded(LiveGate):
    """People sign in; ws01 and ws03 have ports of their own."""

    def way(self, number):
        return (self.ports[number], "/websockify") if number % 2 else (self.shared, f"/ws/path{number:02}")

    async def sign_in(self):
        """Write into the ledger that somebody has signed in to each account."""
        now = datetime.now(UTC)
        ledger = await Ledger.open(f"sqlite:///{self.folder}/state/ledger.sqlite")
        for name, cookie in COOKIES.items():
            await ledger.add_session(Session(cookies.digest(cookie), now, now + timedelta(days=1), name))
        await ledger.aclose()

    async def knock(self, number, cookie):
        """What a handshake at an account is answered; nothing while nobody listens."""
        port, path = self.way(number)
        try:
            _, writer, head = await request(port, "Connection: Upgrade", f"Cookie: vncgate_session={cookie}", path=path)
        except (ConnectionError, EOFError):
            return None
        writer.close()
        return head.split()[1]

    @contextlib.asynccontextmanager
    async def inside(self, number):
        """Somebody at the desktop of an account."""
        async with browser(*self.way(number), cookie=COOKIES[f"ws{number:02}"]) as (socket, heard):
            await enter(socket, heard)
            assert bytes(heard.data) == INIT, heard.closed
            yield socket, heard


@contextlib.asynccontextmanager
async def guarded(folder, free_port):
    """A gate before a VNC server, and the server."""
    (folder / "state").mkdir()
    async with Vnc(PASSWORD) as server:
        lines = 'probe = false\nworkers = 2\nhandshakes = 10000\nclient_handshakes = 10000\naccess = "seat"\n'
        gate = Guarded(folder, server, free_port.many(4), lines + 'public_url = "http://workshop.example/"\n')
        gate.environ["STATE_DIRECTORY"] = str(folder / "state")
        await gate.sign_in()
        try:
            await asyncio.to_thread(gate.start)
            yield gate, server
        finally:
            if is_alive(gate.pid):
                await asyncio.to_thread(gate.__exit__)
            for pid in gate.family():
                await gate.until_ended(pid)


async def test_nobody_who_is_signed_in_is_refused_while_the_gate_is_renewed(tmp_path, free_port):
    async with guarded(tmp_path, free_port) as (gate, server):
        answers, strangers, over = set(), set(), asyncio.Event()

        async def keep_knocking(number):
            while not over.is_set():
                answers.add(await gate.knock(number, COOKIES[f"ws{number:02}"]))
                strangers.add(await gate.knock(number, STRANGER))
                await asyncio.sleep(0.1)

        async def keep_coming():
            """To be let in, or, where a master takes longer than `handshake_timeout` to start, to come again."""
            while not over.is_set():
                async with browser(*gate.way(2), cookie=COOKIES["ws02"]) as (socket, heard):
                    await enter(socket, heard)
                    assert bytes(heard.data) == INIT or heard.closed[0] == 1012
                await asyncio.sleep(0.1)

        async with gate.inside(0) as (one, first), gate.inside(1) as (two, second):
            knocking = asyncio.gather(keep_coming(), *map(keep_knocking, range(4)))
            await gate.upgrade()
            await gate.upgrade()
            over.set()
            await knocking
            assert (answers, strangers) == ({"101"}, {"403"})
            for socket, heard in ((one, first), (two, second)):
                say(socket, b"typed")
                await server.until(lambda: server.received.endswith(b"typed"))
                server.received.clear()
                assert not heard.closed
            assert await gate.workers("draining")
            status, _, complaint = await gate.run("seats", "sign-out", "ws00", "ws01")
            assert status == 0, complaint
            for heard in (first, second):  # in workers of the gate before the one before
                await heard.until(lambda: heard.closed, 30)  # noqa: B023
                assert heard.closed == (1008, "you were signed out")
        assert await gate.knock(0, COOKIES["ws00"]) == "403"
        assert await gate.knock(2, COOKIES["ws02"]) == "101"


async def test_the_first_whom_a_gate_answers_after_a_restart_is_who_they_were(tmp_path, free_port):
    async with guarded(tmp_path, free_port) as (gate, _):
        await asyncio.to_thread(gate.stop)
        answers = {number: [] for number in range(4)}

        async def knock_until_answered(number):
            while not answers[number]:
                if answer := await gate.knock(number, COOKIES[f"ws{number:02}"]):
                    answers[number].append(answer)
                await asyncio.sleep(0.002)

        knocking = asyncio.gather(*map(knock_until_answered, range(4)))
        await gate.again()
        await asyncio.wait_for(knocking, 60)
        assert answers == {number: ["101"] for number in range(4)}


async def test_no_secret_is_in_the_log_or_in_a_workers_memory(tmp_path, free_port):
    """Memory is searched in whole: invariant 12."""
    async with guarded(tmp_path, free_port) as (gate, _):
        async with gate.inside(0):
            assert await gate.knock(1, STRANGER) == "403"
            for pid in await gate.workers():
                assert PASSWORD.encode() not in memory(pid)
            assert PASSWORD.encode() in memory(gate.pid), "the search finds it where it is"
        for secret in (PASSWORD, STRANGER, *COOKIES.values()):
            assert secret not in gate.log


def memory(pid):
    """All that a process has written to its memory."""
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:  # noqa: PTH123
        for line in maps:
            where, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(edge, 16) for edge in where.split("-"))
                with contextlib.suppress(OSError):
                    mem.seek(start)
                    found.append(mem.read(end - start))
    return b"".join(found)
