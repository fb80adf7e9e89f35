"""The token file's parser and writer: what is read, what is said about the rest, and where."""

from __future__ import annotations

import random
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vncgate import tokens
from vncgate.model import Account, Desktop, Problem, Secret, Severity
from vncgate.tokens import (
    LONGEST_NAME,
    MOST_ERRORS,
    POLICIES,
    RESERVED,
    _split,
    host_fault,
    mode_problem,
    name_fault,
    parse,
    render,
)

GOOD = "ws01 node01 websocketpath01 6000 5901 k3Vq9xTb"
GOLDEN = Path(__file__).parent / "golden" / "tokens"


def only(line, **kwargs):
    """The one account of a line that has no problem."""
    parsed = parse(line.encode(), **kwargs)
    assert not parsed.problems
    (account,) = parsed.roster.accounts
    return account


def said(line, **kwargs):
    """What is said of a file, as operators see it."""
    return [problem.render("f") for problem in parse(line.encode(), **kwargs).problems]


def test_the_line_of_the_guide():
    assert only(GOOD) == Account(
        "ws01", Desktop("node01", 5901), "websocketpath01", 6000, Secret("k3Vq9xTb"), display_name="", kind="", size=""
    )


def test_key_value_fields():
    account = only(GOOD + ' name="Ada L." desktop=mate size=small policy=eager')
    assert (account.display_name, account.kind, account.size) == ("Ada L.", "mate", "small")
    assert account.policy == "eager"
    assert only(GOOD + " pin=048011").pin == Secret("048011")
    assert not account.pin
    assert account.title == "Ada L."
    assert only(GOOD + " desktop=x name=a=b").display_name == "a=b"
    assert only(GOOD + ' "name=Ada L."').display_name == "Ada L."


@pytest.mark.parametrize(
    ("vnchost", "vncport", "desktop"),
    [
        ("10.0.0.7", "5901", Desktop("10.0.0.7", 5901)),
        ("node_1.example.org", "1", Desktop("node_1.example.org", 1)),
        ("[2001:db8:0::17]", "65535", Desktop("2001:db8::17", 65535)),
        ("[fe80::1%eth0]", "5901", Desktop("fe80::1%eth0", 5901)),
        ("unix:/run/a.sock", "-", Desktop(unix="/run/a.sock")),
        ("'unix:/run/a b.sock'", "-", Desktop(unix="/run/a b.sock")),
    ],
)
def test_where_desktops_are(vnchost, vncport, desktop):
    assert only(f"ws01 {vnchost} p 6000 {vncport} secret").desktop == desktop


def test_no_port_of_its_own():
    assert only("ws01 node01 p - 5901 secret").port is None


def test_comments_blank_lines_marks_and_line_ends():
    data = f"\ufeff# head\r\n\r\n \t{GOOD}\t # tail 'n\r\n   # indented\r\nws#2 b p#2 1 2 c#d\n".replace("#2", "2")
    parsed = parse(data.encode())
    assert not parsed.problems
    assert [(a.name, a.line, a.password.reveal()) for a in parsed.roster.accounts] == [
        ("ws01", 3, "k3Vq9xTb"),
        ("ws2", 5, "c#d"),
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("'a b'", "a b"),
        ('"a b"', "a b"),
        (r"a\ b", "a b"),
        (r"\#a", "#a"),
        ("'#a'", "#a"),
        (r"'a\'b", r"a\b"),
        (r'"a\"\\\$\`"', 'a"\\$`'),
        (r'"a\b"', r"a\b"),
        ("'it'\\''s'", "it's"),
        ("a\"b\"'c'd", "abcd"),
        ("$HOME", "$HOME"),
        ("`id`", "`id`"),
        ("*", "*"),
        ('"\'"', "'"),
    ],
)
def test_quotes_and_backslashes(written, meant):
    assert only(f"ws01 node01 p 6000 5901 {written}").password.reveal() == meant


@given(st.lists(st.text(st.sampled_from("ab'\"\\ \t#="), max_size=8), min_size=1, max_size=20))
def test_fields_are_split_as_python_splits_a_shells(lines):
    for line in lines:
        try:
            expected = shlex.split(re.sub(r"^[ \t]+", "", line), comments=False)
        except ValueError:
            expected = None
        fields, stuck = _split(line)
        if "#" not in line:
            assert (None if stuck else [text for _, text in fields]) == expected


