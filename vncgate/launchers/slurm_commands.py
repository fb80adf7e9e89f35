"""Slurm by its commands: sbatch, squeue, scancel. Arguments are lists; over ssh, each is quoted for the shell there."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import secrets
import shutil
from collections.abc import Collection, Mapping
from typing import Protocol

from vncgate.errors import LaunchError, UnsureError
from vncgate.kinds import SlurmPlace
from vncgate.launchers import slurm_errors, slurm_jobs
from vncgate.launchers.slurm_jobs import Job
from vncgate.launchers.users import own_name
from vncgate.process import Result, run

SUBMIT_TIMEOUT = 60.0
"""Seconds for sbatch, which tries again by itself while the controller is busy."""
ASK_TIMEOUT = 30.0
"""Seconds for squeue and scancel: on a large and busy cluster squeue takes some."""
NOT_FOUND = (126, 127)
"""Exit statuses of env(1) for a command that cannot be run."""

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "SLURM_CONF")
"""What the commands see of our environment. Any SLURM_ or SBATCH_ variable would be an option to them, and sbatch gives
all it sees to the job."""


class Execute(Protocol):
    """Runs a command somewhere: see process.run(). May raise LaunchError, too."""

    async def __call__(self, argv: list[str], *, timeout: float, stdin: str, env: Mapping[str, str]) -> Result:
        """Run it to its end."""


class Commands:
    """The transport by commands: on this host, or by `elsewhere` on another."""

    def __init__(self, settings: SlurmPlace, elsewhere: Execute | None = None) -> None:
        self._settings = settings
        self._elsewhere = elsewhere
        self._environ = {} if elsewhere else {name: os.environ[name] for name in _KEPT if name in os.environ}
        if settings.conf is not None:
            self._environ["SLURM_CONF"] = str(settings.conf)
        self._cluster = [f"--clusters={settings.cluster}"] if settings.cluster else []
        self._own_name = ""

    async def whoami(self) -> str:
        """See Transport."""
        if not self._own_name:
            self._own_name = await self._ask_name() if self._elsewhere else await asyncio.to_thread(own_name)
        return self._own_name

    async def _ask_name(self) -> str:
        return (await self._run("id", "-un")).stdout.strip()

    async def submit(self, script: str, owner: pwd.struct_passwd | None) -> str:
        """See Transport."""
        as_whom = [f"--uid={owner.pw_uid}", f"--gid={owner.pw_gid}"] if owner is not None else []
        result = await self._run("sbatch", "--parsable", *self._cluster, *as_whom, stdin=script, timeout=SUBMIT_TIMEOUT)
        found = re.search(r"^([0-9]+)(;.*)?$", result.stdout, re.MULTILINE)
        if result.status or found is None:
            raise slurm_errors.problem(result.stderr)
        return found[1]

    async def jobs(self, users: Collection[str]) -> list[Job]:
        """See Transport. The controller itself picks the jobs of one user. Of several all are asked for: squeue would
        pick those here, and be spoilt for all by one whom the cluster does not know.
        """
        mark = "".join(secrets.choice("ghijklmnopqrstuvwxyz") for _ in range(16))
        arguments = ["--states=all", "--noheader", f"--Format={slurm_jobs.row_format(mark)}"]
        named = {user or await self.whoami() for user in users or [""]}
        if len(users) == 1:
            arguments += [f"--user={user}" for user in named]
        times = {"SLURM_TIME_FORMAT": "%s"}  # seconds since the epoch
        result = await self._run("squeue", *arguments, *self._cluster, more=times)
        # It exits with 0 for a user that it does not know, and lists nobody's jobs.
        if result.status or "error:" in result.stderr:
            raise slurm_errors.silent(slurm_errors.problem(result.stderr))
        return await asyncio.to_thread(slurm_jobs.parse_rows, result.stdout, mark, named)

    async def cancel(self, job: str) -> None:
        """See Transport."""
        result = await self._run("scancel", *self._cluster, job)
        if result.status or "error:" in result.stderr:
            error = slurm_errors.problem(result.stderr)
            if not slurm_errors.is_over_already(error):
                raise error

    async def address(self, node: str) -> str:
        """See Transport."""
        result = await self._run("scontrol", *self._cluster, "--oneliner", "show", "node", node)
        found = re.search(r"\bNodeAddr=(\S+)", result.stdout)
        if result.status or found is None:
            raise slurm_errors.problem(result.stderr)
        return found[1]

    async def partitions(self) -> list[str]:
        """See Transport."""
        result = await self._run("sinfo", "--noheader", "--format=%R", *self._cluster)
        if result.status:
            raise slurm_errors.problem(result.stderr)
        heads = ("CLUSTER: ",)  # a line before each cluster's own, where one was named
        return list(dict.fromkeys(line.strip() for line in result.stdout.splitlines() if not line.startswith(heads)))

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
        path, environ = self._path(command), self._environ | dict(more or {})
        try:
            result = await (self._elsewhere or run)([path, *arguments], timeout=timeout, stdin=stdin, env=environ)
        except TimeoutError:
            raise UnsureError(f"Slurm cannot be reached now: {command} did not end within {timeout:g} s") from None
        except ConnectionError as error:
            raise UnsureError(f"Slurm cannot be reached now: {error.strerror}") from None
        except OSError as error:
            raise LaunchError(f"{path} cannot be run: {error.strerror}") from None
        if self._elsewhere and result.status in NOT_FOUND:
            raise LaunchError(
                f"{command} cannot be run on {self._settings.submit_host}: set `commands` to its folder there"
            )
        return result

    def _path(self, command: str) -> str:
        folder = self._settings.commands
        if self._elsewhere:
            return f"{folder}/{command}" if folder and command != "id" else command
        path = shutil.which(command, path=str(folder) if folder else None)
        if path is None:
            raise LaunchError(
                f"{command} is not in {folder or 'PATH'}: install Slurm's client commands, or set `commands`"
            )
        return path
