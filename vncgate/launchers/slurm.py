"""The place `slurm`: desktops as jobs of a Slurm cluster.

A desktop is one batch job. Its files are in a folder that gate and nodes share: there the job finds its script and its
password, and there it writes where its VNC server is. However many desktops there are, one question is asked for
all of them.
"""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from vncgate import rfb, tasks
from vncgate.errors import LaunchError
from vncgate.kinds import SlurmPlace
from vncgate.launchers import report, slurm_jobs
from vncgate.launchers.base import Handle, Seen, Sighting, Spec, session_folder
from vncgate.launchers.scripts import Listen, Scripts
from vncgate.launchers.share import Share, last_lines, make_session, read_end, remove_session, replace_in_session
from vncgate.launchers.slurm_commands import Commands
from vncgate.launchers.slurm_jobs import DoubtError, Job
from vncgate.launchers.slurm_rest import Rest
from vncgate.model import Desktop, Secret

CANCEL_TIMEOUT = 120.0
"""Seconds for a job to end: Slurm's KillWait is 30 s by default, and its epilog comes after that."""
DOUBT_TIMEOUT = 30.0
"""Seconds to look for a job of which sbatch could not say whether it was taken."""
LONGEST_REPORT = 4096
"""Bytes of a report; one of ours has a hundred."""


