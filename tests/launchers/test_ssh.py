"""Tests of vncgate.launchers.ssh beside the contract (test_contract.py): keys, lost connections, many at once."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from tests.launchers.places import ME, log_in, site_on
from tests.ports import free_ports
from tests.real.sshd import Sshd
from vncgate.errors import DesktopError, LaunchError, SilentError
from vncgate.launchers import host, lines
from vncgate.launchers.base import Handle, Seen
from vncgate.launchers.lines import Door, Line
from vncgate.launchers.scripts import Scripts
from vncgate.launchers.ssh import Ssh
from vncgate.launchers.ways import Ways

pytestmark = pytest.mark.real

CLASS = 25


@pytest.fixture(scope="module", autouse=True)
def server(sshd):
    """It is there before a test is: what it is made of is not counted as left behind."""


@pytest.fixture
def short_rest(monkeypatch):
    monkeypatch.setattr(lines, "REST", 0.2)


async def until(condition):
    """Wait for what must come."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


def unreachable(sshd, folder, **more) -> Ssh:
    return Ssh("ssh", sshd.place(**more), folder / "gate", Scripts(None))


async def refusal(place: Ssh, site) -> str:
    """What submit() says, which query() and cancel() say, too."""
    spec = site.spec()
    with pytest.raises(LaunchError) as error:
        await place.submit(spec)
    handle = Handle("ssh", "ws01", spec.nonce, "127.0.0.1", ME)
    seen = await place.query(handle)
    assert (seen.seen, seen.reason) == (Seen.UNKNOWN, str(error.value))
    with pytest.raises(LaunchError):
        await place.cancel(handle)
    await place.aclose()
    assert not (site.root / spec.nonce).exists()
    return str(error.value)


async def test_a_lost_connection_ends_nothing(ssh_site, sshd, short_rest):
    spec, handle, seen = await ssh_site.start()
    await log_in(seen)
    assert sshd.cut() == 1
    with pytest.raises(DesktopError):
        await log_in(seen)
    assert ssh_site.left(spec.nonce)
    again = await ssh_site.serving(handle)
    assert again.desktop == seen.desktop
    await log_in(again)


async def test_a_silent_host_is_unknown_until_it_is_back(short_folder, short_rest):
    server = Sshd(short_folder / "sshd")
    with server:
        site = site_on(server, short_folder)
        _, handle, _ = await site.start()
        server.cut()
        server.stop()
        seen = await site.until(handle, lambda seen: seen.seen is Seen.UNKNOWN)
        assert "127.0.0.1" in seen.reason
        with pytest.raises(LaunchError, match="no ssh connection to 127"):
            await site.place.cancel(handle)
        server.start()
        await log_in(await site.serving(handle))
        await site.aclose()


async def test_a_connection_that_is_lost_while_a_desktop_is_started(ssh_site, sshd, short_rest, monkeypatch):
    """Nobody knows whether it started: it is asked for, not started a second time."""
    spec = ssh_site.spec()
    await ssh_site.place.query(Handle("ssh", "ws01", spec.nonce, "127.0.0.1", ME))  # it is connected
    with monkeypatch.context() as patch:
        patch.setattr(host, "_PROGRAM", f"{host._PROGRAM}\nsubmit() {{ kill -KILL $PPID; sleep 1; }}")
        handle = await ssh_site.submit(spec)
    assert (await ssh_site.gone(handle)).desktop is None


async def test_a_key_that_is_not_known_is_refused(ssh_site, sshd, short_folder):
    (short_folder / "empty").touch()
    for known in ("empty", "nonesuch"):
        place = unreachable(sshd, short_folder, known_hosts=short_folder / known)
        said = await refusal(place, ssh_site)
        assert f"the key of 127.0.0.1 is not in {short_folder / known}" in said
        assert f"ssh-keyscan -p {sshd.port} 127.0.0.1" in said


async def test_a_key_that_has_changed_is_refused(ssh_site, sshd, short_folder):
    other = (sshd.key.parent / "user.pub").read_text()
    (short_folder / "known").write_text(f"[127.0.0.1]:{sshd.port} {other}")
    said = await refusal(unreachable(sshd, short_folder, known_hosts=short_folder / "known"), ssh_site)
    assert "127.0.0.1 has another key than the one in" in said


