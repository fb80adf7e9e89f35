"""Tests of vncgate.launchers.local beside the contract (test_contract.py): users, full disks, a class at once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pwd
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.launchers.places import ME, PASSWORD, Site, log_in, processes, temporary
from tests.real.conftest import need
from vncgate.errors import LaunchError
from vncgate.kinds import Kind, LocalPlace
from vncgate.launchers import host, local
from vncgate.launchers.base import Handle, Seen, Spec
from vncgate.launchers.local import Local
from vncgate.launchers.scripts import Scripts
from vncgate.model import Secret

pytestmark = pytest.mark.real

CLASS = 50


@pytest.fixture
def place(short_folder):
    return Local("local", LocalPlace(user=ME), short_folder / "local", Scripts(None))


def spec(user: str = ME, *command: str, home: str = "") -> Spec:
    kind = Kind(command=command or ("sleep", "1000"))
    return Spec("ws01", secrets.token_hex(8), "", kind, PASSWORD, user=user, home=home)


async def test_a_class_is_not_as_many_shells_at_once(place, monkeypatch):
    running, most = 0, 0

    async def run_shell(*_):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return b"vncgate\n"

    monkeypatch.setattr(Local, "_run_shell", run_shell)
    await asyncio.gather(*(place.logs(Handle("local", "ws01", f"{n:016}")) for n in range(CLASS)))
    assert most == local.AT_ONCE


async def test_fifty_at_once(local_site):
    """None fails, none gets another's: each lets in its own password, and nobody else's."""
    specs = [local_site.spec(account=f"ws{number:02d}") for number in range(CLASS)]
    specs = [dataclasses.replace(spec, password=Secret(f"pw-{spec.account}")) for spec in specs]
    began = time.monotonic()
    handles = await asyncio.gather(*map(local_site.submit, specs))
    seen = await asyncio.gather(*map(local_site.serving, handles))
    logins = await asyncio.gather(*(log_in(one, spec.password) for one, spec in zip(seen, specs, strict=True)))
    took = time.monotonic() - began
    assert [login.name for login in logins] == [spec.account for spec in specs]
    assert len({one.desktop for one in seen}) == CLASS
    began = time.monotonic()
    await asyncio.gather(*map(local_site.place.cancel, handles))
    print(f"{CLASS} desktops logged in to after {took:.1f} s, ended in {time.monotonic() - began:.1f} s")
    assert [left for spec in specs for left in local_site.left(spec.nonce)] == []
    local_site.handles.clear()


async def test_a_desktop_outlives_the_daemon(short_folder):
    """It is killed the moment the desktop was submitted; the next one finds it by its nonce."""
    need("Xvnc")
    program = """
