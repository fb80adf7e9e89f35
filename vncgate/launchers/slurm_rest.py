"""Slurm by its REST API: slurmrestd with the plug-in openapi/v0.0.38, of Slurm 22.05 to 23.11.

slurmrestd does not read the #SBATCH lines of a script. They are what a site's template says a job shall have, so they
are translated here into what the API calls the same; an option that it has no word for is refused.

Two of its own ways (22.05): it answers "no jobs" when its controller is silent, with an error beside it; and it does
not hear that a job is not to be put back in the queue (`requeue`, neither of a new job nor of one that is there).
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from vncgate.errors import LaunchError, SilentError, UnsureError
from vncgate.kinds import SlurmPlace
from vncgate.launchers import slurm_errors, slurm_jobs
from vncgate.launchers.slurm_jobs import Job
from vncgate.launchers.users import own_name
from vncgate.text import printable

API = "/slurm/v0.0.38"
TIMEOUT = 30.0
"""Seconds for one request."""
LONGEST_ANSWER = 256 * 1024 * 1024
"""Bytes of an answer: a job has 3 KB."""
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
"""The API demands one that is not empty."""


class Rest:
    """The transport by slurmrestd."""

    def __init__(self, settings: SlurmPlace) -> None:
        self._token = settings.rest_token
        self._unix = settings.rest.removeprefix("unix:") if settings.rest.startswith("unix:") else ""
        self._base = ("http://localhost" if self._unix else settings.rest.rstrip("/")) + API
        self._session: aiohttp.ClientSession | None = None

    async def submit(self, script: str, owner: pwd.struct_passwd | None) -> str:
        """See Transport."""
        if owner is not None and self._token is None:
            raise LaunchError(f"slurmrestd takes a job of {owner.pw_name} with a token only: set `rest_token`")
        body = {"script": script, "job": properties(script) | {"environment": ENVIRONMENT}}
        answer = await self._request("POST", "/job/submit", owner, json=body)
        return str(answer["job_id"])

    async def whoami(self) -> str:
        """See Transport."""
        return await asyncio.to_thread(own_name)

    async def jobs(self, users: Collection[str]) -> list[Job]:  # noqa: ARG002
        """See Transport. The API lists the jobs of all users or none."""
        try:
            answer = await self._request("GET", "/jobs")
            return [_job(body) for body in answer["jobs"]]
        except LaunchError as error:
            raise slurm_errors.silent(error) from None
        except (KeyError, TypeError, ValueError) as error:
            raise SilentError(f"slurmrestd's list of jobs is not understood: {error!r}") from None

    async def cancel(self, job: str) -> None:
        """See Transport."""
        try:
            await self._request("DELETE", f"/job/{quote(job, safe='')}")
        except LaunchError as error:
            if not slurm_errors.is_over_already(error):
                raise

    async def address(self, node: str) -> str:
        """See Transport."""
        answer = await self._request("GET", f"/node/{quote(node, safe='')}")
        try:
            return str(answer["nodes"][0]["address"])
        except (LookupError, TypeError):
            raise LaunchError(f"slurmrestd does not say where the node {node} is") from None

    async def partitions(self) -> list[str]:
        """See Transport."""
        answer = await self._request("GET", "/partitions")
        try:
            return [str(each["name"]) for each in answer["partitions"]]
        except (LookupError, TypeError):
            raise LaunchError("slurmrestd does not say which partitions there are") from None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _request(
        self, method: str, path: str, user: pwd.struct_passwd | None = None, **more: Any
    ) -> dict[str, Any]:
        if self._session is None:
            connector = aiohttp.UnixConnector(self._unix) if self._unix else aiohttp.TCPConnector()
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        headers = await asyncio.to_thread(_headers, self._token, user) if self._token is not None else {}
        try:
            async with self._session.request(method, self._base + path, headers=headers, **more) as response:
                text = await _text(response)
        except aiohttp.ClientConnectorError as error:
            raise SilentError(f"slurmrestd cannot be reached now: {error}") from None
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise UnsureError(f"slurmrestd cannot be reached now: {str(error) or 'no answer in time'}") from None
        try:
            answer = json.loads(text)
            errors = "\n".join(
                " ".join(filter(None, (its.get("description"), its.get("error")))) for its in answer["errors"]
            )
        except (ValueError, LookupError, TypeError, AttributeError):
            strange = _strange(response.status)
            strange.add_note(printable(text[:200]))
            raise strange from None
        if errors:
            raise slurm_errors.problem(errors)
        return dict(answer)


def _strange(status: int) -> SilentError:
    """The error for what is no answer of the API's."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return SilentError("slurmrestd does not accept the token of rest_token; has it run out?")
    return UnsureError(f"slurmrestd does not answer as it should (HTTP status {status})")


