"""Desktops on the gate's own host: as the user of the daemon, or, where that is root, as the accounts' own users."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from vncgate.errors import LaunchError, UnsureError
from vncgate.kinds import LocalPlace
from vncgate.launchers import users
from vncgate.launchers.base import Handle, Spec, Whom
from vncgate.launchers.host import HostPlace, all_of
from vncgate.launchers.scripts import Listen, Scripts
from vncgate.model import Desktop

AT_ONCE = 8
"""Shells at the same time, for each user."""
KILL_TIMEOUT = 5.0
"""Seconds after SIGKILL that a shell is waited for; only the kernel can hold it longer (a dead disk or share)."""

_KEPT = ("HOME", "LANG", "LOGNAME", "PATH", "USER")

# uvloop lets a child inherit its own ends of the pipes: a desktop that held them would keep us waiting for their end.
_SHELL = "for fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd < 3)) || exec {fd}>&-; done; exec sh -s"


class Local(HostPlace):
    """Desktops of this host, on unix sockets in `folder`; that of a user is in a folder of the user's own in there."""

    def __init__(self, name: str, settings: LocalPlace, folder: Path, scripts: Scripts) -> None:
        super().__init__(name, settings, scripts, Listen.SOCKET)
        self._may_be_root = settings.may_be_root
        self._own = folder
        self._turns: defaultdict[Whom, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    async def submit(self, spec: Spec) -> Handle:
        """Start a desktop; see base.Place."""
        if spec.user:
            await asyncio.to_thread(self._make_room, spec.user)
        return await super().submit(spec)

    def _make_room(self, user: str) -> None:
        """A folder for the desktops of a user. It belongs to that user, so nothing in it is touched by us."""
        person = users.find(user, may_be_root=self._may_be_root)
        try:
            self._own.mkdir(parents=True, exist_ok=True)
            self._own.chmod(0o711)
            room = self._own / user
            room.mkdir(mode=0o700, exist_ok=True)
            if room.stat().st_uid != person.pw_uid:  # new, or a gate was killed before it came to this
                os.chown(room, person.pw_uid, person.pw_gid)
        except OSError as error:
            raise LaunchError(f"{self._own}: no folder for the desktops of {user}: {error.strerror}") from None

    def _folder(self, whom: Whom) -> str:
        _, user = whom
        return str(self._own / user)

    async def _reach(self, handle: Handle, reported: Desktop) -> Desktop:  # noqa: ARG002 - it says that it serves
        owner = (await _person(handle.user)).pw_uid if handle.user else os.geteuid()
        return Desktop(unix=f"{self._folder((handle.host, handle.user))}/{handle.nonce}/vnc.sock", owner=owner)

    async def _let_go(self, handle: Handle) -> None:
        pass

    async def _execute(self, whom: Whom, program: bytes, timeout: float) -> bytes:
        async with self._turns[whom]:
            return await self._run_shell(whom, program, timeout)

    async def _run_shell(self, whom: Whom, program: bytes, timeout: float) -> bytes:
        host, user = whom
        become = _become(await _person(user)) if user else ()
        try:
            process = await asyncio.create_subprocess_exec(
                *become,
                "bash",
                "--norc",  # which it reads where its stdin is a socket, as uvloop's pipes are
                "-c",
                _SHELL,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"this host starts no process: {error.strerror}") from None
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018, S101
        try:
            async with asyncio.timeout(timeout):
                process.stdin.write(program)
                process.stdin.close()
                said = await all_of(process.stdout, host)
                await process.wait()
                return said
        except TimeoutError:
            raise UnsureError(f"this host did not do within {timeout:g} s what it was asked") from None
        finally:
            if process.returncode is None:
                await _kill(process, process.stdout)


async def _kill(process: asyncio.subprocess.Process, output: asyncio.StreamReader) -> None:
    """End a shell and all in its session, and let go of its pipes; what they still write is not kept."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_TIMEOUT):
            while await output.read(65536):
                pass
            await process.wait()


async def _person(user: str) -> pwd.struct_passwd:
    """Whoever desktops were started as: even as root, where that was right once."""
    return await asyncio.to_thread(users.find, user, may_be_root=True)


def _become(person: pwd.struct_passwd) -> Sequence[str]:
    """The command that runs another as this user."""
    if person.pw_uid == os.geteuid():
        return ()
    ids = f"--reuid={person.pw_uid}", f"--regid={person.pw_gid}"
    return "setpriv", *ids, "--init-groups", "--reset-env"
