"""A workshop's accounts, laid out over its hosts."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate.errors import NewAccountsError
from vncgate.model import Desktop
from vncgate.new_accounts import ALPHABET, plan
from vncgate.tokens import parse, render


def lay_out(count, hosts, **kwargs):
    return plan(count, hosts, choose=random.Random(1).choice, **kwargs)


def test_accounts_are_dealt_to_the_hosts_in_turn():
    accounts = lay_out(5, ["node01", "node02"])
    assert [account.name for account in accounts] == ["ws01", "ws02", "ws03", "ws04", "ws05"]
    assert [account.path for account in accounts] == [f"websocketpath{n:02}" for n in range(1, 6)]
    assert [account.port for account in accounts] == [7000, 7001, 7002, 7003, 7004]
    assert [account.desktop for account in accounts] == [
        Desktop("node01", 5901),
        Desktop("node02", 5901),
        Desktop("node01", 5902),
        Desktop("node02", 5902),
        Desktop("node01", 5903),
    ]


def test_without_hosts_a_launcher_says_where_desktops_are():
    accounts = lay_out(2, None, first_websocketport=None)
    assert [(account.name, account.desktop, account.port) for account in accounts] == [
        ("ws01", None, None),
        ("ws02", None, None),
    ]
    assert not parse(render(accounts).encode()).problems


def test_prefix_ports_and_width():
    accounts = lay_out(100, ["n"], prefix="kurs-", first_websocketport=None, first_vncport=7001)
    assert (accounts[0].name, accounts[99].path) == ("kurs-001", "websocketpath100")
    assert {account.port for account in accounts} == {None}
    assert accounts[99].desktop == Desktop("n", 7100)


def test_passwords_are_drawn_one_character_after_the_other():
    drawn = iter("abcdefghABCDEFGH")
    accounts = plan(2, ["n"], choose=lambda choices: next(drawn) if choices == ALPHABET else "")
    assert [account.password.reveal() for account in accounts] == ["abcdefgh", "ABCDEFGH"]


def test_passwords_have_no_look_alikes():
    assert not set(ALPHABET) & set("0Oo1Il")
    assert len(set(ALPHABET)) == len(ALPHABET) == 56


@pytest.mark.parametrize(
    ("count", "hosts", "kwargs", "message"),
    [
        (0, ["n"], {}, "at least one account and one host"),
        (-1, ["n"], {}, "at least one account and one host"),
        (1, [], {}, "at least one account and one host"),
        (2, ["n", "m", "n"], {}, "a host is in the list twice"),
        (2, ["n"], {"first_websocketport": 65535}, "2 websocketports from 65535 on do not fit into 1 to 65535"),
        (1, ["n"], {"first_websocketport": 0}, "1 websocketports from 0 on do not fit"),
        (3, ["n", "m"], {"first_vncport": 65535}, "2 vncports from 65535 on do not fit into 1 to 65535"),
        (10**12, ["n"], {"first_websocketport": None}, "vncports from 5901 on do not fit"),
    ],
)
def test_what_cannot_be_laid_out(count, hosts, kwargs, message):
    with pytest.raises(NewAccountsError, match=message):
        lay_out(count, hosts, **kwargs)


@given(st.integers(1, 150), st.integers(1, 12), st.none() | st.integers(1, 65535), st.integers(1, 65535))
def test_every_plan_is_balanced_and_a_good_token_file(count, hosts, websocketport, vncport):
    try:
        accounts = lay_out(
            count, [f"n{i}" for i in range(hosts)], first_websocketport=websocketport, first_vncport=vncport
        )
    except NewAccountsError:
        assert max(vncport + (count - 1) // hosts, (websocketport or 0) + count - 1) > 65535
        return
    parsed = parse(render(accounts).encode())
    assert not parsed.problems
    assert parsed.roster.accounts == accounts
    seated = Counter(account.desktop.host for account in accounts)
    assert max(seated.values()) - min(seated.values()) <= 1


def test_pins_where_asked_for():
    accounts = lay_out(40, None, with_pins=True)
    parsed = parse(render(accounts).encode())
    assert not parsed.problems
    assert all(len(account.pin.reveal()) == 6 for account in parsed.roster.values())
    assert not any(account.pin for account in lay_out(3, None))
