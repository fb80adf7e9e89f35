"""How people are told about desktops: times, positions, the end of a log."""

from __future__ import annotations

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
