"""How people are told about desktops: times, positions, the end of a log, and what participants read of a reason.

A reason has two readers. Operators get it as it is, from the log, `vncgate desktop status` and the REST API; it may
have paths, hosts and the words of other programs in it. Participants get `plain()` of it, which has none of them.
"""

from __future__ import annotations

import re

from vncgate.text import printable

LONGEST_TAIL = 200
"""Characters of a log that stand in a reason."""


def span(seconds: float) -> str:
    """A time in words: `90 s`, `5 min`, `2 h`."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1g} s"


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `3rd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def last_words(text: str) -> str:
    """The last two lines of a log, fit to be shown; empty where it has none."""
    lines = [printable(line.strip()) for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-2:])[-LONGEST_TAIL:]


AWAY = "the computers that run desktops do not answer now"
"""What participants read where a place cannot be reached."""


def _table(*rows: tuple[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(pattern, re.IGNORECASE), words) for pattern, words in rows]


_PLAIN = _table(
    # What the gate says itself of what everybody may know: as it is.
    (r"^(stopped|restarted) by the organizers", ""),
    (r"^the workshop is over", ""),
    (r"^nobody used it for [0-9.]+ (s|min|h)\b", ""),
    (r"^[0-9]+(st|nd|rd|th) in line(: [0-9]+ desktops are there, and no more may be)?", ""),
    # Why it ended, was not started, or is not known to be there.
    (r"^the session ended( with exit status 0\.)?$", "you logged out, or what ran in it has ended"),
    (r"no space left|quota|is full: remove files", "there is no space left for its files: ask the organizers"),
    (r"^still in the queue", "it waited too long in the queue: try again later, or ask the organizers"),
    (r"reached its time limit|before its deadline", "its time was up"),
    (r"^its node failed, or", "the computer that it ran on failed, or other work took its place"),
    (r"preemption", "other work took its place"),
    (r"more memory than", "it needed more memory than it may have: ask the organizers for more"),
    (r"^the node \S+ (failed|did not boot)", "the computer that it ran on failed"),
    (r"\bthe image .* is (missing|not) on", "the image that it runs in is not there yet: tell the organizers"),
    (r"command not found on|\bthere is no xvnc on", "a program that it needs is not installed: tell the organizers"),
    (r"^slurm refused the job:", "the cluster does not take it: tell the organizers"),
    (r"^the job was cancelled|removed from outside", "it was ended from outside: ask the organizers"),
    (r"cannot be reached|not? answer|connection (was )?lost|no ssh connection|no shell for us|unreachable", AWAY),
    (r"^no VNC login within", "it did not come up in time: try again, or tell the organizers"),
)
_QUEUE = _table(
    (r"never|\bheld\b|holds it|switched off|\bdown$|not valid|too often|deleted|no node has|may not|used up",
     "something holds it up: ask the organizers"),
    (r"^other jobs are before it", "others are before it"),
    (r"free nodes|not available|as much as it may|allows no more", "it waits for a free computer"),
)  # fmt: skip


def plain(reason: str) -> str:
    """What participants read in the place of a reason: short, with what they can do where there is something. Empty
    for a reason that is none of theirs.
    """
    return _first(_PLAIN, reason)


def plain_in_queue(reason: str) -> str:
    """The same of a reason why it waits in its place's own queue."""
    return plain(reason) or _first(_QUEUE, reason)


def _first(table: list[tuple[re.Pattern[str], str]], reason: str) -> str:
    for pattern, words in table:
        if found := pattern.search(reason):
            return words or found[0]
    return ""