def test_fields_are_split_as_a_shell_does():
    lines = [r"a 'b c'\''d' \e\ f", r'"a\$b\`c\"d\\e\f" g', "''  \"\" h", r"a\#b #c d", "'#'\t\"a\"'b'c  # x"]
    script = "".join(f"printf '<%s>' {line}\necho\n" for line in lines)
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert ["".join(f"<{text}>" for _, text in _split(line)[0]) for line in lines] == shell


NUMBER = "must be a number from 1 to 65535"
NAME = "must be letters, digits, '.', '_' and '-', the first of them neither '.' nor '-'"


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("ws01 node01 p 6000 5901", 1, "5 fields: a line has six (account vnchost websocketpath websocketport vncport"),
        ("  ws01", 3, "1 field: a line has six"),
        ("ws01 node01 p 6000 5901 #secret", 1, "5 fields: a line has six"),
        ("ws01 node01 p 6000 5901 name=Ada", 1, "5 fields: a line has six"),
        (GOOD + " more", 48, "a field too many: only key=value may follow the sixth; quote a field that has blanks"),
        (GOOD + " name=x more", 55, "a field too many"),
        (GOOD + " nmae=x", 48, "unknown key: did you mean name=?"),
        (GOOD + " x=y", 48, "unknown key: known are name= and desktop= and size= and policy="),
        (GOOD + " name=x name=y", 55, "name= is twice on this line"),
        (GOOD + " policy=pool", 48, "policy= is one of manual, eager, on_demand; a pool is its kind's"),
        (GOOD + " policy=", 48, "policy= is one of manual, eager, on_demand"),
        (GOOD + " pin=12345", 48, "pin= is 6 to 12 digits"),
        (GOOD + " pin=", 48, "pin= is 6 to 12 digits"),
        (GOOD + " pin=1234567890123", 48, "pin= is 6 to 12 digits"),
        (GOOD + " pin=12345x", 48, "pin= is 6 to 12 digits"),
        (GOOD + " pin=١٢٣٤٥٦", 48, "pin= is 6 to 12 digits"),
        ("seat node01 p 6000 5901 secret", 1, "account is a name that the gate's own pages use"),
        ("-a node01 p 6000 5901 secret", 1, f"account {NAME}"),
        (".a node01 p 6000 5901 secret", 1, f"account {NAME}"),
        ("ä node01 p 6000 5901 secret", 1, f"account {NAME}"),
        ("a/b node01 p 6000 5901 secret", 1, f"account {NAME}"),
        ("api node01 p 6000 5901 secret", 1, "account is a name that the gate's own pages use: choose another"),
        ("a node01 static 6000 5901 secret", 10, "websocketpath is a name that the gate's own pages use"),
        ("a node01 /p 6000 5901 secret", 10, f"websocketpath {NAME}"),
        ("a node01 - 6000 5901 secret", 10, f"websocketpath {NAME}"),
        (f"a node01 {'p' * 65} 6000 5901 secret", 10, "websocketpath is longer than 64 characters"),
        ("a node01 p 0 5901 secret", 12, f"websocketport {NUMBER}, or - for none"),
        ("a node01 p 65536 5901 secret", 12, f"websocketport {NUMBER}, or - for none"),
        ("a node01 p ٣ 5901 secret", 12, f"websocketport {NUMBER}, or - for none"),
        ("a node01 p +80 5901 secret", 12, f"websocketport {NUMBER}, or - for none"),
        (f"a node01 p {'9' * 5000} 5901 secret", 12, f"websocketport {NUMBER}, or - for none"),
        ("a node01 p 80 :1 secret", 15, f"vncport {NUMBER} (display :1 is port 5901)"),
        ("a node01 p 80 - secret", 15, f"vncport {NUMBER}"),
        ("a - p 80 5901 secret", 10, "vncport must be - where vnchost is -"),
        ("a unix:/x p 80 5901 secret", 16, "vncport must be - where vnchost is a unix socket"),
        ("a unix:x p 80 - secret", 3, "vnchost unix: needs an absolute path of at most 107 bytes"),
        (f"a unix:/{'ä' * 60} p 80 - secret", 3, "vnchost unix: needs an absolute path of at most 107 bytes"),
        ("a node01:5901 p 80 5901 secret", 3, "vnchost must be a name or an address alone; the port is the fifth"),
        ("a [::1]:5901 p 80 5901 secret", 3, "vnchost must be a name or an address alone; the port is the fifth"),
        ("a ::1 p 80 5901 secret", 3, "vnchost is an IPv6 address: write it in brackets, as [::1]"),
        ("a [::1 p 80 5901 secret", 3, "vnchost is an IPv6 address: write it in brackets, as [::1]"),
        ("a [node] p 80 5901 secret", 3, "vnchost must be a name or an address alone"),
        ("a 10.0.0.256 p 80 5901 secret", 3, "vnchost is no IPv4 address"),
        ("a node! p 80 5901 secret", 3, "vnchost must be a host name, an IPv4 or [IPv6] address, or unix:/path"),
        ("a node- p 80 5901 secret", 3, "vnchost must be a host name"),
        ("a '' p 80 5901 secret", 3, "vnchost must be a host name"),
        (f"a {'n.' * 127}n p 80 5901 secret", 3, "vnchost must be a host name"),
        ("a node01 p 80 5901 'secret", 20, "a quote that is never closed"),
        ('a node01 p 80 5901 x"secret\\"', 21, "a quote that is never closed"),
        ("a node01 p 80 5901 secret\\", 26, "a backslash with nothing after it"),
        (GOOD + "\x07", 47, "control character U+0007: remove it"),
        (GOOD + " name=a\x85b", 54, "control character U+0085: remove it"),
        (GOOD + " name='a\u2028b'", 55, "control character U+2028: remove it"),
        (GOOD + "\r ", 47, "control character U+000D: remove it"),
        ("# a\x00", 4, "control character U+0000: remove it"),
    ],
)
def test_errors(line, column, message):
    parsed = parse(f"\n{line}\n".encode())
    (problem,) = parsed.errors
    assert (problem.line, problem.column) == (2, column)
    assert problem.message.startswith(message)
    assert not parsed.roster or line.startswith("#")


