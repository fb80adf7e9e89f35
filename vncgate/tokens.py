"""The token file: bytes in, accounts and all problems out; accounts in, text out. Pure.

An account a line, six fields between blanks (spaces, tabs), then `key=value` fields; `#` starts a comment
where a field would start; fields are quoted as in a shell (POSIX sh, 2.2 Quoting; nothing is expanded):

    # account  vnchost  websocketpath    websocketport  vncport  vncpassword
    ws01       node01   websocketpath01  7000           5901     k3Vq9xTb      name="Ada L." desktop=mate

No message repeats anything of a line: where a field is missing or too many, any of the others may be the
password. Line and column say where to look.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

from vncgate.kinds import Policy
from vncgate.model import Account, Desktop, Problem, Roster, Secret, Severity, bracketed

FIELDS = ("account", "vnchost", "websocketpath", "websocketport", "vncport", "vncpassword")
"""The fields of a line, in the order of the HPC wiki's guide."""
KEYS = ("name", "desktop", "size", "policy", "pin")
"""The keys that may follow them."""
POLICIES = (Policy.MANUAL, Policy.EAGER, Policy.ON_DEMAND)
"""What an account may have in the place of its kind's policy."""
RESERVED = frozenset(
    {
        "api",
        "desk",
        "end-share",
        "favicon.ico",
        "files",
        "healthz",
        "index.html",
        "metrics",
        "novnc",
        "organizer",
        "privacy",
        "robots.txt",
        "seat",
        "share",
        "sign-in",
        "sign-out",
        "sign-up",
        "static",
        "websockify",
        "ws",
    }
)
"""Names that our own pages use; no account and no path may have them."""
LONGEST_NAME = 64
"""Characters of an account's name or path; with a suffix it must still be a file name (255 bytes)."""
LONGEST_SOCKET = 107
"""Bytes of a unix socket's path: unix(7), sun_path, less its closing NUL."""
PASSWORD_BYTES = 8
"""What VncAuth reads of a password (RFC 6143, section 7.2.2)."""
FIRST_X_PORT = 6000
"""TCP port of X display 0: X(7), DISPLAY NAMES."""
PIN_DIGITS = range(6, 13)
"""How many digits a PIN may have: with fewer it would be guessed, and more nobody types."""
LONGEST_LINE = 8192
"""Characters of a line."""
MOST_ERRORS = 200
"""Errors after which no further line is read: more help nobody."""
MOST_WARNINGS = 1000
"""Warnings that are listed; how many there are is said."""
MOST_ACCOUNTS = 20_000
"""Accounts of a token file: several times what one machine serves. A file of more is an accident."""

