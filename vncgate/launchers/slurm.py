"""The place `slurm`: desktops as jobs of a Slurm cluster.

A desktop is one batch job. Its files are in a folder that gate and nodes share: there the job finds its script and its
password, and there it writes where its VNC server is. However many desktops there are, one question is asked for
all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import pwd
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vncgate import rfb
from vncgate.errors import LaunchError, UnsureError
from vncgate.kinds import SlurmPlace
from vncgate.launchers import report, slurm_errors, slurm_jobs, users
from vncgate.launchers.base import Handle, Seen, Sighting, Spec
from vncgate.launchers.removal import remove_session
from vncgate.launchers.scripts import Listen, Scripts
from vncgate.launchers.share import Share, make_session, read_end
from vncgate.launchers.slurm_commands import Commands
from vncgate.launchers.slurm_jobs import Job
from vncgate.launchers.slurm_rest import Rest
from vncgate.launchers.survey import Answer, Survey
from vncgate.model import Desktop, Secret

if TYPE_CHECKING:
    from vncgate.launchers.base import Whom
    from vncgate.launchers.lines import Lines
    from vncgate.launchers.ways import Ways

log = logging.getLogger(__name__)

CANCEL_TIMEOUT = 120.0
"""Seconds for a job to end: Slurm's KillWait is 30 s by default, and its epilog comes after that."""
DOUBT_TIMEOUT = 30.0
"""Seconds to look for a job of which sbatch could not say whether it was taken."""


class Transport(Protocol):
    """How a cluster is asked. Raises LaunchError: SilentError where it cannot be asked now, and where it could and
    nobody knows what came of that, UnsureError.
    """

    async def whoami(self) -> str:
        """Whose jobs those are that are submitted for nobody else."""

    async def submit(self, script: str, owner: pwd.struct_passwd | None) -> str:
        """Have a job made of `script`, as the user `owner` (None: who we are); returns its number."""

    async def jobs(self, users: Collection[str]) -> list[Job]:
        """The jobs of `users` (empty: who we are) and maybe more, those that ended a short while ago among them."""

    async def cancel(self, job: str) -> None:
        """Have a job end; of one that has ended already nothing is said."""

    async def address(self, node: str) -> str:
        """Where a node is reached."""

    async def partitions(self) -> list[str]:
        """The names of all partitions."""

    async def aclose(self) -> None:
        """Let go of connections."""


