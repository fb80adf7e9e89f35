"""Desktops on the gate's own host: as the user of the daemon, or, where that is root, as the accounts' own users."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
from pathlib import Path

from vncgate.errors import LaunchError
from vncgate.kinds import LocalPlace
from vncgate.launchers.base import Handle, Spec
from vncgate.launchers.host import HostPlace, UnsureError, Whom
from vncgate.launchers.scripts import Listen, Scripts
from vncgate.model import Desktop

KILL_TIMEOUT = 5.0
"""Seconds after SIGKILL that a shell is waited for; only the kernel can hold it longer (a dead disk or share)."""

_KEPT = ("HOME", "LANG", "LOGNAME", "PATH", "USER")

# uvloop lets a child inherit its own ends of the pipes: a desktop that held them would keep us waiting for their end.
_SHELL = "for fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd < 3)) || exec {fd}>&-; done; exec sh -s"


class Local(HostPlace):
    """Desktops of this host, on unix sockets in `folder`; that of a user is in a folder of the user's own in there."""

    def __init__(self, name: str, settings: LocalPlace, folder: Path, scripts: Scripts) -> None:  # noqa: ARG002
        super().__init__(name, scripts, Listen.SOCKET)
        self._own = folder

    async def submit(self, spec: Spec) -> Handle:
        """Start a desktop; see base.Place."""
        if spec.user:
            await asyncio.to_thread(self._make_room, spec.user)
        return await super().submit(spec)

    def _make_room(self, user: str) -> None:
        """A folder for the desktops of a user. It belongs to that user, so nothing in it is touched by us."""
        person = _person(user)
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
        owner = (await asyncio.to_thread(_person, handle.user)).pw_uid if handle.user else os.geteuid()
        return Desktop(unix=f"{self._folder((handle.host, handle.user))}/{handle.nonce}/vnc.sock", owner=owner)

    async def _let_go(self, handle: Handle) -> None:
        pass

    async def _execute(self, whom: Whom, program: bytes, timeout: float) -> tuple[bytes, bytes]:
        _, user = whom
        become = await asyncio.to_thread(_become, user) if user else []
        try:
            process = await asyncio.create_subprocess_exec(
                *become,
                "bash",
                "--norc",  # which it reads where its stdin is a socket, as uvloop's pipes are
                "-c",
                _SHELL,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchError(f"this host starts no process: {error.strerror}") from None
        try:
            async with asyncio.timeout(timeout):
                return await process.communicate(program)
        except TimeoutError:
            raise UnsureError(f"this host did not do within {timeout:g} s what it was asked") from None
        finally:
            if process.returncode is None:
                await _kill(process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a shell and all in its session, and let go of its pipes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_TIMEOUT):
            await process.communicate()


def _person(user: str) -> pwd.struct_passwd:
    try:
        person = pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise LaunchError(f"there is no user {user!r} on this host") from None
    if person.pw_uid == 0:
        raise LaunchError("desktops do not run as root: see `user` of the place")
    return person


def _become(user: str) -> list[str]:
    """The command that runs another as `user`. Raises LaunchError when there is no such user, or we may not."""
    person = _person(user)
    if os.geteuid() != 0:
        if person.pw_uid == os.geteuid():
            return []
        raise LaunchError(f"only a daemon that runs as root can start desktops as another user ({user})")
    ids = f"--reuid={person.pw_uid}", f"--regid={person.pw_gid}"
    return ["setpriv", *ids, "--init-groups", "--reset-env"]