_HEADER = "# A line an account. The passwords are secret: keep this file private (chmod 600)."
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PORT = re.compile(r"[0-9]{1,5}")
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*", re.DOTALL)
_DOTTED_NUMBERS = re.compile(r"[0-9.]+")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?")
_KEY = re.compile("|".join(f"{key}=" for key in KEYS))
_PLAIN = re.compile(r"[^\s'\"\\#][^\s'\"\\]*")
_UNFIT = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\udc80-\udcff]+")
_FIELD_START = re.compile(r"[ \t]*+(?!#|\Z)")
_PIECE = re.compile(
    r"""(?P<plain>[^ \t'"\\]+) | '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*+)" | \\(?P<escaped>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED_IN_DOUBLE = re.compile(r'\\([$`"\\])')


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a token file says. Lines with errors are not in the roster; problems are sorted by position."""

    roster: Roster
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems for which the last good roster stays in place."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)


def parse(data: bytes, *, displays: frozenset[int] = frozenset()) -> Parsed:
    """Read a whole token file. Never raises: whatever is wrong is among the problems.

    `displays` are the numbers of the X displays on the gate's host, whose ports (6000 and the number) no
    websocket should have.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        utf16 = Problem(1, 1, Severity.ERROR, "the file is UTF-16: save it as UTF-8")
        return Parsed(Roster(), (utf16,))
    lines = data.decode("utf-8-sig", "surrogateescape").split("\n")
    if b"\0" in data and 2 * sum(map(bool, map(_UNFIT.search, lines))) > len(lines):
        no_text = Problem(1, 1, Severity.ERROR, "this is no text file; if it shows as text, save it as UTF-8")
        return Parsed(Roster(), (no_text,))
    reader = _Reader(displays)
    for number, line in enumerate(lines, start=1):
        if reader.errors >= MOST_ERRORS:
            if left := sum(map(bool, map(str.strip, lines[number - 1 :]))):
                end = f"{reader.errors} errors so far: {left} more lines are not read"
                reader.problems.append(Problem(number, 1, Severity.ERROR, end))
            break
        reader.read(number, line.removesuffix("\r"))
        if len(reader.accounts) > MOST_ACCOUNTS:
            end = f"more than {MOST_ACCOUNTS} accounts: no further line is read"
            reader.problems.append(Problem(number, 1, Severity.ERROR, end))
            break
    if reader.warnings > MOST_WARNINGS:
        count = f"{reader.warnings} warnings, of which the first {MOST_WARNINGS} are listed"
        reader.problems.append(Problem(0, 0, Severity.WARNING, count))
    if not reader.accounts and not reader.problems:
        reader.problems.append(Problem(0, 0, Severity.WARNING, "there is no account in this file"))
    return Parsed(Roster(tuple(reader.accounts)), tuple(sorted(reader.problems)))


def mode_problem(mode: int) -> Problem | None:
    """The warning about a token file with these permission bits, if it deserves one."""
    if not mode & 0o006:
        return None
    message = f"others can read or change this file and its passwords (mode {mode & 0o777:04o}): chmod o-rwx"
    return Problem(0, 0, Severity.WARNING, message)


def render(accounts: Iterable[Account]) -> str:
    """A token file with these accounts, in aligned columns; `parse` gives the same accounts back.

    Raises ValueError when a text has characters that no token file can hold (control characters).
    """
    rows = [["# " + FIELDS[0], *FIELDS[1:], ""], *(list(_row(account)) for account in accounts)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip(" ") for row in rows]
    return "\n".join([_HEADER, *lines, ""])


def rekeyed(
    text: str,
    accounts: Iterable[Account],
    password: Callable[[], str],
    pin: Callable[[], str] | None = None,
) -> str:
    """A token file in which these accounts, which were read from it, have new passwords; with `pin` also new PINs,
    where they have one. Comments, order and columns stay.
    """
    lines = text.split("\n")
    for account in accounts:
        line = lines[account.line - 1].removesuffix("\r")
        end = lines[account.line - 1][len(line) :]
        at = [column - 1 for column, _ in _split(line)[0]]
        if pin:
            for begin in at[len(FIELDS) :]:
                if line.startswith("pin=", begin):
                    line = _with_field(line, begin, f"pin={pin()}")
        lines[account.line - 1] = _with_field(line, at[len(FIELDS) - 1], password()) + end
    return "\n".join(lines)


def _with_field(line: str, begin: int, text: str) -> str:
    end = begin
    while piece := _PIECE.match(line, end):
        end = piece.end()
    rest = line[end:]
    return line[:begin] + (text.ljust(end - begin) if rest.strip() else text) + rest


def name_fault(text: str) -> str:
    """What is wrong with an account's name or a websocketpath; empty when it is good."""
    if text in RESERVED:
        return "is a name that the gate's own pages use: choose another"
    if len(text) > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} characters"
    if not _NAME.fullmatch(text):
        return "must be letters, digits, '.', '_' and '-', the first of them neither '.' nor '-'"
    return ""


def is_pin(text: str) -> bool:
    """Whether this is what a PIN may be."""
    return len(text) in PIN_DIGITS and text.isascii() and text.isdecimal()


def host_fault(text: str) -> str:
    """What is wrong with a vnchost that is no unix socket; empty when it is good."""
    if text.startswith("[") or ":" in text:
        bare = text.removeprefix("[").removesuffix("]")
        if not _is_ipv6(bare):
            return "must be a name or an address alone; the port is the fifth field"
        return "" if text == f"[{bare}]" else "is an IPv6 address: write it in brackets, as [::1]"
    if _DOTTED_NUMBERS.fullmatch(text):
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            return "is no IPv4 address: four numbers from 0 to 255, as 10.0.0.7"
        return ""
    return "" if _HOST.fullmatch(text) else "must be a host name, an IPv4 or [IPv6] address, or unix:/path/to/socket"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return _IPV6.fullmatch(text) is not None