import asyncio, os, sys
from pathlib import Path
from vncgate.kinds import Kind, LocalPlace
from vncgate.launchers.base import Spec
from vncgate.launchers.local import Local
from vncgate.launchers.scripts import Scripts
from vncgate.model import Secret
place = Local("local", LocalPlace(user=sys.argv[4]), Path(sys.argv[1]), Scripts(None))
kind = Kind(command=["sleep", "1000"])
spec = Spec("ws01", sys.argv[2], "", kind, Secret("secret01"), user=sys.argv[4], home=sys.argv[3])
asyncio.run(place.submit(spec))
os.kill(os.getpid(), 9)
"""
    root = short_folder / "local"
    site = Site(lambda: Local("local", LocalPlace(user=ME), root, Scripts(None)), root / ME, short_folder)
    other = site.spec()
    done = subprocess.run([sys.executable, "-c", program, str(root), other.nonce, other.home, ME])
    assert done.returncode == -9
    handle = await site.submit(site.spec())  # a handle to be made another's
    found = type(handle)("local", "ws01", other.nonce, user=ME)
    await log_in(await site.serving(found), Secret("secret01"))
    leader = int((site.root / other.nonce / "process").read_text().split()[0])
    assert os.getsid(leader) == leader
    await site.place.cancel(found)
    assert site.left(other.nonce) == []
    await site.aclose()


async def test_one_that_was_killed_altogether_is_gone_and_its_files_with_it(local_site):
    spec, handle, _ = await local_site.start()
    for pid, _ in processes(f"VNCGATE_DESKTOP={spec.nonce}"):
        os.kill(pid, 9)
    assert (await local_site.gone(handle)).exit_status is None
    await local_site.place.cancel(handle)
    assert local_site.left(spec.nonce) == []


DYING = """
import socket, sys, time
server = socket.socket(socket.AF_UNIX)
server.bind(f"/tmp/.X11-unix/X{sys.argv[1]}")
print(flush=True)
time.sleep(0.7)
"""
"""A server without the mark of its desktop, as what is killed is for a moment, and then without its sockets."""


async def test_a_display_that_a_killed_server_has_a_moment_longer_is_removed(local_site):
    handle = Handle("local", "ws01", secrets.token_hex(8), user=ME)
    folder, display = Path(tempfile.mkdtemp(prefix="vncgate-")), 30000 + os.getpid()  # nobody else's
    (folder / "desktop").write_text(f"{handle.nonce}\n")
    (folder / "number").write_text(f"{display}\n")
    with subprocess.Popen([sys.executable, "-c", DYING, str(display)], stdout=subprocess.PIPE) as server:
        server.stdout.readline()
        await local_site.place.cancel(handle)
    assert not folder.exists()
    assert not Path(f"/tmp/.X11-unix/X{display}").exists()


async def test_what_a_host_that_fell_left_is_removed_when_it_is_back(local_site):
    """Nothing had time to end, and the number of a process is another's by now."""
    spec, handle, _ = await local_site.start()
    local_site.fall(spec.nonce)
    seen = await local_site.gone(handle)
    assert seen.reason == "the host was started anew"
    folder, other, *display = local_site.left(spec.nonce)
    assert folder == str(local_site.root / spec.nonce)
    assert other.startswith("/tmp/vncgate-")
    assert all(path.startswith("/tmp/.X11-unix/X") for path in display), "which may be another's by now"
    await local_site.place.cancel(handle)
    assert local_site.left(spec.nonce) == []


async def test_a_desktop_whose_script_was_killed_is_gone_and_what_is_left_of_it_is_ended(local_site):
    spec, handle, _ = await local_site.start()
    leader = int((local_site.root / spec.nonce / "process").read_text().split()[0])
    os.kill(leader, 9)
    await local_site.gone(handle)
    assert local_site.left(spec.nonce)
    await local_site.place.cancel(handle)
    assert local_site.left(spec.nonce) == []


CHAIN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
left = int(sys.argv[1])
if not left or os.fork():
    while True:
        time.sleep(1000)
os.setsid()
os.execve(sys.executable, [sys.executable, __file__, str(left - 1)], {})
"""
"""So many processes, each another's child in a session of its own without the mark of its desktop, that do not end."""


@pytest.fixture
def chain(short_folder):
    program = short_folder / f"chain-{secrets.token_hex(8)}"
    program.write_text(CHAIN)
    return str(program)


def of_chain(name: str) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if name.encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


async def test_a_chain_of_programs_that_do_not_want_to_end_is_ended(local_site, chain):
    spec, handle, _ = await local_site.start(sys.executable, chain, "30")
    await local_site.until(handle, lambda _: len(of_chain(chain)) == 31)
    await local_site.place.cancel(handle)
    assert of_chain(chain) == []
    assert local_site.left(spec.nonce) == []


async def test_what_has_neither_mark_nor_session_ends_too_where_the_script_was_killed(local_site, chain, monkeypatch):
    monkeypatch.setattr(host, "GRACE", 3)
    command = f"env -i setsid {sys.executable} {chain} 1 & sleep 1000"
    spec, handle, _ = await local_site.start("sh", "-c", command)
    await local_site.until(handle, lambda _: len(of_chain(chain)) == 2)
    os.kill(int((local_site.root / spec.nonce / "process").read_text().split()[0]), 9)
    await local_site.gone(handle)
    await local_site.place.cancel(handle)
    assert of_chain(chain) == []
    assert local_site.left(spec.nonce) == []


