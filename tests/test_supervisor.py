"""Runners and reconciling, on a fake engine and in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import pytest

from vncgate.engines.base import POLICY, SERVICE_RESTART
from vncgate.errors import ControlError, DesktopError, ProxyError
from vncgate.listeners import Listeners
from vncgate.model import Account, Desktop, Readiness, Roster, Secret, State, Traffic, Want
from vncgate.prober import PROBES_AT_ONCE, Probing
from vncgate.rfb import vnc_auth
from vncgate.supervisor import Supervisor

pytestmark = pytest.mark.virtual_time


def account(name, *, port=5901, path=None, **more):
    return Account(name, Desktop("node01", port), path or f"path-{name}", None, Secret("secret"), **more)


class FakeProxy:
    def __init__(self, engine, account):
        self.engine, self.account = engine, account
        self.died = asyncio.get_running_loop().create_future()
        self.connections = 0

    def traffic(self):
        return Traffic(self.connections, 10, 100)

    async def close(self, code, reason):
        self.engine.log.append(("close", self.account.name, code, reason))
        self.engine.open_now.remove(self.account.path)
        await asyncio.sleep(0.1)


class FakeEngine:
    """Opens what it is told to, unless `broken` names the account; `log` has all that happened."""

    def __init__(self):
        self.log, self.open_now, self.proxies = [], [], {}
        self.broken: dict[str, Exception] = {}
        self.suspects, self.logins = {}, {}

    async def open(self, account, listener, suspect, login):
        await asyncio.sleep(0.05)
        if error := self.broken.get(account.name):
            self.log.append(("failed", account.name))
            raise error
        assert account.path not in self.open_now, "opened twice"
        self.open_now.append(account.path)
        self.log.append(("open", account.name))
        self.suspects[account.name] = suspect
        self.logins[account.name] = login
        self.proxies[account.name] = FakeProxy(self, account)
        return self.proxies[account.name]

    def die(self, name, reason="killed by signal 9"):
        proxy = self.proxies[name]
        self.open_now.remove(proxy.account.path)
        proxy.died.set_result(reason)

    async def aclose(self):
        pass


@pytest.fixture
async def world():
    engine = FakeEngine()
    supervisor = Supervisor(engine, Listeners("127.0.0.1"), None, chance=lambda: 0.0, wall_clock=lambda: 0.0)
    yield engine, supervisor
    await supervisor.aclose(1001, "end of the test")


def states(supervisor):
    return {status.name: status.state for status in supervisor.statuses()}


async def test_a_changed_roster_touches_only_what_changed(world):
    engine, supervisor = world
    await supervisor.apply(Roster((account("ws01"), account("ws02"), account("ws03"))))
    kept = engine.proxies["ws01"]
    engine.log.clear()
    done = await supervisor.apply(
        Roster((account("ws04"), account("ws01"), account("ws03", port=5999), account("ws05")))
    )
    assert str(done) == "2 added (ws04, ws05), 1 removed (ws02), 1 moved (ws03), 1 unchanged"
    assert engine.log[:2] == [
        ("close", "ws02", POLICY, "the account was removed"),
        ("close", "ws03", SERVICE_RESTART, "the desktop moved"),
    ]
    assert sorted(engine.log[2:]) == [("open", "ws03"), ("open", "ws04"), ("open", "ws05")]
    assert engine.proxies["ws01"] is kept
    assert list(states(supervisor)) == ["ws04", "ws01", "ws03", "ws05"]


async def test_browsers_are_not_told_that_a_desktop_moved_which_is_gone(world):
    engine, supervisor = world
    await supervisor.apply(Roster((account("ws01"),)))
    engine.log.clear()
    await supervisor.apply(Roster((dataclasses.replace(account("ws01"), desktop=None),)))
    assert engine.log[0] == ("close", "ws01", SERVICE_RESTART, "the desktop ended, or is started again")


async def test_a_port_or_path_may_move_from_one_account_to_another(world):
    engine, supervisor = world
    await supervisor.apply(Roster((account("ws01", path="a"), account("ws02", path="b"))))
    await supervisor.apply(Roster((account("ws01", path="b"), account("ws02", path="a"))))
    assert states(supervisor) == {"ws01": State.RUNNING, "ws02": State.RUNNING}
    assert sorted(engine.open_now) == ["a", "b"]


async def test_a_proxy_that_dies_comes_back_and_the_others_do_not_notice(world):
    engine, supervisor = world
    await supervisor.apply(Roster((account("ws01"), account("ws02"))))
    other = engine.proxies["ws02"]
    for wait in (1, 2, 4):
        engine.die("ws01")
        await asyncio.sleep(wait - 0.1)
        assert states(supervisor)["ws01"] is State.BACKOFF
        await asyncio.sleep(0.3)
        assert states(supervisor)["ws01"] is State.RUNNING
    ws01, ws02 = supervisor.statuses()
    assert (ws01.restarts, ws01.last_error, ws02.restarts) == (3, "killed by signal 9", 0)
    assert ws01.traffic.bytes_down == 400  # what passed through the dead ones counts
    assert engine.proxies["ws02"] is other
    await supervisor.apply(Roster((account("ws01", port=5902), account("ws02"))))
    assert supervisor.statuses()[0].restarts == 0
    await supervisor.apply(Roster((account("ws02"),)))
    assert supervisor.restarts == 3  # a total never falls


async def test_what_cannot_be_started_is_given_up_and_says_why(world, caplog):
    engine, supervisor = world
    engine.broken["ws01"] = ProxyError("no such program")
    await supervisor.apply(Roster((account("ws01"), account("ws02"))))
    assert states(supervisor) == {"ws01": State.BACKOFF, "ws02": State.RUNNING}
    await asyncio.sleep(60)
    status = supervisor.statuses()[0]
    assert (status.want, status.state, status.last_error) == (Want.UP, State.FATAL, "no such program")
    assert engine.log.count(("failed", "ws01")) == 5
    assert "no such program; given up: `vncgate start ws01` tries again" in caplog.text
    del engine.broken["ws01"]
    await supervisor.start(["ws01"])
    assert states(supervisor)["ws01"] is State.RUNNING


async def test_a_proxy_that_hangs_in_its_start_is_a_failed_start(world):
    engine, supervisor = world

    async def hang(*args):
        await asyncio.sleep(1000)

    engine.open = hang
    await supervisor.apply(Roster((account("ws01"),)))
    assert supervisor.statuses()[0].last_error == "the proxy did not start within 15 s"


async def test_stop_while_starting_and_while_waiting(world):
    engine, supervisor = world
    applying = asyncio.ensure_future(supervisor.apply(Roster((account("ws01"),))))
    await asyncio.sleep(0.01)
    assert states(supervisor) == {"ws01": State.STARTING}
    await supervisor.stop(["ws01"])
    await applying
    assert states(supervisor) == {"ws01": State.STOPPED}
    assert engine.open_now == []

    await supervisor.start(["ws01"])
    engine.die("ws01")
    await asyncio.sleep(0.5)
    await supervisor.stop(["ws01"])
    await asyncio.sleep(5)
    assert states(supervisor) == {"ws01": State.STOPPED}
    assert engine.open_now == []


async def test_the_operators_commands(world):
    engine, supervisor = world
    await supervisor.apply(Roster((account("ws01"), account("ws02"))))
    engine.log.clear()
    await supervisor.restart(["ws01", "ws01"])
    assert engine.log == [("close", "ws01", SERVICE_RESTART, "restarted by the organizers"), ("open", "ws01")]
    assert await supervisor.stop(["ws*2", "ws02"]) == ["ws02"]
    status = supervisor.statuses()[1]
    assert (status.want, status.state) == (Want.DOWN, State.STOPPED)
    with pytest.raises(ControlError, match="no such account: ws07, ws08"):
        await supervisor.stop(["ws01", "ws07", "ws08"])
    assert states(supervisor)["ws01"] is State.RUNNING
    # A reload does not start what an operator stopped.
    await supervisor.apply(Roster((account("ws01"), account("ws02"))))
    assert states(supervisor)["ws02"] is State.STOPPED


async def test_a_port_that_is_taken_is_a_failed_start_of_that_account_alone(world, free_port):
    _, supervisor = world
    taken = supervisor.listeners.open(free_port(), "somebody else")
    port = taken.getsockname()[1]
    other = Listeners("127.0.0.1")
    supervisor.listeners = other
    await supervisor.apply(Roster((dataclasses.replace(account("ws01"), port=port), account("ws02"))))
    ws01, ws02 = supervisor.statuses()
    assert (ws01.state, ws02.state) == (State.BACKOFF, State.RUNNING)
    assert f"account ws01: port {port} on 127.0.0.1 is in use by another program" in ws01.last_error
    taken.close()
    await asyncio.sleep(1.5)
    assert states(supervisor)["ws01"] is State.RUNNING
    await supervisor.stop(["ws01"])
    other.close_all()


class FakeDesktops:
    """Answers looks; `found` maps an account to an error or None."""

    def __init__(self):
        self.found: dict[str, DesktopError | None] = {}
        self.looks = []

    async def __call__(self, account):
        self.looks.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.01)
        if error := self.found.get(account.name):
            raise error


@pytest.fixture
async def looking():
    engine, desktops = FakeEngine(), FakeDesktops()
    probing = Probing(desktops, 30.0, lambda: 0.0)
    probing.begin()
    supervisor = Supervisor(engine, Listeners("127.0.0.1"), probing, chance=lambda: 0.0)
    yield engine, desktops, supervisor
    await supervisor.aclose(1001, "end of the test")


async def test_desktops_are_looked_at_from_the_start_and_every_half_minute(looking):
    _, desktops, supervisor = looking
    await supervisor.apply(Roster((account("ws01"),)))
    await asyncio.sleep(95)
    assert len(desktops.looks) == 4
    assert supervisor.statuses()[0].readiness is Readiness.READY


async def test_a_desktop_in_use_is_left_alone(looking):
    engine, desktops, supervisor = looking
    await supervisor.apply(Roster((account("ws01"),)))
    await asyncio.sleep(1)
    engine.proxies["ws01"].connections = 1
    await asyncio.sleep(300)
    assert len(desktops.looks) == 1
    engine.proxies["ws01"].connections = 0
    await asyncio.sleep(31)
    assert len(desktops.looks) == 2


async def test_an_offline_desktop_is_looked_at_sooner(looking):
    _, desktops, supervisor = looking
    desktops.found["ws01"] = DesktopError("desktop node01:5901 refused the connection", Readiness.OFFLINE)
    await supervisor.apply(Roster((account("ws01"),)))
    await asyncio.sleep(0.5)
    status = supervisor.statuses()[0]
    assert (status.readiness, status.reason) == (Readiness.OFFLINE, "desktop node01:5901 refused the connection")
    await asyncio.sleep(40)
    assert [round(moment) for moment in desktops.looks] == [0, 5, 15, 35]
    desktops.found.clear()
    await asyncio.sleep(31)
    assert supervisor.statuses()[0].readiness is Readiness.READY


async def test_a_wrong_password_is_tried_three_times_and_then_only_after_a_change(looking):
    _, desktops, supervisor = looking
    desktops.found["ws01"] = DesktopError("desktop node01:5901 refused the password", Readiness.WRONG_PASSWORD)
    await supervisor.apply(Roster((account("ws01"),)))
    await asyncio.sleep(3600)
    assert len(desktops.looks) == 3
    assert supervisor.statuses()[0].readiness is Readiness.WRONG_PASSWORD
    desktops.found.clear()
    await supervisor.apply(Roster((dataclasses.replace(account("ws01"), password=Secret("mended")),)))
    await asyncio.sleep(1)
    assert supervisor.statuses()[0].readiness is Readiness.READY


async def test_a_desktop_that_could_not_be_connected_to_is_offline_at_once(looking):
    engine, desktops, supervisor = looking
    await supervisor.apply(Roster((account("ws01"),)))
    await asyncio.sleep(1)
    engine.suspects["ws01"]("desktop node01:5901 refused the connection")
    assert supervisor.statuses()[0].readiness is Readiness.OFFLINE
    assert len(desktops.looks) == 1
    await asyncio.sleep(6)
    assert supervisor.statuses()[0].readiness is Readiness.READY


async def test_who_started_a_desktop_hears_that_it_could_not_be_connected_to():
    engine, heard = FakeEngine(), []
    supervisor = Supervisor(engine, Listeners("127.0.0.1"), None, suspected=heard.append)
    await supervisor.apply(Roster((account("ws01"), account("ws02"))))
    engine.suspects["ws02"]("desktop node01:5901 refused the connection")
    assert heard == ["ws02"]
    await supervisor.aclose(1001, "end of the test")


CHALLENGE = bytes(range(16))


async def refused(engine):
    """Why a browser's login is not to be tried now; empty where it is."""
    try:
        assert await engine.logins["ws01"](b"") == b""
    except DesktopError as error:
        return f"{error.readiness}: {error}"
    return ""


