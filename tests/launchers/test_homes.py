"""Tests of vncgate.launchers.homes: folders that are given away, on ways that others may change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vncgate.errors import LaunchError
from vncgate.launchers import homes
from vncgate.launchers.homes import make_home

NOBODY = (65534, 65534)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")


@pytest.fixture
def theirs(tmp_path):
    """A folder of somebody else's."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, *NOBODY)
    return folder


def test_a_home_is_made_with_the_folders_above_it(tmp_path):
    home = tmp_path / "a" / "b" / "ws01"
    make_home(home, None)
    assert [path.stat().st_mode & 0o777 for path in (home, home.parent, tmp_path / "a")] == [0o700, 0o755, 0o755]
    (home / "work").touch()
    make_home(home, None)
    assert (home / "work").exists()


@needs_root
def test_it_is_its_users_and_the_folders_above_are_not(tmp_path, theirs):
    for parent in (tmp_path / "school", theirs / "school"):
        make_home(parent / "ws01", NOBODY)
        its = (parent / "ws01").stat()
        assert (its.st_uid, its.st_gid, parent.stat().st_uid) == (*NOBODY, 0)


def test_our_own_links_are_followed(tmp_path):
    (tmp_path / "disk" / "homes").mkdir(parents=True)
    (tmp_path / "home").symlink_to("disk/../disk/homes")
    (tmp_path / "all").symlink_to(tmp_path / "home")
    make_home(tmp_path / "all" / "ws01", None)
    assert (tmp_path / "disk" / "homes" / "ws01").is_dir()


@needs_root
def test_a_link_of_somebody_else_is_not_followed(tmp_path, theirs):
    """Else the user has folders made where only root may, and gets them."""
    (tmp_path / "etc").mkdir()
    for name in ("x", "desk"):
        (theirs / name).symlink_to(tmp_path / "etc" if name == "x" else tmp_path / "etc" / "new")
        os.lchown(theirs / name, *NOBODY)
    for home in (theirs / "x" / "cron.d", theirs / "desk"):
        with pytest.raises(LaunchError, match="is a link on the way there, and not root's"):
            make_home(home, NOBODY)
    assert list((tmp_path / "etc").iterdir()) == []


@needs_root
@pytest.mark.parametrize("kind", ["link", "folder", "full"])
def test_what_is_put_in_its_place_is_not_given_away(tmp_path, theirs, monkeypatch, kind):
    """Between its making and its giving away its parent's owner moves it, and something else there."""
    target = tmp_path / "etc"
    target.mkdir()
    (target / "shadow").touch()
    mkdir = os.mkdir

    def swap(name, mode, dir_fd):
        mkdir(name, mode, dir_fd=dir_fd)
        if name == "desk":
            (theirs / "desk").rename(theirs / "old")
            match kind:
                case "link":
                    (target / "shadow").unlink()
                    (theirs / "desk").symlink_to(target)
                case "folder":
                    mkdir(theirs / "desk")
                    os.chown(theirs / "desk", 1, 1)
                case "full":
                    target.rename(theirs / "desk")

    monkeypatch.setattr(homes.os, "mkdir", swap)
    with pytest.raises((LaunchError, OSError)):
        make_home(theirs / "desk", NOBODY)
    assert {path.stat().st_uid for path in (theirs / "desk", Path(theirs / "old"))} <= {0, 1}


def test_links_that_lead_nowhere_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(LaunchError, match="is a link on the way there"):
        make_home(tmp_path / "a" / "ws01", None)