def test_a_password_that_begins_with_a_hash_is_hinted_at():
    assert said("ws01 node01 p 6000 5901 #secret")[0].endswith("; a field that begins with # must be quoted")


def test_bytes_that_are_not_utf8():
    parsed = parse(b"a n p 80 1 s name=J\xfcrgen\n# caf\xe9\n" + GOOD.encode())
    assert [problem.render("f") for problem in parsed.problems] == [
        "f:1:20: error: byte 0xfc is not UTF-8: save the file as UTF-8",
        "f:2:6: error: byte 0xe9 is not UTF-8: save the file as UTF-8",
    ]
    assert list(parsed.roster) == ["ws01"]
    assert parse(GOOD.encode("utf-16")).errors[0].message == "the file is UTF-16: save it as UTF-8"


@pytest.mark.parametrize(
    "data",
    [
        bytes(1000),
        random.Random(1).randbytes(200_000),
        GOOD.encode("utf-16-le"),
        Path(sys.executable).read_bytes()[:100_000],
    ],
    ids=["zeros", "random", "UTF-16 without its mark", "program"],
)
def test_a_file_that_is_no_text_has_one_problem(data):
    parsed = parse(data)
    assert not parsed.roster
    (problem,) = parsed.problems
    assert problem.render("f") == "f:1:1: error: this is no text file; if it shows as text, save it as UTF-8"


def test_more_errors_than_anybody_reads():
    *listed, last = said(GOOD + "\n" + "ws\n" * 5000 + "\n\n")
    assert len(listed) == MOST_ERRORS
    assert last == f"f:{MOST_ERRORS + 2}:1: error: 200 errors so far: 4800 more lines are not read"
    assert len(said("ws\n" * MOST_ERRORS + "\n")) == MOST_ERRORS


def test_more_accounts_than_any_machine_serves(monkeypatch):
    monkeypatch.setattr(tokens, "MOST_ACCOUNTS", 3)
    lines = [f"ws{n} node{n} path{n} - 5901 pass{n}" for n in range(9)]
    assert not parse("\n".join(lines[:3]).encode()).problems
    (problem,) = parse("\n".join(lines).encode()).problems
    assert problem == Problem(4, 1, Severity.ERROR, "more than 3 accounts: no further line is read")


def test_more_warnings_than_anybody_reads(monkeypatch):
    monkeypatch.setattr(tokens, "MOST_WARNINGS", 2)
    parsed = parse("\n".join(f"ws{n} host{n} path{n} - 5901 {n}much-too-long" for n in range(5)).encode())
    assert len(parsed.roster) == 5
    assert [problem.line for problem in parsed.problems] == [0, 1, 2]
    assert parsed.problems[0].message == "5 warnings, of which the first 2 are listed"