async def _text(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > LONGEST_ANSWER:
            raise UnsureError(f"slurmrestd answers with more than {LONGEST_ANSWER >> 20} MiB")
    return body.decode(errors="replace")


def _headers(token: Path, user: pwd.struct_passwd | None) -> dict[str, str]:
    """Who asks, and the proof, which may stand as `scontrol token` writes it. Read anew each time: tokens run out."""
    try:
        proof = token.read_text().strip().removeprefix("SLURM_JWT=")
    except (OSError, ValueError) as error:
        raise LaunchError(f"{token}: the token cannot be read: {error}") from None
    return {"X-SLURM-USER-NAME": (user or pwd.getpwuid(os.geteuid())).pw_name, "X-SLURM-USER-TOKEN": proof}


def _job(body: Mapping[str, Any]) -> Job:
    return Job(
        id=str(body["job_id"]),
        state=str(body["job_state"]),
        reason=str(body["state_description"] or body["state_reason"]),
        host=str(body["batch_host"]),
        comment=str(body["comment"]),
        starts=float(body["start_time"]) or None,
        ends=float(body["end_time"]) or None,
        exit_status=slurm_jobs.exit_status(str(body["exit_code"])),
        user=str(body["user_name"]),
        restarts=int(body["restart_cnt"]),
    )


# --- From #SBATCH lines to the API's words ----------------------------------------------------------------------------


def _minutes(text: str) -> int:
    """A time limit as sbatch(1) has it: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S; seconds are rounded up."""
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) < 3:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    else:
        hours, minutes, seconds = parts
    return (int(days or 0) * 24 + hours) * 60 + minutes + (seconds > 0)


def _mebibytes(text: str) -> int:
    number, unit = re.fullmatch(r"([0-9]+)([KMGT]?)B?", text.upper()).groups()  # type: ignore[union-attr]
    return max(1, int(number) * {"K": 1, "": 1024, "M": 1024, "G": 1024**2, "T": 1024**3}[unit] // 1024)


_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "account": ("account", str),
    "chdir": ("current_working_directory", str),
    "comment": ("comment", str),
    "constraint": ("constraints", str),
    "cpus-per-task": ("cpus_per_task", int),
    "gpus": ("gpus", str),
    "gpus-per-node": ("gpus_per_node", str),
    "gres": ("gres", str),
    "job-name": ("name", str),
    "licenses": ("licenses", str),
    "mem": ("memory_per_node", _mebibytes),
    "nice": ("nice", int),
    "nodes": ("nodes", lambda text: [int(text), int(text)]),
    "ntasks": ("tasks", int),
    "open-mode": ("open_mode", str),
    "output": ("standard_output", str),
    "partition": ("partition", str),
    "prefer": ("prefer", str),
    "qos": ("qos", str),
    "reservation": ("reservation", str),
    "threads-per-core": ("threads_per_core", int),
    "time": ("time_limit", _minutes),
    "wckey": ("wckey", str),
}
_SHORT = {
    "-A": "--account", "-C": "--constraint", "-c": "--cpus-per-task", "-D": "--chdir", "-G": "--gpus",
    "-J": "--job-name", "-L": "--licenses", "-N": "--nodes", "-n": "--ntasks", "-o": "--output", "-p": "--partition",
    "-q": "--qos", "-t": "--time",
}  # fmt: skip
_WITHOUT_MEANING = ("--no-requeue", "--export=", "--propagate=")
"""The job's environment is given by itself, limits come from nowhere, and `requeue` is not heard."""


def properties(script: str) -> dict[str, Any]:
    """What the #SBATCH lines of a job script ask for, as the API's job_properties. Raises LaunchError."""
    found: dict[str, Any] = {}
    words = iter(_directives(script))
    for word in words:
        if word.startswith(_WITHOUT_MEANING):
            continue
        name, is_given, value = (_SHORT.get(word, word)).partition("=")
        field, convert = _OPTIONS.get(name.removeprefix("--"), ("", str))
        if not field or not name.startswith("--"):
            raise LaunchError(f'slurmrestd has no word for sbatch\'s option {name}: set transport = "commands"')
        try:
            found[field] = convert(value if is_given else next(words))
        except (ValueError, AttributeError, StopIteration):
            raise LaunchError(f"sbatch's option {name} has no such value: {value!r}") from None
    return found


def _directives(script: str) -> list[str]:
    """The words of the #SBATCH lines, which end with the first command (sbatch(1), DESCRIPTION)."""
    words: list[str] = []
    for line in script.split("\n"):
        if line.startswith("#SBATCH"):
            try:
                words += shlex.split(line.removeprefix("#SBATCH"), comments=True)
            except ValueError as error:
                raise LaunchError(f"{line}: {error}") from None
        elif line.strip() and not line.startswith("#"):
            break
    return words
