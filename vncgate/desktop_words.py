"""How people are told about desktops: times, positions, the end of a log, and what participants read of a reason.

A reason has two readers. Operators get it as it is, from the log, `vncgate desktop status` and the REST API, with the
end of the session's log; it may have paths, hosts and the words of other programs in it. Participants get `plain()` of
it, which has none of them. What a session wrote may be anything, and tells them nothing but where its last line is one
that our own scripts write.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from vncgate.languages import N_, Text
from vncgate.text import printable

BETWEEN = " / "
"""What stands between two lines of a log."""
MOST_LINES = 10000
"""Lines of a log that can be asked for."""
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
    return BETWEEN.join(lines[-2:])[-LONGEST_TAIL:]


def lines_asked(text: str) -> int:
    """How many lines of a log somebody asks for. Raises ValueError for what is no such number."""
    if not re.fullmatch("[1-9][0-9]{0,4}", text) or int(text) > MOST_LINES:
        raise ValueError(f"write a number from 1 to {MOST_LINES}")
    return int(text)


AWAY = N_("the computers that run desktops do not answer now")
"""What participants read where a place cannot be reached."""

Table = list[tuple[re.Pattern[str], Text | Callable[[re.Match[str]], Text]]]


def _table(*rows: tuple[str, Text | Callable[[re.Match[str]], Text]]) -> Table:
    return [(re.compile(pattern, re.IGNORECASE), words) for pattern, words in rows]


def _nth(number: str) -> Text:
    """An ordinal, of which English has four kinds."""
    match ordinal(int(number))[-2:]:
        case "st":
            return N_("{number}st", number=number)
        case "nd":
            return N_("{number}nd", number=number)
        case "rd":
            return N_("{number}rd", number=number)
        case _:
            return N_("{number}th", number=number)


def _in_line(found: re.Match[str]) -> Text:
    if not found["count"]:
        return N_("{place} in line", place=_nth(found["place"]))
    return N_(
        "{place} in line: {count} desktops are there, and no more may be",
        place=_nth(found["place"]),
        count=found["count"],
    )


_NOTHING = Text("", {})
_LOGGED_OUT = N_("you logged out, or what ran in it has ended")
_NO_SPACE = N_("there is no space left for its files: ask the organizers")
_NO_IMAGE = N_("the image that it runs in is not there yet: tell the organizers")
_NO_PROGRAM = N_("a program that it needs is not installed: tell the organizers")
_SCRIPT = _table(  # whole lines of templates/desktop.sh.j2 and apptainer.py
    (r"the session ended with exit status 0\.", _LOGGED_OUT),
    (r"the session ended with exit status [0-9]+\.|xvnc ended by itself, with exit status [0-9]+\.", _NOTHING),
    (r"the home folder /.* is (full|over its quota): remove files from it\.", _NO_SPACE),
    (r"the (home|desktop's) folder /.*: (no space left on device|disk quota exceeded)", _NO_SPACE),
    (r"the (home|desktop's) folder /.* (cannot be (made|written): .*|is missing on \S+\.|may not be entered\.)",
     _NOTHING),
    (r"mktemp: failed to create directory .*: no space left on device", _NO_SPACE),
    (r"the image \S.* is missing on \S+: vncgate images deploy brings it there\.", _NO_IMAGE),
    (r"[^\s:]+: command not found on \S+|there is no (xvnc|apptainer) on \S+: install .*", _NO_PROGRAM),
    (r"xvnc did not start: .*", _NOTHING),
)  # fmt: skip
_PLAIN = _table(
    # What the gate says itself of what everybody may know: as it is.
    (r"^stopped by the organizers", N_("stopped by the organizers")),
    (r"^restarted by the organizers", N_("restarted by the organizers")),
    (r"^the workshop is over", N_("the workshop is over")),
    (r"^nobody used it for (?P<span>[0-9.]+ (?:s|min|h))\b",
     lambda found: N_("nobody used it for {span}", span=found["span"])),
    (r"^(?P<place>[0-9]+)(?:st|nd|rd|th) in line(?:: (?P<count>[0-9]+) desktops are there, and no more may be)?",
     _in_line),
    # Why it ended, was not started, or is not known to be there.
    (r"^the session ended$", _LOGGED_OUT),
    (r"^no VNC login within", N_("it did not come up in time: try again, or tell the organizers")),
    (r"no space left|quota", _NO_SPACE),
    (r"^still in the queue", N_("it waited too long in the queue: try again later, or ask the organizers")),
    (r"reached its time limit|before its deadline", N_("its time was up")),
    (r"^its node failed, or", N_("the computer that it ran on failed, or other work took its place")),
    (r"preemption", N_("other work took its place")),
    (r"more memory than", N_("it needed more memory than it may have: ask the organizers for more")),
    (r"^the node \S+ (failed|did not boot)", N_("the computer that it ran on failed")),
    (r"^the image .* is not on", _NO_IMAGE),
    (r"^slurm refused the job:", N_("the cluster does not take it: tell the organizers")),
    (r"^the job was cancelled|removed from outside", N_("it was ended from outside: ask the organizers")),
    (r"cannot be reached|not? answer|connection (was )?lost|no ssh connection|no shell for us|unreachable", AWAY),
)  # fmt: skip
_QUEUE = _table(
    (r"never|\bheld\b|holds it|switched off|\bdown$|not valid|too often|deleted|no node has|may not|used up",
     N_("something holds it up: ask the organizers")),
    (r"^other jobs are before it", N_("others are before it")),
    (r"free nodes|not available|as much as it may|allows no more", N_("it waits for a free computer")),
)  # fmt: skip
_LOGIN = _table(  # of desktops that the gate does not start: DesktopError's, after the desktop's name
    (r"refused the connection", N_("the desktop refused the connection")),
    (r"(is not there|is no|is not its) .*|is not there: .*", N_("the desktop is not there")),
    (r"is not known: .*|cannot be looked up now", N_("the desktop’s computer cannot be found")),
    (r"cannot be reached: .*", N_("the desktop cannot be reached")),
    (r"did not (answer|finish the login) within (?P<span>[0-9.]+ s).*",
     lambda found: N_("the desktop did not answer within {span}", span=found["span"])),
    (r"refuses logins for now after too many failures.*",
     N_("the desktop refuses all logins for a while, after too many wrong passwords")),
    (r"refused the login.*|offers no VNC password login.*", N_("the desktop refused the login")),
    (r"does not speak VNC.*", N_("what answers there is no desktop")),
    (r"closed the connection.*|dropped the connection.*", N_("the desktop closed the connection")),
)  # fmt: skip


def is_scripts(line: str) -> bool:
    """Whether a line of a session's log is one that our scripts write."""
    return _scripts(line) is not None