class Transport(Protocol):
    """How a cluster is asked. Raises LaunchError: SilentError where it cannot be asked now, and where it could and
    nobody knows what came of that, DoubtError.
    """

    async def submit(self, script: str, owner: pwd.struct_passwd | None) -> str:
        """Have a job made of `script`, as the user `owner` (None: who we are); returns its number."""

    async def jobs(self, users: Collection[str]) -> list[Job]:
        """The jobs of `users` (empty: who we are) and maybe more, those that ended a short while ago among them."""

    async def cancel(self, job: str) -> None:
        """Have a job end; of one that has ended already nothing is said."""

    async def address(self, node: str) -> str:
        """Where a node is reached."""

    async def aclose(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the cluster said of all jobs to the question `number`, at `when` by the loop's clock.

    `trouble` is why it said nothing.
    """

    number: int
    when: float
    jobs: tuple[Job, ...] = ()
    trouble: str = ""


class Survey:
    """Asks for all jobs: once for all who want to know, and no more often than every `interval` seconds."""

    def __init__(self, ask: Callable[[], Awaitable[Sequence[Job]]], interval: float, name: str) -> None:
        self._ask = ask
        self._interval = interval
        self._name = name
        self._answer: Answer | None = None
        self._asking: asyncio.Task[Answer] | None = None
        self.asked = 0
        """Questions that were asked: only later ones can know what is done now."""

    async def look(self, after: int = 0) -> Answer:
        """The answer to a question later than number `after`; it may be `interval` seconds old."""
        answer = self._answer
        is_fresh = answer is not None and asyncio.get_running_loop().time() < answer.when + self._interval
        while answer is None or not is_fresh or answer.number <= after:
            if self._asking is None or self._asking.done():
                self._asking = tasks.spawn(self._question(), f"ask {self._name}")
            answer = await asyncio.shield(self._asking)
            is_fresh = True
        return answer

    async def _question(self) -> Answer:
        loop = asyncio.get_running_loop()
        if self._answer is not None:
            await asyncio.sleep(self._answer.when + self._interval - loop.time())
        self.asked += 1
        try:
            jobs = await self._ask()
        except LaunchError as error:
            self._answer = Answer(self.asked, loop.time(), trouble=str(error))
        else:
            self._answer = Answer(self.asked, loop.time(), tuple(jobs))
        return self._answer

    async def aclose(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            await tasks.end(self._asking)


class Slurm:
    """A Slurm cluster as a place."""

    hosts: Sequence[str] = ()

    def __init__(self, name: str, settings: SlurmPlace, scripts: Scripts) -> None:
        self._name = name
        self._settings = settings
        self._scripts = scripts
        self._share = Share(settings.folder)
        self._transport: Transport = Rest(settings) if settings.transport == "rest" else Commands(settings)
        self._survey = Survey(lambda: self._transport.jobs(self._met), settings.poll_interval, name)
        # By nonce and by user: the answers to these questions know nothing yet of a job, or of a user's jobs.
        self._submitted: dict[str, int] = {}
        self._met: dict[str, int] = {}
        self._addresses: dict[str, str] = {}

    async def submit(self, spec: Spec) -> Handle:
        """See Place. When the cluster did not say whether it took the job, that is found out first; a job that turns
        up later finds no folder, and ends at once.
        """
        folder = session_folder(self._settings.folder, spec.nonce)
        files = {
            "desktop.sh": self._scripts.desktop(spec, str(folder), Listen.NETWORK).encode(errors="surrogateescape"),
            "passwd": rfb.password_file(spec.password),
        }
        script = self._scripts.job(spec, str(folder), self._settings)
        handle = Handle(self._name, spec.account, spec.nonce, user=spec.user)
        owner = await self._share.do(_owner, spec.user)
        try:
            await self._share.do(make_session, folder, files, owner and (owner.pw_uid, owner.pw_gid))
            try:
                number = await self._transport.submit(script, owner)
            except DoubtError as error:
                number = await self._number_in_doubt(handle, error)
        except LaunchError:
            await self._share.do(remove_session, folder)
            raise
        self._submitted[spec.nonce] = self._survey.asked
        return replace(handle, job=number)

    async def _number_in_doubt(self, handle: Handle, error: DoubtError) -> str:
        """A cluster that answers again may do so before it comes to the job, so it is asked twice then."""
        loop = asyncio.get_running_loop()
        end, answers = loop.time() + DOUBT_TIMEOUT, 0
        while answers < 2 and loop.time() < end:
            answer = await self._look(handle, self._survey.asked)
            if job := slurm_jobs.find(answer.jobs, handle):
                return job.id
            answers += not answer.trouble
        raise error

    async def query(self, handle: Handle) -> Sighting:
        """See Place."""
        answer = await self._look(handle)
        if answer.trouble:
            return Sighting(Seen.UNKNOWN, reason=answer.trouble)
        sighting = slurm_jobs.sighting(slurm_jobs.find(answer.jobs, handle))
        if sighting.seen is not Seen.RUNNING:
            return sighting
        try:
            text = await self._share.do(read_end, self._folder(handle) / "report", LONGEST_REPORT)
        except LaunchError as error:
            return Sighting(Seen.UNKNOWN, host=sighting.host, reason=str(error))
        reported = report.parse(text.decode(errors="replace"), handle.nonce)
        if reported is None or not reported.port:
            return sighting
        try:
            # The port is the session's word, which may be any; where its node is, the cluster's.
            return replace(sighting, desktop=Desktop(await self._address(sighting.host), reported.port))
        except LaunchError as error:
            return Sighting(Seen.UNKNOWN, host=sighting.host, reason=str(error))

    async def _address(self, node: str) -> str:
        if node not in self._addresses:
            self._addresses[node] = await self._transport.address(node)
        return self._addresses[node]

    async def cancel(self, handle: Handle) -> None:
        """See Place. It waits until the job has left its node."""
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                answer = await self._look(handle)
                while job := self._alive(answer, handle):
                    await self._transport.cancel(job.id)
                    answer = await self._look(handle, self._survey.asked)
        except TimeoutError:
            raise LaunchError(f"its job does not end within {CANCEL_TIMEOUT:g} s: see `squeue` and its node") from None
        await self._share.do(remove_session, self._folder(handle))
        self._submitted.pop(handle.nonce, None)

    async def logs(self, handle: Handle, lines: int = 200) -> str:
        """See Place."""
        return last_lines(await self._share.do(read_end, self._folder(handle) / "log"), lines)

    async def rekey(self, handle: Handle, password: Secret) -> None:
        """See Place. Xvnc reads the file at every login."""
        await self._share.do(replace_in_session, self._folder(handle), "passwd", rfb.password_file(password))

    async def aclose(self) -> None:
        """See Place."""
        await self._survey.aclose()
        await self._transport.aclose()

    def _folder(self, handle: Handle) -> Path:
        return session_folder(self._settings.folder, handle.nonce)

    async def _look(self, handle: Handle, after: int = 0) -> Answer:
        met = self._met.setdefault(handle.user, self._survey.asked)
        return await self._survey.look(max(after, met, self._submitted.get(handle.nonce, 0)))

    def _alive(self, answer: Answer, handle: Handle) -> Job | None:
        if answer.trouble:
            raise LaunchError(answer.trouble)
        job = slurm_jobs.find(answer.jobs, handle)
        return None if job is None or job.is_over else job


def _owner(user: str) -> pwd.struct_passwd | None:
    """Whom a desktop's files and job are given to; None where these are ours. It may ask a directory service."""
    if not user:
        return None
    try:
        its = pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise LaunchError(f"there is no user {user!r} on the gate's host") from None
    if its.pw_uid == 0:
        raise LaunchError("desktops do not run as root: see `user` of the place")
    if its.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise LaunchError(
            f"only root may start desktops as another user ({user}): run the gate as root, or set no `user`"
        )
    return its