class _Reader:
    """Reads line after line; what it has seen before is kept here."""

    def __init__(self, displays: frozenset[int]) -> None:
        self.accounts: list[Account] = []
        self.problems: list[Problem] = []
        self.errors = 0
        self.warnings = 0
        self._displays = displays
        self._first: dict[tuple[str, Hashable], int] = {}
        self._line = 0
        self._sound = True

    def read(self, number: int, line: str) -> None:
        self._line, self._sound = number, True
        if len(line) > LONGEST_LINE:
            self._error(LONGEST_LINE + 1, f"a line has at most {LONGEST_LINE} characters")
            return
        for match in islice(_UNFIT.finditer(line), MOST_ERRORS):
            self._error(match.start() + 1, _unfit_fault(match[0]))
        fields, stuck = _split(line)
        if stuck:
            what = "a backslash with nothing after it" if line[stuck - 1] == "\\" else "a quote that is never closed"
            self._error(stuck, f"{what}; a \\ before it lets it stand for itself")
        elif fields and self._six(line, fields):
            self._account(fields)

    def _six(self, line: str, fields: list[tuple[int, str]]) -> bool:
        """Whether there are six fields before the first key=value, and only those after them."""
        known = next((i for i, (column, _) in enumerate(fields) if _KEY.match(line, column - 1)), len(fields))
        if known < len(FIELDS):
            hint = "; a field that begins with # must be quoted" if "#" in line else ""
            expected = f"a line has six ({' '.join(FIELDS)})"
            self._error(fields[0][0], f"{known} field{'s' * (known != 1)}: {expected}{hint}")
            return False
        stray = next((column for column, text in fields[len(FIELDS) :] if "=" not in text), 0)
        if stray:
            self._error(stray, "a field too many: only key=value may follow the sixth; quote a field that has blanks")
        return not stray

    def _account(self, fields: list[tuple[int, str]]) -> None:
        (at_name, name), host, (at_path, path), port, vncport, password = fields[: len(FIELDS)]
        self._named(at_name, "account", name)
        desktop, desktop_is_new = self._desktop(host, vncport)
        self._named(at_path, "websocketpath", path)
        websocketport = self._websocketport(*port)
        self._password(*password, desktop_is_new)
        extras = self._extras(fields[len(FIELDS) :])
        if self._sound:
            secret = Secret(password[1])
            shown, kind, size, policy, pin = (extras.get(key, "") for key in KEYS)
            self.accounts.append(
                Account(
                    name, desktop, path, websocketport, secret, shown, kind, size, policy, Secret(pin), line=self._line
                )
            )

    def _named(self, column: int, what: str, text: str) -> None:
        if fault := name_fault(text):
            self._error(column, f"{what} {fault}")
        else:
            self._once(self._error, column, what, text)

    def _desktop(self, host: tuple[int, str], vncport: tuple[int, str]) -> tuple[Desktop | None, bool]:
        """The desktop, and whether no line before this one has it."""
        (column, text), (at_port, port) = host, vncport
        if text == "-":
            if port != "-":
                self._error(at_port, "vncport must be - where vnchost is - (a launcher says where the desktop is)")
            return None, True
        if text.startswith("unix:"):
            if port != "-":
                self._error(at_port, "vncport must be - where vnchost is a unix socket")
            desktop = Desktop(unix=text.removeprefix("unix:"))
            if not desktop.unix.startswith("/") or len(desktop.unix.encode(errors="surrogateescape")) > LONGEST_SOCKET:
                self._error(column, f"vnchost unix: needs an absolute path of at most {LONGEST_SOCKET} bytes")
                return desktop, True
        else:
            number = _port(port)
            if number is None:
                self._error(at_port, "vncport must be a number from 1 to 65535 (display :1 is port 5901)")
            if fault := host_fault(text):
                self._error(column, f"vnchost {fault}")
            if fault or number is None:
                return None, True
            desktop = Desktop(host=_address(text), port=number)
        return desktop, self._once(self._warn, column, "desktop", str(desktop).lower())

    def _websocketport(self, column: int, text: str) -> int | None:
        if text == "-":
            return None
        number = _port(text)
        if number is None:
            self._error(column, "websocketport must be a number from 1 to 65535, or - for none")
        elif self._once(self._error, column, "websocketport", number) and number - FIRST_X_PORT in self._displays:
            display = number - FIRST_X_PORT
            self._warn(column, f"websocketport is that of X display :{display} of this host: choose others, as 7000 on")
        return number

    def _password(self, column: int, text: str, desktop_is_new: bool) -> None:
        octets = text.encode(errors="surrogateescape")
        if not octets:
            self._warn(column, "vncpassword is empty: everybody can open this desktop (nobody, if the gate starts it)")
            return
        if text == "-":
            self._warn(column, "vncpassword is one -: that is a password here, and no sign for none; choose a real one")
        if len(octets) > PASSWORD_BYTES:
            self._warn(
                column, f"vncpassword is longer than {PASSWORD_BYTES} characters: VncAuth reads no more than those"
            )
        if desktop_is_new:  # two accounts on one desktop have its one password, and a warning already
            self._once(self._warn, column, "vncpassword", octets[:PASSWORD_BYTES])

    def _extras(self, fields: list[tuple[int, str]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for column, text in fields:
            key, _, value = text.partition("=")
            if key not in KEYS:
                near = get_close_matches(key, KEYS, n=1)
                meant = f"did you mean {near[0]}=?" if near else "known are " + " and ".join(f"{k}=" for k in KEYS)
                self._error(column, f"unknown key: {meant}")
            elif key in found:
                self._error(column, f"{key}= is twice on this line")
            elif key == "policy" and value not in POLICIES:
                self._error(column, f"policy= is one of {', '.join(POLICIES)}; a pool is its kind's")
            elif key == "pin" and not is_pin(value):
                self._error(column, f"pin= is {PIN_DIGITS[0]} to {PIN_DIGITS[-1]} digits")
            else:
                found[key] = value
        return found

    def _once(self, say: Callable[[int, str], None], column: int, what: str, value: Hashable) -> bool:
        """Whether no line before has this; otherwise it is said."""
        first = self._first.setdefault((what, value), self._line)
        if first != self._line:
            say(column, f"{what} is the same as on line {first}: each account needs its own")
        return first == self._line

    def _error(self, column: int, message: str) -> None:
        self._sound = False
        self.errors += 1
        self.problems.append(Problem(self._line, column, Severity.ERROR, message))

    def _warn(self, column: int, message: str) -> None:
        self.warnings += 1
        if self.warnings <= MOST_WARNINGS:
            self.problems.append(Problem(self._line, column, Severity.WARNING, message))


def _split(line: str) -> tuple[list[tuple[int, str]], int]:
    """The fields with their columns, and the column of a quote or backslash without its end (0: none)."""
    fields: list[tuple[int, str]] = []
    at = 0
    while start := _FIELD_START.match(line, at):
        begin = at = start.end()
        text = ""
        while piece := _PIECE.match(line, at):
            part = piece[piece.lastgroup or 0]
            text += _ESCAPED_IN_DOUBLE.sub(r"\1", part) if piece.lastgroup == "double" else part
            at = piece.end()
        if at < len(line) and line[at] not in " \t":
            return fields, at + 1
        fields.append((begin + 1, text))
    return fields, 0


def _unfit_fault(run: str) -> str:
    code = ord(run[0])
    if code >= 0xDC80:  # how "surrogateescape" hands on a byte that is not UTF-8: 0xDC00 and the byte
        return f"byte 0x{code - 0xDC00:02x} is not UTF-8: save the file as UTF-8"
    return f"control character U+{code:04X}: remove it"


def _port(text: str) -> int | None:
    number = int(text) if _PORT.fullmatch(text) else 0
    return number if 1 <= number <= 65535 else None


def _address(host: str) -> str:
    """A good vnchost as Desktop holds it: IPv6 without brackets, in its shortest form."""
    return str(ipaddress.IPv6Address(host[1:-1])) if host.startswith("[") else host


def _row(account: Account) -> Iterable[str]:
    desktop = account.desktop
    where, port = "-", "-"
    if desktop and desktop.unix:
        where = f"unix:{desktop.unix}"
    elif desktop:
        where = bracketed(desktop.host)
        port = str(desktop.port)
    yield from map(_quoted, (account.name, where, account.path))
    yield "-" if account.port is None else str(account.port)
    yield port
    yield _quoted(account.password.reveal())
    values = (account.display_name, account.kind, account.size, account.policy, account.pin.reveal())
    extras = zip(KEYS, values, strict=True)
    yield " ".join(f"{key}={_quoted(value)}" for key, value in extras if value)


def _quoted(text: str) -> str:
    if _UNFIT.search(text):
        raise ValueError("a control character cannot stand in a token file")
    if _PLAIN.fullmatch(text) and not _KEY.match(text):
        return text
    return "'" + text.replace("'", r"'\''") + "'"
