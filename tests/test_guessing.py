"""Guessing: nobody gets in by it, and nobody else has to wait for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vncgate import guessing
from vncgate.guessing import (
    ACCOUNT_DRAIN,
    ALL_DRAIN,
    FORGIVEN,
    FREE,
    IN_ALL,
    LONGEST_WAIT,
    OF_ACCOUNT,
    OF_ACCOUNT_THEN,
    Guessing,
)

HOME, CLASS, BOT = "198.51.100.7", "203.0.113.1", "192.0.2.66"


def spent(guesses, account, client, now, count):
    """How many of `count` tries at one moment are let through."""
    return sum(guesses.attempt(account, client, now) == 0 for _ in range(count))


def test_the_first_wrong_tries_cost_no_wait_and_then_it_doubles():
    guesses = Guessing()
    assert spent(guesses, "ws01", HOME, 0.0, 10) == FREE
    waits, now = [], 0.0
    for _ in range(12):
        wait = guesses.attempt("ws01", HOME, now)
        now += wait
        assert guesses.attempt("ws01", HOME, now) == 0
        waits.append(wait)
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[-1] == LONGEST_WAIT


def test_who_waits_costs_nobody_anything():
    guesses = Guessing()
    spent(guesses, "ws01", HOME, 0.0, FREE)
    first = guesses.attempt("ws01", HOME, 0.0)
    for _ in range(1000):
        assert guesses.attempt("ws01", HOME, 0.0) == first


def test_ten_thousand_wrong_guesses_reach_few_pins_and_delay_nobody_else():
    """From one address in the class, and from as many as there are guesses."""
    for clients in (lambda n: CLASS, lambda n: f"bot{n}"):
        guesses, tried = Guessing(), 0
        for number in range(10_000):
            tried += guesses.attempt("ws01", clients(number), number * 0.01) == 0
            if number % 100 == 0:
                owner, neighbour = f"ws{number + 2}", CLASS
                assert guesses.attempt(owner, neighbour, number * 0.01) == 0
                guesses.succeeded(owner, neighbour)
        assert tried <= OF_ACCOUNT


def test_what_a_thousand_clients_try_at_one_account_is_counted_before_it_is_known_to_be_wrong():
    guesses = Guessing()
    assert sum(guesses.attempt("ws01", f"bot{n}", 0.0) == 0 for n in range(1000)) == OF_ACCOUNT


def test_the_owner_goes_on_where_they_were_let_in_before_while_others_guess():
    guesses = Guessing()
    assert guesses.attempt("ws01", HOME, 0.0) == 0
    guesses.succeeded("ws01", HOME)
    for number in range(1000):
        guesses.attempt("ws01", f"bot{number}", 1.0)
    assert guesses.attempt("ws01", "elsewhere", 2.0) > 0
    assert guesses.attempt("ws01", HOME, 2.0) == 0


def test_an_account_has_tries_again_as_time_passes():
    guesses = Guessing()
    for number in range(OF_ACCOUNT):
        assert guesses.attempt("ws01", f"bot{number}", 0.0) == 0
    assert guesses.attempt("ws01", "owner", 0.0) == pytest.approx(ACCOUNT_DRAIN)
    assert guesses.attempt("ws01", "owner", ACCOUNT_DRAIN) == 0
    assert guesses.attempt("ws01", "other", ACCOUNT_DRAIN) > 0


def test_an_attack_on_all_leaves_each_account_its_first_tries():
    guesses = Guessing()
    for number in range(IN_ALL):
        assert guesses.attempt(f"name{number}", f"bot{number}", 0.0) == 0
    assert spent(guesses, "ws01", HOME, 0.0, 2) == 2
    assert sum(guesses.attempt("ws02", f"bot{n}", 0.0) == 0 for n in range(100)) == OF_ACCOUNT_THEN
    later = 2 * IN_ALL * ALL_DRAIN
    assert sum(guesses.attempt("ws03", f"bot{n}", later) == 0 for n in range(100)) == OF_ACCOUNT


def test_a_right_one_forgets_the_wrong_ones():
    guesses = Guessing()
    spent(guesses, "ws01", HOME, 0.0, FREE)
    guesses.succeeded("ws01", HOME)
    assert spent(guesses, "ws01", HOME, 0.0, FREE) == FREE


def test_an_hour_without_a_try_is_forgiven():
    guesses = Guessing()
    spent(guesses, "ws01", HOME, 0.0, FREE)
    assert guesses.attempt("ws01", HOME, 1.0) > 0
    assert guesses.attempt("ws01", HOME, FORGIVEN + 1) == 0


def test_a_new_pin_begins_anew_and_knows_no_places():
    guesses = Guessing()
    guesses.attempt("ws01", HOME, 0.0)
    guesses.succeeded("ws01", HOME)
    for number in range(100):
        guesses.attempt("ws01", f"bot{number}", 0.0)
    guesses.forget("ws01")
    assert guesses.attempt("ws01", "new", 0.0) == 0
    assert len(guesses) == 2


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(guessing, "REMEMBERED", 100)
    guesses = Guessing()
    for number in range(1000):
        guesses.attempt(f"a{number}", f"c{number}", 0.0)
        guesses.succeeded(f"b{number}", f"c{number}")
    guesses.attempt("x" * 100_000, HOME, 0.0)
    assert len(guesses) <= 300
    assert max(len(name) for name, _ in guesses._ours.pairs) <= 65


def test_made_up_names_are_remembered_apart_and_have_an_account_forget_nothing(monkeypatch):
    monkeypatch.setattr(guessing, "REMEMBERED", 100)
    guesses = Guessing()
    spent(guesses, "ws01", CLASS, 0.0, FREE)
    before = sum(guesses.attempt("ws01", f"bot{n}", 0.0) == 0 for n in range(100))
    for number in range(1000):
        guesses.attempt(f"junk{number}", BOT, 0.0, is_ours=False)
    assert guesses.attempt("ws01", CLASS, 0.0) > 0
    assert guesses.attempt("ws01", "elsewhere", 0.0) > 0
    assert before == OF_ACCOUNT - FREE
    assert len(guesses) <= 300


def test_a_made_up_name_waits_as_an_account_does():
    waits = []
    for is_ours in (True, False):
        guesses = Guessing()
        for number in range(IN_ALL):  # of both kinds: an attack is one
            guesses.attempt(f"name{number}", f"bot{number}", 0.0, is_ours=number % 2 == 0)
        waits.append([guesses.attempt("ws01", client, 0.0, is_ours=is_ours) for client in [HOME] * 5 + [BOT] * 5])
    assert waits[0] == waits[1]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.floats(0, 4000)), max_size=200))
def test_whatever_is_tried_waits_are_short_and_told_rightly(tries):
    guesses, now = Guessing(), 0.0
    for account, client, pause in tries:
        now += pause
        wait = guesses.attempt(account, client, now)
        assert 0 <= wait <= max(LONGEST_WAIT, ACCOUNT_DRAIN)
        if wait:
            assert guesses.attempt(account, client, now + wait + 1e-3) == 0
            now += wait + 1e-3