async def test_a_users_configuration_does_not_have_every_key_accepted(ssh_site, sshd, short_folder, monkeypatch):
    home = short_folder / "elsewhere"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text("Host *\n  UserKnownHostsFile none\n  StrictHostKeyChecking no\n")
    monkeypatch.setenv("HOME", str(home))
    said = await refusal(unreachable(sshd, short_folder, known_hosts=None), ssh_site)
    assert f"the key of 127.0.0.1 is not in {home}/.ssh/known_hosts" in said


async def test_a_login_that_is_refused(ssh_site, sshd, short_folder):
    place = unreachable(sshd, short_folder, key=sshd.key.parent / "host")
    assert "127.0.0.1 refuses the login" in await refusal(place, ssh_site)


async def test_a_key_that_cannot_be_read(ssh_site, sshd, short_folder):
    place = unreachable(sshd, short_folder, key=short_folder / "nonesuch")
    assert f"there is no key file {short_folder}/nonesuch" in await refusal(place, ssh_site)
    with pytest.raises(LaunchError) as caught:
        await place.submit(ssh_site.spec())
    assert not isinstance(caught.value, SilentError)


async def test_a_host_where_nobody_listens(ssh_site, sshd, short_folder):
    place = unreachable(sshd, short_folder, port=free_ports(1)[0])
    assert "no ssh connection to 127.0.0.1" in await refusal(place, ssh_site)


async def test_a_failed_login_is_not_repeated_at_once(sshd, short_folder):
    place = unreachable(sshd, short_folder, key=sshd.key.parent / "host")
    handle = Handle("ssh", "ws01", "0123456789abcdef", "127.0.0.1", ME)
    before = sshd.log.count("Connection closed by authenticating user")
    for _ in range(3):
        await place.query(handle)
    await place.aclose()
    assert sshd.log.count("Connection closed by authenticating user") - before <= 1


async def test_a_connection_that_no_desktop_needs_is_closed(ssh_direct_site, sshd, monkeypatch):
    monkeypatch.setattr(lines, "IDLE_TIMEOUT", 0.3)
    site = ssh_direct_site
    _, handle, seen = await site.start()
    await until(lambda: sshd.connections == 0)
    await log_in(seen)  # the desktop is not in want of it
    assert (await site.place.query(handle)).desktop == seen.desktop
    assert sshd.connections == 1


async def test_a_connection_through_which_a_desktop_is_reached_stays_as_long_as_that(ssh_site, sshd, monkeypatch):
    monkeypatch.setattr(lines, "IDLE_TIMEOUT", 0.2)
    _, handle, seen = await ssh_site.start()
    await asyncio.sleep(0.6)  # nothing is to happen
    assert sshd.connections == 1
    await log_in(seen)
    await ssh_site.place.cancel(handle)
    await until(lambda: sshd.connections == 0)


async def test_a_class_of_users_logs_in_without_being_turned_away(short_folder):
    """As sshd comes, it drops connections from the 10th on that has not logged in yet (here all of them)."""
    with Sshd(short_folder / "sshd", "MaxStartups 10") as server:
        settings, door = server.place(), Door()
        connected = [Line(settings, ("127.0.0.1", ME), door) for _ in range(CLASS)]
        try:
            await asyncio.gather(*(line.connection() for line in connected))
            assert server.connections == CLASS
        finally:
            await asyncio.gather(*(line.aclose() for line in connected))


async def test_a_host_that_does_not_answer_is_tried_a_few_times_and_not_once_for_each_user(
    sshd, short_folder, monkeypatch
):
    monkeypatch.setattr(lines, "LOGIN_TIMEOUT", 0.3)
    writers = []
    async with await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0) as server:
        place = unreachable(sshd, short_folder, port=server.sockets[0].getsockname()[1])
        handles = [Handle("ssh", "ws01", "0123456789abcdef", "127.0.0.1", f"user{number}") for number in range(20)]
        seen = await asyncio.gather(*map(place.query, handles))
        with pytest.raises(SilentError):
            await place.cancel(handles[0])
        await place.aclose()
        for writer in writers:
            writer.close()
    assert {one.seen for one in seen} == {Seen.UNKNOWN}
    assert len(writers) == lines.LOGINS_AT_ONCE


