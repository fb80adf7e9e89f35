"""What Slurm says about jobs, in our words: its states, and why a job waits. Pure.

State and reason codes are those of squeue(1), "JOB STATE CODES" and "JOB REASON CODES".
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from vncgate.launchers.base import Handle, Seen, Sighting
from vncgate.process import describe_exit
from vncgate.text import printable

MARK = "vncgate:"
"""With the nonce behind it, the comment of a desktop's job."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as Slurm tells of it. `starts` and `ends` are expected or true, as its state has it (since the epoch).
    `restarts` is how often Slurm put it back in its queue.

    `exit_status` is that of its script, a signal's number negated; it means something only when the job is over.
    """

    id: str
    state: str
    reason: str = ""
    host: str = ""
    comment: str = ""
    starts: float | None = None
    ends: float | None = None
    exit_status: int | None = None
    user: str = ""
    restarts: int = 0

    @property
    def nonce(self) -> str:
        """The start that it belongs to; empty where its comment says nothing of that."""
        return self.comment.removeprefix(MARK) if self.comment.startswith(MARK) else ""

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more, and it will not run again."""
        return self.state in _OVER


def find(jobs: Iterable[Job], handle: Handle, user: str) -> Job | None:
    """The job of a desktop: the one with its number, or where that is not known, the one of `user` with its nonce.

    A number may be another's: a controller that lost its state counts from the beginning. Then the comment tells. A
    comment may be another's, too: everybody can read it, and give it to a job of their own.
    """
    for job in jobs:
        if handle.job:
            is_its = job.id == handle.job and job.nonce in ("", handle.nonce)
        else:
            is_its = job.nonce == handle.nonce and job.user == user
        if is_its:
            return job
    return None


def may_concern(user: str, comment: str, users: Collection[str]) -> bool:
    """Whether a job may be a desktop's of one of `users`. A cluster has thousands of others, of which nothing is kept.

    A site's plug-in may have written over the comment of ours: those of our users are ours as far as one can see.
    """
    return MARK in comment or user in users


# --- squeue -----------------------------------------------------------------------------------------------------------

_FIELDS = (
    "State:24", "UserName:80", "StartTime:24", "EndTime:24", "BatchHost:80", "exit_code:12", "RestartCnt:12",
    "Reason:160", "Comment:40",
)  # fmt: skip


def row_format(mark: str) -> str:
    """A --Format for squeue, for `parse_rows()`. `mark` is a text of letters that no job's comment can foresee.

    Every field has a width, so that none is cut at 20 characters. The mark ends the first one: a comment can have
    newlines in it, and what stands behind them would be taken for a row.
    """
    return ",".join([f"JobID:20{mark}", *(f"{field}|" for field in _FIELDS)])


def parse_rows(text: str, mark: str, users: Collection[str]) -> list[Job]:
    """The jobs that may concern `users`, as squeue listed them with `row_format(mark)` and SLURM_TIME_FORMAT=%s.

    What is no such row is left out. Of twenty thousand jobs this is for a thread.
    """
    jobs = []
    for line in text.splitlines():
        number, _, rest = line.partition(mark)
        _, _, further = rest.partition("|")
        if not may_concern(further.partition("|")[0].strip(), rest, users):
            continue
        fields = [field.strip() for field in rest.split("|")]
        if number.strip().isdecimal() and len(fields) >= len(_FIELDS):
            state, user, starts, ends, host, code, restarts, reason, comment, *_ = fields
            jobs.append(
                Job(
                    id=number.strip(),
                    state=state,
                    reason=reason,
                    host="" if host == "n/a" else host,
                    comment=comment,
                    starts=_time(starts),
                    ends=_time(ends),
                    exit_status=exit_status(code),
                    user=user,
                    restarts=int(restarts) if restarts.isdecimal() else 0,
                )
            )
    return jobs


