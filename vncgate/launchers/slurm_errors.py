"""What Slurm says when it does not do as it was asked: in our words for people, in its own for the log. Pure."""

from __future__ import annotations

from vncgate.errors import LaunchError, SilentError, UnsureError
from vncgate.text import printable

_SILENT = (
    "Unable to contact slurm controller",
    "Connection refused",
    "Communication connection failure",
    "in standby mode",
    "Could not establish a configuration source",
    "Unable to establish control machine address",
    "Protocol authentication error",
)
_IN_DOUBT = (
    "Socket timed out",
    "Communication shutdown failure",
    "Zero Bytes were transmitted or received",
    "temporarily unable to accept job",
    "Connection timed out",
)
"""As slurm_strerror(3) has them: with these a request may have been heard."""

_REFUSALS = (
    ("Invalid partition name", "there is no such partition"),
    ("Invalid account or account/partition", "there is no such Slurm account, or it may not use this partition"),
    ("Invalid qos", "there is no such QOS, or it may not be used here"),
    ("Job's QOS not permitted", "its QOS may not be used in this partition"),
    ("Job's account not permitted", "its Slurm account may not use this partition"),
    ("group not permitted", "this user may not use this partition"),
    ("Requested time limit is invalid", "it asks for more time than the partition allows"),
    ("Job has invalid qos", "its QOS may not be used here"),
    (
        "Requested node configuration is not available",
        "no node has as many cores, as much memory or what else it asks for",
    ),
    ("Requested partition configuration not available", "the partition has no such nodes now"),
    ("Invalid generic resource", "no node has such GPUs"),
    ("Invalid feature specification", "no node has this feature"),
    ("Requested reservation is invalid", "there is no such reservation"),
    ("Requested reservation not usable now", "the reservation has not begun, or is over"),
    ("Access denied to requested reservation", "this user or Slurm account may not use the reservation"),
    ("accounting/QOS policy", "a limit of its Slurm account or QOS does not allow it"),
    ("Access/permission denied", "this user may not submit jobs so"),
    ("Invalid user id", "the cluster does not know this user"),
    ("user disabled", "this user may not submit jobs now"),
    ("unrecognized option", "sbatch does not know one of the options that the kind or the template gives it"),
    ("requires an argument", "an option that the kind or the template gives to sbatch needs a value"),
)


_OVER_ALREADY = ("Invalid job id", "already completing or completed")


def said(error: LaunchError) -> str:
    """What Slurm said in its own words, where `problem()` made this error of it."""
    return "; ".join(getattr(error, "__notes__", ()))


def silent(error: LaunchError) -> SilentError:
    """The same of a question: what has no answer, whyever, is not known."""
    unknown = SilentError(str(error))
    unknown.__notes__ = list(getattr(error, "__notes__", ()))
    return unknown


def is_over_already(error: LaunchError) -> bool:
    """Whether this was said because the job has ended before it could be cancelled."""
    return any(words in said(error) for words in _OVER_ALREADY)


def problem(text: str) -> LaunchError:
    """The error for what a command or slurmrestd said when it did not do as asked: in our words, which participants
    read, and with Slurm's own as a note (BaseException.add_note), which is for the log.
    """
    error = _in_our_words(text)
    error.add_note(_in_its_words(text))
    return error


def _in_its_words(text: str) -> str:
    lines = [printable(line).partition("error: ")[2] or printable(line) for line in text.splitlines() if line.strip()]
    return "; ".join(line.removeprefix("Batch job submission failed: ") for line in lines)[:500] or "nothing"


def _in_our_words(text: str) -> LaunchError:
    for words_of, error in ((_IN_DOUBT, UnsureError), (_SILENT, SilentError)):
        if any(words in text for words in words_of):
            return error("Slurm cannot be reached now")
    for beginning, words in _REFUSALS:
        if beginning in text:
            return LaunchError(f"Slurm refused the job: {words}")
    return LaunchError("Slurm did not do as it was asked; the gate's log has what it said")
