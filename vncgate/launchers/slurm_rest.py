"""Slurm by its REST API: slurmrestd with the plug-in openapi/v0.0.38, of Slurm 22.05 to 23.11.

slurmrestd does not read the #SBATCH lines of a script. They are what a site's template says a job shall have, so they
are translated here into what the API calls the same; an option that it has no word for is refused.

Two of its own ways (22.05): it answers "no jobs" when its controller is silent, with an error beside it; and it does
not hear that a job is not to be put back in the queue (`requeue`, neither of a new job nor of one that is there).
"""

from __future__ import annotations

import asyncio
import functools
import json
import pwd
import re
import shlex
from collections.abc import Callable, Collection
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from vncgate.dial import why_not
from vncgate.errors import LaunchError, SilentError, UnsureError
from vncgate.kinds import SlurmPlace
from vncgate.launchers import slurm_errors, slurm_jobs
from vncgate.launchers.share import Share
from vncgate.launchers.slurm_jobs import Job
from vncgate.launchers.users import own_name
from vncgate.text import printable

API = "/slurm/v0.0.38"
TIMEOUT = 30.0
"""Seconds for one request."""
LONGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer: twenty thousand jobs, which have 3 KB each."""
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
"""The API demands one that is not empty."""


class Rest:
    """The transport by slurmrestd."""

    def __init__(self, settings: SlurmPlace) -> None:
        token = settings.rest_token
        self._proof = functools.partial(Share(token.parent).do, _proof, token) if token else None
        self._own_name = ""
        self._unix = settings.rest.removeprefix("unix:") if settings.rest.startswith("unix:") else ""
        self._base = ("http://localhost" if self._unix else settings.rest.rstrip("/")) + API
        self._session: aiohttp.ClientSession | None = None

    async def submit(self, script: str, owner: pwd.struct_passwd | None) -> str:
        """See Transport."""
        if owner is not None and self._proof is None:
            raise LaunchError(f"slurmrestd takes a job of {owner.pw_name} with a token only: set `rest_token`")
        body = {"script": script, "job": properties(script) | {"environment": ENVIRONMENT}}
        answer = await self._request("POST", "/job/submit", owner, json=body)
        number = answer.get("job_id")
        if not isinstance(number, int) or not number:
            raise UnsureError("slurmrestd does not say which job it made")
        return str(number)

    async def whoami(self) -> str:
        """See Transport."""
        self._own_name = self._own_name or await asyncio.to_thread(own_name)
        return self._own_name

    async def jobs(self, users: Collection[str]) -> list[Job]:
        """See Transport. The API lists the jobs of all users or none."""
        named = {user or await self.whoami() for user in users or [""]}
        try:
            answer = await self._request("GET", "/jobs", hook=functools.partial(_job, named))
            return [_its_job(found) for found in answer["jobs"] if found is not None]
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
        self,
        method: str,
        path: str,
        user: pwd.struct_passwd | None = None,
        hook: Callable[[dict[str, Any]], Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Ask; `hook` makes something else of each object in the answer, as that of json.loads()."""
        if self._session is None:
            connector = aiohttp.UnixConnector(self._unix) if self._unix else aiohttp.TCPConnector()
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT))
        headers = await self._headers(user)
        try:
            async with self._session.request(method, self._base + path, headers=headers, **more) as response:
                body = await _body(response)
        except aiohttp.ClientConnectorError as error:
            raise SilentError(f"slurmrestd cannot be reached now: it {why_not(error.os_error)}") from None
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            raise UnsureError(f"slurmrestd cannot be reached now: {str(error) or 'no answer in time'}") from None
        try:
            # In a thread, as the list of jobs takes half a second for ten thousand of them. Others have their turn only
            # between two lines of Python's: of what is large without a hook, all would be a single step.
            answer = await asyncio.to_thread(json.loads, body.decode(errors="replace"), object_hook=hook)
            errors = "\n".join(
                " ".join(filter(None, (its.get("description"), its.get("error")))) for its in answer["errors"]
            )
        except (ValueError, LookupError, TypeError, AttributeError):
            strange = _strange(response.status)
            strange.add_note(printable(body[:200].decode(errors="replace")))
            raise strange from None
        if errors:
            raise slurm_errors.problem(errors)
        return dict(answer)

    async def _headers(self, user: pwd.struct_passwd | None) -> dict[str, str]:
        """Who asks, and the proof. It is read anew each time: tokens run out."""
        if self._proof is None:
            return {}
        name = user.pw_name if user else await self.whoami()
        return {"X-SLURM-USER-NAME": name, "X-SLURM-USER-TOKEN": await self._proof()}


def _strange(status: int) -> SilentError:
    """The error for what is no answer of the API's."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return SilentError("slurmrestd does not accept the token of rest_token; has it run out?")
    return UnsureError(f"slurmrestd does not answer as it should (HTTP status {status})")


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > LONGEST_ANSWER:
            raise UnsureError(f"slurmrestd answers with more than {LONGEST_ANSWER >> 20} MiB")
    return bytes(body)


def _proof(token: Path) -> str:
    """The first line of a file, which may stand as `scontrol token` writes it."""
    try:
        line = token.read_bytes().decode().strip().partition("\n")[0].strip()
    except (OSError, ValueError) as error:
        raise LaunchError(f"{token}: the token cannot be read: {getattr(error, 'strerror', error)}") from None
    proof = line.removeprefix("SLURM_JWT=")
    if not re.fullmatch(r"[!-~]+", proof):
        raise LaunchError(f"{token}: its first line is no token: write it as `scontrol token` does, SLURM_JWT=...")
    return proof


def _job(users: Collection[str], body: dict[str, Any]) -> Any:
    """The job that an object of the list is, None where it does not concern us; another object as it is."""
    if not body.keys() >= {"job_id", "job_state"}:
        return body
    user, comment = str(body["user_name"]), str(body["comment"])
    if not slurm_jobs.may_concern(user, comment, users):
        return None
    return Job(
        id=str(body["job_id"]),
        state=str(body["job_state"]),
        reason=str(body["state_description"] or body["state_reason"]),
        host=str(body["batch_host"]),
        comment=comment,
        starts=float(body["start_time"]) or None,
        ends=float(body["end_time"]) or None,
        exit_status=slurm_jobs.exit_status(str(body["exit_code"])),
        user=user,
        restarts=int(body["restart_cnt"]),
    )


def _its_job(found: object) -> Job:
    if not isinstance(found, Job):
        raise TypeError(f"{printable(str(found)[:200])} is no job")
    return found


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
