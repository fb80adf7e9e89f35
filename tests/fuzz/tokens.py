"""The token parser: whatever the bytes, there are accounts and problems, each in its place."""

from __future__ import annotations

from vncgate import tokens
from vncgate.model import Severity


def one_input(data: bytes) -> None:
    """Never raises; problems lie within the file, in order; what is good survives being written and read again."""
    parsed = tokens.parse(data, displays=frozenset({1, 50}))
    text = data.decode("utf-8-sig", "surrogateescape")
    lines = text.split("\n")
    assert list(parsed.problems) == sorted(parsed.problems)
    wrong = set()
    for problem in parsed.problems:
        assert 0 <= problem.line <= len(lines)
        assert (problem.line == 0) == (problem.column == 0)
        if problem.line and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert problem.message.isprintable()
        if problem.severity is Severity.ERROR:
            wrong.add(problem.line)
    accounts = parsed.roster.accounts
    assert len({account.name for account in accounts}) == len(accounts)
    assert len({account.path for account in accounts}) == len(accounts)
    ports = [account.port for account in accounts if account.port is not None]
    assert len(set(ports)) == len(ports)
    for account in accounts:
        assert account.line not in wrong
        assert not tokens.name_fault(account.name)
        assert not tokens.name_fault(account.path)
        assert account.port is None or 1 <= account.port <= 65535
    assert tokens.parse(data, displays=frozenset({1, 50})) == parsed
    again = tokens.parse(tokens.render(accounts).encode())
    assert not again.errors
    assert again.roster == parsed.roster