def test_a_line_without_end():
    started = time.process_time()
    assert said("a n p 80 1 s" + " x=1" * 500_000 + "\n" + GOOD) == [
        "f:1:8193: error: a line has at most 8192 characters"
    ]
    assert time.process_time() - started < 1


def test_columns_count_characters():
    assert said('ws01 node01 p 1 2 "äöü" x=1')[0].startswith("f:1:25: ")
    assert said("\ufeffa node01 p 1 2 s x=1")[0].startswith("f:1:18: ")


def test_what_must_be_there_once():
    assert said(
        "a node01 p1 6000 5901 s1\na node02 p2 6001 5901 s2\nb node03 p1 6002 5901 s3\nc node04 p4 6000 5901 s4\n"
    ) == [
        "f:2:1: error: account is the same as on line 1: each account needs its own",
        "f:3:10: error: websocketpath is the same as on line 1: each account needs its own",
        "f:4:13: error: websocketport is the same as on line 1: each account needs its own",
    ]


def test_a_line_with_errors_still_holds_what_it_claims():
    assert said("a node01 p1 x 5901 s1\na node02 p2 6001 5901 s2\n")[1].startswith("f:2:1: error: account is the same")


@pytest.mark.parametrize(
    ("lines", "where", "message"),
    [
        ("a n p 80 1 longsecret", "1:12", "vncpassword is longer than 8 characters: VncAuth reads no more than those"),
        (
            "a n p 80 1 ''",
            "1:12",
            "vncpassword is empty: everybody can open this desktop (nobody, if the gate starts it)",
        ),
        ("a n p 80 1 same\nb n q 81 2 same", "2:12", "vncpassword is the same as on line 1"),
        ("a n p 80 1 s\nb N q 81 1 t", "2:3", "desktop is the same as on line 1"),
        ("a n p 80 1 same\nb n q 81 1 same", "2:3", "desktop is the same as on line 1"),
        ("a [::1] p 80 1 s\nb [0::1] q 81 1 t", "2:3", "desktop is the same as on line 1"),
        ("a unix:/x p 80 - s\nb unix:/x q 81 - t", "2:3", "desktop is the same as on line 1"),
        ("a n p 6007 1 s", "1:7", "websocketport is that of X display :7 of this host: choose others, as 7000 on"),
    ],
)
def test_warnings_keep_their_accounts(lines, where, message):
    parsed = parse(lines.encode(), displays=frozenset({7, 99}))
    assert not parsed.errors
    (problem,) = parsed.problems
    assert problem.render("f").startswith(f"f:{where}: warning: {message}")
    assert len(parsed.roster) == lines.count("\n") + 1


def test_passwords_that_vncauth_cannot_tell_apart_are_repeated_ones():
    assert "vncpassword is the same as on line 1" in said("a n p 80 1 longsecret\nb n q 81 2 longsecrex")[2]


def test_two_accounts_without_a_desktop_do_not_share_one():
    assert said("a - p 80 - s\nb - q 81 - t") == []


def test_a_file_without_accounts():
    for text in ("", "\n# nobody\n"):
        assert said(text) == ["f: warning: there is no account in this file"]


def test_all_problems_at_once_in_the_order_of_the_file():
    parsed = parse(b"a!\nws n p x y z\n\xff\napi [ s 0 0 '' a=\n" + GOOD.encode())
    positions = [(problem.line, problem.column) for problem in parsed.problems]
    assert positions == sorted(positions)
    assert {line for line, _ in positions} == {1, 2, 3, 4}
    assert len([line for line, _ in positions if line == 4]) == 6
    assert list(parsed.roster) == ["ws01"]


def test_file_modes():
    for mode in (0o100600, 0o100640, 0o100400, 0o100660):
        assert mode_problem(mode) is None
    assert mode_problem(0o100644) == Problem(
        0, 0, Severity.WARNING, "others can read or change this file and its passwords (mode 0644): chmod o-rwx"
    )
    assert mode_problem(0o100602)


def test_what_a_name_and_a_host_may_be():
    assert not name_fault("A_1.b-c" + "x" * (LONGEST_NAME - 7))
    assert {"api", "static", "desk", "ws"} <= RESERVED
    assert all(map(name_fault, RESERVED))
    assert not host_fault("a" * 63 + ".example.org")
    assert host_fault("a" * 64 + ".example.org")
    assert host_fault("node01\n")