def plain(reason: str, tail: str = "") -> Text:
    """What participants read in the place of a reason, and of the `last_words()` of the log: short, with what they can
    do where there is something. Empty for a reason that is none of theirs.
    """
    if words := _scripts(tail.rpartition(BETWEEN)[2]):
        return words
    if (words := _scripts(reason)) is not None:
        return words
    # Of what has more to say nobody simply logged out.
    return _first(_PLAIN, f"{reason}:" if tail else reason)


def plain_in_queue(reason: str) -> Text:
    """The same of a reason why it waits in its place's own queue."""
    return plain(reason) or _first(_QUEUE, reason)


def plain_of_login(reason: str) -> Text:
    """The same of why `the desktop ...` cannot be used, which the gate does not start."""
    return _first(_LOGIN, reason.removeprefix("the desktop "), whole=True)


def _scripts(line: str) -> Text | None:
    """What participants read of a line of our scripts; None: it is none."""
    return next((_said(words, found) for pattern, words in _SCRIPT if (found := pattern.fullmatch(line))), None)


def _first(table: Table, reason: str, *, whole: bool = False) -> Text:
    for pattern, words in table:
        if found := pattern.fullmatch(reason) if whole else pattern.search(reason):
            return _said(words, found)
    return _NOTHING


def _said(words: Text | Callable[[re.Match[str]], Text], found: re.Match[str]) -> Text:
    return words if isinstance(words, Text) else words(found)
