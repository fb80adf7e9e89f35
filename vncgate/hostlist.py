"""Slurm's bracket notation for hosts: `node[01-06,09],gpu[1-2]x[1-3]` (scontrol(1), "show hostnames"). Pure."""

from __future__ import annotations

import itertools
import re

from vncgate.errors import HostListError

LONGEST = 65536
"""Hosts that a list may stand for at most."""

_HOST = re.compile(r"(?:[^\s,\[\]]|\[[^\[\]]*\])+")
_PART = re.compile(r"\[([^\[\]]*)\]|[^\[\]]+")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


def expand(text: str) -> list[str]:
    """The hosts in the order of the list; the last of several brackets counts fastest.

    A number is as wide as the first one of its range is written: `[08-10]` gives 08, 09, 10. Raises
    HostListError.
    """
    hosts: list[str] = []
    at = 0
    while True:
        match = _HOST.match(text, at)
        if match is None:
            raise _error(at, "a host is expected here, such as node01 or node[01-06]; brackets do not nest")
        hosts += _expand(match[0], at, LONGEST - len(hosts))
        at = match.end()
        if at == len(text):
            return hosts
        if text[at] != ",":
            what = "a bracket without its partner" if text[at] in "[]" else "only a comma may stand between two hosts"
            raise _error(at, what)
        at += 1


def _expand(host: str, at: int, room: int) -> list[str]:
    """One host with all its brackets, which stands at `at`; `room` is how many it may become."""
    choices: list[list[str]] = []
    for part in _PART.finditer(host):
        inside = part[1]
        choice = [part[0]] if inside is None else _numbers(inside, at + part.start(1), room)
        room //= len(choice)
        choices.append(choice)
    if not room:
        raise _error(at, f"the list stands for more than {LONGEST} hosts")
    return ["".join(words) for words in itertools.product(*choices)]


def _numbers(inside: str, at: int, room: int) -> list[str]:
    numbers: list[str] = []
    for item in inside.split(","):
        match = _RANGE.fullmatch(item)
        if match is None:
            raise _error(at, "a number or a range such as 01-06 is expected here")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise _error(at, "the range runs backwards")
        if last - first >= room - len(numbers):
            raise _error(at, f"the list stands for more than {LONGEST} hosts")
        numbers += [f"{number:0{len(match[1])}}" for number in range(first, last + 1)]
        at += len(item) + 1
    return numbers


def _error(at: int, message: str) -> HostListError:
    return HostListError(f"host list, character {at + 1}: {message}")