def _time(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


def exit_status(code: str) -> int | None:
    """An exit status of a status as wait(2) gives it, or as `scontrol` writes it (STATUS:SIGNAL)."""
    status, colon, number = code.partition(":")
    if not (status.isascii() and status.isdigit()):
        return None
    if colon:
        return -int(number) if number.isdigit() and int(number) else int(status)
    return os.waitstatus_to_exitcode(int(status)) if int(status) & 0xFF != 0x7F else None


# --- States -----------------------------------------------------------------------------------------------------------

_OVER = {
    "COMPLETED": "the session ended",
    "FAILED": "the job failed",
    "CANCELLED": "the job was cancelled",
    "TIMEOUT": "the job reached its time limit",
    "NODE_FAIL": "the node {host} failed",
    "PREEMPTED": "a job of higher priority took its place (preemption)",
    "OUT_OF_MEMORY": "it needed more memory than the job had asked for",
    "BOOT_FAIL": "the node {host} did not boot",
    "DEADLINE": "it could not end before its deadline",
    "REVOKED": "another cluster of the federation took the job",
}
_MEANT = frozenset({"CANCELLED", "DEADLINE", "TIMEOUT"})
"""Ends that somebody meant, or had agreed to: no accident, after which a desktop would be started again."""
_WAITING = {
    "PENDING": "",
    "CONFIGURING": "its node is being made ready",
    "REQUEUED": "it is put back in the queue",
    "REQUEUE_FED": "it is put back in the queue",
    "REQUEUE_HOLD": "it was put back in the queue and is held: see `scontrol release`",
    "SPECIAL_EXIT": "it was put back in the queue and is held: see `scontrol release`",
    "RESV_DEL_HOLD": "its reservation was deleted, so it is held: see `scontrol release`",
}
_RUNNING = {
    "RUNNING": "",
    "COMPLETING": "its job is ending",
    "RESIZING": "",
    "SIGNALING": "",
    "STAGE_OUT": "its job is ending",
    "STOPPED": "its job is stopped (SIGSTOP)",
    "SUSPENDED": "its job is suspended",
}


PUT_BACK = "its node failed, or was needed for a job of higher priority (preemption)"
"""Of a job that Slurm put back in its queue: the desktop that somebody sat at is gone, whatever became of it later."""


def sighting(job: Job | None) -> Sighting:
    """What a job says about its desktop (but for where that is). None: Slurm does not list it (any more)."""
    if job is None:
        return Sighting(Seen.GONE, reason="Slurm knows its job no more")
    if job.restarts:
        return Sighting(Seen.GONE, reason=PUT_BACK)
    if job.state in _WAITING:
        return Sighting(Seen.PENDING, reason=_WAITING[job.state] or waiting(job.reason), starts=job.starts)
    if job.state in _RUNNING:
        return Sighting(Seen.RUNNING, host=job.host, reason=_RUNNING[job.state], ends=job.ends)
    if job.state in _OVER:
        return _gone(job)
    return Sighting(Seen.UNKNOWN, host=job.host, reason=f"its job is in the state {printable(job.state)}")


NO_FOLDER = -53
"""How Slurm ends a job whose output file its node could not open (signal 53 is nothing else's)."""


def _gone(job: Job) -> Sighting:
    words = _OVER[job.state].format(host=job.host)
    has_status = job.state == "COMPLETED" or (job.state == "FAILED" and bool(job.exit_status))
    if job.state in _MEANT:
        return Sighting(Seen.GONE, host=job.host, reason=words, exit_status=0)
    if job.state == "FAILED":
        if job.exit_status == NO_FOLDER:
            return Sighting(Seen.GONE, host=job.host, reason=f"{job.host} could not open its folder: is it shared?")
        if job.exit_status:
            words = f"the job {describe_exit(job.exit_status)}"
        elif job.reason not in ("", "None"):
            words = f"{words}: {printable(job.reason)}"
    return Sighting(Seen.GONE, host=job.host, reason=words, exit_status=job.exit_status if has_status else None)


# --- Reasons ----------------------------------------------------------------------------------------------------------

_REASONS = {
    "None": "it waits for the scheduler",
    "Priority": "other jobs are before it",
    "Resources": "it waits for free nodes",
    "Dependency": "it waits for another job",
    "DependencyNeverSatisfied": "it waits for a job that will never do as it should",
    "BeginTime": "its time to begin has not come",
    "Licenses": "it waits for a licence",
    "Reservation": "its reservation has not begun, or is full",
    "ReservationDeleted": "its reservation was deleted",
    "InactiveLimit": "its partition is switched off",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is switched off",
    "PartitionConfig": "its partition allows nothing so large or so long, so it never starts: ask for less",
    "PartitionNodeLimit": "its partition has no node that is large enough, or they are down",
    "PartitionTimeLimit": "it asks for more time than its partition allows, so it never starts: ask for less",
    "NodeDown": "a node that it needs is down",
    "JobHeldAdmin": "an administrator holds it",
    "JobHeldUser": "its owner holds it: see `scontrol release`",
    "BadConstraints": "no node has what it asks for",
    "JobHoldMaxRequeue": "it was put back in the queue too often",
    "JobArrayTaskLimit": "as many of its array run as may",
    "Prolog": "its node is being made ready",
    "Cleaning": "what it left at its last start is being cleaned up",
    "InvalidAccount": "its Slurm account is not valid any more",
    "InvalidQOS": "its QOS is not valid any more",
    "AccountNotAllowed": "its Slurm account may not use this partition",
    "QOSNotAllowed": "its QOS may not be used in this partition",
    "QOSTimeLimit": "the time of its QOS is used up",
    "QOSUsageThreshold": "its QOS is used up",
}
_KINDS_OF_REASONS = (
    ("ReqNodeNotAvail", "nodes that it needs are not available"),
    ("QOSGrp", "its QOS has as much as it may have"),
    ("QOSMax", "its QOS allows no more at the same time"),
    ("QOSMin", "it asks for less than its QOS demands, so it never starts"),
    ("AssocGrp", "its Slurm account has as much as it may have"),
    ("AssocMax", "its Slurm account allows no more at the same time"),
    ("Nodes required for job are DOWN", "nodes that it needs are not available"),
)


def waiting(reason: str) -> str:
    """Why a job waits, in words: of one that we do not know, as Slurm writes it."""
    if reason in _REASONS:
        return _REASONS[reason]
    for prefix, words in _KINDS_OF_REASONS:
        if reason.replace("_", " ").startswith(prefix):
            return f"{words} ({printable(reason)})"
    return printable(reason)
