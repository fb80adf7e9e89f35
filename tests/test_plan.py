"""plan(): every account lands in exactly one part, and only what changed is touched."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from vncgate.model import Account, Desktop, Secret
from vncgate.plan import plan

accounts = st.builds(
    Account,
    name=st.sampled_from([f"ws{i}" for i in range(6)]),
    desktop=st.builds(Desktop, host=st.sampled_from(["a", "b"]), port=st.integers(5901, 5903)),
    path=st.sampled_from(["p", "q"]),
    port=st.sampled_from([None, 6000]),
    password=st.builds(Secret, st.sampled_from(["x", "y"])),
)
rosters = st.lists(accounts, unique_by=lambda account: account.name).map(lambda all_: {a.name: a for a in all_})


@given(rosters, rosters)
def test_every_account_lands_in_exactly_one_part(desired, running):
    todo = plan(desired, running)
    parts = [todo.remove, todo.replace, todo.update, todo.add, todo.keep]
    names = [account.name for part in parts for account in part]
    assert sorted(names) == sorted(desired.keys() | running.keys())
    assert all(account == running[account.name] for account in todo.keep)
    assert all(account.route == running[account.name].route for account in todo.update)
    assert all(account.route != running[account.name].route for account in todo.replace)


@given(rosters)
def test_nothing_changes_when_nothing_changed(roster):
    moved_lines = {name: dataclasses.replace(account, line=7) for name, account in roster.items()}
    todo = plan(moved_lines, roster)
    assert todo.is_empty
    assert len(todo.keep) == len(roster)
