"""Text of strangers (names, headers, what programs and servers say), made fit to be shown: nobody forges a line."""

from __future__ import annotations


def printable(text: str, instead: str | None = None) -> str:
    r"""`text` with `instead` for each character that is not printable; else its escape (`\n`, `\x1b`, `\u202e`)."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) if instead is None else instead for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode()