async def test_challenges_are_answered_with_the_password_as_it_is_now(world):
    engine, supervisor = world
    guarded = account("ws01", guarded=True)
    await supervisor.apply(Roster((guarded,)))
    assert await engine.logins["ws01"](CHALLENGE) == vnc_auth("secret", CHALLENGE)
    await supervisor.apply(Roster((dataclasses.replace(guarded, password=Secret("another")),)))
    assert await engine.logins["ws01"](CHALLENGE) == vnc_auth("another", CHALLENGE)
    assert len(engine.proxies) == 1


async def test_browsers_and_probes_share_the_tries_of_a_wrong_password(looking):
    """The fifth has a VNC server lock out everybody who comes by the gate."""
    engine, desktops, supervisor = looking
    desktops.found["ws01"] = DesktopError("desktop node01:5901 refused the password", Readiness.WRONG_PASSWORD)
    guarded = account("ws01", guarded=True)
    await supervisor.apply(Roster((guarded,)))
    await asyncio.sleep(1)
    for _ in range(2):
        assert not await refused(engine)
        engine.suspects["ws01"]("desktop node01:5901 refused the password", Readiness.WRONG_PASSWORD)
    assert await refused(engine) == "wrong password: desktop node01:5901 refused the password"
    await asyncio.sleep(3600)
    assert len(desktops.looks) == 1
    assert supervisor.statuses()[0].readiness is Readiness.WRONG_PASSWORD
    desktops.found.clear()
    await supervisor.apply(Roster((dataclasses.replace(guarded, password=Secret("mended")),)))
    assert not await refused(engine)


