"""Desktops on hosts reached by ssh: what is asked of a host goes through the one connection to it (lines.py).

A lost connection ends no desktop; what is asked meanwhile is answered as unknown. Where the settings say so, the gate
reaches a desktop through that connection as well (ways.py): a unix socket here for the unix socket there.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import asyncssh

from vncgate import hostlist
from vncgate.errors import UnsureError
from vncgate.kinds import SshPlace
from vncgate.launchers.base import Handle, Sighting, Whom
from vncgate.launchers.host import HostPlace, all_of
from vncgate.launchers.lines import Lines
from vncgate.launchers.scripts import Listen, Scripts
from vncgate.launchers.ways import Ways
from vncgate.model import Desktop


class Ssh(HostPlace):
    """Desktops on the hosts of the settings. What reaches them is in `gate_folder`, which nobody else may enter."""

    def __init__(self, name: str, settings: SshPlace, gate_folder: Path, scripts: Scripts) -> None:
        through = settings.reach == "ssh"
        super().__init__(name, settings, scripts, Listen.SOCKET if through else Listen.NETWORK)
        self.hosts = tuple(hostlist.expand(settings.hosts))
        self._settings = settings
        self._lines = Lines(settings)
        self._ways = Ways(self._lines, gate_folder)

    async def aclose(self) -> None:
        """Let go of connections and tasks; desktops stay."""
        await super().aclose()
        self._ways.close()
        await self._lines.aclose()

    async def query(self, handle: Handle) -> Sighting:
        """How it is now; see base.Place."""
        with self._ways.look(handle.nonce):
            return await super().query(handle)

    def _folder(self, whom: Whom) -> str:  # noqa: ARG002 - every user has one
        return self._settings.folder

    async def _execute(self, whom: Whom, program: bytes, timeout: float) -> bytes:
        host, _ = whom
        async with self._lines.line(whom).session("exec /bin/sh -s", stderr=asyncssh.STDOUT) as shell:
            try:
                async with asyncio.timeout(timeout):
                    with contextlib.suppress(BrokenPipeError):  # no shell: it has said why, and ended
                        shell.stdin.write(program)
                        shell.stdin.write_eof()
                    said = await all_of(shell.stdout, host)
                    await shell.wait_closed()
            except TimeoutError:
                raise UnsureError(f"{host} did not do within {timeout:g} s what it was asked") from None
            except (asyncssh.Error, OSError) as error:
                raise UnsureError(f"the connection to {host} was lost: {error}") from None
            if shell.returncode is None:
                raise UnsureError(f"the connection to {host} was lost")
            return said

    async def _reach(self, handle: Handle, reported: Desktop) -> Desktop:
        if self._settings.reach == "direct":
            return Desktop(handle.host, reported.port)
        whom = handle.host, handle.user
        return await self._ways.lead(handle.nonce, whom, f"{await self._root(whom)}/{handle.nonce}/vnc.sock")

    async def _let_go(self, handle: Handle) -> None:
        self._ways.end(handle.nonce)
