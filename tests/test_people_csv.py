"""People as CSV: out and in again without a loss, no formula on the way out, everything checked on the way in."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vncgate.people import AuditEntry, Person, Standing
from vncgate.people_csv import COLUMNS, LARGEST, LONGEST, MOST, audit, guarded, people, read, unguarded

WHEN = datetime(2026, 11, 21, 9, tzinfo=UTC)
ACCOUNTS = ("ws01", "ws02", "ws03")


def person(id_="p1", name="Ada", email="ada@example.org", account="", **more):
    standing = Standing.SEATED if account else Standing.WAITING
    return Person(id_, name, email, WHEN, standing, account, **more)


def problems(text, known=()):
    content = text if isinstance(text, bytes) else text.encode()
    entries, wrong = read(content, ACCOUNTS, {each.id: each for each in known})
    assert bool(entries) != bool(wrong), "all lines or all problems"
    return [problem.render("x.csv") for problem in wrong]


def lines(text, known=()):
    entries, wrong = read(text.encode() if isinstance(text, str) else text, ACCOUNTS, {each.id: each for each in known})
    assert wrong == []
    return [(entry.line, dict(entry.cells)) for entry in entries]


WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=30)
NAMES = WORDS.filter(bool)


@given(st.text())
@example("'=1+1")
@example("'\tx")
@example(" =cmd")
@example("-1")
def test_guarding_a_cell_loses_nothing_and_leaves_no_formula(cell):
    shown = guarded(cell)
    assert unguarded(shown) == cell
    assert not shown.strip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert not shown.startswith(("\t", "\r"))


@given(st.lists(st.tuples(NAMES, st.dictionaries(st.sampled_from(["team", "diet", "=x"]), NAMES)), max_size=5))
def test_what_is_written_is_read_again(rows):
    everybody = [person(f"p{number}", name, answers=answers) for number, (name, answers) in enumerate(rows)]
    entries, wrong = read(people(everybody).encode(), ACCOUNTS, {each.id: each for each in everybody})
    assert wrong == []
    assert [(entry.id, entry.name, entry.answers) for entry in entries] == [
        (each.id, each.name, dict(each.answers)) for each in everybody
    ]


def test_a_table_for_spreadsheets():
    everybody = [person(account="ws01", answers={"team": "=HYPERLINK(1)"}), person("p2", "Löwe; GmbH", answers={})]
    text = people(everybody)
    assert text.startswith("\ufeff")
    header, first, second = csv.reader(io.StringIO(text.removeprefix("\ufeff")))
    assert header == [*COLUMNS, "team"]
    assert first == ["p1", "Ada", "ada@example.org", "ws01", "seated", WHEN.isoformat(), "en", "'=HYPERLINK(1)"]
    assert second[1] == "Löwe; GmbH"


def test_the_audit_log():
    text = audit([AuditEntry(WHEN, "ada", "moved to ws02", "ws01"), AuditEntry(WHEN, "@evil", "x")])
    assert text.splitlines()[1:] == [f"{WHEN.isoformat()},ada,moved to ws02,ws01", f"{WHEN.isoformat()},'@evil,x,"]


@pytest.mark.parametrize(
    "text",
    [
        "name,email,account\nAda,ada@example.org,ws01\n",
        "\ufeffname;email;account\r\nAda;ada@example.org;ws01\r\n",
        "name\temail\taccount\nAda\tada@example.org\tws01",
        '"name","email","account"\n\n"Ada","ada@example.org","ws01"\n;;\n,,\n',
    ],
)
def test_spreadsheets_of_every_kind_are_read(text):
    (line, cells), *_ = lines(text.replace("\n;;", ""))
    assert (cells["name"], cells["email"], cells["account"]) == ("Ada", "ada@example.org", "ws01")
    assert line in (2, 3)


def test_who_is_known_may_change_seats_with_somebody_else_in_one_table():
    known = [person("p1", account="ws01"), person("p2", account="ws02")]
    assert len(lines("id,name,account\np1,Ada,ws02\np2,Bo,ws01\n", known)) == 2
    assert problems("id,name,account\np1,Ada,ws02\n", known) == [
        "x.csv:2:3: error: the seat ws02 is taken by somebody who is not in this table"
    ]
    # Without the column everybody stays where they are.
    assert problems("id,name\np1,Ada\n", known) == problems("id,name\np1,Ada\np2,Bo\n", known) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["x.csv:1:1: error: the table is empty; its first line names the columns, as `name,email,account`"]),
        ("email\nx@y\n", ["x.csv:1:1: error: there is no column `name`; the first line names the columns"]),
        ("name,a,a\nAda,,\n", ["x.csv:1:3: error: there are two columns `a`"]),
        ("name,\nAda,\n", ["x.csv:1:2: error: this column has no name"]),
        ("name,account\nAda,ws09\n", ["x.csv:2:2: error: there is no account ws09"]),
        ("name,account\nAda,ws01\nBo,ws01\n", ["x.csv:3:2: error: the seat ws01 is taken by line 2"]),
        ("name,email\n,a@b\n", ["x.csv:2:1: error: the name is missing"]),
        ("name,email\nAda,a@b\nBo,a b@c\n", ["x.csv:3:2: error: this is no e-mail address"]),
        ("id,name\np9,Ada\n", ["x.csv:2:1: error: nobody has this id; leave it empty for somebody new"]),
        ("id,name\np1,Ada\np1,Ada\n", ["x.csv:3:1: error: this id stands in line 2, too"]),
        ("name\nAda,Bo\n", ["x.csv:2:2: error: there are 1 columns, and 2 cells"]),
        ("name\nA\x1bda\n", ["x.csv:2:1: error: name has a character that cannot be shown"]),
        (f"name\n{'x' * (LONGEST + 1)}\n", [f"x.csv:2:1: error: name is longer than {LONGEST} characters"]),
        (b"name\nAda\nJ\xf6rg\n", ["x.csv:3:0: error: this is not UTF-8; from Excel, save it as “CSV UTF-8”"]),
        (b"x" * (LARGEST + 1), ["x.csv: error: this is larger than 1 MiB"]),
        ('name\n"Ada\n', ["x.csv: error: this is no table of CSV: unexpected end of data"]),
        ('name,team\n"A\nB",x\nBo,y,z\n', ["x.csv:4:3: error: there are 2 columns, and 3 cells"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_line_and_column_and_nothing_is_taken(text, said):
    assert problems(text, [person("p1")]) == said


@given(st.binary(max_size=300))
def test_any_bytes_are_lines_or_problems(content):
    entries, wrong = read(content, ACCOUNTS, {})
    assert not (entries and wrong)


def test_a_table_has_no_more_people_than_can_be_written_at_once():
    table = "name\n" + "Ada\n\n" * MOST
    assert len(lines(table)) == MOST
    (found,) = problems(f"{table}Bo\nCy\n")
    assert (
        found == f"x.csv:{2 * MOST + 2}:1: error: there are {MOST + 2} people, and at most {MOST} in a table: split it"
    )
