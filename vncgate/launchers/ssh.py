"""Desktops on hosts reached by ssh: what is asked of a host goes through the one connection to it (lines.py).

A lost connection ends no desktop; what is asked meanwhile is answered as unknown. Where the settings say so, the gate
reaches a desktop through that connection as well (ways.py): a unix socket here for the unix socket there.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncssh

from vncgate import hostlist
from vncgate.errors import LaunchError, SilentError
from vncgate.kinds import SshPlace
from vncgate.launchers.base import Handle, Whom
from vncgate.launchers.host import HostPlace, UnsureError, all_of
from vncgate.launchers.scripts import Listen, Scripts
from vncgate.launchers.ways import Ways
from vncgate.model import Desktop
from vncgate.text import printable

OPEN_TIMEOUT = 15.0
"""Seconds that a host has to start a shell."""
OPEN_ATTEMPTS = 20
"""How often a session is asked for where sshd has too many already."""
OPEN_PAUSE = 0.1
"""Seconds between two of these."""


class Ssh(HostPlace):
    """Desktops on the hosts of the settings. What reaches them is in `gate_folder`, which nobody else may enter."""

    def __init__(self, name: str, settings: SshPlace, gate_folder: Path, scripts: Scripts) -> None:
        through = settings.reach == "ssh"
        super().__init__(name, settings, scripts, Listen.SOCKET if through else Listen.NETWORK)
        self.hosts = tuple(hostlist.expand(settings.hosts))
        self._settings = settings
        self._ways = Ways(settings, gate_folder)

    async def aclose(self) -> None:
        """Let go of connections and tasks; desktops stay."""
        await super().aclose()
        await self._ways.aclose()

    def _folder(self, whom: Whom) -> str:  # noqa: ARG002 - every user has one
        return self._settings.folder

    async def _execute(self, whom: Whom, program: bytes, timeout: float) -> bytes:
        host, _ = whom
        line = self._ways.line(whom)
        with line.in_use():
            process = await self._shell(await line.connection(), host)
            try:
                async with asyncio.timeout(timeout):
                    process.stdin.write(program)
                    process.stdin.write_eof()
                    said = await all_of(process.stdout, host)
                    await process.wait_closed()
            except TimeoutError:
                raise UnsureError(f"{host} did not do within {timeout:g} s what it was asked") from None
            except (asyncssh.Error, OSError) as error:
                raise UnsureError(f"the connection to {host} was lost: {error}") from None
            finally:
                process.close()
            if process.returncode is None:
                raise UnsureError(f"the connection to {host} was lost")
            return said

    async def _shell(self, connection: asyncssh.SSHClientConnection, host: str) -> asyncssh.SSHClientProcess[bytes]:
        left = OPEN_ATTEMPTS
        while True:
            left -= 1
            try:
                async with asyncio.timeout(OPEN_TIMEOUT):
                    return await connection.create_process("exec /bin/sh -s", encoding=None, stderr=asyncssh.STDOUT)
            except asyncssh.ChannelOpenError as error:
                if connection.is_closed():
                    raise SilentError(f"the connection to {host} was lost") from None
                # sshd counts a session for a moment after its end.
                if not left:
                    raise LaunchError(f"{host} starts no session: {printable(error.reason)}") from None
                await asyncio.sleep(OPEN_PAUSE)
            except (TimeoutError, asyncssh.Error, OSError) as error:
                raise SilentError(
                    f"{host} starts no session: {printable(str(error)) or 'it does not answer'}"
                ) from None

    async def _reach(self, handle: Handle, reported: Desktop) -> Desktop:
        if self._settings.reach == "direct":
            return Desktop(handle.host, reported.port)
        whom = handle.host, handle.user
        return await self._ways.lead(handle.nonce, whom, f"{await self._root(whom)}/{handle.nonce}/vnc.sock")

    async def _let_go(self, handle: Handle) -> None:
        self._ways.end(handle.nonce)
