"""Slurm by its commands: sbatch, squeue, scancel. Arguments are lists, no shell is between."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from vncgate.errors import LaunchError, SilentError
from vncgate.kinds import SlurmPlace
from vncgate.launchers import slurm_jobs
from vncgate.launchers.slurm_jobs import DoubtError, Job
from vncgate.process import Result, run

SUBMIT_TIMEOUT = 60.0
"""Seconds for sbatch, which tries again by itself while the controller is busy."""
ASK_TIMEOUT = 30.0
"""Seconds for squeue and scancel: on a large and busy cluster squeue takes some."""

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SLURM_CONF")
"""What the commands see of our environment. Any SLURM_ or SBATCH_ variable would be an option to them, and sbatch gives
all it sees to the job."""


class Commands:
    """The transport by commands."""

    def __init__(self, settings: SlurmPlace) -> None:
        self._settings = settings
        self._environ = {name: os.environ[name] for name in _KEPT if name in os.environ}
        if settings.conf is not None:
            self._environ["SLURM_CONF"] = str(settings.conf)
        self._cluster = [f"--clusters={settings.cluster}"] if settings.cluster else []

    async def submit(self, script: str, owner: pwd.struct_passwd | None) -> str:
        """See Transport."""
        as_whom = [f"--uid={owner.pw_uid}", f"--gid={owner.pw_gid}"] if owner is not None else []
        result = await self._run("sbatch", "--parsable", *self._cluster, *as_whom, stdin=script, timeout=SUBMIT_TIMEOUT)
        found = re.search(r"^([0-9]+)(;.*)?$", result.stdout, re.MULTILINE)
        if result.status or found is None:
            raise slurm_jobs.problem(result.stderr)
        return found[1]

    async def jobs(self, users: Collection[str]) -> list[Job]:
        """See Transport. The controller itself picks the jobs of one user; of several all jobs are asked for."""
        mark = "".join(secrets.choice("ghijklmnopqrstuvwxyz") for _ in range(16))
        arguments = ["--states=all", "--noheader", f"--Format={slurm_jobs.row_format(mark)}"]
        arguments += [f"--user={user or os.geteuid()}" for user in users if len(users) == 1]
        times = {"SLURM_TIME_FORMAT": "%s"}  # seconds since the epoch
        result = await self._run("squeue", *arguments, *self._cluster, more=times)
        # It exits with 0 for a user that it does not know, and lists nobody's jobs.
        if result.status or "error:" in result.stderr:
            raise SilentError(str(slurm_jobs.problem(result.stderr)))
        return slurm_jobs.parse_rows(result.stdout, mark)

    async def cancel(self, job: str) -> None:
        """See Transport."""
        result = await self._run("scancel", *self._cluster, job)
        is_over = any(words in result.stderr for words in slurm_jobs.OVER_ALREADY)
        if (result.status or "error:" in result.stderr) and not is_over:
            raise slurm_jobs.problem(result.stderr)

    async def address(self, node: str) -> str:
        """See Transport."""
        result = await self._run("scontrol", *self._cluster, "--oneliner", "show", "node", node)
        found = re.search(r"\bNodeAddr=(\S+)", result.stdout)
        if result.status or found is None:
            raise slurm_jobs.problem(result.stderr)
        return found[1]

    async def aclose(self) -> None:
        """Nothing is kept."""

    async def _run(
        self,
        command: str,
        *arguments: str,
        stdin: str = "",
        timeout: float = ASK_TIMEOUT,
        more: Mapping[str, str] | None = None,
    ) -> Result:
        folder: Path | None = self._settings.commands
        path = shutil.which(command, path=str(folder) if folder else None)
        if path is None:
            raise LaunchError(
                f"{command} is not in {folder or 'PATH'}: install Slurm's client commands, or set `commands`"
            )
        try:
            return await run([path, *arguments], timeout=timeout, stdin=stdin, env=self._environ | dict(more or {}))
        except TimeoutError:
            raise DoubtError(f"Slurm cannot be reached now: {command} did not end within {timeout:g} s") from None
        except OSError as error:
            raise LaunchError(f"{path} cannot be run: {error.strerror}") from None