class Slurm:
    """A Slurm cluster as a place."""

    hosts: Sequence[str] = ()

    def __init__(self, name: str, settings: SlurmPlace, gate_folder: Path, scripts: Scripts) -> None:
        """The sockets of the ways to desktops, where they are reached by ssh, are in `gate_folder`."""
        self._name = name
        self._settings = settings
        self._scripts = scripts
        self._share = Share(settings.folder)
        self._lines = _lines(settings)
        self._ways = _ways(self._lines, gate_folder) if self._lines and settings.reach == "ssh" else None
        self._transport = _transport(settings, self._lines)
        self._survey = Survey(self._jobs, settings.poll_interval, name)
        # By nonce and by user: the answers to these questions know nothing yet of a job, or of a user's jobs.
        self._submitted: dict[str, int] = {}
        self._met: dict[str, int] = {}
        self._addresses: dict[str, str] = {}
        self._said = ""

    async def submit(self, spec: Spec) -> Handle:
        """See Place. When the cluster did not say whether it took the job, that is found out first; a job that turns
        up later finds no folder, and ends at once.
        """
        folder = self._settings.folder / spec.nonce
        desktop = await self._scripts.files.do(self._scripts.desktop, spec, str(folder), self._listen)
        files = {
            "desktop.sh": desktop.encode(errors="surrogateescape"),
            "passwd": rfb.password_file(spec.password),
        }
        script = await self._scripts.files.do(self._scripts.job, spec, str(folder), self._settings)
        handle = Handle(self._name, spec.account, spec.nonce, user=spec.user)
        owner = await self._share.do(_owner, spec.user, self._settings.may_be_root)
        try:
            await self._share.do(make_session, folder, files, owner and (owner.pw_uid, owner.pw_gid))
            try:
                number = await self._transport.submit(script, owner)
            except UnsureError as error:
                number = await self._number_in_doubt(handle, error)
        except LaunchError as error:
            self._note(error, spec.account)
            await self._share.do(remove_session, folder)
            raise
        self._submitted[spec.nonce] = self._survey.asked
        return replace(handle, job=number)

    async def _number_in_doubt(self, handle: Handle, error: UnsureError) -> str:
        """A cluster that answers again may do so before it comes to the job, so it is asked twice then."""
        loop = asyncio.get_running_loop()
        end, answers = loop.time() + DOUBT_TIMEOUT, 0
        while answers < 2 and loop.time() < end:
            answer = await self._look(handle, self._survey.asked)
            if answer.found is not None and (job := await self._find(answer.found, handle)):
                return job.id
            answers += answer.found is not None
        raise error

    async def query(self, handle: Handle) -> Sighting:
        """See Place."""
        with self._ways.look(handle.nonce) if self._ways else contextlib.nullcontext():
            return await self._query(handle)

    async def _query(self, handle: Handle) -> Sighting:
        try:
            job = await self._find((await self._look(handle)).known(), handle)
        except LaunchError as error:
            return Sighting(Seen.UNKNOWN, reason=str(error))
        sighting = slurm_jobs.sighting(job)
        if sighting.seen is not Seen.RUNNING:
            self._let_go(handle)
            return sighting
        try:
            text = await self._share.do(read_end, self._folder(handle) / "report", report.LONGEST)
        except LaunchError as error:
            return Sighting(Seen.UNKNOWN, host=sighting.host, reason=str(error))
        reported = report.parse(text.decode(errors="replace"), handle.nonce)
        if reported is None or not reported.port:
            return sighting
        try:
            # The port is the session's word, which may be any; where its node is, the cluster's.
            address = await self._address(sighting.host)
            return replace(sighting, desktop=await self._reach(handle, address, reported.port))
        except LaunchError as error:
            self._note(error, handle.account)
            return Sighting(Seen.UNKNOWN, host=sighting.host, reason=str(error))

    async def _address(self, node: str) -> str:
        if node not in self._addresses:
            self._addresses[node] = await self._transport.address(node)
        return self._addresses[node]

    async def _reach(self, handle: Handle, address: str, port: int) -> Desktop:
        if self._ways is None:
            return Desktop(address, port)
        if self._settings.login:
            through, there = login(self._settings.login, handle.user), address
        else:
            through, there = (address, handle.user), "127.0.0.1"
        return await self._ways.lead(handle.nonce, through, (there, port))

    def _let_go(self, handle: Handle) -> None:
        if self._ways is not None:
            self._ways.end(handle.nonce)

    async def cancel(self, handle: Handle) -> None:
        """See Place. It waits until the job has left its node."""
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                answer = await self._look(handle)
                while job := await self._alive(answer, handle):
                    await self._transport.cancel(job.id)
                    answer = await self._look(handle, self._survey.asked)
        except TimeoutError:
            raise LaunchError(f"its job does not end within {CANCEL_TIMEOUT:g} s: see `squeue` and its node") from None
        except LaunchError as error:
            self._note(error, handle.account)
            raise
        self._let_go(handle)
        await self._share.do(remove_session, self._folder(handle))
        self._submitted.pop(handle.nonce, None)

    async def logs(self, handle: Handle, lines: int = 200) -> str:
        """See Place."""
        return await self._share.log(self._folder(handle), lines)

    async def rekey(self, handle: Handle, password: Secret) -> None:
        """See Place."""
        await self._share.rekey(self._folder(handle), password)

    async def aclose(self) -> None:
        """See Place."""
        await self._survey.aclose()
        await self._transport.aclose()
        if self._ways is not None:
            self._ways.close()
        if self._lines is not None:
            await self._lines.aclose()

    def _folder(self, handle: Handle) -> Path:
        return self._settings.folder / handle.nonce

    @property
    def _listen(self) -> Listen:
        """As narrow as can be: where ssh goes to the node itself, nobody else's host reaches it."""
        return Listen.LOOPBACK if self._settings.reach == "ssh" and not self._settings.login else Listen.NETWORK

    async def _jobs(self) -> list[Job]:
        try:
            return await self._transport.jobs(self._met)
        except LaunchError as error:
            self._note(error)
            raise

    async def _look(self, handle: Handle, after: int = 0) -> Answer[list[Job]]:
        met = self._met.setdefault(handle.user, self._survey.asked)
        return await self._survey.look(max(after, met, self._submitted.get(handle.nonce, 0)))

    async def _find(self, jobs: Sequence[Job], handle: Handle) -> Job | None:
        user = handle.user or ("" if handle.job else await self._transport.whoami())
        return slurm_jobs.find(jobs, handle, user)

    async def _alive(self, answer: Answer[list[Job]], handle: Handle) -> Job | None:
        job = await self._find(answer.known(), handle)
        return None if job is None or job.is_over else job

    def _note(self, error: LaunchError, account: str = "") -> None:
        """Have what Slurm said in its own words in the log: people are told it in ours. It is not repeated."""
        said = slurm_errors.said(error)
        if said and said != self._said:
            log.warning("%s: %s. Slurm said: %s", self._name, error, said, extra={"account": account})
            self._said = said


async def partitions(settings: SlurmPlace) -> list[str]:
    """The partitions of a cluster that tells of its jobs, too. Raises LaunchError where it does not answer."""
    lines = _lines(settings)
    transport = _transport(settings, lines)
    try:
        await transport.jobs([""])
        return await transport.partitions()
    finally:
        await transport.aclose()
        if lines is not None:
            await lines.aclose()


# Ssh is imported where it is used: it takes a tenth of a second and 20 MB.


def _lines(settings: SlurmPlace) -> Lines | None:
    if settings.reach == "direct" and not settings.submit_host:
        return None
    from vncgate.launchers.lines import Lines

    return Lines(settings)


def _ways(lines: Lines, folder: Path) -> Ways:
    from vncgate.launchers.ways import Ways

    return Ways(lines, folder)


def _transport(settings: SlurmPlace, lines: Lines | None) -> Transport:
    if settings.transport == "rest":
        return Rest(settings)
    if lines is not None and settings.submit_host:
        return Commands(settings, functools.partial(lines.run, login(settings.submit_host)))
    return Commands(settings)


def login(text: str, user: str = "") -> Whom:
    """Whom `HOST` or `USER@HOST` names; `user` is meant where it names none."""
    named, _, host = text.rpartition("@")
    return host, named or user


def _owner(user: str, may_be_root: bool) -> pwd.struct_passwd | None:
    """Whom a desktop's files and job are given to; None where these are ours. Raises LaunchError; see users.find()."""
    its = users.find(user, may_be_root=may_be_root)
    return None if its.pw_uid == os.geteuid() else its