@pytest.mark.parametrize("mend", ["update", "reload", "restart"])
async def test_without_probes_the_tries_are_counted_too(world, mend):
    engine, supervisor = world
    guarded = account("ws01", guarded=True)
    await supervisor.apply(Roster((guarded,)))
    for _ in range(3):
        assert not await refused(engine)
        engine.suspects["ws01"]("refused the password", Readiness.WRONG_PASSWORD)
        engine.suspects["ws01"]("desktop node01:5901 refused the connection", Readiness.OFFLINE)
    assert await refused(engine)
    if mend == "update":
        await supervisor.apply(Roster((dataclasses.replace(guarded, password=Secret("mended")),)))
    elif mend == "reload":
        supervisor.probe_again()
    else:
        await supervisor.restart(["ws01"])
    assert not await refused(engine)


async def test_a_wrong_password_is_no_reason_to_look_at_a_launched_desktop():
    engine, heard = FakeEngine(), []
    supervisor = Supervisor(engine, Listeners("127.0.0.1"), None, suspected=heard.append)
    await supervisor.apply(Roster((account("ws01", guarded=True),)))
    engine.suspects["ws01"]("refused the password", Readiness.WRONG_PASSWORD)
    assert not heard
    await supervisor.aclose(1001, "end of the test")


async def test_a_password_that_is_right_again_is_found_out_though_somebody_is_there(looking):
    engine, desktops, supervisor = looking
    await supervisor.apply(Roster((account("ws01", guarded=True),)))
    await asyncio.sleep(1)
    engine.suspects["ws01"]("desktop node01:5901 refused the password", Readiness.WRONG_PASSWORD)
    engine.proxies["ws01"].connections = 1
    await asyncio.sleep(31)
    assert supervisor.statuses()[0].readiness is Readiness.READY
    assert len(desktops.looks) == 2
    await asyncio.sleep(300)
    assert len(desktops.looks) == 2, "and then it is left alone"