CLOSE = """
mkdir -p "$0/x/y" "$TMPDIR/go/pkg@v1/a" "$TMPDIR/z/y"
touch "$TMPDIR/go/pkg@v1/a/a.go"
chmod -R a-w "$TMPDIR/go"
chmod 000 "$0/x" "$TMPDIR/z"
chmod 555 "$0/.."
echo closed
exec sleep 1000
"""
"""Makes folders that may not be written or entered, in that of the session $0 and in its TMPDIR, and above that."""


async def test_folders_that_may_not_be_written_are_removed_too(nobody_s_room, short_folder):
    """By their user, who may give that right. So is what somebody else left who was killed, at the next start."""
    need("Xvnc")
    short_folder.chmod(0o711)
    place = Local("local", LocalPlace(), short_folder / "local", Scripts(None))
    root = short_folder / "local" / "nobody"
    site = Site(lambda: place, root, short_folder)
    for _ in range(2):  # the second finds the place of both closed
        one = spec("nobody", "true")
        one = dataclasses.replace(one, home="/tmp", kind=Kind(command=["sh", "-c", CLOSE, str(root / one.nonce)]))
        handle = await place.submit(one)
        await site.until(handle, lambda _, log=root / one.nonce / "log": "closed" in log.read_text())
        folders = temporary(one.nonce)
        assert folders
        await place.cancel(handle)
        assert list(root.iterdir()) == []
        assert [folder for folder in folders if folder.exists()] == []
    await place.aclose()


async def test_what_cannot_be_removed_keeps_no_desktop_from_having_ended(nobody_s_room, short_folder, caplog):
    """A folder of somebody else: it is told once, and tried again with the next end."""
    short_folder.chmod(0o711)
    place = Local("local", LocalPlace(), short_folder / "local", Scripts(None))
    root = short_folder / "local" / "nobody"
    first, second = (Handle("local", "ws01", secrets.token_hex(8), user="nobody") for _ in range(2))
    await asyncio.to_thread(place._make_room, "nobody")
    for path in (root / first.nonce, root / first.nonce / "other", root / first.nonce / "other" / "file"):
        path.mkdir()
    os.chown(root / first.nonce, *pwd.getpwnam("nobody")[2:4])
    await place.cancel(first)
    assert (await place.query(first)).seen is Seen.GONE
    await place.cancel(second)
    assert [path.name for path in root.iterdir()] == [f"left.{first.nonce}"]
    (told,) = [record.getMessage() for record in caplog.records if record.name == "vncgate.launchers.host"]
    assert "files of an ended desktop stay" in told
    (root / f"left.{first.nonce}" / "other" / "file").rmdir()
    os.chown(root / f"left.{first.nonce}" / "other", *pwd.getpwnam("nobody")[2:4])
    await place.cancel(second)
    assert list(root.iterdir()) == []
    await place.aclose()


@pytest.mark.parametrize("name", ["report", "process", "status"])
async def test_a_file_without_end_is_not_read(short_folder, name):
    """20 GB of nothing."""
    place = Local("local", LocalPlace(user=ME), short_folder / "local", Scripts(None))
    handle = Handle("local", "ws01", secrets.token_hex(8), user=ME)
    folder = short_folder / "local" / ME / handle.nonce
    folder.mkdir(parents=True)
    with (folder / name).open("w") as file:
        file.truncate(20 << 30)
    assert (await place.query(handle)).seen is not Seen.UNKNOWN
    assert not (folder / name).exists()
    await place.cancel(handle)
    await place.aclose()


async def test_a_number_that_is_another_s_by_now_is_not_taken_for_the_desktop(local_site):
    spec = local_site.spec()
    folder = local_site.root / spec.nonce
    folder.mkdir(parents=True)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (folder / "process").write_text(f"{os.getpid()} 1 {boot}\n")
    (folder / "log").write_text("its last words\n")
    handle = await local_site.submit(local_site.spec())
    found = type(handle)("local", "ws01", spec.nonce, user=ME)
    seen = await local_site.place.query(found)
    assert (seen.seen, seen.said, seen.reason) == (Seen.GONE, "its last words", "")
    (folder / "process").write_text(f"{os.getpid()} 1 another-boot\n")
    seen = await local_site.place.query(found)
    assert (seen.seen, seen.reason) == (Seen.GONE, "the host was started anew")
    await local_site.place.cancel(found)  # and this process goes on
    assert not folder.exists()


