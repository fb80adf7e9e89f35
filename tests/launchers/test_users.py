"""Tests of vncgate.launchers.users: whom the gate may start desktops as."""

from __future__ import annotations

import os
import pwd

import pytest

from vncgate.errors import LaunchError
from vncgate.launchers.users import find


@pytest.fixture
def who(monkeypatch):
    """Become whoever is named, as far as this process is asked."""

    def become(name):
        monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam(name).pw_uid)

    return become


def test_root_may_start_desktops_as_anybody_but_root(who):
    who("root")
    assert find("nobody", may_be_root=False).pw_name == "nobody"
    for user in ("root", ""):
        with pytest.raises(LaunchError, match="do not run as root: set `user` of their place, for example"):
            find(user, may_be_root=False)
        assert find(user, may_be_root=True).pw_uid == 0


def test_others_start_them_as_themselves_alone(who):
    who("nobody")
    assert find("nobody", may_be_root=False) == find("", may_be_root=False) == pwd.getpwnam("nobody")
    with pytest.raises(LaunchError, match=r"only root may start desktops as another user \(daemon\)"):
        find("daemon", may_be_root=False)


@pytest.mark.parametrize("user", ["nonesuch", "no\nuser\0"])
def test_a_user_who_is_not_there(user):
    with pytest.raises(LaunchError, match="there is no user '"):
        find(user, may_be_root=False)


def test_a_user_without_a_name(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(LaunchError, match="there is no user 54321 on the gate's host"):
        find("", may_be_root=False)
