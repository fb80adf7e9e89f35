"""People as a table for spreadsheets, out and in again; and the audit log, out.

RFC 4180 with a byte order mark, by which Excel knows UTF-8. A cell that a spreadsheet would take for a formula begins
with an apostrophe there, which is taken off again on the way in (OWASP, "CSV Injection").
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vncgate.model import Problem, Severity
from vncgate.people import AuditEntry, Person

COLUMNS = ("id", "name", "email", "account", "standing", "signed_up", "language")
"""What is known of everybody; a column for each further answer comes behind."""
IGNORED = ("standing", "signed_up")
"""Columns that tell, and are not read: they follow from the others."""
LARGEST = 1024 * 1024
"""Bytes of a table that is read."""
LONGEST = 2000
"""Characters of a cell that is read."""
MOST = 5000
"""People in a table that is read: so many are written while others wait."""

_FORMULA = re.compile(r"'*(?:[\s']*[=+\-@\uFF0B\uFF0D\uFF1D\uFF20]|[\t\r\n])")
"""What begins like a formula to some spreadsheet, full-width signs among it, or is one with apostrophes before it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a table, its cells by column: somebody new (`id` empty), or what is new about somebody."""

    line: int
    cells: Mapping[str, str]

    @property
    def id(self) -> str:
        """Whose it is; empty for somebody new."""
        return self.cells.get("id", "")

    @property
    def name(self) -> str:
        """What they are called."""
        return self.cells["name"]

    @property
    def account(self) -> str | None:
        """Where they sit from now on; empty: on the waiting list; None: the table does not say."""
        return self.cells.get("account")

    @property
    def told(self) -> dict[str, str]:
        """What the table says of name, e-mail address and language."""
        return {name: self.cells[name] for name in ("name", "email", "language") if self.cells.get(name)}

    @property
    def answers(self) -> dict[str, str]:
        """What stands in columns of other names."""
        return {name: cell for name, cell in self.cells.items() if name not in COLUMNS and cell}


def guarded(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """The reverse of `guarded()`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def people(everybody: Iterable[Person]) -> str:
    """A line for each person, with all answers."""
    listed = list(everybody)
    further = sorted({name for person in listed for name in person.answers} - set(COLUMNS))
    lines = [
        (
            person.id,
            person.name,
            person.email,
            person.account,
            person.standing,
            person.signed_up.isoformat(),
            person.language,
            *(person.answers.get(name, "") for name in further),
        )
        for person in listed
    ]
    return _written([(*COLUMNS, *further), *lines])


def audit(entries: Iterable[AuditEntry]) -> str:
    """A line for each deed."""
    lines = [(entry.when.isoformat(), entry.who, entry.what, entry.about) for entry in entries]
    return _written([("when", "who", "what", "about"), *lines])


def _written(lines: Iterable[Sequence[str]]) -> str:
    out = io.StringIO()
    out.write("\ufeff")
    csv.writer(out).writerows([guarded(cell) for cell in line] for line in lines)
    return out.getvalue()


def read(content: bytes, accounts: Collection[str], known: Mapping[str, Person]) -> tuple[list[Entry], list[Problem]]:
    """What a table says, or all that is wrong with it: then there are no lines. A problem's column is a cell's number.

    Commas, semicolons and tabs are taken, with a byte order mark or without. `accounts` are those of the roster,
    `known` all people by id: a seat can be taken only if it is free afterwards.
    """
    if len(content) > LARGEST:
        return [], [_wrong(0, 0, f"this is larger than {LARGEST >> 20} MiB")]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return [], [_wrong(line, 0, "this is not UTF-8; from Excel, save it as “CSV UTF-8”")]
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        table = list(_lines(text, delimiter))
    except csv.Error as error:
        return [], [_wrong(0, 0, f"this is no table of CSV: {error}")]
    if not table:
        return [], [_wrong(1, 1, "the table is empty; its first line names the columns, as `name,email,account`")]
    (line, header), *body = table
    if len(body) > MOST:
        return [], [_wrong(body[MOST][0], 1, f"there are {len(body)} people, and at most {MOST} in a table: split it")]
    problems = list(_header_problems(line, header))
    if problems:
        return [], problems
    entries = []
    for number, cells in body:
        if len(cells) > len(header):
            problems.append(_wrong(number, len(header) + 1, f"there are {len(header)} columns, and {len(cells)} cells"))
        else:
            full = [*cells, *[""] * (len(header) - len(cells))]
            entries.append(Entry(number, dict(zip(header, full, strict=True))))
            problems += _cell_problems(number, header, cells)
    problems += _seat_problems(entries, header, accounts, known)
    return ([], sorted(problems)) if problems else (entries, [])


def _lines(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each line with something in it, and its number."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield number, [unguarded(cell).strip() for cell in cells]
        number = reader.line_num + 1


def _header_problems(line: int, header: Sequence[str]) -> Iterator[Problem]:
    if "name" not in header:
        yield _wrong(line, 1, "there is no column `name`; the first line names the columns")
    for column, name in enumerate(header, 1):
        if not name:
            yield _wrong(line, column, "this column has no name")
        elif name in header[: column - 1]:
            yield _wrong(line, column, f"there are two columns `{name}`")


def _cell_problems(line: int, header: Sequence[str], cells: Sequence[str]) -> Iterator[Problem]:
    for column, (name, cell) in enumerate(zip(header, cells, strict=False), 1):
        if len(cell) > LONGEST:
            yield _wrong(line, column, f"{name} is longer than {LONGEST} characters")
        if any(not (character.isprintable() or character in "\n\r\t") for character in cell):
            yield _wrong(line, column, f"{name} has a character that cannot be shown")
        if name == "email" and cell and not re.fullmatch(r"[^\s@,;<>]+@[^\s@,;<>]+", cell):
            yield _wrong(line, column, "this is no e-mail address")


def _seat_problems(
    entries: Sequence[Entry], header: Sequence[str], accounts: Collection[str], known: Mapping[str, Person]
) -> Iterator[Problem]:
    column = {name: place for place, name in enumerate(header, 1)}
    moving = {entry.id for entry in entries if entry.account is not None}
    # Who is in the table sits where it says; everybody else stays.
    taken = {person.account: "somebody who is not in this table" for person in known.values() if person.account}
    for person in known.values():
        if person.id in moving:
            taken.pop(person.account, None)
    seen: dict[str, int] = {}
    for entry in entries:
        if not entry.name:
            yield _wrong(entry.line, column["name"], "the name is missing")
        if entry.id and entry.id not in known:
            yield _wrong(entry.line, column["id"], "nobody has this id; leave it empty for somebody new")
        elif entry.id and entry.id in seen:
            yield _wrong(entry.line, column["id"], f"this id stands in line {seen[entry.id]}, too")
        if entry.id:
            seen.setdefault(entry.id, entry.line)
        if not entry.account:
            continue
        if entry.account not in accounts:
            yield _wrong(entry.line, column["account"], f"there is no account {entry.account}")
        elif entry.account in taken:
            words = f"the seat {entry.account} is taken by {taken[entry.account]}"
            yield _wrong(entry.line, column["account"], words)
        taken.setdefault(entry.account, f"line {entry.line}")


def _wrong(line: int, column: int, message: str) -> Problem:
    return Problem(line, column, Severity.ERROR, message)