FIRST_THREAD_ENDS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).syscall(60, 0)
"""
"""60: exit(2) of x86-64."""


async def test_one_whose_first_thread_is_dead_lives(local_site):
    """For a moment that is so where another thread calls execve(2), as in Apptainer."""
    spec = local_site.spec()
    folder = local_site.root / spec.nonce
    folder.mkdir(parents=True)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    handle = Handle("local", "ws01", spec.nonce, user=ME)
    with subprocess.Popen([sys.executable, "-c", FIRST_THREAD_ENDS], start_new_session=True) as process:
        try:
            async with asyncio.timeout(20):
                while (fields := Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split())[0] != "Z":
                    await asyncio.sleep(0.02)
            (folder / "process").write_text(f"{process.pid} {fields[19]} {boot}\n")
            assert (await local_site.place.query(handle)).seen is Seen.RUNNING
        finally:
            process.kill()
    (folder / "process").write_text(f"{process.pid} {fields[19]} {boot}\n")
    assert (await local_site.place.query(handle)).seen is Seen.GONE
    await local_site.place.cancel(handle)


async def test_a_talkative_session_does_not_fill_the_disk(local_site):
    spec, handle, _ = await local_site.start("sh", "-c", "yes | head -c 4000000; echo the end; sleep 1000")
    log = local_site.root / spec.nonce / "log"
    await local_site.until(handle, lambda _: log.stat().st_size < 100_000 and "the end" in log.read_text())


async def test_a_host_without_end_is_cut_short(short_folder, monkeypatch):
    monkeypatch.setattr(host, "_PROGRAM", "echo vncgate; exec yes")
    place = Local("local", LocalPlace(user=ME), short_folder, Scripts(None))
    seen = await place.query(Handle("local", "ws01", "0123456789abcdef", user=ME))
    assert seen.seen is Seen.UNKNOWN
    assert seen.reason.startswith("this host wrote more than 1024 KiB to what it was asked")


async def test_a_session_that_writes_what_the_gate_reads_is_not_believed_nor_waited_for(local_site, monkeypatch):
    """Its folder is its own: a pipe that nobody writes to, a report and an exit status without end."""
    monkeypatch.setattr(host, "GRACE", 10)  # its script waits for whoever reads its status, until it is killed
    spec, handle, _ = await local_site.start()
    folder = local_site.root / spec.nonce
    (folder / "report").write_text(f"{spec.nonce} unix /{'x' * 2_000_000}\n")
    assert (await local_site.place.query(handle)).desktop is None
    for name in ("report", "log", "process", "status"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    os.utime(folder, (1, 1))
    async with asyncio.timeout(10):
        assert (await local_site.place.query(handle)).seen is Seen.GONE
        assert await local_site.place.logs(handle) == ""
        await local_site.place.cancel(handle)
    assert local_site.left(spec.nonce) == []


async def test_a_nonce_is_used_once(local_site):
    spec, handle, _ = await local_site.start()
    with pytest.raises(LaunchError, match="is there already"):
        await local_site.place.submit(spec)
    await log_in(await local_site.serving(handle))


async def test_a_template_that_fails_starts_nothing(short_folder):
    (short_folder / "desktop.sh.j2").write_text("{{ nonesuch }}")
    place = Local("local", LocalPlace(user=ME), short_folder / "local", Scripts(short_folder))
    with pytest.raises(LaunchError, match=r"desktop\.sh\.j2:1: 'nonesuch' is undefined"):
        await place.submit(spec())
    assert list((short_folder / "local" / ME).iterdir()) == []


# A home that is full: a small tmpfs in a mount namespace


FULL = """
set -e
mount -t tmpfs -o size=256k none {home}
head -c 1000000 /dev/zero >{home}/all 2>/dev/null || true
exec {python} -c '{program}' {folder} {home}
"""
SUBMIT = """
import asyncio, getpass, sys
from pathlib import Path
from vncgate.errors import LaunchError
from vncgate.kinds import Kind, LocalPlace
from vncgate.launchers.base import Spec
from vncgate.launchers.local import Local
from vncgate.launchers.scripts import Scripts
from vncgate.model import Secret
async def main():
    me = getpass.getuser()
    place = Local("local", LocalPlace(user=me), Path(sys.argv[1]), Scripts(None))
    try:
        kind = Kind(command=["true"])
        spec = Spec("ws01", "0123456789abcdee", "", kind, Secret("x"), user=me, home=sys.argv[2])
        handle = await place.submit(spec)
    except LaunchError as error:
        print("refused:", error)
        return
    while (seen := await place.query(handle)).seen == "running":
        await asyncio.sleep(0.1)
    print("gone:", seen.reason or seen.said)
    await place.cancel(handle)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("sessions", "gone: The home folder {home} is full: remove files"),
        ("home", "refused: this host: the home folder, or the disk of the desktops' folder, is full"),
    ],
)
def test_a_full_home_is_told(folder, said, short_folder):
    need("unshare", "Xvnc")
    if os.geteuid() != 0:
        pytest.skip("mounts in a namespace: needs root")
    home = short_folder / "home"
    home.mkdir()
    inside = FULL.format(
        home=home, python=sys.executable, program=SUBMIT.replace("'", '"'), folder=short_folder / folder / "x"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", inside], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(said.format(home=home)), done.stdout + done.stderr


# Users


@pytest.fixture
def nobody_s_room():
    """A folder that every user may enter."""
    need("setpriv")
    if os.geteuid() != 0:
        pytest.skip("becomes another user: needs root")


async def test_as_another_user(nobody_s_room, short_folder):
    need("Xvnc")
    short_folder.chmod(0o711)
    home = short_folder / "home"
    home.mkdir()
    person = pwd.getpwnam("nobody")
    os.chown(home, person.pw_uid, person.pw_gid)
    place = Local("local", LocalPlace(), short_folder / "local", Scripts(None))
    one = spec("nobody", "sh", "-c", "id -un >who; id -Gn >>who; env -0 >env; sleep 1000", home=str(home))
    handle = await place.submit(one)
    assert handle.user == "nobody"
    site = Site(lambda: place, short_folder / "local" / "nobody", short_folder)
    await log_in(await site.serving(handle))
    await site.until(handle, lambda _: (home / "env").exists() and (home / "env").read_text())
    assert (home / "who").read_text().split() == ["nobody", "nogroup"]
    assert "USER=nobody" in (home / "env").read_text().split("\0")
    room = short_folder / "local" / "nobody"
    assert (room.stat().st_uid, room.stat().st_mode & 0o777) == (person.pw_uid, 0o700)
    await place.cancel(handle)
    assert site.left(one.nonce) == []


async def test_a_user_who_is_not_there(place):
    with pytest.raises(LaunchError, match="there is no user 'nonesuch' on the gate's host"):
        await place.submit(spec("nonesuch"))
    with pytest.raises(LaunchError, match="no user"):
        await place.submit(spec("no\nuser\0"))


@pytest.mark.parametrize("user", ["", "root"])
async def test_nobody_s_desktop_runs_as_root(user, short_folder):
    if os.geteuid() != 0:
        pytest.skip("would become root: needs root")
    for setting in ("", "{account}"):
        place = Local("local", LocalPlace(user=setting), short_folder / "local", Scripts(None))
        one = spec(user)
        with pytest.raises(LaunchError, match="do not run as root: set `user` of their place"):
            await place.submit(one)
        assert not (short_folder / "local" / user / one.nonce).exists()


async def test_only_root_can_become_another(place, monkeypatch, short_folder):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(os, "chown", lambda *_: None)
    with pytest.raises(LaunchError, match="only root may start desktops as another user"):
        await place.submit(spec("nobody"))


async def test_a_room_that_cannot_be_made(nobody_s_room, short_folder):
    (short_folder / "file").touch()
    place = Local("local", LocalPlace(), short_folder / "file" / "x", Scripts(None))
    with pytest.raises(LaunchError, match="no folder for the desktops of nobody: Not a directory"):
        await place.submit(spec("nobody"))