async def test_a_thousand_desktops_are_not_looked_at_all_at_once(looking):
    _, _, supervisor = looking
    busy, most = 0, 0

    async def look(account):
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.01)
        busy -= 1

    supervisor.probing = Probing(look, 30.0)
    await supervisor.apply(Roster(tuple(account(f"ws{i}") for i in range(200))))
    await asyncio.sleep(5)
    assert {status.readiness for status in supervisor.statuses()} == {Readiness.UNKNOWN}, "not before it begins"
    supervisor.probing.begin()
    await asyncio.sleep(5)
    assert {status.readiness for status in supervisor.statuses()} == {Readiness.READY}
    assert most == PROBES_AT_ONCE


async def test_cancelling_a_stop_leaves_nothing_running():
    engine = FakeEngine()
    supervisor = Supervisor(engine, Listeners("127.0.0.1"), None)
    await supervisor.apply(Roster((account("ws01"),)))
    closing = asyncio.ensure_future(supervisor.aclose(1001, "stop"))
    await asyncio.sleep(0.01)
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    await asyncio.sleep(1)
    assert engine.open_now == []


async def test_nothing_is_started_once_all_was_stopped_for_good():
    engine = FakeEngine()
    supervisor = Supervisor(engine, Listeners("127.0.0.1"), None)
    applying = asyncio.ensure_future(supervisor.apply(Roster((account("ws01"),))))
    await asyncio.sleep(0.01)
    closing = asyncio.ensure_future(supervisor.aclose(1001, "stop"))
    late = asyncio.ensure_future(supervisor.apply(Roster((account("ws01"), account("ws02")))))
    await asyncio.wait([applying, closing])
    with pytest.raises(ControlError, match="the gate is being stopped"):
        await late
    with pytest.raises(ControlError, match="the gate is being stopped"):
        await supervisor.start(["ws01"])
    await asyncio.sleep(1)
    assert engine.open_now == []


