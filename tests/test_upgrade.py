"""`vncgate upgrade` and `reload` of the whole daemon, with people at their desktops."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import getpass
import socket
from pathlib import Path

import pytest

from tests.live import PASSWORD, live, state
from vncgate import control, settings
from vncgate.daemon import Gate
from vncgate.errors import ControlError
from vncgate.handover import Inheritance

SLOW = 'watch = "poll"\npoll_interval = 3600.0\n'
"""Only an upgrade or a reload takes the token file."""


async def none_drains(gate):
    return not await gate.workers("draining")


async def counted(gate, count):
    return sum(worker["connections"] for worker in (await gate.ask())["workers"]) == count


def descriptors(pid):
    """What a process has open: how many of each kind."""
    kinds = collections.Counter()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is closed by now
            kinds[str(link.readlink()).partition(":")[0]] += 1
    return kinds


def zombies(pid):
    """Children that ended and that nobody has asked about."""
    children = " ".join(file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")).split()
    return [child for child in children if state(child) == "Z"]


async def test_live_sessions_go_on_and_new_ones_are_the_new_workers(tmp_path, free_port):
    async with live(tmp_path, free_port) as gate:
        await gate.come(12)
        await gate.until_true(lambda: counted(gate, 12))
        before, since = set(await gate.workers()), (await gate.ask())["since"]
        assert "12 connections go on in older workers" in await gate.upgrade()
        assert (await gate.ask())["pid"] == gate.pid
        assert (await gate.ask())["since"] > since
        draining = await gate.workers("draining")
        assert set(draining) == before
        assert sum(worker["connections"] for worker in draining.values()) == 12
        assert await gate.all_type() == 12
        late = await gate.come(6)
        await gate.until_true(lambda: counted(gate, 18))
        serving = await gate.workers()
        assert not before & set(serving)
        assert sum(worker["connections"] for worker in serving.values()) == 6
        assert "drains:" in (await gate.run("status"))[1]
        await gate.leave()
        late = await gate.come(2)
        await gate.until_true(lambda: none_drains(gate))
        await gate.until_ended(*before)
        assert all(state(pid) == "" for pid in before)  # reaped
        assert await gate.all_type(late) == 2
        traffic = (await gate.ask())["totals"]["bytes_up"]
        assert traffic >= 12 * 16  # what drained workers carried stays counted


async def test_sessions_of_three_generations(tmp_path, free_port):
    async with live(tmp_path, free_port) as gate:
        generations = []
        for _ in range(3):
            await gate.come(4)
            generations.append(set(await gate.workers()))
            if len(generations) < 3:
                await gate.upgrade()
        assert len(set.union(*generations)) == 6
        assert set(await gate.workers("draining")) == generations[0] | generations[1]
        assert await gate.all_type() == 12
        assert await gate.ask("/stop", {"accounts": ["ws00", "ws01"]})
        assert await gate.all_type() == 6  # two of four accounts, in each generation
        await gate.ask("/start", {"accounts": ["ws01"]})
        assert await gate.all_type([await gate.sit_down(1)]) == 1


async def test_upgrades_leave_no_descriptor_of_a_library_behind(tmp_path, free_port):
    """watchdog opens its inotify without O_CLOEXEC."""

    async def opened():
        await gate.until_true(no_worker_drains)
        links = [str(file.readlink()) for file in Path(f"/proc/{gate.pid}/fd").iterdir() if file.is_symlink()]
        return sorted(link for link in links if "inotify" in link)

    async def no_worker_drains():
        return not await gate.workers("draining")

    async with live(tmp_path, free_port) as gate:
        before = await opened()
        for _ in range(3):
            await gate.upgrade()
        assert await opened() == before


async def test_of_two_upgrades_at_once_one_is_told_so(tmp_path, free_port):
    async with live(tmp_path, free_port) as gate:
        done = await asyncio.gather(gate.run("upgrade"), gate.run("upgrade"))
        failed = [complaint for status, _, complaint in done if status]
        assert all("an upgrade is under way" in complaint or "went away" in complaint for complaint in failed)
        assert len(failed) < 2


async def test_drain_timeout_ends_what_is_left(tmp_path, free_port):
    async with live(tmp_path, free_port, settings="drain_timeout = 0.3\n") as gate:
        people = await gate.come(4)
        await gate.upgrade()
        await asyncio.gather(*(person.heard.until(lambda p=person: p.heard.gone.is_set()) for person in people))
        assert {person.heard.closed[0] for person in people} == {1001}
        await gate.until_true(lambda: none_drains(gate))
        assert await gate.all_type(await gate.come(4)) == 4


async def test_accounts_that_went_or_moved_just_before_end_and_stopped_ones_stay_stopped(tmp_path, free_port):
    async with live(tmp_path, free_port, settings=SLOW) as gate:
        gone, moved, *stay = await gate.come(4)
        await gate.ask("/stop", {"accounts": ["ws03"]})
        elsewhere = gate.line_of(1).replace("path01", "elsewhere")
        gate.write(elsewhere, *gate.lines(0, 1))
        await gate.upgrade()
        await gone.heard.until(lambda: gone.heard.closed)
        await moved.heard.until(lambda: moved.heard.closed)
        assert gone.heard.closed == (1008, "the account was removed")
        assert moved.heard.closed == (1012, "the desktop moved")
        assert await gate.all_type(stay[:1]) == 1
        assert {each["name"]: each["want"] for each in (await gate.ask())["accounts"]} == {
            "ws01": "up",
            "ws02": "up",
            "ws03": "down",
        }
        with pytest.raises(ConnectionRefusedError):
            await gate.sit_down(3)
        await gate.upgrade()  # the third generation still knows
        assert (await gate.ask("/start", {"accounts": ["ws03"]}))["accounts"] == ["ws03"]
        assert await gate.all_type([await gate.sit_down(3)]) == 1


async def test_files_that_were_handed_over_stay_until_others_are(tmp_path, free_port):
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}  # where a daemon cannot follow its file
    async with live(tmp_path, free_port, settings=SLOW, environ=environ) as gate:
        handed, config = tmp_path / "handed.tokens", tmp_path / "handed.toml"
        handed.write_text("".join(f"{line}\n" for line in gate.lines(3)))
        handed.chmod(0o600)
        config.write_text(gate.configure().read_text().replace("workers = 2", "workers = 1"))
        await gate.upgrade("--tokens", str(handed), "--config", str(config))
        await gate.until_true(lambda: none_drains(gate))
        held = descriptors(gate.pid)
        await gate.upgrade()
        await gate.until_true(lambda: none_drains(gate))
        gate.until(lambda: not descriptors(gate.pid) - held)  # `held` may have a connection that was about to end
        assert not zombies(gate.pid)
        status = await gate.ask()
        assert status["tokens"] == str(handed)
        assert status["config"] == str(config)
        assert len(status["accounts"]) == 3
        assert len(await gate.workers()) == 1
        assert "is new" not in gate.log


async def test_a_reload_is_an_upgrade_where_settings_are_new(tmp_path, free_port):
    async with live(tmp_path, free_port) as gate:
        await gate.come(4)
        before = set(await gate.workers())
        status, said, _ = await gate.run("reload", "--config", str(gate.config))
        assert (status, said) == (0, "4 unchanged\n")
        assert set(await gate.workers()) == before
        gate.configure("log_level = 'debug'\n")
        status, said, _ = await gate.run("reload", "--config", str(gate.config))
        assert status == 0
        assert "new settings" in said
        assert "4 connections go on in older workers" in said
        assert set(await gate.workers("draining")) == before
        status, said, _ = await gate.run("reload", "--config", str(gate.config))
        assert (status, said) == (0, "4 unchanged\n")
        assert await gate.all_type() == 4


def kind(gate, name):
    """Settings with a kind of desktop; nobody starts one."""
    return (
        f'[desktops]\nfolder = "{gate.folder}/desktops"\nkinds.{name} = {{command = "true", policy = "manual"}}\n'
        f'places.local = {{type = "local", user = "{getpass.getuser()}"}}\n'
    )


async def test_new_kinds_and_accounts_that_have_them_come_by_one_command(tmp_path, free_port):
    """By each command, handed over as the unit does it; and what does not go together changes nothing."""
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    line = f"ws09 - path09 - - {PASSWORD} desktop={{}}"
    async with live(tmp_path, free_port, settings=SLOW, environ=environ, accounts=2) as gate:
        await gate.come(2)
        files = ("--tokens", str(gate.tokens), "--config", str(gate.config))
        gate.write(*gate.lines(), line.format("xfce"))
        gate.configure(kind(gate, "xfce") + "knds = 1\n")
        status, said, complaint = await gate.run("reload", *files)
        assert (status, said) == (1, "")
        assert "desktops.knds: no such setting; did you mean desktops.kinds?" in complaint
        assert len((await gate.ask())["accounts"]) == 2
        gate.configure(kind(gate, "xfce"))
        status, _, complaint = await gate.run("upgrade", *files)
        assert status == 0, complaint
        kinds = {each["name"]: each["launched"] for each in (await gate.ask())["accounts"]}
        assert kinds.pop("ws09")["kind"] == "xfce"
        assert kinds == {"ws00": None, "ws01": None}
        since = (await gate.ask())["since"]
        gate.write(*gate.lines(), line.format("other"))
        gate.configure(kind(gate, "third"))
        status, said, complaint = await gate.run("reload", *files)
        assert (status, said) == (1, "")
        assert "what is on disk cannot take over, so nothing changes" in complaint
        assert "there is no kind of desktop 'other' in the settings; known are third" in complaint
        assert "Nor does the token file go with what runs now" in complaint
        assert (await gate.ask())["since"] == since
        gate.write(*gate.lines(), line.format("third"))  # the file alone was what had to be mended
        status, _, complaint = await gate.run("reload", *files)
        assert status == 0, complaint
        gate.write()
        status, _, complaint = await gate.run("upgrade", *files)
        assert status == 1
        assert "has no accounts" in complaint
        assert await gate.all_type() == 2


def broken_settings(gate):
    gate.configure("shared_prot = 1\n")
    return "shared_prot: no such setting; did you mean shared_port?"


def broken_tokens(gate):
    gate.write("ws01 only three")
    return "has 1 error"


def broken_code(gate):
    (gate.folder / "shadow" / "sitecustomize.py").write_text("import sys\nsys.modules['vncgate.worker'] = None\n")
    return "import of vncgate.worker halted"


def half_an_installation(gate):
    (gate.folder / "shadow" / "aiohttp.py").write_text("raise SystemExit('half an installation')\n")
    return "half an installation"


def port_taken(gate):
    gate.configure(f'[metrics]\naddress = "127.0.0.1:{gate.peer.port}"\n')
    return f"port {gate.peer.port} on 127.0.0.1 is in use by another program"


def another_address(gate):
    gate.configure('listen = "0.0.0.0"\n')
    return f"port {gate.shared} on 0.0.0.0 is in use"


def no_workers(gate):
    gate.config.write_text(gate.configure().read_text().replace("workers = 2", "workers = 0"))
    return "restart this gate instead"


async def test_what_cannot_start_changes_nothing_and_says_why(tmp_path, free_port):
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    async with live(tmp_path, free_port, settings=SLOW, environ={"PYTHONPATH": str(shadow)}) as gate:
        await gate.come(4)
        before, since = set(await gate.workers()), (await gate.ask())["since"]
        for breaks in (
            broken_settings,
            broken_tokens,
            broken_code,
            half_an_installation,
            port_taken,
            another_address,
            no_workers,
        ):
            why = breaks(gate)
            status, said, complaint = await gate.run("upgrade", "--config", str(gate.config))
            assert (status, said) == (1, ""), breaks
            assert why in complaint
            assert "Traceback" not in complaint
            assert why in gate.log
            gate.configure()
            gate.write(*gate.lines())
            for file in shadow.glob("*.py"):
                file.unlink()
        assert set(await gate.workers()) == before
        assert (await gate.ask())["since"] == since
        await gate.come(4)
        assert await gate.all_type() == 8
        gate.until(lambda: len(gate.family()) == 4)  # master, nursery, two workers: no trial is left
        assert "8 connections go on" in await gate.upgrade()


@pytest.mark.parametrize("how", ["--workers=0", "--engine=websockify"])
async def test_without_workers_an_upgrade_is_refused(tmp_path, free_port, how):
    async with live(tmp_path, free_port, how, only_own=True) as gate:
        person = await gate.sit_down(1)
        with pytest.raises(ControlError, match="only workers outlive an upgrade .* restart this gate instead"):
            await gate.ask("/upgrade", {})
        assert await gate.all_type([person]) == 1


async def test_nobody_is_refused_while_it_is_upgraded(tmp_path, free_port):
    """People come as fast as they can, by the shared port and by own ones, and go again."""
    async with live(tmp_path, free_port) as gate:
        stays = await gate.come(4)
        came, over = 0, asyncio.Event()

        async def come_and_go(number):
            nonlocal came
            while not over.is_set():
                person = await gate.sit_down(number)
                assert await person.type()
                person.leave()
                gate.people.remove(person)
                came += 1

        storm = [asyncio.ensure_future(come_and_go(number)) for number in range(4)]
        for _ in range(2):
            before = came
            await gate.upgrade()
            assert came > before
        over.set()
        await asyncio.gather(*storm)
        assert await gate.all_type(stays) == 4


async def test_a_handshake_that_is_under_way_is_finished_by_the_old_worker(tmp_path, free_port):
    settings = "handshake_timeout = 120.0\n"  # two upgrades may take a while
    async with live(tmp_path, free_port, settings=settings) as gate, contextlib.AsyncExitStack() as stack:
        await gate.come(1)
        request = (
            "GET {} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        slow = []
        for port, path in ((gate.shared, "/ws/path02"), (gate.ports[3], "/websockify")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            head = request.format(path).encode()
            writer.write(head[:40])
            slow.append((reader, writer, head[40:]))
        await asyncio.sleep(0.1)  # until both are accepted, of which nothing tells
        await gate.upgrade()
        await gate.leave()
        await gate.upgrade()  # which takes its time: the old workers have nobody left
        for reader, writer, rest in slow:
            writer.write(rest)
            async with asyncio.timeout(10):
                assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
                assert (await reader.readexactly(14))[2:] == b"RFB 003.008\n"
        await stack.aclose()
        await gate.until_true(lambda: none_drains(gate))


async def test_a_command_in_the_middle_is_answered(tmp_path, free_port):
    """While it starts anew, commands wait at the control socket: the new code answers them."""
    async with live(tmp_path, free_port) as gate:
        since, asked = (await gate.ask("/upgrade", {}))["since"], []
        while not asked or asked[-1]["since"] == since:
            asked += await asyncio.gather(*(gate.ask() for _ in range(4)))
        assert (await gate.ask("/restart", {"accounts": ["ws*"]}))["accounts"] == ["ws00", "ws01", "ws02", "ws03"]
        assert await gate.all_type(await gate.come(4)) == 4


@pytest.mark.parametrize("wait", [0.0, 0.1, 0.3])
async def test_sigterm_in_the_middle_ends_everything(tmp_path, free_port, wait):
    """Wherever it falls: in the old code, between both, in the new one. `live` sees to the rest."""
    async with live(tmp_path, free_port) as gate:
        await gate.come(4)
        await gate.ask("/upgrade", {})
        await asyncio.sleep(wait)
        await asyncio.to_thread(gate.stop)  # the new code has to start before it can end
        assert await gate.all_type() == 0
        assert {person.heard.closed[0] for person in gate.people} == {1001}
        with contextlib.closing(socket.socket()) as sock:
            assert sock.connect_ex(("127.0.0.1", gate.shared)) != 0
        assert not gate.control.exists()


TAKES = """
import os, signal, threading
become = os.execve
def take():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    os.kill(os.getpid(), signal.SIGTERM)
def execve(*args):
    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    become(*args)
os.execve = execve
"""


async def test_sigterm_that_another_thread_takes_at_the_last_moment_ends_the_new_code(tmp_path, free_port):
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "sitecustomize.py").write_text(TAKES)
    async with live(tmp_path, free_port, environ={"PYTHONPATH": str(shadow)}) as gate:
        await gate.ask("/upgrade", {})
        await gate.until_ended(gate.pid)
        assert "starting anew from the code on disk" in gate.log


async def test_a_gate_that_is_stopped_while_it_takes_over_leaves_no_control_socket(tmp_path, free_port):
    """It has not come to serve what it inherited yet."""
    chosen = settings.load(flags={"web": "off", "shared_port": free_port(), "control": tmp_path / "c", "workers": 0})
    with control.bind(tmp_path / "c") as inherited:
        gate = Gate(tmp_path / "none.tokens", chosen, {}, inherited=Inheritance(control=inherited))
        running = asyncio.ensure_future(gate.run())
        while gate._starting is None:
            await asyncio.sleep(0)
        gate.shut_down()
        await running
    assert not (tmp_path / "c").exists()