def test_ten_thousand_lines_take_well_under_a_second():
    lines = [f"ws{i} node{i // 9} path{i} {6000 + i} {5901 + i % 9} pw{i:06} name='Seat {i}'" for i in range(10_000)]
    started = time.process_time()
    parsed = parse("\n".join(lines).encode())
    taken = time.process_time() - started
    assert len(parsed.roster) == 10_000
    assert not parsed.problems
    assert taken < 1


# ----------------------------------------------------------------------------------------------- properties

plain = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
fragments = st.sampled_from(
    [*"'\"\\#=-\t \r\n\0", "ws01", "node01", "[::1]", "unix:/x", "6000", "5901", "name=", "desktop=", "é", "\u2028"]
)


@given(st.binary(max_size=200) | st.lists(fragments | st.text(max_size=3), max_size=40).map("".join).map(str.encode))
@example(b"\xef\xbb\xbf")
@example(b"\xff\xfe")
@example(b'a "\\')
def test_whatever_the_bytes_parse_gives_accounts_and_problems_within_the_file(data):
    parsed = parse(data)
    lines = data.decode("utf-8-sig", "surrogateescape").split("\n")
    for problem in parsed.problems:
        if problem.line:
            assert problem.line <= len(lines)
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert problem.message.isprintable()
    for account in parsed.roster.accounts:
        assert not name_fault(account.name)


secrets = st.text(st.sampled_from("QXZKJ"), min_size=6, max_size=12)


@given(
    secrets,
    st.permutations(["ws01", "node01", "path01", "6000", "5901"]),
    st.integers(0, 5),
    st.integers(0, 5),
    fragments,
)
def test_no_message_repeats_a_password_wherever_it_stands(secret, fields, at, dropped, fragment):
    """A field forgotten, doubled or in the wrong place must not carry the password into a log."""
    fields.insert(at, secret)
    others = [*fields[:dropped], *fields[dropped + 1 :]]
    data = "\n".join(" ".join(line) for line in (fields, others, [*fields, secret], [f"{secret}={fragment}", *fields]))
    for problem in parse(f"{data}\n{GOOD} {secret}=x\n{secret} {GOOD}\n{GOOD} {secret}".encode()).problems:
        assert secret not in problem.message


names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True).filter(lambda name: not name_fault(name))
ports = st.integers(1, 65535)
desktops = (
    st.none()
    | st.builds(Desktop, host=names.filter(lambda name: not host_fault(name)) | st.ip_addresses().map(str), port=ports)
    | st.builds(Desktop, unix=st.text(plain, max_size=20).map("/".__add__))
)
tricky = st.sampled_from(["#", "-", "name=x", "desktop=", "it's", '"', "\\", "a b", " ", "''", "\\'"])
texts = st.text(plain, max_size=12) | tricky
policies = st.sampled_from(["", *POLICIES])
pins = (st.just("") | st.text("0123456789", min_size=6, max_size=12)).map(Secret)
accounts = st.builds(
    Account, names, desktops, names, st.none() | ports, texts.map(Secret), texts, texts, texts, policies, pins
)


@given(st.lists(accounts, unique_by=(lambda a: a.name, lambda a: a.path, lambda a: a.port or id(a)), max_size=5))
def test_what_is_rendered_is_read_back(accounts):
    parsed = parse(render(accounts).encode())
    assert parsed.errors == ()
    assert list(parsed.roster.accounts) == accounts


def test_rendered_columns_are_aligned():
    assert render([only(GOOD), only("ada [::1] p - 5901 'a b' name='Ada L.'")]) == (
        "# A line an account. The passwords are secret: keep this file private (chmod 600).\n"
        "# account  vnchost  websocketpath    websocketport  vncport  vncpassword\n"
        "ws01       node01   websocketpath01  6000           5901     k3Vq9xTb\n"
        "ada        [::1]    p                -              5901     'a b'        name='Ada L.'\n"
    )


@pytest.mark.parametrize("text", ["a\nb", "a\0", "\r", "\u2028", "\udc80"])
def test_a_control_character_is_not_rendered(text):
    account = only(GOOD)
    for bad in (
        Account("a", account.desktop, "p", 1, Secret(text)),
        Account("a", account.desktop, "p", 1, Secret("s"), display_name=text),
        Account("a", Desktop(unix="/" + text), "p", 1, Secret("s")),
    ):
        with pytest.raises(ValueError, match="control character"):
            render([bad])