async def test_a_wrong_password_is_not_forgotten_while_the_desktop_comes_and_goes(looking):
    engine, desktops, supervisor = looking
    wrong = DesktopError("desktop node01:5901 refused the password", Readiness.WRONG_PASSWORD)
    offline = DesktopError("desktop node01:5901 refused the connection", Readiness.OFFLINE)
    await supervisor.apply(Roster((account("ws01"),)))
    tries = 0
    for _ in range(60):
        desktops.found["ws01"] = offline if desktops.found.get("ws01") is wrong else wrong
        before = len(desktops.looks)
        await asyncio.sleep(37)
        tries += (len(desktops.looks) - before) * (desktops.found["ws01"] is wrong)
        await supervisor.apply(Roster((account("ws01"), account("ws02"))))  # an edit of another line
        await supervisor.apply(Roster((account("ws01"),)))
    assert tries <= 4  # one may be under way as it changes
    engine.suspects["ws01"]("desktop node01:5901 refused the connection")
    await asyncio.sleep(60)
    desktops.found.clear()
    supervisor.probe_again()
    await asyncio.sleep(1)
    assert supervisor.statuses()[0].readiness is Readiness.READY


async def test_a_browser_that_is_merely_connected_does_not_make_a_wrong_password_right(looking):
    engine, desktops, supervisor = looking
    desktops.found["ws01"] = DesktopError("refused", Readiness.WRONG_PASSWORD)
    await supervisor.apply(Roster((account("ws01"),)))
    await asyncio.sleep(1)
    engine.proxies["ws01"].connections = 1
    await asyncio.sleep(600)
    assert supervisor.statuses()[0].readiness is Readiness.WRONG_PASSWORD
    assert len(desktops.looks) == 1


async def test_a_probe_that_breaks_is_in_the_log_and_is_tried_again(looking, caplog):
    _, desktops, supervisor = looking
    desktops.found["ws01"] = ZeroDivisionError("a defect")
    await supervisor.apply(Roster((account("ws01"),)))
    await asyncio.sleep(1)
    assert "could not be probed" in supervisor.statuses()[0].reason
    assert "ZeroDivisionError" in caplog.text
    desktops.found.clear()
    await asyncio.sleep(6)
    assert supervisor.statuses()[0].readiness is Readiness.READY


async def test_an_engine_that_breaks_fails_that_account_alone(world, caplog):
    engine, supervisor = world
    engine.broken["ws01"] = ZeroDivisionError("a defect")
    await supervisor.apply(Roster((account("ws01"), account("ws02"))))
    assert states(supervisor) == {"ws01": State.BACKOFF, "ws02": State.RUNNING}
    assert supervisor.statuses()[0].last_error == "the proxy could not start; the gate's log says why"
    assert "ZeroDivisionError" in caplog.text
    await asyncio.sleep(60)
    assert states(supervisor)["ws01"] is State.FATAL


async def test_commands_that_race_with_a_change_of_the_roster_leave_nothing_behind(world):
    engine, supervisor = world
    for delay in (0.0, 0.01, 0.06, 0.12):
        await supervisor.apply(Roster((account("ws01"), account("ws02"))))
        commands = [
            asyncio.ensure_future(deed(["ws01"])) for deed in (supervisor.restart, supervisor.start, supervisor.stop)
        ]
        await asyncio.sleep(delay)
        removing = asyncio.ensure_future(supervisor.apply(Roster((account("ws02"),))))
        await asyncio.gather(*commands, removing, return_exceptions=True)
        await asyncio.sleep(5)
        assert engine.open_now == ["path-ws02"]


async def test_an_account_that_an_operator_stopped_stays_stopped_when_its_desktop_moves(world):
    engine, supervisor = world
    await supervisor.apply(Roster((account("ws01"),)))
    await supervisor.stop(["ws01"])
    await supervisor.apply(Roster((account("ws01", port=5999),)))
    status = supervisor.statuses()[0]
    assert (status.want, status.state, engine.open_now) == (Want.DOWN, State.STOPPED, [])
    await supervisor.start(["ws01"])
    assert engine.proxies["ws01"].account.desktop.port == 5999