async def test_what_a_host_that_fell_left_is_removed_when_it_is_back(short_folder, short_rest):
    """The gate could not see it fall, and not end the desktop meanwhile: its home is on a disk that stays."""
    with Sshd(short_folder / "sshd") as server:
        site = site_on(server, short_folder)
        spec, handle, _ = await site.start()
        server.cut()
        server.stop()
        with pytest.raises(SilentError):
            await site.place.cancel(handle)
        site.fall(spec.nonce)
        assert len(site.left(spec.nonce)) >= 2, (
            "its folder, one in /tmp, and its display if that is not another's by now"
        )
        server.start()
        seen = await site.gone(handle)
        assert seen.reason == "the host was started anew"
        await site.place.cancel(handle)
        assert site.left(spec.nonce) == []
        await site.aclose()


async def test_a_host_without_end_is_cut_short(ssh_site, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(host, "_PROGRAM", "echo vncgate; exec yes")
        seen = await ssh_site.place.query(Handle("ssh", "ws01", "0123456789abcdef", "127.0.0.1", ME))
    assert seen.seen is Seen.UNKNOWN
    assert seen.reason.startswith("127.0.0.1 wrote more than 1024 KiB to what it was asked")


async def test_twenty_at_once_through_one_connection(ssh_site, sshd):
    specs = [ssh_site.spec(account=f"ws{number:02d}") for number in range(20)]
    connections = sshd.log.count("Accepted publickey")
    handles = await asyncio.gather(*map(ssh_site.submit, specs))
    seen = await asyncio.gather(*map(ssh_site.serving, handles))
    logins = await asyncio.gather(*map(log_in, seen))
    assert [login.name for login in logins] == [spec.account for spec in specs]
    assert sshd.log.count("Accepted publickey") - connections <= 1


async def test_the_socket_here_is_gone_with_the_desktop_and_private_before(ssh_site, short_folder):
    _, handle, seen = await ssh_site.start("sh", "-c", "until [ -e end ]; do sleep 0.1; done")
    assert (short_folder / "gate").stat().st_mode & 0o777 == 0o700
    sockets = list((short_folder / "gate").iterdir())
    assert [str(path) for path in sockets] == [seen.desktop.unix]
    (short_folder / "home1" / "end").touch()
    await ssh_site.gone(handle)
    assert list((short_folder / "gate").iterdir()) == []


async def test_who_looks_at_a_desktop_that_is_ended_makes_no_way_to_it(ssh_site, short_folder, monkeypatch):
    begun, ended, lead = asyncio.Event(), asyncio.Event(), Ways.lead

    async def slow(*args):
        begun.set()
        await ended.wait()
        return await lead(*args)

    monkeypatch.setattr(Ways, "lead", slow)
    handle = await ssh_site.submit(ssh_site.spec())
    looking = asyncio.ensure_future(ssh_site.serving(handle))
    await begun.wait()
    await ssh_site.place.cancel(handle)
    ended.set()
    with pytest.raises(AssertionError, match="has ended while it was looked at|GONE"):
        await looking
    assert not (short_folder / "gate").exists() or list((short_folder / "gate").iterdir()) == []


async def test_a_home_that_is_full(sshd, ssh_site):
    """Where the desktops' folder cannot be made it is said at once."""
    shutil.rmtree(ssh_site.root, ignore_errors=True)
    ssh_site.root.write_text("a file where a folder should be")
    try:
        with pytest.raises(LaunchError, match=r"127\.0\.0\.1: mkdir: cannot create directory"):
            await ssh_site.place.submit(ssh_site.spec())
    finally:
        ssh_site.root.unlink()


async def test_an_account_without_a_shell(ssh_site, monkeypatch):
    monkeypatch.setattr("vncgate.launchers.host._PROGRAM", "echo This account is currently not available.; exit 0")
    with pytest.raises(LaunchError, match="127.0.0.1 runs no shell for us: This account is currently not available."):
        await ssh_site.place.submit(ssh_site.spec())
