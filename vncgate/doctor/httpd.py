"""Apache's configuration as Apache itself has resolved it: what mod_info's DUMP_CONFIG prints. Pure.

Variables, conditions and includes are done in it, each line with the file it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT = 60
"""Seconds; the default of Timeout (core)."""

_IN_FILE = re.compile(r"\s*# In file: (.*)")
_AT_LINE = re.compile(r"\s*#\s*([0-9]+):")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')


@dataclass(frozen=True, slots=True)
class Directive:
    """A line of the resolved configuration. `host` is its virtual host (0: none, else they are counted), `location`
    the path of the <Location> around it.
    """

    name: str
    words: tuple[str, ...]
    file: str
    line: int
    host: int
    location: str = ""

    @property
    def place(self) -> str:
        """`FILE:LINE`."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Pass:
    """A directive that hands requests on: which paths, and to which port of this machine (0: to another)."""

    at: Directive
    pattern: str
    is_regex: bool
    port: int

    def fits(self, path: str) -> bool:
        """Whether mod_proxy takes it for this path. A pattern that Python cannot read counts as fitting."""
        if not self.is_regex:
            return path.startswith(self.pattern)
        try:
            return re.search(self.pattern, path) is not None
        except re.error:
            return True


def read_dump(lines: Iterable[str]) -> list[Directive]:
    """The directives in DUMP_CONFIG's output, in the order in which Apache takes them."""
    found: list[Directive] = []
    file, number, host, hosts, locations = "", 0, 0, 0, [""]
    for line in lines:
        text = line.strip()
        if match := _IN_FILE.match(line):
            file = match[1]
        elif match := _AT_LINE.match(line):
            number = int(match[1])
        elif text.startswith("</"):
            host = 0 if text.lower() == "</virtualhost>" else host
            if text.lower() == "</location>" and len(locations) > 1:
                locations.pop()
        elif text:
            name, *words = _words(text.lstrip("<").removesuffix(">") if text.startswith("<") else text) or [""]
            if text.lower().startswith("<virtualhost"):
                hosts += 1
                host = hosts
            elif text.lower().startswith("<location "):
                locations.append(words[0] if words else "")
            elif file:
                found.append(Directive(name.lower(), tuple(words), file, number, host, locations[-1]))
    return found


def read_passes(directives: Iterable[Directive], here: Collection[str]) -> Iterator[Pass]:
    """What hands requests on, in order; a port counts as this machine's where its host is one of `here`."""
    for at in directives:
        words = (at.location, *at.words) if at.location and len(at.words) > 0 and "://" in at.words[0] else at.words
        if len(words) < 2:
            continue
        port = _port(words[1], here)
        if at.name == "proxypass":
            yield Pass(at, words[0], False, 0 if words[1] == "!" else port)
        elif at.name == "proxypassmatch" or (at.name == "rewriterule" and re.search(r"[\[,](P|proxy)[\],]", words[-1])):
            yield Pass(at, words[0], True, port)


def value(directives: Sequence[Directive], name: str, default: tuple[int, str], host: int = 0) -> tuple[int, str]:
    """The number that a directive sets for a virtual host (0: the server), and where; else the default."""
    for within in dict.fromkeys((host, 0)):
        for at in reversed(directives):
            if at.name == name and at.host == within and at.words and at.words[0].isdecimal():
                return int(at.words[0]), at.place
    return default


def idle_limit(directives: Sequence[Directive], at: Directive) -> tuple[int, str]:
    """Seconds until mod_proxy ends a tunnel on which nothing is sent, and where that is set."""
    for word in at.words:
        if word.startswith("timeout=") and word.removeprefix("timeout=").isdecimal():
            return int(word.removeprefix("timeout=")), at.place
    general = value(directives, "timeout", (TIMEOUT, "Apache's default"), at.host)
    return value(directives, "proxytimeout", general, at.host)


def _port(url: str, here: Collection[str]) -> int:
    try:
        parts = urlsplit(url)
        return parts.port or 0 if parts.hostname in here else 0
    except ValueError:  # a variable where the port belongs
        return 0


def _words(text: str) -> list[str]:
    return [quoted or plain for quoted, plain in _WORD.findall(text)]
